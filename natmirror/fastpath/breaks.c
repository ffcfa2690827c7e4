/* Breaks in a client's stream; breaks.h says what each function is for. */
#include "fastpath/breaks.h"

#include "fastpath/tcp_constants.h"

void nm_note_silence(nm_flow *flow, double now)
{
    if (flow->flags & (NM_FLOW_LOOSE | NM_FLOW_AHEAD)) {
        flow->flags &= (uint32_t)~NM_FLOW_AT_BREAK;
    } else if (now - flow->seen_at >= NM_BREAK_SILENCE && flow->orig.flags & NM_HALF_SEQ) {
        flow->flags |= NM_FLOW_AT_BREAK;
        flow->break_at = flow->orig.end;
    } else if (flow->break_at != flow->orig.end) { /* the client has sent more, or an acknowledgement has shown that */
        flow->flags &= (uint32_t)~NM_FLOW_AT_BREAK;
    }
}

void nm_note_data(nm_flow *flow, const nm_segment *seg)
{
    uint32_t end = seg->seq + seg->payload_len;
    if (!seg->payload_len || end != flow->orig.end)
        return;
    if (seg->flags & TCP_PSH)
        flow->flags |= NM_FLOW_AT_BREAK;
    else
        flow->flags &= (uint32_t)~NM_FLOW_AT_BREAK;
    flow->break_at = end;
}

int nm_begins_copy(const nm_gear *gear, const nm_flow *flow, const nm_segment *seg, double now)
{
    if (!(flow->flags & NM_FLOW_AT_BREAK) || seg->seq != flow->break_at || !seg->payload_len ||
        seg->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_URG))
        return 0;
    if (flow->flags & NM_FLOW_LOOSE || flow->orig.end != seg->seq || flow->orig.flags & NM_HALF_FIN ||
        !(flow->reply.flags & NM_HALF_ACK) || flow->reply.ack != seg->seq)
        return 0;
    return flow->account < gear->begin_count && now >= gear->begin_at[flow->account];
}
