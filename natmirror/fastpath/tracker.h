/* The numbers and the state of production's connections, by the rules of natmirror/tcp/tracker.py; tests hold the two
 * against each other. For C files only. */
#ifndef NATMIRROR_FASTPATH_TRACKER_H
#define NATMIRROR_FASTPATH_TRACKER_H

#include "fastpath/flow_table.h"
#include "fastpath/packet.h"

/* Set the numbers of a new flow from the client's SYN: tracker.begin() in Python. */
void nm_track_syn(nm_flow *flow, const nm_segment *syn);

/* Move the numbers of the half-stream that sent a segment, where they can be true: tracker.update(). */
void nm_track_half(nm_half *sender, const nm_half *receiver, const nm_segment *seg, int picked_up);

/* Take one segment with a right checksum into the flow's numbers and state: tracker.track(). Return the event that moved the
 * state, or NM_NO_EVENT. */
int nm_track(nm_flow *flow, const nm_segment *seg, int from_client, int picked_up);

#endif
