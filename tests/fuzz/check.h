/* What has to hold after each step. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include "world.h"

/* Numbers, bytes held, the budget, the heap. */
void check_world(world *w);
/* Whether it is time to ask when the next one is due: that tidies the heaps, which have to be right untidied as well. */
int looks_closer(const world *w);
/* Each flow findable and counted where it belongs, those that are half_open or over in their lists. */
void check_flows(world *w);
/* When a flow is due, by its row. */
double flow_deadline(const nm_flow *row);
/* The flow of a packet, from the client or else from the backend, by looking at every row. */
const nm_flow *flow_of(const world *w, const uint8_t *packet, int is_orig);
/* The one service in whose pool the sender of a packet is; -1 where there is none, or more than one. */
int service_of(const world *w, const uint8_t *packet);
/* The victim is the flow that has to go, and nm_flows_victim() changes nothing. */
void check_victim(world *w, int for_half_open);
/* Nothing has changed with a packet that was punted for a reason. */
void check_same_flows(const world *w, const snapshot *before, int reason);
/* A client's packet that was punted is no SYN that could have been answered with a flow. */
void check_not_opened(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int checksum);
/* A packet that was decided has opened a flow or moved one, and only such have gone as may. */
void check_moved_flows(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);
/* Whether a packet that opens or ends a flow, or answers for one that is gone, is Python's. */
void check_whose(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                 int is_punted);
/* Only flows have gone that were due; so is the one that is left to Python, if there is one. */
void check_expired(world *w, const snapshot *before, const nm_flow *left);
/* What was synthesised since the last step, unless packets of it may be missing. */
void check_sends(world *w, int all_there);
/* The bytes that a leg holds are those that its client has sent. */
void check_held(const world *w, const mirror_leg *leg);
/* A packet before and after nm_process() said that it is rewritten. */
void check_rewritten(const world *w, const uint8_t *before, const uint8_t *now, size_t len, int hook, int checksum);

#endif
