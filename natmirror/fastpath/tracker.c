/* tracker.py in C; tracker.h says what each function is for. */
#include "fastpath/tracker.h"

#define NOT_OFFERED 0xff
#define MAX_SCALE 14      /* RFC 7323 2.3 */
#define MAX_SYN_DATA 1460 /* RFC 7413 4.1.3.1 */
#define OPT_END 0
#define OPT_NOP 1
#define OPT_WINDOW_SCALE 3

void nm_update(nm_half *sender, const nm_half *receiver, const segment *seg, int loose)
{
    uint32_t fin = seg->flags & TCP_FIN;
    uint32_t end = seg->seq + seg->payload_len + fin + (seg->flags & TCP_SYN ? 1 : 0);
    sender->packets++;
    if (!(seg->flags & TCP_ACK) ||
        !(loose || !(receiver->flags & NM_HALF_SEQ) || diff(seg->ack, receiver->end) <= 0))
        return;
    if (!(sender->flags & NM_HALF_SEQ)) {
        sender->end = end;
        sender->bytes += seg->payload_len;
        sender->flags |= NM_HALF_SEQ;
    } else if (loose || !(receiver->flags & NM_HALF_ACK) || diff(seg->seq, receiver->edge) <= 0) {
        int32_t advance = diff(end, sender->end);
        if (advance > 0 && !(sender->flags & NM_HALF_FIN)) {
            sender->end = end;
            sender->bytes += (uint32_t)advance - fin;
            sender->flags = (uint8_t)(end != seg->seq ? sender->flags & ~NM_HALF_TOLD : sender->flags | NM_HALF_TOLD);
        }
    }
    uint8_t scale = seg->flags & TCP_SYN ? 0 : sender->scale;
    uint32_t edge = seg->ack + (scale < 32 ? (uint32_t)seg->window << scale : 0); /* a scale may be unknown: none fits */
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

/* Segment.window_scale(); NOT_OFFERED where there is none. */
static uint8_t window_scale(const segment *seg)
{
    const uint8_t *at = seg->tcp + TCP_MIN, *end = payload_of(seg);
    uint8_t scale = NOT_OFFERED;
    while (at < end && *at != OPT_END) {
        if (*at == OPT_NOP) {
            at++;
            continue;
        }
        if (at + 1 >= end || at[1] < 2 || at[1] > end - at)
            break;
        if (*at == OPT_WINDOW_SCALE)
            scale = at[1] != 3 ? NOT_OFFERED : at[2] > MAX_SCALE ? MAX_SCALE : at[2];
        at += at[1];
    }
    return scale;
}

void nm_begin(nm_flow *flow, const segment *syn)
{
    flow->state = NM_SYN_SENT;
    flow->iss = syn->seq;
    flow->orig.scale = window_scale(syn);
    flow->reply.scale = NOT_OFFERED;
    flow->orig.packets = 1;
    flow->orig.end = syn->seq + 1;
    flow->orig.flags = NM_HALF_SEQ;
}

static int take_syn_ack(nm_flow *flow, const segment *seg)
{
    int32_t syn_data_len = diff(seg->ack, flow->orig.end);
    if (!(seg->flags & TCP_ACK) || syn_data_len < 0 || syn_data_len > MAX_SYN_DATA) {
        flow->reply.packets++;
        return NM_NO_EVENT;
    }
    flow->orig.end = seg->ack;
    flow->orig.bytes = (uint32_t)syn_data_len;
    uint8_t scale = window_scale(seg);
    if (scale == NOT_OFFERED || flow->orig.scale == NOT_OFFERED)
        flow->orig.scale = flow->reply.scale = 0;
    else
        flow->reply.scale = scale;
    nm_update(&flow->reply, &flow->orig, seg, 0);
    flow->state = NM_SYN_RECEIVED;
    return NM_SYN_ACK_SEEN;
}

static int is_exact_reset(const nm_half *sender, const nm_half *receiver, const segment *seg, uint8_t state, int loose)
{
    if (state == NM_SYN_SENT) {
        int32_t past = diff(seg->ack, receiver->end);
        return seg->flags & TCP_ACK && past >= 0 && past <= MAX_SYN_DATA;
    }
    if (loose && !(receiver->flags & NM_HALF_ACK))
        return 1;
    return seg->seq == sender->end || (receiver->flags & NM_HALF_ACK && seg->seq == receiver->ack);
}

static int take_reset(nm_flow *flow, const segment *seg, nm_half *sender, const nm_half *receiver, int loose)
{
    sender->packets++;
    if (!is_exact_reset(sender, receiver, seg, flow->state, loose) || flow->state > NM_CLOSING)
        return NM_NO_EVENT;
    flow->state = NM_RESET;
    return NM_RST_SEEN;
}

/* A FIN that ends exactly where its half has sent to. */
static void take_fin(nm_half *sender, const segment *seg, int told)
{
    if (!(seg->flags & TCP_FIN) || sender->flags & NM_HALF_FIN || seg->seq + seg->payload_len + 1 != sender->end)
        return;
    if (told && !(sender->flags & NM_HALF_TOLD))
        return; /* where a byte was seen, no FIN can be */
    sender->flags |= NM_HALF_FIN;
    if (told && sender->bytes)
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

int nm_track(nm_flow *flow, const segment *seg, int from_client, int loose)
{
    nm_half *sender = from_client ? &flow->orig : &flow->reply, *receiver = from_client ? &flow->reply : &flow->orig;
    if (seg->flags & TCP_RST)
        return take_reset(flow, seg, sender, receiver, loose);
    if (seg->flags & TCP_SYN && !from_client && flow->state == NM_SYN_SENT)
        return take_syn_ack(flow, seg);
    if (seg->flags & TCP_SYN || flow->state == NM_SYN_SENT) {
        sender->packets++;
        return NM_NO_EVENT;
    }
    int knew = sender->flags & NM_HALF_SEQ;
    uint32_t known_end = sender->end;
    int event = NM_NO_EVENT;
    nm_update(sender, receiver, seg, loose);
    take_fin(sender, seg, knew && known_end == sender->end);
    if (flow->state == NM_SYN_RECEIVED && from_client && acknowledges_syn(sender, receiver)) {
        flow->state = NM_ESTABLISHED;
        event = NM_HANDSHAKE_SEEN;
    }
    if (flow->state == NM_ESTABLISHED && (sender->flags | receiver->flags) & NM_HALF_FIN) {
        flow->state = NM_CLOSING;
        return event == NM_HANDSHAKE_SEEN ? event : NM_FIN_SEEN;
    }
    if (flow->state == NM_CLOSING && both_finished(flow)) {
        flow->state = NM_TIME_WAIT;
        return NM_LAST_ACK_SEEN;
    }
    return event;
}
