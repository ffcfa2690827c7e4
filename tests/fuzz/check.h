/* The invariants after each step. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include "world.h"

/* Check numbers, buffers, held bytes, the budget and the heap. */
void check_world(world *w);
/* Whether to ask for the next deadline now. That tidies the heaps, which must be right untidied, too. */
int looks_closer(const world *w);
/* Check that each flow can be found, is counted where it belongs, and is in its list if it is half open, closed or idle. */
void check_flows(world *w);
/* Return a flow's deadline, from its row. */
double flow_deadline(const nm_flow *row);
extern const double TIMEOUTS[NM_STATES];
/* Find the flow of a packet, from the client or else from the backend, by comparing all rows. */
const nm_flow *flow_of(const world *w, const uint8_t *packet, int is_orig);
/* Whether a packet, from the client or else from the backend, has the ends of a flow. */
int has_ends_of(const nm_flow *row, const uint8_t *packet, int is_orig);
/* Whether an address lies in the plan's networks: 10.10.0.0/24 and 10.11.0.0/28. */
int is_client(const uint8_t *address);
/* Whether a client's packet to a service is a SYN whose TTL ends at this host. */
int is_vain_syn(const uint8_t *packet, int has_pool);
/* Return the one service whose pool has the sender of a packet; -1 if there is none, or more than one. */
int service_of(const world *w, const uint8_t *packet);
/* Check that nm_flows_victim() returns the flow to evict and changes nothing. */
void check_victim(world *w, int for_half_open);
/* Check that a packet that was punted, or dropped over the limit, has changed nothing; but a watch queue lets a dropped
 * packet pass, which its flow notes. */
void check_same_flows(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                      int decided);
/* Check that a client's punted packet is no SYN for which C could have opened a flow. */
void check_not_opened(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int checksum);
/* Check that a decided packet has opened or updated a flow, and has evicted only flows that may be evicted. */
void check_moved_flows(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);
/* Whether Python has to decide a packet that opens or ends a flow, or answers a removed one. */
void check_whose(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                 int is_punted);
/* Check that only flows that were due have been removed, and that the flow left to Python is due. */
void check_expired(world *w, const snapshot *before, const nm_flow *left);
/* Check the packets synthesised since the last step, unless some may be missing. */
void check_sends(world *w, int all_there);
/* Check that a leg buffers the bytes that its client has sent. */
void check_buffered(const mirror_leg *leg);
/* Compare a packet before and after its translation. The window of one over the limit may have been narrowed. */
void check_rewritten(const world *w, const uint8_t *before, const uint8_t *now, size_t len, int hook, int checksum,
                     int is_over_limit);

#endif
