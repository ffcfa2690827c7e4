/* How flows begin and end, by the rules of natmirror/nat/flows.py; tests hold the two against each other. This header serves
 * #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H
#define NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H

#include <stdint.h>

#include "fastpath/gear.h"

struct nm_segment; /* packet.h */

/* Insert a flow of the plan's service and backend, its other numbers zero; a direct one has its backend's address and port
 * as its service's. Return NULL when the table is full or has one of the two tuples already. */
nm_flow *nm_gear_insert(nm_gear *gear, uint8_t family, const uint8_t *client, uint16_t client_port, uint16_t service_id,
                        uint16_t backend_id, int is_direct);
void nm_gear_remove(nm_gear *gear, nm_flow *flow);

/* Open the flow of a client's first SYN, in place of a closed one of the same tuple, or NULL. Return NULL where Python has
 * to decide: nothing was changed then. */
nm_flow *nm_flow_open(nm_gear *gear, nm_flow *closed, const struct nm_segment *syn, int checksum, double now);

/* Whether the flow is closed and may give way to another without Python. */
int nm_flow_is_closed(const nm_flow *flow);

/* What nm_gear_sweep() does besides looking again whether each flow's backend can be derived. */
#define NM_SWEEP_ANNOUNCE 1   /* log NM_CHANGE_BOUND again for all flows with NM_SHARED */
#define NM_SWEEP_CLAIM_SEEN 2 /* claim those flows of other hosts that have had packets here */
#define NM_SWEEP_CLAIM_ALL 4  /* claim all of them */
#define NM_SWEEP_RELEASE 8    /* our packets pass another host from now on */
#define NM_SWEEP_STANDBY 16   /* they do already: that host announces what cannot be derived any more, if it is alive */

/* Go through at most max rows from number first on. Return the number to go on with, or NM_NO_FLOW after the last. */
uint32_t nm_gear_sweep(nm_gear *gear, uint32_t first, uint32_t max, int how, double now);

/* Remove flows that have expired, not all at once. Return the first that only Python may remove, or NULL. */
nm_flow *nm_gear_expire(nm_gear *gear, double now);

#endif
