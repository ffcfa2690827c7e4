/* What has to hold of flows; check.h says what each function is for. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "must.h"

#define NONE 0xffffffffu

static const double TIMEOUTS[NM_STATES + 1] = {30, 60, 7440, 240, 10, 10, 0.8}; /* tcp.py, attempts.py */

/* What one packet can make of a state; that a SYN is refused is Python's. */
static const uint8_t NEXT[NM_STATES][NM_STATES] = {
    [NM_SYN_SENT] = {[NM_SYN_SENT] = 1, [NM_SYN_RECEIVED] = 1},
    [NM_SYN_RECEIVED] = {[NM_SYN_RECEIVED] = 1, [NM_ESTABLISHED] = 1, [NM_CLOSING] = 1, [NM_RESET] = 1},
    [NM_ESTABLISHED] = {[NM_ESTABLISHED] = 1, [NM_CLOSING] = 1, [NM_RESET] = 1},
    [NM_CLOSING] = {[NM_CLOSING] = 1, [NM_TIME_WAIT] = 1, [NM_RESET] = 1},
    [NM_TIME_WAIT] = {[NM_TIME_WAIT] = 1},
    [NM_RESET] = {[NM_RESET] = 1},
};

const double *flow_timeouts(void) { return TIMEOUTS; }

static double deadline(const nm_flow *row)
{
    if (row->state == NM_SYN_SENT && !(row->flags & NM_UNANSWERED))
        return row->created_at + TIMEOUTS[NM_STATES];
    return row->seen_at + TIMEOUTS[row->state];
}

static void check_row(world *w, const nm_flow *row)
{
    nm_flows *flows = w->gear->flows;
    must(row->state < NM_STATES);
    must(row->due.queued_at <= row->due.due_at && row->due.due_at <= deadline(row));
    must(!(row->flags & NM_EMBRYONIC) == (row->state > NM_SYN_RECEIVED));
    must(row->service_id < SERVICES && (row->backend_id < BACKENDS || row->backend_id == NM_NO_BACKEND));
    must(nm_flow_find_orig(flows, 4, row->client, row->client_port, row->service, row->service_port) == row);
    must(nm_flow_find_reply(flows, 4, row->backend, row->backend_port, row->client, row->client_port) == row);
    if (row->flags & NM_DIRECT) {
        must(row->backend_id == NM_NO_BACKEND);
        return;
    }
    const nm_service *service = &w->plan.services[row->service_id];
    must(!memcmp(row->service, service->address, 16) && row->service_port == service->port);
    must(!service->table_len == (row->backend_id == NM_NO_BACKEND));
    const nm_backend *backend = &w->plan.backends[row->backend_id % BACKENDS];
    must(!memcmp(row->backend, service->table_len ? backend->address : service->address, 16));
    must(row->backend_port == (service->table_len ? backend->port : service->port));
}

/* Those that are embryonic are one list, from the oldest to the newest, and the oldest is who has to go. */
static void check_embryonic(world *w, uint32_t count, uint32_t oldest)
{
    nm_flows *flows = w->gear->flows;
    const nm_flow *before = NULL, *at = nm_flow_by_id(flows, oldest);
    int is_full = nm_flow_count(flows) == MAX_FLOWS;
    must(nm_flows_victim(flows, 0) == (is_full ? at : NULL));
    must(nm_flows_victim(flows, 1) == (is_full || count >= MAX_EMBRYONIC ? at : NULL));
    double created_at = 0;
    uint32_t walked = 0;
    for (; at; before = at, at = nm_flow_by_id(flows, at->newer)) {
        must(at->flags & NM_EMBRYONIC && at->older == (before ? before->id : NONE) && ++walked <= count);
        if (index_of(w, at) >= 0)
            continue;
        must(at->created_at >= created_at);
        created_at = at->created_at;
    }
    must(walked == count && (!before || before->newer == NONE));
}

void check_flows(world *w)
{
    uint32_t of_service[SERVICES] = {0}, of_backend[BACKENDS] = {0}, ids[MAX_FLOWS + 1];
    uint32_t embryonic = 0, oldest = NONE, count = nm_flow_ids(w->gear->flows, 0, ids, MAX_FLOWS + 1);
    double next = INFINITY;
    must(count <= MAX_FLOWS && count == nm_flow_count(w->gear->flows));
    for (uint32_t i = 0; i < count; i++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, ids[i]);
        must(row && row->id == ids[i]);
        check_row(w, row);
        next = fmin(next, row->due.due_at);
        if (row->flags & NM_EMBRYONIC) {
            embryonic++;
            if (row->older == NONE)
                oldest = row->id;
        }
        if (row->flags & NM_DIRECT)
            continue;
        of_service[row->service_id]++;
        if (row->backend_id != NM_NO_BACKEND)
            of_backend[row->backend_id]++;
    }
    must(nm_flows_next_due(w->gear->flows) == next);
    check_embryonic(w, embryonic, oldest);
    for (int i = 0; i < SERVICES; i++) {
        must(w->plan.services[i].flows == of_service[i]);
        must(!w->plan.services[i].turn || w->plan.services[i].turn < w->plan.services[i].table_len);
    }
    for (int i = 0; i < BACKENDS; i++) {
        must(w->plan.backends[i].flows == of_backend[i]);
        must(w->plan.backends[i].connections >= w->connections[i]);
        w->connections[i] = w->plan.backends[i].connections;
    }
    for (int i = 0; i < FLOWS; i++)
        must(nm_flow_by_id(w->gear->flows, w->flows[i].row->id) == w->flows[i].row);
}

static int is_of(const nm_flow *row, const uint8_t *packet, int is_orig)
{
    size_t header_len = packet[0] % 16 * 4u;
    const uint8_t *src = is_orig ? row->client : row->backend, *dst = is_orig ? row->service : row->client;
    uint16_t sport = is_orig ? row->client_port : row->backend_port;
    uint16_t dport = is_orig ? row->service_port : row->client_port;
    return row->family && !memcmp(packet + 12, src, 4) && !memcmp(packet + 16, dst, 4) &&
           u16_at(packet + header_len) == sport && u16_at(packet + header_len + 2) == dport;
}

const nm_flow *flow_of(const world *w, const uint8_t *packet, int is_orig)
{
    const nm_flow *found = NULL;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (!row || !is_of(row, packet, is_orig))
            continue;
        must(!found);
        found = row;
    }
    return found;
}

void check_same_flows(const world *w, const snapshot *before, int reason)
{
    snapshot now;
    take_snapshot(w, &now);
    now.counters.punts[reason]--;
    must(!memcmp(&now, before, sizeof now));
}

/* The same connection, whatever its numbers are now. */
static int is_same(const nm_flow *now, const nm_flow *before)
{
    return now->family == before->family && !memcmp(now->client, before->client, 16) &&
           !memcmp(now->service, before->service, 16) && !memcmp(now->backend, before->backend, 16) &&
           now->client_port == before->client_port && now->service_port == before->service_port &&
           now->backend_port == before->backend_port && now->created_at == before->created_at;
}

static void check_pick(world *w, const nm_flow *flow, const snapshot *before)
{
    const nm_service *service = &before->services[flow->service_id];
    if (!service->table_len)
        return;
    if (service->in_turn) {
        must(flow->backend_id == service->table[service->turn]);
        must(w->plan.services[flow->service_id].turn == (service->turn + 1) % service->table_len);
        return;
    }
    endpoint client = {.port = service->with_port ? flow->client_port : 0};
    memcpy(client.address, flow->client, 4);
    pick *known = &w->picks[flow->service_id][(client.address[3] * 4u + client.port) % PICKS];
    if (known->is_known && !memcmp(known->client.address, client.address, 4) && known->client.port == client.port)
        must(known->backend_id == flow->backend_id);
    *known = (pick){client, flow->backend_id, 1};
    for (uint32_t i = 0;; i++) {
        must(i < service->table_len);
        if (service->table[i] == flow->backend_id)
            break;
    }
}

/* The plan's networks: 10.10.0.0/24 and 10.11.0.0/28. */
static int is_client(const uint8_t *address)
{
    return address[0] == 10 && !address[2] && (address[1] == 10 || (address[1] == 11 && address[3] < 16));
}

/* A SYN and nothing else, which the backend will not find broken. */
static int is_syn(const uint8_t *packet, size_t len, int checksum)
{
    size_t header_len = packet[0] % 16 * 4u;
    return (packet[header_len + 13] & (SYN | ACK | FIN | RST)) == SYN && payload_at(packet, len) == len &&
           (checksum != UNVERIFIED || tcp_sum_of(packet, len, header_len) == 0xffff);
}

static void check_opened(world *w, const snapshot *before, const nm_flow *flow, const uint8_t *packet)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    const uint8_t *client = flow->client;
    must(is_client(client));
    must(!*nm_plan_suspect(&w->gear->plan, flow->service_id, 4, client));
    must(!nm_leg_find(w->gear->legs, 4, flow->backend, flow->backend_port, client, flow->client_port));
    must(flow->state == NM_SYN_SENT && flow->iss == u32_at(tcp + 4) && flow->orig.end == flow->iss + 1);
    must(flow->created_at == w->now && flow->seen_at == w->now && flow->first_leg == NM_NO_LEG);
    must(flow->flags == (before->services[flow->service_id].flags | NM_EMBRYONIC) && flow->newer == NONE);
    check_pick(w, flow, before);
}

/* Whether nobody has to go for one more that is embryonic, or nobody could. */
static int had_room(const snapshot *before)
{
    int count = 0, embryonic = 0;
    for (int i = 0; i < MAX_FLOWS; i++) {
        count += before->rows[i].family != 0;
        embryonic += before->rows[i].family && before->rows[i].flags & NM_EMBRYONIC;
    }
    return !embryonic || (count < MAX_FLOWS && embryonic < MAX_EMBRYONIC);
}

/* A flow that was there before, and is. */
static void check_moved(world *w, const nm_flow *now, const nm_flow *was)
{
    must(is_same(now, was) && NEXT[was->state][now->state]);
    must((now->flags | NM_EMBRYONIC) == (was->flags | NM_EMBRYONIC));
    if (now->state == was->state)
        return;
    must(!(was->flags & NM_DIRECT));
    if (was->flags & NM_TAPPED)
        must(now->state == NM_SYN_RECEIVED && !w->plan.services[was->service_id].is_held);
    if (now->state == NM_SYN_RECEIVED) {
        must(!(was->flags & NM_KNOWN));
        must(!*nm_plan_suspect(&w->gear->plan, was->service_id, 4, was->client));
    }
}

void check_moved_flows(world *w, const snapshot *before, const uint8_t *packet, size_t len, int checksum)
{
    const nm_counters *counters = &w->gear->counters;
    uint64_t opened = counters->flows_opened - before->counters.flows_opened, removed = 0, evicted = 0;
    const nm_flow *fresh = opened ? flow_of(w, packet, 1) : NULL;
    uint64_t answered[BACKENDS] = {0};
    must(counters->fast_packets == before->counters.fast_packets + 1);
    must(opened <= 1 && !opened == !fresh);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *now = nm_flow_by_id(w->gear->flows, id), *was = &before->rows[id];
        if (was->family && (!now || now == fresh)) {
            int is_victim = was->flags & NM_EMBRYONIC && was->older == NONE;
            int is_twin = fresh && was->client_port == fresh->client_port && !memcmp(was->client, fresh->client, 16);
            must(!(was->flags & NM_KNOWN) && (is_victim || (is_twin && was->state >= NM_TIME_WAIT)));
            removed++;
            evicted += (uint64_t)is_victim;
        } else if (now && now != fresh) {
            check_moved(w, now, was);
            if (was->state == NM_SYN_SENT && now->state == NM_SYN_RECEIVED && now->backend_id != NM_NO_BACKEND)
                answered[now->backend_id]++;
        }
    }
    must(evicted <= 1 && counters->flows_evicted == before->counters.flows_evicted + evicted);
    must(!removed || (opened && removed <= 2 && (!evicted || removed == 1)));
    for (int i = 0; i < BACKENDS; i++)
        must(w->plan.backends[i].connections == before->backends[i].connections + answered[i]);
    if (fresh) {
        must(is_syn(packet, len, checksum));
        must(evicted == !had_room(before));
        check_opened(w, before, fresh, packet);
    }
    for (int i = 0; i < SERVICES && !fresh; i++)
        must(w->plan.services[i].turn == before->services[i].turn);
}

/* Whether there is a flow of a packet's client and its port that may not give way, or that may. */
static int is_taken(const world *w, const uint8_t *packet, uint16_t port, int may_give_way)
{
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (row && row->client_port == port && !memcmp(row->client, packet + 12, 4) &&
            may_give_way == (row->state >= NM_TIME_WAIT && !(row->flags & NM_KNOWN)))
            return 1;
    }
    return 0;
}

static int has_leg(const world *w, const uint8_t *packet, uint16_t port)
{
    for (int i = 0; i < LEGS; i++)
        if (w->legs[i].row && w->legs[i].local.port == port && !memcmp(w->legs[i].local.address, packet + 12, 4))
            return 1;
    return 0;
}

void check_not_opened(const world *w, const uint8_t *packet, size_t len, int checksum)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    uint16_t port = u16_at(tcp);
    if (!is_syn(packet, len, checksum) || !is_client(packet + 12) || is_taken(w, packet, port, 0) ||
        has_leg(w, packet, port))
        return;
    for (int i = 0; i < SERVICES; i++) {
        endpoint end = service_end(&w->plan, i);
        if (memcmp(packet + 16, end.address, 4) || u16_at(tcp + 2) != end.port)
            continue;
        const nm_flow *victim = nm_flows_victim(w->gear->flows, 1);
        must(*nm_plan_suspect(&w->gear->plan, (uint16_t)i, 4, packet + 12) ||
             (victim ? victim->flags & NM_KNOWN || is_taken(w, packet, port, 1)
                     : nm_flow_count(w->gear->flows) == MAX_FLOWS));
    }
}

void check_expired(world *w, const snapshot *before, const nm_flow *left)
{
    must(!left || deadline(left) <= w->now);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *now = nm_flow_by_id(w->gear->flows, id), *was = &before->rows[id];
        if (!was->family || now) {
            must(!now || is_same(now, was));
            continue;
        }
        must(!(was->flags & NM_KNOWN) && was->state != NM_SYN_SENT && deadline(was) <= w->now);
    }
    check_world(w);
}
