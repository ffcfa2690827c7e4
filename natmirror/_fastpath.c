/* The decision about a packet in C; _fastpath.h says what each function is for.
 *
 * For a client's data packet, nm_decide() parses the packet, finds its flow by client and service (flow_table.c),
 * checks that all legs of the flow can take the data (punt_reason()), updates the numbers of the client's direction
 * (tracker.c), sends the data on each leg to its mirror (leg_sender.c), and notes in gear.translation that the packet
 * goes on to the flow's backend. For a reply, it finds the flow by backend and client; no leg gets its data. For a
 * mirror's packet, it finds a leg instead of a flow (leg_table.c), which takes the acknowledgement and may send more.
 *
 * Rare packets are punted to Python, to natmirror/engine/forwarding.py. Both follow the same rules; tests compare them.
 */
#include "_fastpath.h"

#include <linux/netfilter.h>
#include <string.h>

#include "fastpath/breaks.h"
#include "fastpath/flow_lifecycle.h"
#include "fastpath/held_bytes.h"
#include "fastpath/leg_sender.h"
#include "fastpath/packet.h"
#include "fastpath/peers.h"
#include "fastpath/tracker.h"
#include "fastpath/translation.h"
#include "fastpath/without_flow.h"

/* Pass on a flow's packet: a client's to the backend, a backend's with the service as its source. */
static int pass_on(nm_gear *gear, const nm_flow *flow, const nm_segment *seg, int is_orig)
{
    if (flow->flags & NM_FLOW_WATCHED)
        return NM_ACCEPT;
    uint32_t mark = flow->backend_id < gear->plan.backend_count ? gear->plan.backends[flow->backend_id].mark : 0;
    return is_orig ? nm_translate_to(gear, seg, 1, flow->backend, flow->backend_port, mark, flow->flags)
                   : nm_translate_to(gear, seg, 0, flow->service, flow->service_port, mark, flow->flags);
}

/* Repetitions: a client sends again what its backend may not have got, and a forger may send anything */

/* Return whether the receiver has acknowledged all data of a segment. */
static int is_acked(const nm_half *receiver, const nm_segment *seg)
{
    return receiver->flags & NM_HALF_ACK && diff(seg->seq + seg->payload_len, receiver->ack) <= 0;
}

/* Return whether a client's urgent pointer may reach its backend, which drops a segment that ends before its window. */
static int is_urgent(const nm_flow *flow, const nm_segment *seg)
{
    return seg->flags & TCP_URG &&
           (!(flow->reply.flags & NM_HALF_ACK) || diff(seg->seq + seg->payload_len, flow->reply.ack) >= 0);
}

/* Return whether each byte of a client's segment is acknowledged, or equals the one that is held. */
__attribute__((noinline)) static int is_repeated(const nm_flow *flow, const nm_segment *seg)
{
    int32_t acked = flow->reply.flags & NM_HALF_ACK ? diff(flow->reply.ack, seg->seq) : 0;
    uint32_t skip = acked > 0 ? (uint32_t)acked : 0;
    return !seg->payload_len || is_acked(&flow->reply, seg) ||
           nm_held_has(flow, seg->seq + skip, payload_of(seg) + skip, seg->payload_len - skip);
}

/* Return whether a client's segment brings its copies nothing, though Python has to see all packets of some flows. */
static int is_repetition(const nm_flow *flow, const nm_segment *seg)
{
    return !(flow->flags & (NM_FLOW_ORIG_GAP | NM_FLOW_PICKED_UP)) &&
           !(flow->reply.flags & NM_HALF_ACK && diff(flow->reply.ack, flow->orig.next) > 0) && is_repeated(flow, seg);
}

/* MPTCP: a flow that is part of an MPTCP connection carries only a part of its client's stream (RFC 8684 2) */

/* Return whether a segment shows that a flow with legs or readers is not plain TCP: Python ends these. */
static int shows_mptcp(const nm_flow *flow, const nm_segment *seg, int is_orig)
{
    return flow->flags & (NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER) && seg->payload_len && seg->options_len &&
           !are_timestamps_alone(seg->tcp + TCP_MIN, seg->options_len) &&
           nm_mptcp_subtypes(seg->tcp + TCP_MIN, seg->options_len) &&
           !is_acked(is_orig ? &flow->reply : &flow->orig, seg);
}

/* Data for legs and readers: for data in order, the counterpart of Mirroring.feed() and Leg.write() in Python */

static int has_takers(const nm_flow *flow, int is_orig)
{
    return flow->flags & (is_orig ? NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER : NM_FLOW_HAS_READER);
}

/* Return 0 if all legs of the flow can take len bytes now; then memory is reserved in them. Return the reason to punt
 * otherwise. */
static int reserve_in_legs(nm_gear *gear, const nm_flow *flow, uint32_t len)
{
    for (uint32_t id = flow->first_leg; id != NM_NO_LEG;) {
        const nm_leg *leg = nm_leg_by_id(gear->legs, id);
        if (!(leg->flags & NM_LEG_STEADY) || (leg->buffered && (uint64_t)leg->buffered + len > leg->max_buffer))
            return NM_PUNT_LEG_REPAIR;
        id = leg->next_of_flow;
    }
    for (uint32_t id = flow->first_leg; id != NM_NO_LEG;) {
        nm_leg *leg = nm_leg_by_id(gear->legs, id);
        if (!nm_leg_reserve(gear->legs, leg, len))
            return NM_PUNT_LEG_REPAIR;
        id = leg->next_of_flow;
    }
    return 0;
}

/* Return whether the buffers of all legs have room for len bytes, beside those that are held already. */
static int has_room(nm_gear *gear, const nm_flow *flow, uint32_t len)
{
    for (uint32_t id = flow->first_leg; id != NM_NO_LEG;) {
        const nm_leg *leg = nm_leg_by_id(gear->legs, id);
        uint64_t waiting = (uint64_t)leg->buffered + flow->held_len;
        if (waiting && waiting + len > leg->max_buffer)
            return 0;
        id = leg->next_of_flow;
    }
    return 1;
}

/* Return 0 if the flow's legs and readers can take a segment's data; then memory is reserved for it. Return the reason
 * to punt otherwise. */
static int punt_reason(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig)
{
    const nm_half *sender = is_orig ? &flow->orig : &flow->reply, *receiver = is_orig ? &flow->reply : &flow->orig;
    uint32_t end = seg->seq + seg->payload_len;
    uint32_t limit = diff(receiver->edge, receiver->ack) >= 0 ? receiver->edge : receiver->ack;
    if (flow->flags & (is_orig ? NM_FLOW_ORIG_GAP : NM_FLOW_REPLY_GAP) || seg->seq != sender->next ||
        (receiver->flags & NM_HALF_ACK && diff(receiver->ack, is_orig ? sender->next : end) > 0) ||
        (!(is_orig && flow->flags & NM_FLOW_HOLDS) && nm_flow_knows_window(flow) && diff(limit, end) < 0))
        return NM_PUNT_OUT_OF_ORDER;
    if (!is_orig)
        return 0;
    /* in Python's order, so that both gears give up the same where memory is short */
    if ((flow->flags & NM_FLOW_HOLDS && !has_room(gear, flow, seg->payload_len)) ||
        !nm_held_reserve(gear, flow, seg->seq, seg->payload_len))
        return NM_PUNT_LEG_REPAIR;
    return flow->flags & NM_FLOW_HOLDS ? 0 : reserve_in_legs(gear, flow, seg->payload_len);
}

/* Return how many held bytes a backend's segment frees: it acknowledges them, or an earlier one did. It may acknowledge
 * more than there are; where none is held, that counts unless the flow was picked up (awaits_reply() in Python). */
static uint32_t acked_len(const nm_flow *flow, const nm_segment *seg)
{
    if (!flow->held_len && flow->flags & NM_FLOW_PICKED_UP)
        return 0;
    uint32_t ack = flow->reply.flags & NM_HALF_ACK && diff(flow->reply.ack, seg->ack) > 0 ? flow->reply.ack : seg->ack;
    int32_t len = diff(ack, flow->orig.next - flow->held_len);
    return len > 0 ? (uint32_t)len : 0;
}

/* Return 0 if the flow's legs can take the first len held bytes; then memory is reserved for them. Return the reason to
 * punt otherwise: perhaps bytes are acknowledged that did not pass here, or so many that Python slices them. */
static int release_reason(nm_gear *gear, nm_flow *flow, uint32_t len)
{
    if (len > flow->held_len || len > NM_MAX_RELEASE_LEN)
        return NM_PUNT_OUT_OF_ORDER;
    return flow->flags & NM_FLOW_HOLDS ? reserve_in_legs(gear, flow, len) : 0;
}

/* Give the readers `acked` held bytes, and the data of a segment that need not wait for an acknowledgement. Return 0,
 * with nothing given, without memory. */
static int give_readers(nm_gear *gear, const nm_flow *flow, const nm_segment *seg, int is_orig, int is_fed, uint32_t acked)
{
    nm_out *read = &gear->read;
    uint32_t used = read->used, count = read->count;
    int holds = flow->flags & NM_FLOW_HOLDS, given = 1;
    if (acked && holds) {
        uint8_t *to = nm_read_reserve(read, NM_READ_ORIG, flow->id, flow->held.holder, acked);
        given = to != NULL;
        if (given)
            nm_held_copy(flow, 0, to, acked);
    }
    if (given && is_fed && !(is_orig && holds))
        given = nm_read_add(read, is_orig ? NM_READ_ORIG : NM_READ_REPLY, flow->id, flow->held.holder, payload_of(seg),
                            seg->payload_len);
    if (!given) {
        read->used = used;
        read->count = count;
    }
    return given;
}

/* Give a leg the next bytes, which have reserved room in it: those at data, or held ones. */
static void give_leg(nm_gear *gear, nm_leg *leg, nm_flow *flow, const uint8_t *data, uint32_t len, double now)
{
    if (!leg->buffered && leg->snd_una == leg->snd_max)
        leg->progress_at = now;
    if (data)
        nm_leg_append(leg, data, len, now);
    else
        nm_leg_append_held(leg, &flow->held, len, now);
    leg->heard_at = leg->written_at = now;
    nm_leg_output(leg, now, &gear->out);
    nm_leg_set_due(gear->legs, leg, nm_leg_deadline(leg));
}

/* Take a segment's data, after punt_reason(). */
static void feed(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, double now)
{
    (is_orig ? &flow->orig : &flow->reply)->next = seg->seq + seg->payload_len;
    if (!is_orig)
        return;
    nm_held_append(flow, payload_of(seg), seg->payload_len);
    for (uint32_t id = flow->flags & NM_FLOW_HOLDS ? NM_NO_LEG : flow->first_leg; id != NM_NO_LEG;) {
        nm_leg *leg = nm_leg_by_id(gear->legs, id);
        give_leg(gear, leg, flow, payload_of(seg), seg->payload_len, now);
        id = leg->next_of_flow;
    }
}

/* Free the first len held bytes, after release_reason(): the backend has acknowledged them. */
static void release(nm_gear *gear, nm_flow *flow, uint32_t len, double now)
{
    for (uint32_t id = flow->flags & NM_FLOW_HOLDS ? flow->first_leg : NM_NO_LEG; id != NM_NO_LEG;) {
        nm_leg *leg = nm_leg_by_id(gear->legs, id);
        give_leg(gear, leg, flow, NULL, len, now);
        id = leg->next_of_flow;
    }
    nm_held_drop(gear, flow, len);
}

/* Packets */

/* Decide a mirror's packet: C takes it if the leg is in its steady state and the packet is a plain segment in order. */
static int decide_mirror_packet(nm_gear *gear, nm_leg *leg, const nm_segment *seg, int checksum, double now)
{
    uint32_t window = (uint32_t)seg->window << leg->scale, ack = seg->ack - leg->seq_offset;
    if (!(leg->flags & NM_LEG_STEADY) || (seg->flags & ~TCP_PSH) != TCP_ACK || seg->options_len ||
        seg->seq != leg->rcv_nxt || !window || diff(ack, leg->snd_una) < 0 || diff(ack, leg->snd_max) > 0)
        return NM_PUNT_LEG_REPAIR;
    if (ack == leg->snd_una && !(leg->flags & NM_LEG_SACK) && !seg->payload_len && window == leg->window &&
        leg->snd_nxt != leg->snd_una)
        return NM_PUNT_LEG_REPAIR; /* a duplicate (RFC 5681 2) */
    if (has_bad_sum(seg, checksum))
        return NM_PUNT_LEG_REPAIR;
    if (seg->payload_len && leg->source == NM_SOURCE_MESSAGES &&
        !nm_read_add(&gear->read, NM_READ_MIRROR, leg->reader, leg->ring.holder, payload_of(seg), seg->payload_len))
        return NM_PUNT_LEG_REPAIR;
    gear->counters.packets_decided_in_c++;
    gear->counters.mirror_packets++;
    nm_leg_take_ack(gear->legs, leg, ack, window, now, &gear->out);
    if (seg->payload_len) {
        leg->heard_at = now;
        nm_leg_take_data(leg, seg->payload_len, now, &gear->out);
    }
    nm_leg_set_due(gear->legs, leg, nm_leg_deadline(leg));
    return NM_CONSUMED;
}

/* Return whether the backend has acknowledged bytes, after a segment, that legs and readers lack: _has_hole() in
 * Python. */
static int has_hole(const nm_flow *flow, const nm_flow *after)
{
    return has_takers(flow, 1) && !(flow->flags & NM_FLOW_PICKED_UP) && diff(after->reply.ack, flow->orig.next) > 0;
}

/* Return whether Python has to decide a packet of a flow with mirrors, because it brings legs or readers something or
 * changes the flow's state; NM_PUNT_RESET for a RST that does. */
static int needs_mirroring(const nm_flow *flow, const nm_segment *seg, int is_orig)
{
    nm_flow after = *flow;
    int event = nm_track(&after, seg, is_orig);
    if (event == NM_EVENT_RST)
        return flow->state == NM_STATE_SYN_RECEIVED && !(flow->flags & NM_FLOW_PYTHON_STATE) ? 0 : NM_PUNT_RESET;
    int is_data = (seg->payload_len || seg->flags & TCP_FIN) && !(seg->flags & TCP_RST);
    if (event != NM_NO_EVENT || (is_data && (flow->state < NM_STATE_ESTABLISHED || shows_mptcp(flow, seg, is_orig))))
        return NM_PUNT_OPENING_OR_CLOSING;
    if (is_orig)
        return (is_data || seg->flags & TCP_URG) && nm_is_taken(flow, seg, 1) &&
                       (seg->flags & TCP_FIN || is_urgent(flow, seg) || !is_repetition(flow, seg))
                   ? NM_PUNT_OPENING_OR_CLOSING
                   : 0;
    int is_fin_acked = flow->reply.flags & NM_HALF_ACK && flow->reply.ack == flow->orig.end;
    int waits_for_ack = flow->orig.flags & NM_HALF_FIN ? !is_fin_acked : has_hole(flow, &after);
    return flow->flags & (NM_FLOW_THROTTLED | NM_FLOW_PAST_WINDOW | NM_FLOW_SKIPPED) || flow->held_len ||
                   waits_for_ack || (is_data && flow->flags & NM_FLOW_HAS_READER)
               ? NM_PUNT_OPENING_OR_CLOSING
               : 0;
}

/* Return the reason for which Python has to decide a packet that opens or ends a flow, or 0. */
static int why_python(nm_gear *gear, const nm_flow *flow, const nm_segment *seg, int is_orig, double now)
{
    const nm_service *service = &gear->plan.services[flow->service_id];
    int is_mirrored = flow->flags & NM_FLOW_SERVICE_MIRRORED, is_pythons;
    if (flow->flags & NM_FLOW_DIRECT || (seg->flags & TCP_RST && flow->state == NM_STATE_SYN_SENT))
        return NM_PUNT_OPENING_OR_CLOSING;
    if (!(seg->flags & TCP_SYN))
        return is_mirrored ? needs_mirroring(flow, seg, is_orig) : 0;
    if (is_orig) /* all SYNs but the repetition of the flow's own */
        is_pythons = flow->flags & (NM_FLOW_PYTHON_STATE | NM_FLOW_PICKED_UP) || seg->seq != flow->iss ||
                     seg->payload_len || seg->flags & (TCP_ACK | TCP_RST | TCP_FIN) ||
                     flow->state > NM_STATE_SYN_RECEIVED ||
                     (flow->state == NM_STATE_SYN_SENT && now >= nm_flow_answer_due(flow));
    else
        is_pythons = flow->state != NM_STATE_SYN_SENT || flow->flags & NM_FLOW_PYTHON_STATE ||
                     (is_mirrored && service->may_throttle) ||
                     *nm_plan_suspect(&gear->plan, flow->service_id, flow->family, flow->client);
    return is_pythons ? NM_PUNT_OPENING_OR_CLOSING : 0;
}

/* Decide a packet of a flow that is being opened or closed, or that might open or close it. */
static int decide_control_packet(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, int checksum, double now)
{
    if (!(flow->flags & NM_FLOW_DIRECT) && has_bad_sum(seg, checksum)) {
        gear->counters.packets_decided_in_c++;
        gear->counters.bad_checksum_packets++;
        return pass_on(gear, flow, seg, is_orig);
    }
    if (is_orig && nm_is_vain_syn(flow->flags, seg)) {
        gear->counters.packets_decided_in_c++;
        return pass_on(gear, flow, seg, 1);
    }
    int reason = why_python(gear, flow, seg, is_orig, now);
    if (reason)
        return reason;
    int event = nm_track(flow, seg, is_orig);
    if (event != NM_NO_EVENT || !(seg->flags & TCP_RST)) /* a RST that its receiver ignores refreshes nothing */
        nm_flow_touch(gear->flows, flow, now, event != NM_NO_EVENT || (seg->flags & TCP_SYN && is_orig));
    if (event == NM_EVENT_SYN_ACK && flow->backend_id != NM_NO_BACKEND)
        gear->plan.backends[flow->backend_id].connections++;
    gear->counters.packets_decided_in_c++;
    return pass_on(gear, flow, seg, is_orig);
}

/* Return whether only a backend says that it has this connection: flow_flags.has_silent_client() in Python. */
static int has_silent_client(const nm_flow *flow)
{
    return nm_flow_is_unconfirmed(flow) && !(flow->orig.flags & NM_HALF_SEQ);
}

/* Follow the numbers of an established flow by a packet that passes. */
static inline void follow(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, int is_bad, int is_taken,
                          double now)
{
    gear->counters.packets_decided_in_c++;
    if (is_bad) {
        gear->counters.bad_checksum_packets++;
    } else if (flow->flags & NM_FLOW_LOOSE) { /* it may become strict, with a FIN that was seen before */
        int event = nm_track(flow, seg, is_orig);
        nm_flow_touch(gear->flows, flow, now, event != NM_NO_EVENT);
    } else {
        nm_track_half(flow, seg, is_orig, is_taken);
        flow->seen_at = now;
    }
    if (flow->flags & NM_FLOW_RECONNECTS && is_orig && is_taken)
        nm_note_data(flow, seg);
}

/* Decide a packet, which its receiver takes, of an established flow with legs or readers. */
static int decide_for_mirrors(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, double now)
{
    if (shows_mptcp(flow, seg, is_orig))
        return NM_PUNT_MPTCP;
    if (flow->flags & (NM_FLOW_SKIPPED | NM_FLOW_UNSEEN) || (is_orig && is_urgent(flow, seg))) /* its copies end */
        return NM_PUNT_OUT_OF_ORDER;
    if (flow->flags & NM_FLOW_LOOSE && flow->orig.flags & NM_HALF_FIN) /* a stream may end that has not begun here */
        return NM_PUNT_OUT_OF_ORDER;
    int is_fed = seg->payload_len && has_takers(flow, is_orig);
    uint32_t acked = is_orig ? 0 : acked_len(flow, seg);
    int reason = is_fed ? punt_reason(gear, flow, seg, is_orig) : 0;
    if (reason == NM_PUNT_OUT_OF_ORDER && is_orig && is_repetition(flow, seg))
        reason = is_fed = 0;
    if (!reason && acked)
        reason = release_reason(gear, flow, acked);
    if (!reason && flow->flags & NM_FLOW_HAS_READER && !give_readers(gear, flow, seg, is_orig, is_fed, acked))
        reason = NM_PUNT_OUT_OF_ORDER;
    if (reason)
        return reason;
    follow(gear, flow, seg, is_orig, 0, 1, now);
    if (acked)
        release(gear, flow, acked, now);
    if (is_fed)
        feed(gear, flow, seg, is_orig, now);
    return pass_on(gear, flow, seg, is_orig);
}

/* Decide a packet of an established flow with which no copy begins. */
static int decide_established(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, int is_bad, int is_taken,
                              double now)
{
    if (flow->flags & (NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER) && is_taken)
        return decide_for_mirrors(gear, flow, seg, is_orig, now);
    follow(gear, flow, seg, is_orig, is_bad, is_taken, now);
    return pass_on(gear, flow, seg, is_orig);
}

/* Decide a packet of this flow or leg, or of neither. */
static int decide(nm_gear *gear, nm_flow *flow, nm_leg *leg, const nm_segment *seg, int hook, int checksum, double now)
{
    int is_control = seg->flags & (TCP_SYN | TCP_FIN | TCP_RST), is_orig = hook == NF_INET_PRE_ROUTING;
    /* 1. A client's SYN that opens a flow. */
    if (is_orig && seg->flags & TCP_SYN && (!flow || nm_flow_is_closed(flow))) {
        int dropped = 0;
        nm_flow *opened = nm_flow_open(gear, flow, seg, checksum, now, &dropped);
        if (opened || dropped) {
            gear->counters.packets_decided_in_c++;
            return opened ? pass_on(gear, opened, seg, 1) : dropped;
        }
        if (flow && !has_bad_sum(seg, checksum) && !nm_is_vain_syn(flow->flags, seg))
            return NM_PUNT_OPENING_OR_CLOSING;
    }
    /* 2. A packet without a flow: a mirror's, or one of no connection that is known here. */
    if (!flow) {
        if (leg)
            return is_control ? NM_PUNT_OPENING_OR_CLOSING : decide_mirror_packet(gear, leg, seg, checksum, now);
        return is_orig ? nm_decide_without_flow(gear, seg, checksum, now)
                       : nm_decide_unbound_reply(gear, seg, checksum, now);
    }
    if (flow->flags & (NM_FLOW_KILLED | NM_FLOW_LOOSE | NM_FLOW_DIRECT)) {
        if (flow->flags & NM_FLOW_KILLED || (is_orig && has_silent_client(flow)))
            return NM_PUNT_SPECIAL_FLOW;
        if (is_orig && flow->flags & NM_FLOW_DIRECT)
            return nm_decide_direct(gear, seg);
    }
    if (!is_orig && hook != NF_INET_FORWARD && !(hook == NF_INET_LOCAL_OUT && flow->flags & NM_FLOW_WATCHED))
        return NM_PUNT_SPECIAL_FLOW;
    /* 3. A packet of a flow that is being opened or closed. */
    if (is_control || flow->state != NM_STATE_ESTABLISHED)
        return decide_control_packet(gear, flow, seg, is_orig, checksum, now);
    if (!is_orig && flow->flags & (NM_FLOW_THROTTLED | NM_FLOW_PAST_WINDOW))
        return NM_PUNT_THROTTLED;
    /* 4. A backend's packet of a direct connection. */
    if (flow->flags & NM_FLOW_DIRECT) {
        flow->seen_at = now;
        flow->reply.packets++;
        gear->counters.packets_decided_in_c++;
        return NM_ACCEPT;
    }
    /* 5. A packet of an established flow. */
    int is_bad = has_bad_sum(seg, checksum);
    int is_taken = !is_bad && nm_is_taken(flow, seg, is_orig);
    if (is_orig && now < gear->sheds_until && nm_sheds_data(gear, flow, seg, now))
        return NM_DROP_OVER_LIMIT;
    if (flow->flags & NM_FLOW_RECONNECTS && is_orig && is_taken && nm_begins_copy(gear, flow, seg, now))
        return NM_PUNT_COPY_BEGINS;
    return decide_established(gear, flow, seg, is_orig, is_bad, is_taken, now);
}

/* The limit on packets that Python decides */

/* What a flow's packet is to its receiver, and to the flow. */
typedef struct {
    int is_bad;   /* its checksum is wrong, so the receiver drops it */
    int is_taken; /* the receiver takes it, if it is no SYN and no RST */
    int event;    /* by which it would change the flow's state, or NM_NO_EVENT */
} effect;

static effect effect_of(const nm_flow *flow, const nm_segment *seg, int is_orig, int checksum)
{
    nm_flow after = *flow;
    if (has_bad_sum(seg, checksum))
        return (effect){.is_bad = 1, .event = NM_NO_EVENT};
    return (effect){.is_taken = nm_is_taken(flow, seg, is_orig), .event = nm_track(&after, seg, is_orig)};
}

/* Return whether the numbers of a flow's packet show that its sender knows the connection. A forger has to guess two
 * numbers at once: one in the receiver's window, and one of a byte that the receiver has lately sent. */
static int is_genuine(const nm_flow *flow, const nm_segment *seg, int is_orig, const effect *of)
{
    const nm_half *receiver = is_orig ? &flow->reply : &flow->orig;
    if (flow->flags & (NM_FLOW_DIRECT | NM_FLOW_KILLED))
        return 0;
    if (of->event != NM_NO_EVENT)
        return 1;
    if (seg->flags & TCP_SYN || flow->state < NM_STATE_ESTABLISHED || !of->is_taken)
        return 0;
    if (!nm_flow_knows_window(flow))
        return 1;
    uint32_t end = seg->seq + seg->payload_len + (seg->flags & TCP_FIN);
    return receiver->flags & NM_HALF_ACK && diff(end, receiver->ack) >= 0 && diff(seg->seq, receiver->edge) <= 0;
}

/* Return whether a mirror's packet acknowledges a byte, or a SYN, that is in flight on its leg. */
static int is_genuine_of_leg(const nm_leg *leg, const nm_segment *seg)
{
    uint32_t ack = seg->ack - leg->seq_offset;
    return seg->flags & TCP_ACK && diff(ack, leg->snd_una) >= 0 && diff(ack, leg->snd_max) <= 0;
}

/* Pass a packet without mirroring. If it brings something new, nothing more is released: the client may send another
 * version of its data later. A throttled client sees no more room than it knows already. */
static int pass_over_limit(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, const effect *of, double now)
{
    if (is_orig && of->is_taken && has_takers(flow, 1) && (is_urgent(flow, seg) || !is_repeated(flow, seg)))
        flow->flags |= NM_FLOW_SKIPPED;
    follow(gear, flow, seg, is_orig, of->is_bad, of->is_taken, now);
    int decided = pass_on(gear, flow, seg, is_orig);
    if (decided == NM_MODIFIED && !is_orig && flow->flags & NM_FLOW_THROTTLED) {
        int32_t room = diff(flow->shown, seg->ack) >> flow->reply.scale;
        gear->translation.window = (uint16_t)(room < 0 ? 0 : room < seg->window ? room : seg->window);
        gear->translation.more |= NM_NARROWS;
        gear->translation.mark = 0; /* the kernel translates addresses alone */
    }
    return decided;
}

/* Return whether a packet that is to be punted for this reason is data of an established flow, or a leg's. */
static int is_of_data(int reason)
{
    return reason == NM_PUNT_THROTTLED || reason == NM_PUNT_OUT_OF_ORDER || reason == NM_PUNT_LEG_REPAIR ||
           reason == NM_PUNT_COPY_BEGINS;
}

/* Return whether a packet changes nothing but numbers of its flow. */
static int is_plain(const nm_flow *flow, const nm_segment *seg, const effect *of, int reason)
{
    return is_of_data(reason) ||
           (reason == NM_PUNT_OPENING_OR_CLOSING && !(flow->flags & NM_FLOW_DIRECT) &&
            flow->state >= NM_STATE_ESTABLISHED && !(seg->flags & (TCP_SYN | TCP_FIN | TCP_RST)) &&
            of->event == NM_NO_EVENT);
}

/* Decide a packet that was to be punted for this reason, but whose peer has no turn left. What its sender will send
 * again is dropped. Data of flows passes, and data of connections that would be picked up, because a mirror costs
 * production no packet: a copy that lacks it ends. */
static int decide_over_limit(nm_gear *gear, nm_flow *flow, const nm_segment *seg, int is_orig, const effect *of,
                             double now, int reason)
{
    gear->counters.over_limit[reason]++;
    int decided = reason == NM_PUNT_COPY_BEGINS ? decide_established(gear, flow, seg, 1, 0, 1, now) : reason;
    if (decided >= NM_PUNT && flow && is_plain(flow, seg, of, reason))
        decided = pass_over_limit(gear, flow, seg, is_orig, of, now);
    else if (reason == NM_PUNT_NO_FLOW)
        decided = nm_pass_without_flow(gear, seg, is_orig, now);
    if (decided < NM_PUNT)
        return decided;
    if (flow && flow->flags & NM_FLOW_WATCHED && is_orig && of->is_taken) { /* the queue lets it pass all the same */
        nm_note_unsure(flow, seg);
        if (has_takers(flow, 1) && (seg->payload_len || seg->flags & TCP_FIN))
            flow->flags |= NM_FLOW_SKIPPED;
    }
    gear->counters.packets_decided_in_c++;
    gear->counters.drops[NM_DROP_OVER_LIMIT]++;
    return NM_DROP_OVER_LIMIT;
}

/* Take a turn for a packet that is to be punted for this reason. Return the reason, or without a turn the decision. What
 * a flow's packet is to its receiver is found out only if that matters. */
__attribute__((noinline)) static int limit(nm_gear *gear, uint8_t *packet, size_t len, nm_flow *flow, const nm_leg *leg,
                                           const nm_segment *seg, int is_orig, int checksum, double now, int reason)
{
    nm_bucket *peer = nm_peer_of(gear, packet, len, flow, leg, is_orig, now);
    int price = is_of_data(reason) ? NM_TURN_OF_DATA : NM_TURN_OF_OTHERS, knows = 0;
    effect of = {.event = NM_NO_EVENT};
    int is_swamped = (int)gear->is_swamped;
    if (nm_turn_favours_genuine(peer, price, is_swamped)) {
        if (flow)
            of = effect_of(flow, seg, is_orig, checksum);
        knows = flow ? is_genuine(flow, seg, is_orig, &of) : leg && is_genuine_of_leg(leg, seg);
    }
    return nm_turn_take(peer, price, knows, is_swamped) ? reason
                                                        : decide_over_limit(gear, flow, seg, is_orig, &of, now, reason);
}

/* Note that packets of a flow may have passed unseen: the backend may have another version of what is held. */
static void note_unseen(const nm_gear *gear, nm_flow *flow)
{
    flow->unseen = gear->unseen;
    if (flow->flags & NM_FLOW_SERVICE_MIRRORED && !(flow->flags & NM_FLOW_DIRECT))
        flow->flags |= NM_FLOW_UNSEEN;
}

int nm_decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now)
{
    int is_orig = hook == NF_INET_PRE_ROUTING, decided = NM_PUNT_NOT_TCP;
    nm_segment seg;
    nm_flow *flow = NULL;
    nm_leg *leg = NULL;
    if (parse(packet, len, &seg)) {
        const uint8_t *src = source_of(&seg), *dst = destination_of(&seg);
        flow = is_orig ? nm_flow_find_orig(gear->flows, 4, src, seg.sport, dst, seg.dport)
                       : nm_flow_find_reply(gear->flows, 4, src, seg.sport, dst, seg.dport);
        leg = is_orig && !flow ? nm_leg_find(gear->legs, 4, src, seg.sport, dst, seg.dport) : NULL;
        if (flow)
            flow->came_at = now;
        if (flow && flow->flags & NM_FLOW_RECONNECTS)
            nm_note_silence(flow, now);
        if (flow && flow->flags & NM_FLOW_WATCHED && flow->unseen != gear->unseen)
            note_unseen(gear, flow);
        decided = decide(gear, flow, leg, &seg, hook, checksum, now);
    }
    int is_limited = decided >= NM_PUNT && decided != NM_PUNT_RESET && decided != NM_PUNT_MPTCP; /* these come once */
    if (is_limited)
        decided = limit(gear, packet, len, flow, leg, &seg, is_orig, checksum, now, decided);
    else if (!leg && decided < NM_PUNT && nm_is_stray(flow))
        nm_turn_note_stray(nm_peer_of(gear, packet, len, flow, leg, is_orig, now));
    if (decided >= NM_PUNT)
        gear->counters.punts[decided]++;
    return decided;
}

int nm_process(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now)
{
    int decided = nm_decide(gear, packet, len, hook, checksum, now);
    if (decided == NM_MODIFIED)
        nm_translate(gear, packet, len, checksum);
    return decided;
}
