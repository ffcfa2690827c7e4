/* The invariants of packets without a flow; check_without_flow.h says what each function is for. */
#include "check_without_flow.h"

#include <string.h>

#include "check.h"
#include "lists.h"
#include "must.h"

static uint8_t flags_of(const uint8_t *packet) { return packet[packet[0] % 16 * 4u + 13]; }

int is_without_flow(const world *w, const snapshot *before, const uint8_t *packet, int hook)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        if (has_ends_of(&before->rows[id], packet, hook == PREROUTING))
            return 0;
    return hook != PREROUTING ||
           !nm_leg_find(w->gear->legs, 4, packet + 12, u16_at(tcp), packet + 16, u16_at(tcp + 2));
}

int service_of(const world *w, const uint8_t *packet)
{
    int found = -1;
    for (int i = 0; i < BACKENDS; i++) {
        endpoint end = backend_end(&w->plan, i);
        int service = w->plan.backends[i].service_id;
        if (memcmp(packet + 12, end.address, 4) || u16_at(packet + packet[0] % 16 * 4u) != end.port)
            continue;
        if (found >= 0 && found != service)
            return -1;
        found = service;
    }
    return found;
}

/* Return the number of pools that have the packet's sender. */
static int count_pools(const world *w, const uint8_t *packet)
{
    int count = 0;
    for (int i = 0; i < BACKENDS; i++) {
        endpoint end = backend_end(&w->plan, i);
        count += !memcmp(packet + 12, end.address, 4) && u16_at(packet + packet[0] % 16 * 4u) == end.port;
    }
    return count;
}

int service_at(const world *w, const uint8_t *packet)
{
    for (int i = 0; i < SERVICES; i++) {
        endpoint end = service_end(&w->plan, i);
        if (!memcmp(packet + 16, end.address, 4) && u16_at(packet + packet[0] % 16 * 4u + 2) == end.port)
            return i;
    }
    return -1;
}

static int is_mirror(const world *w, const uint8_t *packet)
{
    for (int i = 0; i < MIRRORS; i++)
        if (!memcmp(w->plan.mirrors[i].address, packet + 12, 4) &&
            w->plan.mirrors[i].port == u16_at(packet + packet[0] % 16 * 4u))
            return 1;
    return 0;
}

/* Whether a client has a flow with the service, with which a backend's packet cannot replace it. */
static int is_bound(const snapshot *before, const uint8_t *packet, endpoint service)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &before->rows[id];
        if (row->family && row->client_port == u16_at(tcp + 2) && !memcmp(row->client, packet + 16, 4) &&
            row->service_port == service.port && !memcmp(row->service, service.address, 4))
            return !is_unconfirmed(row);
    }
    return 0;
}

int needs_python_without_flow(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook,
                              int checksum)
{
    uint8_t flags = flags_of(packet);
    int is_bad = checksum == UNVERIFIED && tcp_sum_of(packet, len, packet[0] % 16 * 4u) != 0xffff;
    int may_begin = payload_at(packet, len) != len && !(flags & RST) && !is_bad;
    int pools = count_pools(w, packet), service = service_at(w, packet);
    if (hook != PREROUTING) {
        int is_answer = (flags & (SYN | ACK)) == (SYN | ACK);
        if (!pools || !is_client(packet + 16))
            return 0;
        if (pools > 1)
            return is_answer;
        return !is_answer && may_begin && !is_bound(before, packet, service_end(&w->plan, service_of(w, packet)));
    }
    if (service < 0 || !is_client(packet + 12))
        return is_mirror(w, packet) && !pools;
    if (is_vain_syn(packet, has_pool(service)) && !is_bad)
        return 0;
    return may_begin || ((flags & (SYN | ACK | RST)) == SYN && !is_bad);
}

/* Whether a packet without a flow that goes to this endpoint belongs to a flow there that is not closed, or was reset, or
 * has held bytes. */
static int has_flow_at(const snapshot *before, const uint8_t *packet, const uint8_t *address, uint16_t port)
{
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &before->rows[id];
        if (row->family && row->client_port == u16_at(packet + packet[0] % 16 * 4u) &&
            !memcmp(row->client, packet + 12, 4) && row->backend_port == port && !memcmp(row->backend, address, 4))
            return !(row->flags & NM_FLOW_DIRECT) && (row->state != NM_STATE_TIME_WAIT || row->held_len);
    }
    return 0;
}

int is_past_service(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    int service = service_at(w, packet);
    if (hook != PREROUTING)
        return 0;
    if (service < 0 || !is_client(packet + 12))
        return has_flow_at(before, packet, packet + 16, u16_at(tcp + 2));
    int is_bad = checksum == UNVERIFIED && tcp_sum_of(packet, len, packet[0] % 16 * 4u) != 0xffff;
    if ((flags_of(packet) & (SYN | ACK | RST)) == SYN && !is_bad)
        return 0; /* Python's */
    endpoint end = service_end(&w->plan, service);
    if (has_pool(service)) {
        if (!w->plan.services[service].derived_len)
            return 0; /* Python's */
        end = backend_end(&w->plan, derive(&w->plan, service, packet + 12, u16_at(tcp)));
    }
    return has_flow_at(before, packet, end.address, end.port);
}

void check_without_flow(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum)
{
    const nm_counters *counters = &w->gear->counters;
    snapshot now;
    take_snapshot(w, &now);
    uint64_t counted = 0;
    counted += counters->packets_without_flow - before->counters.packets_without_flow;
    counted += counters->bad_checksum_packets - before->counters.bad_checksum_packets;
    counted += counters->direct_connections - before->counters.direct_connections;
    for (int i = 0; i < NM_PUNT; i++)
        counted += counters->drops[i] - before->counters.drops[i];
    must(counted <= 1);
    must(counters->drops[NM_DROP_PAST_SERVICE] - before->counters.drops[NM_DROP_PAST_SERVICE] ==
         (uint64_t)is_past_service(w, before, packet, len, hook, checksum));
    if (counters->direct_connections != before->counters.direct_connections) {
        const nm_flow *row = flow_of(w, packet, 0);
        must(hook != PREROUTING && (flags_of(packet) & (SYN | ACK)) == (SYN | ACK) && count_pools(w, packet) == 1);
        must(row ? row->flags == (NM_FLOW_DIRECT | NM_FLOW_HALF_OPEN) && row->state == NM_STATE_SYN_RECEIVED &&
                       row->seen_at == w->now
                 : count_rows(before) == MAX_FLOWS);
        return;
    }
    now.counters = before->counters;
    check_same(before, &now);
}
