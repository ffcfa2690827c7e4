/* Track the sequence numbers and the state of production's connections. The Python counterpart is
 * natmirror/tcp/tracker.py; tests compare the two. For C files only. */
#ifndef NATMIRROR_FASTPATH_TRACKER_H
#define NATMIRROR_FASTPATH_TRACKER_H

#include "fastpath/flow_table.h"
#include "fastpath/packet.h"

/* Set the numbers of a new flow from the client's SYN: tracker.begin() in Python. */
void nm_track_syn(nm_flow *flow, const nm_segment *syn);

/* Update the numbers of the half that sent a segment, if the segment is plausible: tracker.update(). */
void nm_track_half(nm_half *sender, const nm_half *receiver, const nm_segment *seg, int picked_up);

/* Update the flow's numbers and state for one segment with a correct checksum: tracker.track(). Return the event that
 * changed the state, or NM_NO_EVENT. */
int nm_track(nm_flow *flow, const nm_segment *seg, int from_client, int picked_up);

#endif
