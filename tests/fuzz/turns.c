/* The turns of peers; turns.h says what each function is for. */
#include "turns.h"

#include <string.h>

#include "check.h"
#include "check_without_flow.h"
#include "fastpath/packet.h"
#include "fastpath/tracker.h"
#include "fastpath/turns.h"
#include "held.h"
#include "must.h"

#define RATE 10000.0 /* a second copy, to check the first */
#define STORE 3000.0
#define PRICE_OF_DATA 1
#define PRICE_OF_OTHERS 4
#define STEADY 12
#define MAX_SURCHARGE 96
#define RELIEF 4
#define AMPLE 2000
#define SOURCE_AT 12

const uint8_t OF_REPLIES[4] = {255, 255, 255, 255};

static int is_of_data(int reason)
{
    return reason == NM_PUNT_THROTTLED || reason == NM_PUNT_OUT_OF_ORDER || reason == NM_PUNT_LEG_REPAIR;
}

/* Return what the peer has left now. */
static peer_turns *turns_of(world *w, const uint8_t *address, const uint8_t *more)
{
    uint8_t peer[8] = {0};
    uint32_t i = 0;
    memcpy(peer, address, 4);
    if (more)
        memcpy(peer + 4, more, 4);
    while (i < w->peer_count && memcmp(w->peers[i].peer, peer, sizeof peer))
        i++;
    peer_turns *one = &w->peers[i];
    if (i == w->peer_count) {
        must(w->peer_count++ < MAX_PEERS);
        *one = (peer_turns){.left = STORE, .at = w->now};
        memcpy(one->peer, peer, sizeof peer);
    }
    one->left += (w->now - one->at) * RATE;
    one->left = one->left < STORE ? one->left : STORE;
    one->at = w->now;
    return one;
}

void drain(world *w, const uint8_t *address, const uint8_t *more, int rest)
{
    peer_turns *one = turns_of(w, address, more);
    int price = (int)one->left - rest;
    if (price <= 0)
        return;
    must(nm_turn_take(nm_turns_of(w->gear->turns, address, more, w->now), price, 1, 0));
    one->left -= price;
}

void check_refusals(world *w)
{
    nm_refusals found = nm_turns_take_refusals(w->gear->turns);
    must(found.packets == w->refusals && !found.packets == !found.peers);
    must(found.most <= found.packets && found.most * found.peers >= found.packets);
    found = nm_turns_take_refusals(w->gear->turns);
    must(!found.packets && !found.peers && !found.most);
}

int over_limit_reason(const world *w, const snapshot *before)
{
    const nm_counters *counters = &w->gear->counters;
    int found = 0;
    for (int reason = NM_PUNT; reason < NM_PUNT_REASONS; reason++) {
        uint64_t more = counters->over_limit[reason] - before->counters.over_limit[reason];
        must(more <= 1 && !(more && found));
        found = more ? reason : found;
    }
    return found;
}

static const nm_flow *flow_before(const snapshot *before, const uint8_t *packet, size_t len, int hook)
{
    for (uint32_t id = 0; id < MAX_FLOWS && payload_at(packet, len); id++)
        if (has_ends_of(&before->rows[id], packet, hook == PREROUTING))
            return &before->rows[id];
    return NULL;
}

static const mirror_leg *leg_before(const world *w, const uint8_t *packet, size_t len, int hook)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    for (int i = 0; i < LEGS && hook == PREROUTING && payload_at(packet, len); i++) {
        const mirror_leg *leg = &w->legs[i];
        if (leg->row && !memcmp(packet + SOURCE_AT, leg->mirror.address, 4) && u16_at(tcp) == leg->mirror.port &&
            !memcmp(packet + SOURCE_AT + 4, leg->local.address, 4) && u16_at(tcp + 2) == leg->local.port)
            return leg;
    }
    return NULL;
}

static int is_bad(const uint8_t *packet, size_t len, int checksum)
{
    return checksum == UNVERIFIED && tcp_sum_of(packet, len, packet[0] % 16 * 4u) != 0xffff;
}

/* Whether a flow's packet shows that its sender knows the connection. */
static int knows_flow(const nm_flow *flow, const uint8_t *packet, size_t len, int is_orig, int checksum)
{
    const nm_half *receiver = is_orig ? &flow->reply : &flow->orig;
    nm_segment seg;
    nm_flow next = *flow;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    if (flow->flags & (NM_FLOW_DIRECT | NM_FLOW_KILLED) || is_bad(packet, len, checksum))
        return 0;
    if (nm_track(&next, &seg, is_orig) != NM_NO_EVENT)
        return 1;
    if (seg.flags & SYN || flow->state < NM_STATE_ESTABLISHED || !nm_is_taken(flow, &seg, is_orig))
        return 0;
    uint32_t end = seg.seq + seg.payload_len + (seg.flags & FIN ? 1 : 0);
    return !knows_window(flow) || (receiver->flags & NM_HALF_ACK && after(end, receiver->ack) >= 0 &&
                                   after(seg.seq, receiver->edge) <= 0);
}

/* Whether a mirror's packet acknowledges what its leg has sent. */
static int knows_leg(const mirror_leg *leg, const uint8_t *packet)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    uint32_t ack = u32_at(tcp + 8) - leg->row->seq_offset;
    return tcp[13] & ACK && after(ack, leg->row->snd_una) >= 0 && after(ack, leg->row->snd_max) <= 0;
}

/* Whether a packet that C has decided is of no established connection; `flow` as it was before. */
static int is_stray(const world *w, const snapshot *before, const nm_flow *flow)
{
    if (!flow)
        return 1;
    const nm_flow *now = nm_flow_by_id(w->gear->flows, (uint32_t)(flow - before->rows));
    int is_unconfirmed = now->flags & NM_FLOW_LOOSE && !(now->flags & NM_FLOW_VOUCHED) && now->state < NM_STATE_TIME_WAIT;
    return now->state <= NM_STATE_SYN_RECEIVED || now->state == NM_STATE_RESET || is_unconfirmed;
}

void check_turn(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum, int decided)
{
    static const uint8_t NO_ADDRESS[4];
    int over = over_limit_reason(w, before), reason = over ? over : decided;
    must(reason != NM_PUNT_RESET && reason != NM_PUNT_MPTCP ? 1 : !over);
    if (reason == NM_PUNT_RESET || reason == NM_PUNT_MPTCP)
        return;
    const nm_flow *flow = flow_before(before, packet, len, hook);
    const mirror_leg *leg = flow ? NULL : leg_before(w, packet, len, hook);
    const uint8_t *address = len < 20 ? NO_ADDRESS : packet + SOURCE_AT, *more = NULL;
    if (flow && hook != PREROUTING)
        address = flow->client, more = OF_REPLIES;
    else if (leg)
        more = leg->flow ? leg->flow->client.address : leg->local.address;
    if (reason < NM_PUNT && (leg || !is_stray(w, before, flow)))
        return;
    peer_turns *one = turns_of(w, address, more);
    if (reason < NM_PUNT) {
        double saved = KEPT + STEADY + one->surcharge;
        one->left = one->left > saved + 1 ? one->left - 1 : one->left > saved ? saved : one->left;
        return;
    }
    int price = is_of_data(reason) ? PRICE_OF_DATA : PRICE_OF_OTHERS;
    int is_genuine = flow ? knows_flow(flow, packet, len, hook == PREROUTING, checksum) : leg && knows_leg(leg, packet);
    int is_full = w->gear->is_swamped && one->left < AMPLE;
    int whole = price + (is_genuine ? 0 : is_full ? MAX_SURCHARGE : one->surcharge);
    int has_turn = one->left >= whole + (is_genuine ? 0 : KEPT);
    must(has_turn == !over);
    one->left -= has_turn ? whole : 0;
    if (!is_genuine && has_turn)
        one->surcharge = one->surcharge > RELIEF ? one->surcharge - RELIEF : 0;
    else if (!is_genuine)
        one->surcharge = one->surcharge < MAX_SURCHARGE ? one->surcharge + 1 : MAX_SURCHARGE;
    w->refusals += !has_turn;
}

/* Whether a packet without a flow goes on to where the rules alone send it: it may be data of a connection that would
 * be picked up. */
static int passes_without_flow(const world *w, const uint8_t *packet, size_t len, int hook)
{
    if (!payload_at(packet, len))
        return 0;
    if (hook != PREROUTING)
        return service_of(w, packet) >= 0;
    int service = service_at(w, packet);
    return service >= 0 && (!has_pool(service) || w->plan.services[service].derived_len);
}

/* Whether a packet of a flow changes nothing but the flow's numbers. */
static int passes_in_flow(const nm_flow *flow, const uint8_t *packet, size_t len, int is_orig, int reason)
{
    nm_segment seg;
    nm_flow after = *flow;
    if (is_of_data(reason))
        return 1;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    return reason == NM_PUNT_OPENING_OR_CLOSING && !(flow->flags & NM_FLOW_DIRECT) &&
           flow->state >= NM_STATE_ESTABLISHED && !(seg.flags & (SYN | FIN | RST)) &&
           nm_track(&after, &seg, is_orig) == NM_NO_EVENT;
}

/* Check that a client's data that passed without mirroring ends its copies, unless they have it. */
static void check_skipped(const world *w, const nm_flow *was, const uint8_t *packet, size_t len, int hook, int checksum)
{
    nm_segment seg;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    const nm_flow *row = nm_flow_by_id(w->gear->flows, was->id);
    int is_clients = hook == PREROUTING && has_takers(was) && !is_bad(packet, len, checksum) && nm_is_taken(was, &seg, 1);
    int is_urgent = seg.flags & URG &&
                    (!(was->reply.flags & NM_HALF_ACK) || after(seg.seq + seg.payload_len, was->reply.ack) >= 0);
    int is_skipped = is_clients && (is_urgent || !is_known(was, packet, len));
    must(!(row->flags & NM_FLOW_SKIPPED) == !(was->flags & NM_FLOW_SKIPPED || is_skipped));
}

void check_over_limit(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                      int decided)
{
    int reason = over_limit_reason(w, before);
    const nm_flow *flow = flow_before(before, packet, len, hook);
    int passes = flow ? passes_in_flow(flow, packet, len, hook == PREROUTING, reason)
                      : reason == NM_PUNT_NO_FLOW && passes_without_flow(w, packet, len, hook);
    if (passes && !flow && is_past_service(w, before, packet, len, hook, checksum)) {
        must(decided == NM_DROP_PAST_SERVICE);
        return;
    }
    must(passes == (decided == NM_ACCEPT || decided == NM_MODIFIED));
    must(passes || decided == NM_DROP_OVER_LIMIT);
    if (passes && flow)
        check_skipped(w, flow, packet, len, hook, checksum);
}
