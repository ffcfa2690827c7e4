/* Limits per client; limits.h says what each function is for. */
#include "limits.h"

#include <math.h>
#include <string.h>

#include "check.h"
#include "check_without_flow.h"
#include "must.h"

#define WINDOW 10 /* a second copy, to check the first */
#define NEARLY 1e-6

static int is_limited(const world *w, int service) { return w->plan.services[service].flags & NM_FLOW_LIMITED; }

static uint8_t counted_as(const nm_flow *row)
{
    int is_certain = row->flags & NM_FLOW_LIMITED && !(row->flags & (NM_FLOW_DIRECT | NM_FLOW_LOOSE)) &&
                     !(row->sharing & NM_GUEST) && row->state != NM_STATE_TIME_WAIT && row->state != NM_STATE_RESET;
    if (!is_certain)
        return NM_COUNTED_NOT;
    int is_half_open = row->state == NM_STATE_SYN_SENT || row->state == NM_STATE_SYN_RECEIVED;
    return is_half_open ? NM_COUNTED_HALF_OPEN : NM_COUNTED_OPEN;
}

/* Whether a row counts now among the connections of a service's client. */
static int counts(const world *w, const nm_flow *row, uint16_t service, const uint8_t *client)
{
    if (!row->family || row->service_id != service || memcmp(row->client, client, 4))
        return 0;
    uint8_t what = counted_as(row);
    int is_old = floor(row->created_at / WINDOW) < floor(w->now / WINDOW) - 1;
    return what == NM_COUNTED_OPEN || (what == NM_COUNTED_HALF_OPEN && !is_old);
}

static uint32_t connections_of(const world *w, const nm_flow *rows, uint16_t service, const uint8_t *client)
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        count += (uint32_t)counts(w, &rows[id], service, client);
    return count;
}

static nm_client_use use_of(const world *w, uint16_t service, const uint8_t *client)
{
    const nm_limits *limits = &w->plan.services[service].limits;
    return nm_client_used(nm_flows_clients(w->gear->flows), limits, service, 4, client, w->now);
}

static limited_client *known_client(world *w, uint16_t service, const uint8_t *client)
{
    uint32_t i = 0;
    while (i < w->client_count && (w->clients[i].service != service || memcmp(w->clients[i].client, client, 4)))
        i++;
    limited_client *one = &w->clients[i];
    if (i == w->client_count) {
        must(w->client_count++ < MAX_PEERS);
        *one = (limited_client){.service = service, .at = w->now};
        memcpy(one->client, client, 4);
    }
    one->spent = fmax(one->spent - (w->now - one->at) * w->plan.services[service].limits.rate, 0);
    one->at = w->now;
    return one;
}

/* The tokens that a client has spent. The table may forget a client, but only if it is full of others. */
static double spent_by(world *w, uint16_t service, const uint8_t *client)
{
    double known = known_client(w, service, client)->spent, told = use_of(w, service, client).spent;
    must(told <= known + NEARLY && (told >= known - NEARLY || w->client_count > MAX_FLOWS));
    return told;
}

static int limit_for(world *w, const nm_flow *rows, uint16_t service, const uint8_t *client)
{
    const nm_limits *limits = &w->plan.services[service].limits;
    if (limits->rate > 0 && spent_by(w, service, client) > limits->burst - 1 + 1e-9)
        return NM_LIMIT_RATE;
    int is_full = limits->max_connections && connections_of(w, rows, service, client) >= limits->max_connections;
    return is_full ? NM_LIMIT_CONNECTIONS : NM_WITHIN_LIMITS;
}

int limit_of(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum)
{
    if (hook != PREROUTING || !payload_at(packet, len))
        return NM_WITHIN_LIMITS;
    size_t header_len = packet[0] % 16 * 4u;
    int service = service_at(w, packet);
    int is_bad = checksum == UNVERIFIED && tcp_sum_of(packet, len, header_len) != 0xffff;
    if (service < 0 || !is_limited(w, service) || !is_client(packet + 12) || is_bad || is_vain_syn(packet, 1) ||
        (packet[header_len + 13] & (SYN | ACK | FIN | RST)) != SYN)
        return NM_WITHIN_LIMITS;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &before->rows[id];
        int is_closed = row->state >= NM_STATE_TIME_WAIT && !(row->flags & (NM_FLOW_PYTHON_STATE | NM_FLOW_KILLED));
        if (has_ends_of(row, packet, 1) && !is_closed)
            return NM_WITHIN_LIMITS;
    }
    return limit_for(w, before->rows, (uint16_t)service, packet + 12);
}

static void spend(world *w, uint16_t service, const uint8_t *client)
{
    limited_client *one = known_client(w, service, client);
    double told = use_of(w, service, client).spent; /* since C has taken the token */
    one->spent += w->plan.services[service].limits.rate > 0;
    if (w->client_count > MAX_FLOWS)
        one->spent = told;
    must(w->plan.services[service].limits.rate <= 0 || fabs(told - one->spent) < NEARLY);
}

void check_limit(world *w, const snapshot *before, int limit, const uint8_t *packet, int decided)
{
    must((limit == NM_LIMIT_RATE) == (decided == NM_DROP_CLIENT_NEW_CONNECTIONS));
    for (int i = 0; i < SERVICES; i++) {
        int is_dropped = limit == NM_LIMIT_RATE && i == service_at(w, packet);
        const nm_limited *now = w->plan.services[i].limited, *was = before->services[i].limited;
        must(now[NM_LIMIT_CONNECTIONS].syns == was[NM_LIMIT_CONNECTIONS].syns);
        must(now[NM_LIMIT_RATE].syns == was[NM_LIMIT_RATE].syns + (uint64_t)is_dropped);
        must(now[NM_LIMIT_RATE].clients <= now[NM_LIMIT_RATE].syns);
        must(!is_dropped || !memcmp(now[NM_LIMIT_RATE].client, packet + 12, 4));
    }
    if (w->gear->counters.flows_opened == before->counters.flows_opened)
        return;
    must(limit == NM_WITHIN_LIMITS);
    if (is_limited(w, service_at(w, packet)))
        spend(w, (uint16_t)service_at(w, packet), packet + 12);
}

int take_syn(world *w, uint16_t service, const uint8_t *client)
{
    if (!is_limited(w, service))
        return 1;
    snapshot now;
    take_snapshot(w, &now);
    int limit = limit_for(w, now.rows, service, client);
    nm_clients *clients = nm_flows_clients(w->gear->flows);
    must(limit == nm_client_limit(clients, &w->plan.services[service].limits, service, 4, client, w->now));
    if (limit != NM_WITHIN_LIMITS)
        nm_client_refuse(clients, &w->plan.services[service].limited[limit], limit, service, 4, client, w->now);
    if (limit == NM_LIMIT_RATE)
        return 0;
    nm_client_spend(clients, &w->plan.services[service].limits, service, 4, client, w->now);
    spend(w, service, client);
    return limit == NM_WITHIN_LIMITS;
}

void check_counted(world *w)
{
    snapshot now;
    uint32_t idle = 0, rows = nm_clients_rows(nm_flows_clients(w->gear->flows), &idle), counted = 0;
    must(idle <= rows && rows <= MAX_FLOWS);
    take_snapshot(w, &now);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &now.rows[id];
        if (!row->family)
            continue;
        must(row->counted == counted_as(row));
        counted += row->counted != NM_COUNTED_NOT;
        if (!is_limited(w, row->service_id))
            continue;
        nm_client_use use = use_of(w, row->service_id, row->client);
        must(use.open + use.half_open == connections_of(w, now.rows, row->service_id, row->client));
    }
    must(rows - idle <= counted && !counted == (rows == idle));
}
