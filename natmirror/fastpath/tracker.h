/* tracker.py in C: the numbers and the state of production's connections. Tests hold the two against each other. For C files
 * only. */
#ifndef NATMIRROR_FASTPATH_TRACKER_H
#define NATMIRROR_FASTPATH_TRACKER_H

#include "fastpath/flow_table.h"
#include "fastpath/packet.h"

/* tcp.Event; NM_NO_EVENT where a segment has moved no state. */
#define NM_NO_EVENT (-1)
#define NM_SYN_ACK_SEEN 0
#define NM_HANDSHAKE_SEEN 1
#define NM_FIN_SEEN 2
#define NM_LAST_ACK_SEEN 3
#define NM_RST_SEEN 4

/* tcp.begin() */
void nm_begin(nm_flow *flow, const segment *syn);

/* tcp.update() */
void nm_update(nm_half *sender, const nm_half *receiver, const segment *seg, int loose);

/* tcp.track(): one segment with a right checksum; gives the event that moved the state. */
int nm_track(nm_flow *flow, const segment *seg, int from_client, int loose);

#endif
