/* Open, remove and expire flows. The Python counterpart is natmirror/nat/flows.py; tests compare the two. This header
 * serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H
#define NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H

#include <stdint.h>

#include "fastpath/gear.h"

struct nm_segment; /* packet.h */

/* Insert a flow for a service and a backend of the plan, all other numbers zero. A direct flow has its backend's
 * address and port as its service's. Return NULL if the table is full or has one of the two tuples. */
nm_flow *nm_gear_insert(nm_gear *gear, uint8_t family, const uint8_t *client, uint16_t client_port, uint16_t service_id,
                        uint16_t backend_id, int is_direct);
void nm_gear_remove(nm_gear *gear, nm_flow *flow);

/* Open a flow for a client's first SYN; it replaces `closed`, a closed flow with the same tuple, or NULL. Return
 * NULL if the SYN is dropped, for the reason in *dropped, or with nothing changed if Python has to decide. */
nm_flow *nm_flow_open(nm_gear *gear, nm_flow *closed, const struct nm_segment *syn, int checksum, double now,
                      int *dropped);

/* Open a flow for a client's direct connection to the backend that has sent this SYN-ACK, if the table has room.
 * Return 0, with nothing changed, if Python has to decide. */
int nm_flow_open_direct(nm_gear *gear, const nm_backend *backend, const struct nm_segment *syn_ack, double now);

/* Return whether the flow is closed and C may remove it for another. */
int nm_flow_is_closed(const nm_flow *flow);

/* The options of nm_gear_sweep(), which always renews deadlines by the present timeouts, and checks again whether each
 * flow is pinned and counts among its client's connections. */
#define NM_SWEEP_ANNOUNCE 1   /* log NM_CHANGE_BOUND again for each flow with NM_ANNOUNCED */
#define NM_SWEEP_CLAIM_SEEN 2 /* make guests our own that have had packets here */
#define NM_SWEEP_CLAIM_ALL 4  /* make all guests our own */
#define NM_SWEEP_RELEASE 8    /* release all flows: another host passes our packets from now on */
#define NM_SWEEP_STANDBY 16   /* this host is standby: the other one announces the flows that have become pinned */

/* Sweep up to max flows, beginning with number first. Return the number to continue with, or NM_NO_FLOW after the
 * last. */
uint32_t nm_gear_sweep(nm_gear *gear, uint32_t first, uint32_t max, int how, double now);

#define NM_TRACKED_TAKEN 8 /* more than any event: the packet's receiver takes it, and it is no SYN and no RST */

/* Track a flow's packet that Python decides, whole TCP with the right checksum: as nm_track(), but return NM_EVENTS for
 * NM_NO_EVENT, and NM_TRACKED_TAKEN beside it. */
int nm_flow_track(nm_flow *flow, const uint8_t *packet, size_t len, int from_client);

/* Remove expired flows, a bounded number of them. Return the first that only Python may remove, or NULL. */
nm_flow *nm_gear_expire(nm_gear *gear, double now);

#endif
