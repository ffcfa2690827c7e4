/* Track the sequence numbers and the state of production's connections. The Python counterpart is
 * natmirror/tcp/tracker.py; tests compare the two. For C files only. */
#ifndef NATMIRROR_FASTPATH_TRACKER_H
#define NATMIRROR_FASTPATH_TRACKER_H

#include "fastpath/flow_table.h"
#include "fastpath/packet.h"

/* Set the numbers of a new flow, whose created_at is set, from the client's SYN: tracker.begin() in Python. */
void nm_track_syn(nm_flow *flow, const nm_segment *syn);

/* Return whether the ends' windows are known: flow_flags.knows_window(). */
static inline int nm_flow_knows_window(const nm_flow *flow)
{
    return !(flow->flags & NM_FLOW_PICKED_UP) ||
           (flow->reply.flags & NM_HALF_RECORDED && !(flow->flags & NM_FLOW_LOOSE));
}

/* Return whether this host drops the packet of a client, because its TTL ends here, of a flow or service with these flags:
 * acceptance.expires_here(). */
static inline int nm_expires_here(uint32_t flags, const nm_segment *seg)
{
    return seg->ip[IP_TTL_AT] <= 1 && !(flags & NM_FLOW_WATCHED);
}

/* Return whether a client's packet is a SYN that reaches no backend, so that it changes nothing here. */
static inline int nm_is_vain_syn(uint32_t flags, const nm_segment *seg)
{
    return (seg->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN && nm_expires_here(flags, seg);
}

/* The part of nm_is_taken() for flows that are mirrored or were picked up. */
int nm_is_taken_exactly(const nm_flow *flow, const nm_segment *seg, int from_client);

/* Return whether the receiving end takes a segment that is no SYN and no RST: acceptance.is_taken(). */
static inline int nm_is_taken(const nm_flow *flow, const nm_segment *seg, int from_client)
{
    if (flow->flags & (NM_FLOW_LOOSE | NM_FLOW_PICKED_UP | NM_FLOW_SERVICE_MIRRORED))
        return nm_is_taken_exactly(flow, seg, from_client);
    const nm_half *receiver = from_client ? &flow->reply : &flow->orig;
    return seg->flags & TCP_ACK && (!(receiver->flags & NM_HALF_SEQ) || diff(seg->ack, receiver->end) <= 0);
}

/* Note that the backend may have bytes of the client up to this number, or an urgent pointer to there: breaks.note_ahead()
 * in Python. */
void nm_note_ahead(nm_flow *flow, uint32_t to);
/* Note what a client's segment, which its backend may take, says of bytes that do not count as sent:
 * breaks.note_unsure(). */
void nm_note_unsure(nm_flow *flow, const nm_segment *seg);

/* Count a segment that is no RST, and move the numbers of the half that sent it if it is taken: tracker.update(). Return
 * whether it moved them. */
int nm_track_half(nm_flow *flow, const nm_segment *seg, int from_client, int is_taken);

/* Update the flow's numbers and state for one segment with a correct checksum: tracker.track(). Return the event that
 * changed the state, or NM_NO_EVENT. */
int nm_track(nm_flow *flow, const nm_segment *seg, int from_client);

#endif
