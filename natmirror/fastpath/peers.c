/* Whose turn a packet takes; peers.h says what each function is for. */
#include "fastpath/peers.h"

#include "fastpath/packet.h"

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
