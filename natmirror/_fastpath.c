/* The C gear; _fastpath.h says what each function is for.
 *
 * The rules for numbers and checksums are those of tracker.py, packet.py, mirroring.py and leg.py: tests hold the two
 * against each other.
 */
#include "_fastpath.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/leg_sender.h"
#include "fastpath/flow_lifecycle.h"
#include "fastpath/packet.h"
#include "fastpath/tracker.h"

#define HOOK_PREROUTING 0
#define HOOK_FORWARD 2
#define HOOK_OUTPUT 3
#define ACKNOWLEDGED_AT_ONCE 256

nm_gear *nm_gear_new(uint32_t max_flows, nm_budget *budget, const uint8_t *key)
{
    nm_gear *gear = calloc(1, sizeof *gear);
    if (!gear)
        return NULL;
    gear->flows = nm_flows_new(max_flows, key);
    gear->legs = nm_legs_new(budget, key);
    if (!gear->flows || !gear->legs) {
        nm_gear_free(gear);
        return NULL;
    }
    return gear;
}

void nm_gear_free(nm_gear *gear)
{
    if (!gear)
        return;
    nm_flows_free(gear->flows);
    nm_legs_free(gear->legs);
    free(gear->out.bytes);
    free(gear->out.sends);
    free(gear->read.bytes);
    free(gear->read.sends);
    free(gear);
}

void nm_out_clear(nm_out *out) { out->used = out->count = 0; }

int nm_out_add(nm_out *out, const uint8_t *packet, uint32_t len, uint16_t segment_len)
{
    uint8_t *at = nm_out_reserve(out, len, segment_len);
    if (at && len)
        memcpy(at, packet, len);
    return at != NULL;
}

int nm_read_add(nm_out *read, uint8_t kind, uint32_t of, const uint8_t *data, uint32_t len)
{
    if (!nm_out_add(read, data, len, 0))
        return 0;
    read->sends[read->count - 1].kind = kind;
    read->sends[read->count - 1].of = of;
    return 1;
}

/* Translating */

static int translate_to(nm_gear *gear, int is_destination, const uint8_t *address, uint16_t port, uint32_t mark)
{
    nm_translation *to = &gear->translation;
    to->is_destination = (uint8_t)is_destination;
    memcpy(to->address, address, sizeof to->address);
    to->port = port;
    to->mark = mark;
    return NM_MODIFIED;
}

/* A flow's packet on its way. */
static int pass_on(nm_gear *gear, const nm_flow *flow, int is_orig)
{
    if (flow->flags & NM_FLOW_WATCHED)
        return NM_ACCEPT;
    uint32_t mark = flow->backend_id < gear->plan.backend_count ? gear->plan.backends[flow->backend_id].mark : 0;
    return is_orig ? translate_to(gear, 1, flow->backend, flow->backend_port, mark)
                   : translate_to(gear, 0, flow->service, flow->service_port, mark);
}

/* A sum that was left to hardware is computed in full: the kernel takes a rewritten packet for finished. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum)
{
    const nm_translation *to = &gear->translation;
    segment seg;
    if (!parse(packet, len, &seg))
        return;
    size_t address_at = to->is_destination ? 16 : 12, port_at = to->is_destination ? 2 : 0;
    uint8_t old[6], fresh[6];
    memcpy(old, seg.ip + address_at, 4);
    memcpy(old + 4, seg.tcp + port_at, 2);
    memcpy(fresh, to->address, 4);
    put16(fresh + 4, to->port);
    memcpy(seg.ip + address_at, fresh, 4);
    memcpy(seg.tcp + port_at, fresh + 4, 2);
    update_checksum(seg.ip + 10, old, fresh, 4);
    if (checksum != CHECKSUM_PARTIAL) {
        update_checksum(seg.tcp + 16, old, fresh, 6);
        return;
    }
    put16(seg.tcp + 16, 0);
    put16(seg.tcp + 16, (uint16_t)~tcp_sum(&seg));
}

/* Handing data on: Mirroring.feed() and Leg.write() for data in its turn */

static int has_takers(const nm_flow *flow, int is_orig)
{
    return flow->flags & (is_orig ? NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER : NM_FLOW_HAS_READER);
}

/* Why the flow's legs and readers cannot take what one end sends next; 0 where they can, and have room for it. */
static int why_not_taken(nm_gear *gear, const nm_flow *flow, const segment *seg, int is_orig)
{
    const nm_half *sender = is_orig ? &flow->orig : &flow->reply, *receiver = is_orig ? &flow->reply : &flow->orig;
    uint32_t end = seg->seq + seg->payload_len;
    uint32_t limit = diff(receiver->edge, receiver->ack) >= 0 ? receiver->edge : receiver->ack;
    if (flow->flags & (is_orig ? NM_FLOW_ORIG_GAP : NM_FLOW_REPLY_GAP) || !(seg->flags & TCP_ACK) || seg->seq != sender->next ||
        diff(end, receiver->ack) < 0)
        return NM_PUNT_DATA;
    if (!(flow->flags & NM_FLOW_LOOSE) && (diff(seg->ack, receiver->end) > 0 || diff(limit, end) < 0))
        return NM_PUNT_DATA;
    uint32_t first_leg = is_orig ? flow->first_leg : NM_NO_LEG;
    for (uint32_t id = first_leg; id != NM_NO_LEG;) {
        const nm_leg *leg = nm_leg_by_id(gear->legs, id);
        if (!(leg->flags & NM_LEG_STEADY) ||
            (leg->buffered && (uint64_t)leg->buffered + seg->payload_len > leg->max_buffer))
            return NM_PUNT_LEG;
        id = leg->next_of_flow;
    }
    for (uint32_t id = first_leg; id != NM_NO_LEG;) {
        nm_leg *leg = nm_leg_by_id(gear->legs, id);
        if (!nm_leg_reserve(gear->legs, leg, seg->payload_len))
            return NM_PUNT_LEG;
        id = leg->next_of_flow;
    }
    if (flow->flags & NM_FLOW_HAS_READER &&
        !nm_read_add(&gear->read, is_orig ? NM_READ_ORIG : NM_READ_REPLY, flow->id, payload_of(seg), seg->payload_len))
        return NM_PUNT_DATA;
    return 0;
}

static void hand_on(nm_gear *gear, nm_flow *flow, const segment *seg, int is_orig, double now)
{
    (is_orig ? &flow->orig : &flow->reply)->next = seg->seq + seg->payload_len;
    for (uint32_t id = is_orig ? flow->first_leg : NM_NO_LEG; id != NM_NO_LEG;) {
        nm_leg *leg = nm_leg_by_id(gear->legs, id);
        if (!leg->buffered && leg->snd_una == leg->snd_max)
            leg->progress_at = now;
        nm_leg_append(leg, payload_of(seg), seg->payload_len, now);
        leg->heard_at = leg->written_at = now;
        nm_leg_output(leg, now, &gear->out);
        nm_leg_set_due(gear->legs, leg, nm_leg_deadline(leg));
        id = leg->next_of_flow;
    }
}

/* Packets */

/* A mirror's, for a leg in its steady state: in its turn, without anything that Python has to look at. */
static int process_mirrors(nm_gear *gear, nm_leg *leg, const segment *seg, int checksum, double now)
{
    uint32_t window = (uint32_t)seg->window << leg->scale, ack = seg->ack - leg->seq_offset;
    if (!(leg->flags & NM_LEG_STEADY) || (seg->flags & ~TCP_PSH) != TCP_ACK || seg->has_options ||
        seg->seq != leg->rcv_nxt || !window || diff(ack, leg->snd_una) < 0 || diff(ack, leg->snd_max) > 0)
        return NM_PUNT_LEG;
    if (ack == leg->snd_una && !(leg->flags & NM_LEG_SACK) && !seg->payload_len && window == leg->window &&
        leg->snd_nxt != leg->snd_una)
        return NM_PUNT_LEG; /* a duplicate (RFC 5681 2) */
    if (has_bad_sum(seg, checksum))
        return NM_PUNT_LEG;
    if (seg->payload_len && leg->source == NM_SOURCE_MESSAGES &&
        !nm_read_add(&gear->read, NM_READ_MIRROR, leg->reader, payload_of(seg), seg->payload_len))
        return NM_PUNT_LEG;
    gear->counters.fast_packets++;
    gear->counters.mirror_packets++;
    nm_leg_take_ack(gear->legs, leg, ack, window, now, &gear->out);
    if (seg->payload_len) {
        leg->heard_at = now;
        nm_leg_take_data(leg, seg->payload_len, now, &gear->out);
    }
    nm_leg_set_due(gear->legs, leg, nm_leg_deadline(leg));
    return NM_CONSUMED;
}

/* Why Python is to look at a packet that opens or ends a flow. */
static int needs_python(nm_gear *gear, const nm_flow *flow, const segment *seg, int is_orig, double now)
{
    const nm_service *service = &gear->plan.services[flow->service_id];
    if (flow->flags & NM_FLOW_DIRECT || (seg->flags & TCP_RST && flow->state == NM_STATE_SYN_SENT))
        return 1;
    if (seg->flags & TCP_SYN && is_orig) /* but its own SYN once more */
        return flow->flags & (NM_FLOW_PYTHON_STATE | NM_FLOW_LOOSE) || seg->seq != flow->iss || seg->payload_len ||
               seg->flags & (TCP_ACK | TCP_RST | TCP_FIN) || flow->state > NM_STATE_SYN_RECEIVED ||
               (flow->state == NM_STATE_SYN_SENT && now >= nm_flow_answer_due(flow));
    if (seg->flags & TCP_SYN)
        return flow->state != NM_STATE_SYN_SENT || flow->flags & NM_FLOW_PYTHON_STATE || (flow->flags & NM_FLOW_SERVICE_MIRRORED && service->is_held) ||
               *nm_plan_suspect(&gear->plan, flow->service_id, flow->family, flow->client);
    if (!(flow->flags & NM_FLOW_SERVICE_MIRRORED))
        return 0;
    return !(seg->flags & TCP_RST && flow->state == NM_STATE_SYN_RECEIVED && !(flow->flags & NM_FLOW_PYTHON_STATE));
}

/* The opening of a flow, but for the handshake's end where legs open with it, and the end of one without mirrors. */
static int process_control(nm_gear *gear, nm_flow *flow, const segment *seg, int is_orig, int checksum, double now)
{
    if (needs_python(gear, flow, seg, is_orig, now) || has_bad_sum(seg, checksum))
        return NM_PUNT_CONTROL;
    int event = nm_track(flow, seg, is_orig, flow->flags & NM_FLOW_LOOSE);
    nm_flow_touch(gear->flows, flow, now, event != NM_NO_EVENT || (seg->flags & TCP_SYN && is_orig));
    if (event == NM_EVENT_SYN_ACK && flow->backend_id != NM_NO_BACKEND)
        gear->plan.backends[flow->backend_id].connections++;
    gear->counters.fast_packets++;
    return pass_on(gear, flow, is_orig);
}

/* A backend's SYN-ACK to a client for whom there is no flow. Usually the client has called the backend itself, which is
 * Python's to see; but while flows have to go before their handshakes are complete it is most likely for one of those. */
static int process_stray_answer(nm_gear *gear, const segment *seg)
{
    const nm_service *service = nm_plan_service_of(&gear->plan, seg->ip + 12, seg->sport);
    if (!service || (seg->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != (TCP_SYN | TCP_ACK) ||
        !nm_plan_is_client(&gear->plan, 4, seg->ip + 16) || !nm_flows_victim(gear->flows, 1) ||
        nm_flow_find_orig(gear->flows, 4, seg->ip + 16, seg->dport, service->address, service->port))
        return NM_PUNT_CONTROL; /* the last: the client has called again since, and another backend is to answer */
    gear->counters.fast_packets++;
    gear->counters.unbound_packets++;
    return translate_to(gear, 0, service->address, service->port, 0);
}

int nm_gear_acknowledge(nm_gear *gear, double now)
{
    nm_leg *leg;
    for (int count = 0; count < ACKNOWLEDGED_AT_ONCE && (leg = nm_legs_due(gear->legs, now)); count++) {
        int has_more = now >= leg->more_at;
        if (!(leg->flags & NM_LEG_STEADY) || (now < leg->ack_at && !has_more) || now >= nm_leg_python_deadline(leg))
            return 1;
        if (has_more) {
            nm_leg_output(leg, now, &gear->out);
            count = ACKNOWLEDGED_AT_ONCE; /* that takes as long as all others together */
        } else {
            nm_leg_acknowledge(leg, &gear->out);
        }
        nm_leg_set_due(gear->legs, leg, nm_leg_deadline(leg));
    }
    return 0;
}

static int decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now)
{
    segment seg;
    if (!parse(packet, len, &seg))
        return NM_PUNT_MALFORMED;
    int is_control = seg.flags & (TCP_SYN | TCP_FIN | TCP_RST);
    int is_orig = hook == HOOK_PREROUTING;
    const uint8_t *src = packet + 12, *dst = packet + 16;
    nm_flow *flow = is_orig ? nm_flow_find_orig(gear->flows, 4, src, seg.sport, dst, seg.dport)
                            : nm_flow_find_reply(gear->flows, 4, src, seg.sport, dst, seg.dport);
    if (is_orig && seg.flags & TCP_SYN && (!flow || nm_flow_is_closed(flow))) {
        flow = nm_flow_open(gear, flow, &seg, checksum, now);
        if (!flow)
            return NM_PUNT_CONTROL;
        gear->counters.fast_packets++;
        return pass_on(gear, flow, 1);
    }
    if (flow && flow->flags & NM_FLOW_ABORTED)
        return NM_PUNT_STATE;
    if (!flow) {
        nm_leg *leg = is_orig ? nm_leg_find(gear->legs, 4, src, seg.sport, dst, seg.dport) : NULL;
        if (is_control)
            return hook == HOOK_FORWARD ? process_stray_answer(gear, &seg) : NM_PUNT_CONTROL;
        return leg ? process_mirrors(gear, leg, &seg, checksum, now) : NM_PUNT_UNKNOWN;
    }
    if (!is_orig && hook != HOOK_FORWARD && !(hook == HOOK_OUTPUT && flow->flags & NM_FLOW_WATCHED))
        return NM_PUNT_STATE;
    if (is_control || flow->state != NM_STATE_ESTABLISHED)
        return process_control(gear, flow, &seg, is_orig, checksum, now);
    if (!is_orig && flow->flags & (NM_FLOW_HELD | NM_FLOW_PAST_WINDOW))
        return NM_PUNT_HELD;
    if (flow->flags & NM_FLOW_DIRECT) {
        if (is_orig)
            return NM_PUNT_STATE;
        flow->seen_at = now;
        flow->reply.packets++;
        gear->counters.fast_packets++;
        return NM_ACCEPT;
    }
    int is_bad = has_bad_sum(&seg, checksum);
    int is_taken = has_takers(flow, is_orig) && seg.payload_len && !is_bad;
    int why_not = is_taken ? why_not_taken(gear, flow, &seg, is_orig) : 0;
    if (why_not)
        return why_not;
    gear->counters.fast_packets++;
    if (is_bad) {
        gear->counters.bad_checksums++;
    } else {
        nm_track_half(is_orig ? &flow->orig : &flow->reply, is_orig ? &flow->reply : &flow->orig, &seg,
                  flow->flags & NM_FLOW_LOOSE);
        flow->seen_at = now;
    }
    if (is_taken)
        hand_on(gear, flow, &seg, is_orig, now);
    return pass_on(gear, flow, is_orig);
}

int nm_decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now)
{
    int decided = decide(gear, packet, len, hook, checksum, now);
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
