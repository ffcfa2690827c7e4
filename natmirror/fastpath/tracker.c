/* The tracker of production's connections; tracker.h says what each function is for. */
#include "fastpath/tracker.h"

#include <math.h>

#include "fastpath/tcp_constants.h"

#define MAX_BEHIND (1 << 30) /* bytes, no less than a window: how old an acknowledgement may move the window's edge */
#define PAWS_TOLERANCE 1 /* as in Linux: by so much a TSval may lie below TS.Recent */

/* Return the half of the client or of its backend. */
static inline nm_half *half_of(const nm_flow *flow, int is_client)
{
    return (nm_half *)(is_client ? &flow->orig : &flow->reply);
}

/* Return whether a segment may be the one that its receiver expects next when it comes there: _may_be_next() in Python. */
static int may_be_next(const nm_half *sender, const nm_half *receiver, const nm_segment *seg)
{
    if (!seg->payload_len || seg->flags & (TCP_FIN | TCP_URG) || !(receiver->flags & NM_HALF_ACK))
        return 0;
    int32_t begins_from = diff(seg->seq, receiver->ack);
    return begins_from >= 0 && begins_from <= (int64_t)receiver->max_window + NM_CONTINUATION &&
           diff(seg->seq, sender->end) <= NM_CONTINUATION;
}

/* Return the number that follows the SYN of an end: first_number() in Python. */
static uint32_t first_number(const nm_half *half)
{
    return half->end - (uint32_t)half->bytes - (half->flags & NM_HALF_FIN ? 1 : 0);
}

/* Return whether the receiver surely refuses the segment because of its timestamp: _fails_paws() in Python. */
static int fails_paws(const nm_flow *flow, const nm_half *sender, const nm_half *receiver, const nm_segment *seg)
{
    if (!(receiver->flags & NM_HALF_ECHO) || !receiver->echo)
        return 0;
    nm_options options = options_of(seg);
    if (!options.has_timestamps || diff(receiver->echo, options.tsval) <= PAWS_TOLERANCE ||
        diff(sender->stamp, options.tsval) <= PAWS_TOLERANCE)
        return 0;
    int is_bare_urgent = seg->flags & TCP_URG && !seg->payload_len && !(seg->flags & TCP_FIN);
    return flow->came_at - receiver->echo_at < NM_MAX_ECHO_AGE && !is_bare_urgent;
}

/* Return whether the receiver surely refuses the segment of a mirrored flow: _is_refused() in Python. */
__attribute__((noinline)) static int is_refused(const nm_flow *flow, const nm_segment *seg, int from_client)
{
    const nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    int is_old = sender->flags & NM_HALF_ACK && diff(seg->ack, sender->ack) < 0 &&
                 sender->ack - seg->ack > 2 * sender->max_window;
    if (is_old && !may_be_next(sender, receiver, seg))
        return 1;
    return seg->options_len && fails_paws(flow, sender, receiver, seg);
}

static uint64_t distance(uint32_t a, uint32_t b)
{
    int64_t ahead = diff(a, b);
    return (uint64_t)(ahead < 0 ? -ahead : ahead);
}

/* Return whether a segment agrees with what its receiver has sent: agrees() in Python. */
__attribute__((noinline)) static int agrees(const nm_half *receiver, const nm_segment *seg)
{
    uint64_t product = (distance(seg->seq, receiver->ack) + 1) * (distance(seg->ack, receiver->end) + 1);
    return receiver->flags & NM_HALF_SEQ && !(product >> NM_AGREEMENT_BITS);
}

static uint32_t latest(uint32_t one, uint32_t other) { return diff(one, other) < 0 ? other : one; }

int nm_is_taken_exactly(const nm_flow *flow, const nm_segment *seg, int from_client)
{
    const nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    int is_mirrored = flow->flags & NM_FLOW_SERVICE_MIRRORED;
    if (!(seg->flags & TCP_ACK) || (is_mirrored && from_client && nm_expires_here(flow->flags, seg)))
        return 0;
    if (flow->flags & NM_FLOW_LOOSE)
        return agrees(receiver, seg);
    if (is_mirrored && is_refused(flow, seg, from_client))
        return 0;
    if (!nm_flow_knows_window(flow))
        return agrees(receiver, seg);
    if (receiver->flags & NM_HALF_SEQ && diff(receiver->end, seg->ack) < 0) {
        /* the backend's bytes may be under way to this host, though no further than the client's window */
        if (!from_client || !is_mirrored || diff(sender->edge, seg->ack) < 0)
            return 0;
    }
    int scale = receiver->scale <= NM_MAX_WINDOW_SCALE ? receiver->scale : 0;
    return !is_mirrored || !(receiver->flags & NM_HALF_ACK) || diff(seg->seq, sender->end) <= NM_MAX_WINDOW << scale;
}

/* Note a TSval that is taken: _note_stamp() in Python. */
static void note_stamp(const nm_flow *flow, nm_half *sender, nm_half *receiver, uint32_t value)
{
    if (!(sender->flags & NM_HALF_STAMP)) {
        sender->stamp = value;
        sender->flags |= NM_HALF_STAMP;
        receiver->echo = value - 1;
        receiver->echo_at = flow->flags & NM_FLOW_PICKED_UP ? -INFINITY : flow->created_at;
        receiver->flags &= (uint8_t)~NM_HALF_ECHO;
    } else if (diff(sender->stamp, value) < 0) {
        sender->stamp = value;
        if (diff(value, receiver->echo) < 0) { /* TS.Recent may have come half around, and further */
            receiver->echo_at = INFINITY;
            receiver->flags &= (uint8_t)~NM_HALF_ECHO;
        }
    }
    if (!value && diff(value, receiver->echo) > 0)
        receiver->echo = value; /* TS.Recent may be 0, which Linux takes for none */
}

/* Note the timestamps of a segment that is taken: _note_timestamps() in Python. */
__attribute__((noinline)) static void note_timestamps(const nm_flow *flow, nm_half *sender, nm_half *receiver,
                                                      const nm_segment *seg)
{
    nm_options options = options_of(seg);
    if (!options.has_timestamps)
        return;
    note_stamp(flow, sender, receiver, options.tsval);
    if (!(receiver->flags & NM_HALF_STAMP) || diff(options.tsecr, receiver->stamp) > 0 ||
        diff(options.tsecr, sender->echo) <= 0 || sender->echo_at > flow->came_at)
        return;
    int is_fresh = flow->came_at - sender->echo_at < NM_MAX_ECHO_AGE;
    sender->flags = (uint8_t)(is_fresh ? sender->flags | NM_HALF_ECHO : sender->flags & ~NM_HALF_ECHO);
    sender->echo = options.tsecr;
    sender->echo_at = flow->came_at;
}

/* Forget a FIN that the receiver has not acknowledged, if a byte has its number or a later one. */
__attribute__((noinline)) static void revoke_fin(nm_half *sender, const nm_half *receiver, const nm_segment *seg)
{
    uint32_t fin = sender->end - 1;
    if (diff(fin, receiver->ack) < 0 || !seg->payload_len ||
        diff(fin, seg->seq + seg->payload_len) >= 0)
        return;
    sender->flags &= (uint8_t)~NM_HALF_FIN;
    sender->flags |= NM_HALF_REVOKED;
    sender->bytes++;
}

/* Note that all bytes before an acknowledgement were sent, though the last ones may not have passed here yet. */
static void infer_sent(nm_half *sender, uint32_t end)
{
    int32_t advance = diff(end, sender->end);
    if (advance <= 0 || advance > NM_CONTINUATION)
        return;
    sender->end = end;
    sender->bytes += (uint32_t)advance;
    sender->flags |= NM_HALF_INFERRED;
}

/* Follow a segment of a loose flow: _settle() in Python. */
__attribute__((noinline)) static int settle(nm_flow *flow, const nm_segment *seg, int from_client, int is_taken)
{
    nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    if (from_client && seg->payload_len && !(is_taken && flow->reply.flags & NM_HALF_RECORDED))
        flow->flags |= NM_FLOW_UNREAD;
    if (is_taken && receiver->flags & NM_HALF_ACK) {
        flow->flags &= (uint32_t)~NM_FLOW_LOOSE;
        infer_sent(receiver, seg->ack);
    }
    if (flow->reply.flags & NM_HALF_RECORDED && (from_client || !is_taken)) {
        if (!from_client && seg->flags & TCP_ACK)
            sender->end = seg->seq + seg->payload_len + (seg->flags & TCP_FIN);
        return is_taken;
    }
    if (!(sender->flags & NM_HALF_ACK) || distance(seg->seq, sender->end) > NM_CONTINUATION)
        sender->flags &= NM_HALF_RECORDED;
    return seg->flags & TCP_ACK ? 1 : 0;
}

void nm_note_ahead(nm_flow *flow, uint32_t to)
{
    if (diff(to, flow->orig.end) <= 0)
        return;
    if (!(flow->flags & NM_FLOW_AHEAD) || diff(to, flow->ahead_to) > 0)
        flow->ahead_to = to;
    flow->flags |= NM_FLOW_AHEAD;
}

__attribute__((noinline)) void nm_note_unsure(nm_flow *flow, const nm_segment *seg)
{
    uint32_t len = seg->payload_len + (seg->flags & TCP_FIN) + (seg->flags & TCP_SYN ? 1 : 0);
    int scale = flow->reply.scale <= NM_MAX_WINDOW_SCALE ? flow->reply.scale : 0;
    if (diff(seg->seq, flow->orig.end) > NM_MAX_WINDOW << scale)
        return; /* past any window, of a flow that is not mirrored yet */
    if (len)
        nm_note_ahead(flow, seg->seq + len);
    if (seg->flags & TCP_URG)
        nm_note_ahead(flow, seg->seq + get16(seg->tcp + TCP_URGENT_AT) + 1);
    if (flow->flags & NM_FLOW_AHEAD && diff(flow->ahead_to, flow->orig.end) <= 0)
        flow->flags &= (uint32_t)~NM_FLOW_AHEAD;
}

/* Move the numbers of the half that sent a segment. */
static inline void move_numbers(nm_flow *flow, nm_half *sender, const nm_half *receiver, const nm_segment *seg,
                                uint32_t window)
{
    uint32_t fin = seg->flags & TCP_FIN, edge = seg->ack + window;
    uint32_t end = seg->seq + seg->payload_len + fin + (seg->flags & TCP_SYN ? 1 : 0);
    if (!(sender->flags & NM_HALF_SEQ)) {
        sender->end = end;
        sender->bytes += seg->payload_len;
        sender->flags |= NM_HALF_SEQ;
        if (sender == &flow->orig)
            flow->flags &= (uint32_t)~NM_FLOW_AHEAD; /* of other numbers */
    } else {
        int32_t advance = diff(end, sender->end);
        int is_in_window = !nm_flow_knows_window(flow) || !(receiver->flags & NM_HALF_ACK) ||
                           diff(seg->seq, receiver->edge) <= 0;
        if (advance > 0 && is_in_window && !(sender->flags & NM_HALF_FIN)) {
            sender->end = end;
            sender->bytes += (uint32_t)advance - fin;
            int is_seen = end != seg->seq;
            sender->flags = (uint8_t)(is_seen ? sender->flags & ~NM_HALF_INFERRED : sender->flags | NM_HALF_INFERRED);
        }
    }
    if (sender == &flow->orig && (sender->end != end || flow->flags & NM_FLOW_AHEAD || seg->flags & TCP_URG))
        nm_note_unsure(flow, seg);
    if (!(sender->flags & NM_HALF_ACK)) {
        uint32_t offered = flow->flags & NM_FLOW_PICKED_UP ? 0 : sender->max_window; /* by a SYN */
        sender->ack = seg->ack;
        sender->edge = latest(edge, seg->ack + offered);
        sender->flags |= NM_HALF_ACK;
        return;
    }
    int32_t behind = diff(sender->ack, seg->ack);
    if (behind < 0)
        sender->ack = seg->ack;
    if (behind < MAX_BEHIND && diff(sender->edge, edge) < 0)
        sender->edge = edge;
}

static uint32_t window_of(const nm_half *sender, const nm_segment *seg)
{
    uint8_t scale = seg->flags & TCP_SYN ? 0 : sender->scale;
    return scale < 32 ? (uint32_t)seg->window << scale : 0; /* NM_NO_WINDOW_SCALE is no shift */
}

/* The part of nm_track_half() for flows that are loose or mirrored, and after a FIN. */
__attribute__((noinline)) static int track_fully(nm_flow *flow, const nm_segment *seg, int from_client, int is_taken)
{
    nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    if (!(flow->flags & NM_FLOW_LOOSE ? settle(flow, seg, from_client, is_taken) : is_taken))
        return 0;
    if (sender->flags & NM_HALF_SEQ && sender->flags & NM_HALF_FIN)
        revoke_fin(sender, receiver, seg);
    uint32_t window = window_of(sender, seg);
    move_numbers(flow, sender, receiver, seg, window);
    if (!(flow->flags & NM_FLOW_SERVICE_MIRRORED))
        return 1;
    if (sender->max_window < window)
        sender->max_window = window;
    if (seg->options_len)
        note_timestamps(flow, sender, receiver, seg);
    if (!(flow->flags & NM_FLOW_PICKED_UP) && receiver->flags & NM_HALF_SEQ && diff(receiver->end, sender->ack) < 0)
        sender->ack = receiver->end; /* the receiver's bytes from there on are under way to this host */
    return 1;
}

int nm_track_half(nm_flow *flow, const nm_segment *seg, int from_client, int is_taken)
{
    nm_half *sender = half_of(flow, from_client);
    sender->packets++;
    if (flow->flags & (NM_FLOW_LOOSE | NM_FLOW_SERVICE_MIRRORED) || sender->flags & NM_HALF_FIN)
        return track_fully(flow, seg, from_client, is_taken);
    if (is_taken)
        move_numbers(flow, sender, half_of(flow, !from_client), seg, window_of(sender, seg));
    return is_taken;
}

/* Note what a SYN with the flow's first number offers: note_offers() in Python. */
static void note_offers(nm_flow *flow, const nm_segment *syn, const nm_options *options)
{
    if (options->window_scale != NM_NO_WINDOW_SCALE) {
        if (flow->orig.scale != NM_NO_WINDOW_SCALE && flow->orig.scale != options->window_scale)
            flow->flags |= NM_FLOW_AMBIGUOUS;
        flow->orig.scale = options->window_scale;
    }
    /* RFC 8684 3.1: MP_CAPABLE in the SYN is an offer, which the SYN-ACK accepts or not. */
    if (options->mptcp & ~NM_MPTCP_CAPABLE)
        flow->flags |= NM_FLOW_MPTCP;
    nm_note_ahead(flow, syn->seq + 1 + syn->payload_len);
    /* TCP Fast Open: the backend may use this window before the handshake is complete (RFC 7413 4.2.2). */
    if (flow->flags & NM_FLOW_SERVICE_MIRRORED && (syn->payload_len || options->has_cookie) &&
        flow->orig.max_window < syn->window)
        flow->orig.max_window = syn->window;
}

void nm_track_syn(nm_flow *flow, const nm_segment *syn)
{
    nm_options options = options_of(syn);
    flow->state = NM_STATE_SYN_SENT;
    flow->iss = syn->seq;
    flow->orig.scale = flow->reply.scale = NM_NO_WINDOW_SCALE;
    flow->orig.packets = 1;
    flow->orig.end = syn->seq + 1;
    flow->orig.flags = NM_HALF_SEQ;
    note_offers(flow, syn, &options);
    if (options.has_timestamps && flow->flags & NM_FLOW_SERVICE_MIRRORED)
        note_stamp(flow, &flow->orig, &flow->reply, options.tsval);
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

/* Return whether a backend's segment acknowledges the flow's SYN, and at most a SYN's data. */
static int may_answer(const nm_flow *flow, const nm_segment *seg)
{
    int32_t syn_data_len = diff(seg->ack, flow->iss + 1);
    return seg->flags & TCP_ACK && syn_data_len >= 0 && syn_data_len <= NM_MAX_SYN_DATA;
}

/* Return whether the backend answers the flow's SYN a second time, with other numbers: is_another_answer() in Python. */
static int is_another_answer(const nm_flow *flow, const nm_segment *seg)
{
    if ((seg->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK) || flow->flags & NM_FLOW_PICKED_UP ||
        flow->state == NM_STATE_SYN_SENT || flow->state >= NM_STATE_TIME_WAIT || !may_answer(flow, seg))
        return 0;
    return seg->seq + 1 != first_number(&flow->reply) || diff(seg->ack, flow->reply.ack) > 0;
}

/* Follow a SYN that opens nothing here. */
static void take_other_syn(nm_flow *flow, const nm_segment *seg, int from_client)
{
    if (flow->state == NM_STATE_SYN_SENT && (seg->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && seg->seq == flow->iss) {
        nm_options options = options_of(seg);
        note_offers(flow, seg, &options);
    } else if (!from_client && is_another_answer(flow, seg)) {
        flow->flags |= NM_FLOW_AMBIGUOUS;
    }
}

static int take_syn_ack(nm_flow *flow, const nm_segment *seg)
{
    if (!may_answer(flow, seg)) {
        flow->reply.packets++;
        return NM_NO_EVENT;
    }
    flow->orig.bytes = seg->ack - flow->orig.end;
    flow->orig.end = seg->ack;
    nm_options options = options_of(seg);
    if (options.window_scale == NM_NO_WINDOW_SCALE || flow->orig.scale == NM_NO_WINDOW_SCALE)
        flow->orig.scale = flow->reply.scale = 0;
    else
        flow->reply.scale = options.window_scale;
    if (options.mptcp & ~(flow->flags & NM_FLOW_STRIPS_MPTCP ? NM_MPTCP_CAPABLE : 0u))
        flow->flags |= NM_FLOW_MPTCP;
    nm_track_half(flow, seg, 0, 1);
    flow->orig.edge = seg->seq + 1 + flow->orig.max_window;
    return step(flow, NM_EVENT_SYN_ACK);
}

static int is_exact_reset(const nm_flow *flow, const nm_segment *seg, int from_client)
{
    const nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    if (flow->state == NM_STATE_SYN_SENT)
        return !from_client && may_answer(flow, seg);
    if (flow->flags & NM_FLOW_LOOSE)
        return flow->reply.flags & NM_HALF_RECORDED && seg->seq == (from_client ? flow->orig.end : flow->orig.ack);
    return (sender->flags & NM_HALF_SEQ && seg->seq == sender->end) ||
           (receiver->flags & NM_HALF_ACK && seg->seq == receiver->ack);
}

static int take_reset(nm_flow *flow, const nm_segment *seg, int from_client)
{
    nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    sender->packets++;
    if ((from_client && nm_expires_here(flow->flags, seg)) || !is_exact_reset(flow, seg, from_client))
        return NM_NO_EVENT;
    if (seg->flags & TCP_ACK && sender->flags & NM_HALF_ACK && receiver->flags & NM_HALF_SEQ &&
        diff(seg->ack, sender->ack) > 0 && diff(seg->ack, receiver->end) <= 0)
        sender->ack = seg->ack; /* no later segment of the sender acknowledges what it has got */
    return step(flow, NM_EVENT_RST);
}

/* Note a FIN: _take_fin() in Python. was_known: an earlier segment had reached the end of what was sent. */
static void take_fin(nm_half *sender, const nm_half *receiver, const nm_segment *seg, int was_known)
{
    uint32_t fin = seg->seq + seg->payload_len;
    int32_t ahead = diff(sender->end, fin + 1);
    if (!(seg->flags & TCP_FIN) || (!ahead && sender->flags & NM_HALF_FIN))
        return;
    if (!ahead && (!was_known || sender->flags & NM_HALF_INFERRED)) {
        sender->flags |= NM_HALF_FIN;
        if (was_known && sender->bytes)
            sender->bytes--;
    } else if ((ahead >= 0 || !(sender->flags & NM_HALF_FIN)) &&
               !(receiver->flags & NM_HALF_ACK && diff(receiver->ack, fin) > 0)) {
        sender->flags |= NM_HALF_REVOKED; /* a byte was seen at that number, or the window may not reach it */
    }
}

static int acknowledges_syn(const nm_half *client, const nm_half *backend)
{
    return client->flags & NM_HALF_ACK && diff(first_number(backend), client->ack) <= 0;
}

static int both_acknowledged(const nm_flow *flow)
{
    return flow->orig.ack == flow->reply.end && flow->reply.ack == flow->orig.end;
}

int nm_track(nm_flow *flow, const nm_segment *seg, int from_client)
{
    nm_half *sender = half_of(flow, from_client), *receiver = half_of(flow, !from_client);
    if (seg->flags & TCP_RST)
        return take_reset(flow, seg, from_client);
    if (seg->flags & TCP_SYN && !from_client && flow->state == NM_STATE_SYN_SENT)
        return take_syn_ack(flow, seg);
    if (seg->flags & TCP_SYN || flow->state == NM_STATE_SYN_SENT) {
        sender->packets++;
        take_other_syn(flow, seg, from_client);
        return NM_NO_EVENT;
    }
    int knew = sender->flags & NM_HALF_SEQ;
    uint32_t known_end = sender->end;
    int event = NM_NO_EVENT;
    int is_taken = nm_is_taken(flow, seg, from_client);
    int is_moved = nm_track_half(flow, seg, from_client, is_taken);
    if (is_moved)
        take_fin(sender, receiver, seg, knew && known_end == sender->end);
    if (flow->flags & NM_FLOW_LOOSE && !is_taken)
        return NM_NO_EVENT;
    if (flow->state == NM_STATE_SYN_RECEIVED && from_client && acknowledges_syn(sender, receiver))
        event = step(flow, NM_EVENT_HANDSHAKE);
    else if (flow->state == NM_STATE_SYN_RECEIVED && from_client && is_moved && seg->payload_len &&
             (!(receiver->flags & NM_HALF_ACK) || diff(receiver->ack, seg->seq + seg->payload_len) < 0))
        flow->flags |= NM_FLOW_AMBIGUOUS; /* the backend takes it if the handshake overtakes it */
    int has_both = sender->flags & receiver->flags & NM_HALF_FIN;
    if (flow->state == NM_STATE_ESTABLISHED && (sender->flags | receiver->flags) & NM_HALF_FIN) {
        int closing = step(flow, has_both ? NM_EVENT_BOTH_FINS : NM_EVENT_FIN);
        return event == NM_EVENT_HANDSHAKE ? event : closing;
    }
    if (has_both && flow->state >= NM_STATE_HALF_CLOSED)
        return step(flow, both_acknowledged(flow) ? NM_EVENT_LAST_ACK : NM_EVENT_BOTH_FINS);
    return event;
}
