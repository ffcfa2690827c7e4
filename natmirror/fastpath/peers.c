/* Whose turn a packet takes; peers.h says what each function is for. */
#include "fastpath/peers.h"

int nm_is_shed(nm_gear *gear, const uint8_t *client, int is_refused, double now)
{
    if (now >= gear->sheds_until || nm_turn_pass_stray(nm_turns_of(gear->turns, client, NULL, now), is_refused))
        return 0;
    gear->sheds_until = now + NM_SHED_TIME;
    return 1;
}

int nm_sheds_data(nm_gear *gear, const nm_flow *flow, const nm_segment *seg, double now)
{
    int is_acked = flow->reply.flags & NM_HALF_ACK && diff(seg->seq + seg->payload_len, flow->reply.ack) <= 0;
    int is_stray = seg->payload_len && (is_acked || nm_flow_is_unconfirmed(flow));
    if (!is_stray || flow->flags & NM_FLOW_WATCHED || !nm_is_shed(gear, flow->client, 0, now))
        return 0;
    gear->counters.packets_decided_in_c++;
    gear->counters.drops[NM_DROP_OVER_LIMIT]++;
    return 1;
}

nm_bucket *nm_peer_of(nm_gear *gear, const uint8_t *packet, size_t len, const nm_flow *flow, const nm_leg *leg,
                      int is_orig, double now)
{
    static const uint8_t UNKNOWN[4], BACKENDS[4] = {255, 255, 255, 255};
    if (flow && !leg && !is_orig)
        return nm_turns_of(gear->turns, flow->client, BACKENDS, now);
    const nm_flow *of = leg ? nm_flow_by_id(gear->flows, leg->flow_id) : NULL;
    const uint8_t *more = of ? of->client : leg ? leg->local : NULL;
    return nm_turns_of(gear->turns, len < IP_MIN ? UNKNOWN : packet + IP_SOURCE_AT, more, now);
}
