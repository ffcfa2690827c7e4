/* The tracker of production's connections; tracker.h says what each function is for. */
#include "fastpath/tracker.h"

#include "fastpath/tcp_constants.h"

void nm_track_half(nm_half *sender, const nm_half *receiver, const nm_segment *seg, int picked_up)
{
    uint32_t fin = seg->flags & TCP_FIN;
    uint32_t end = seg->seq + seg->payload_len + fin + (seg->flags & TCP_SYN ? 1 : 0);
    sender->packets++;
    if (!(seg->flags & TCP_ACK) ||
        !(picked_up || !(receiver->flags & NM_HALF_SEQ) || diff(seg->ack, receiver->end) <= 0))
        return;
    if (!(sender->flags & NM_HALF_SEQ)) {
        sender->end = end;
        sender->bytes += seg->payload_len;
        sender->flags |= NM_HALF_SEQ;
    } else if (picked_up || !(receiver->flags & NM_HALF_ACK) || diff(seg->seq, receiver->edge) <= 0) {
        int32_t advance = diff(end, sender->end);
        if (advance > 0 && !(sender->flags & NM_HALF_FIN)) {
            sender->end = end;
            sender->bytes += (uint32_t)advance - fin;
            int is_seen = end != seg->seq;
            sender->flags = (uint8_t)(is_seen ? sender->flags & ~NM_HALF_INFERRED : sender->flags | NM_HALF_INFERRED);
        }
    }
    uint8_t scale = seg->flags & TCP_SYN ? 0 : sender->scale;
    /* The scale may be NM_NO_WINDOW_SCALE, which is no shift. */
    uint32_t edge = seg->ack + (scale < 32 ? (uint32_t)seg->window << scale : 0);
    if (!(sender->flags & NM_HALF_ACK)) {
        sender->ack = seg->ack;
        sender->edge = edge;
        sender->flags |= NM_HALF_ACK;
        return;
    }
    if (diff(sender->ack, seg->ack) < 0)
        sender->ack = seg->ack;
    if (diff(sender->edge, edge) < 0)
        sender->edge = edge;
}

void nm_track_syn(nm_flow *flow, const nm_segment *syn)
{
    flow->state = NM_STATE_SYN_SENT;
    flow->iss = syn->seq;
    flow->orig.scale = options_of(syn).window_scale;
    flow->reply.scale = NM_NO_WINDOW_SCALE;
    flow->orig.packets = 1;
    flow->orig.end = syn->seq + 1;
    flow->orig.flags = NM_HALF_SEQ;
}

/* Move the flow to its next state. Return the event, or NM_NO_EVENT if it means nothing in this state. */
static int step(nm_flow *flow, int event)
{
    uint8_t following = nm_transitions[flow->state][event];
    if (following == NM_NO_STATE)
        return NM_NO_EVENT;
    flow->state = following;
    return event;
}

static int take_syn_ack(nm_flow *flow, const nm_segment *seg)
{
    int32_t syn_data_len = diff(seg->ack, flow->orig.end);
    if (!(seg->flags & TCP_ACK) || syn_data_len < 0 || syn_data_len > NM_MAX_SYN_DATA) {
        flow->reply.packets++;
        return NM_NO_EVENT;
    }
    flow->orig.end = seg->ack;
    flow->orig.bytes = (uint32_t)syn_data_len;
    uint8_t scale = options_of(seg).window_scale;
    if (scale == NM_NO_WINDOW_SCALE || flow->orig.scale == NM_NO_WINDOW_SCALE)
        flow->orig.scale = flow->reply.scale = 0;
    else
        flow->reply.scale = scale;
    nm_track_half(&flow->reply, &flow->orig, seg, 0);
    return step(flow, NM_EVENT_SYN_ACK);
}

static int is_exact_reset(const nm_half *sender, const nm_half *receiver, const nm_segment *seg, uint8_t state, int picked_up)
{
    if (state == NM_STATE_SYN_SENT) {
        int32_t past = diff(seg->ack, receiver->end);
        return seg->flags & TCP_ACK && past >= 0 && past <= NM_MAX_SYN_DATA;
    }
    if (picked_up && !(receiver->flags & NM_HALF_ACK))
        return 1;
    return seg->seq == sender->end || (receiver->flags & NM_HALF_ACK && seg->seq == receiver->ack);
}

static int take_reset(nm_flow *flow, const nm_segment *seg, nm_half *sender, const nm_half *receiver, int picked_up)
{
    sender->packets++;
    return is_exact_reset(sender, receiver, seg, flow->state, picked_up) ? step(flow, NM_EVENT_RST) : NM_NO_EVENT;
}

/* Note a FIN exactly at the end of what its half has sent; was_sent: an earlier segment had reached that number. */
static void take_fin(nm_half *sender, const nm_segment *seg, int was_sent)
{
    if (!(seg->flags & TCP_FIN) || sender->flags & NM_HALF_FIN || seg->seq + seg->payload_len + 1 != sender->end)
        return;
    if (was_sent && !(sender->flags & NM_HALF_INFERRED))
        return; /* a byte was seen at that number, so a FIN cannot be there */
    sender->flags |= NM_HALF_FIN;
    if (was_sent && sender->bytes)
        sender->bytes--;
}

static int acknowledges_syn(const nm_half *client, const nm_half *backend)
{
    uint32_t first = backend->end - (uint32_t)backend->bytes - (backend->flags & NM_HALF_FIN ? 1 : 0);
    return client->flags & NM_HALF_ACK && diff(first, client->ack) <= 0;
}

static int both_finished(const nm_flow *flow)
{
    return flow->orig.flags & flow->reply.flags & NM_HALF_FIN && flow->orig.ack == flow->reply.end &&
           flow->reply.ack == flow->orig.end;
}

int nm_track(nm_flow *flow, const nm_segment *seg, int from_client, int picked_up)
{
    nm_half *sender = from_client ? &flow->orig : &flow->reply, *receiver = from_client ? &flow->reply : &flow->orig;
    if (seg->flags & TCP_RST)
        return take_reset(flow, seg, sender, receiver, picked_up);
    if (seg->flags & TCP_SYN && !from_client && flow->state == NM_STATE_SYN_SENT)
        return take_syn_ack(flow, seg);
    if (seg->flags & TCP_SYN || flow->state == NM_STATE_SYN_SENT) {
        sender->packets++;
        return NM_NO_EVENT;
    }
    int knew = sender->flags & NM_HALF_SEQ;
    uint32_t known_end = sender->end;
    int event = NM_NO_EVENT;
    nm_track_half(sender, receiver, seg, picked_up);
    take_fin(sender, seg, knew && known_end == sender->end);
    if (flow->state == NM_STATE_SYN_RECEIVED && from_client && acknowledges_syn(sender, receiver))
        event = step(flow, NM_EVENT_HANDSHAKE);
    if (flow->state == NM_STATE_ESTABLISHED && (sender->flags | receiver->flags) & NM_HALF_FIN) {
        int closing = step(flow, NM_EVENT_FIN);
        return event == NM_EVENT_HANDSHAKE ? event : closing;
    }
    if (flow->state == NM_STATE_CLOSING && both_finished(flow))
        return step(flow, NM_EVENT_LAST_ACK);
    return event;
}
