/* Breaks in a client's stream, where a copy that has ended may begin again. The Python counterpart,
 * natmirror/tcp/breaks.py, explains them. For C files only. */
#ifndef NATMIRROR_FASTPATH_BREAKS_H
#define NATMIRROR_FASTPATH_BREAKS_H

#include "fastpath/gear.h"
#include "fastpath/packet.h"

/* Note whether the flow, which has NM_FLOW_RECONNECTS, was silent before the packet that comes now, or its break is none
 * any more: note_arrival() in Python. */
void nm_note_silence(nm_flow *flow, double now);
/* Note whether a client's segment, which its backend takes and the tracker has followed, ends with a break. */
void nm_note_data(nm_flow *flow, const nm_segment *seg);
/* Return whether a client's segment, which its backend takes, begins at a break, and a copy may begin with it now. */
int nm_begins_copy(const nm_gear *gear, const nm_flow *flow, const nm_segment *seg, double now);

#endif
