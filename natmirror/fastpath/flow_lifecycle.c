/* Open, remove and expire flows; flow_lifecycle.h says what each function is for. */
#include "fastpath/flow_lifecycle.h"

#include "fastpath/held_bytes.h"
#include "fastpath/packet.h"
#include "fastpath/tracker.h"

#define EXPIRED_AT_ONCE 64 /* flows in one call, because packets wait meanwhile */

typedef struct {
    const uint8_t *address;
    uint16_t port;
} endpoint;

/* Return the address and port to which the flow's packets go. */
static endpoint endpoint_of(const nm_gear *gear, const nm_service *service, uint16_t backend_id)
{
    if (backend_id == NM_NO_BACKEND)
        return (endpoint){service->address, service->port};
    const nm_backend *backend = &gear->plan.backends[backend_id];
    return (endpoint){backend->address, backend->port};
}

static int is_pinned(const nm_gear *gear, const nm_flow *flow)
{
    const nm_service *service = &gear->plan.services[flow->service_id];
    return flow->backend_id != nm_plan_derive(service, flow->client, flow->client_port);
}

static void count_flow(nm_backend *backend, uint32_t by)
{
    backend->flows += by;
    if (backend->total_open)
        __atomic_add_fetch(backend->total_open, by, __ATOMIC_RELAXED);
}

nm_flow *nm_gear_insert(nm_gear *gear, uint8_t family, const uint8_t *client, uint16_t client_port, uint16_t service_id,
                        uint16_t backend_id, int is_direct)
{
    nm_service *service = &gear->plan.services[service_id];
    endpoint there = endpoint_of(gear, service, backend_id);
    endpoint here = is_direct ? there : (endpoint){service->address, service->port};
    nm_flow *flow = nm_flow_insert(gear->flows, family, client, client_port, here.address, here.port, there.address,
                                   there.port);
    if (!flow)
        return NULL;
    flow->unseen = gear->unseen;
    flow->service_id = service_id;
    flow->backend_id = is_direct ? NM_NO_BACKEND : backend_id;
    flow->flags = is_direct ? NM_FLOW_DIRECT : service->flags;
    if (!is_direct) {
        service->flows++;
        if (backend_id != NM_NO_BACKEND)
            count_flow(&gear->plan.backends[backend_id], 1);
        nm_flow_set_pinned(gear->flows, flow, is_pinned(gear, flow));
    }
    return flow;
}

void nm_gear_remove(nm_gear *gear, nm_flow *flow)
{
    nm_held_clear(gear, flow);
    nm_flow_remove(gear->flows, flow); /* first: it counts a closed flow as open again, so that no count falls below 0 */
    if (flow->flags & NM_FLOW_DIRECT)
        return;
    gear->plan.services[flow->service_id].flows--;
    if (flow->backend_id != NM_NO_BACKEND)
        count_flow(&gear->plan.backends[flow->backend_id], (uint32_t)-1);
}

/* Return whether a released flow can be forgotten: this host knows no more of it than the rules give. */
static int is_forgettable(const nm_flow *flow)
{
    return flow->state == NM_STATE_ESTABLISHED && !flow->sharing &&
           (flow->flags & (NM_FLOW_PICKED_UP | NM_FLOW_PYTHON_STATE)) == NM_FLOW_PICKED_UP;
}

uint32_t nm_gear_sweep(nm_gear *gear, uint32_t first, uint32_t max, int how, double now)
{
    uint32_t id = first;
    for (; nm_flow_ids(gear->flows, id, &id, 1); id++) {
        if (!max--)
            return id;
        nm_flow *flow = nm_flow_by_id(gear->flows, id);
        nm_flow_renew_deadline(gear->flows, flow);
        if (flow->flags & (NM_FLOW_DIRECT | NM_FLOW_WATCHED))
            continue;
        uint32_t is_limited = gear->plan.services[flow->service_id].flags & NM_FLOW_LIMITED;
        flow->flags = (flow->flags & ~(uint32_t)NM_FLOW_LIMITED) | is_limited;
        nm_flow_recount(gear->flows, flow);
        if (how & NM_SWEEP_STANDBY && is_pinned(gear, flow)) {
            if (is_forgettable(flow)) {
                nm_gear_remove(gear, flow);
                continue;
            }
            flow->sharing |= NM_PINNED;
        } else {
            nm_flow_set_pinned(gear->flows, flow, is_pinned(gear, flow));
        }
        if (flow->sharing & NM_GUEST && (how & NM_SWEEP_CLAIM_ALL || (how & NM_SWEEP_CLAIM_SEEN && flow->seen_at > 0)))
            nm_flow_touch(gear->flows, flow, now, 1);
        if (how & NM_SWEEP_RELEASE && flow->state == NM_STATE_ESTABLISHED && !nm_flow_is_half_open(flow))
            nm_flow_release(gear->flows, flow);
        if (how & NM_SWEEP_ANNOUNCE)
            nm_flow_announce(gear->flows, flow);
    }
    return NM_NO_FLOW;
}

int nm_flow_track(nm_flow *flow, const uint8_t *packet, size_t len, int from_client)
{
    nm_segment seg;
    if (!parse((uint8_t *)(uintptr_t)packet, len, &seg))
        return NM_EVENTS;
    int taken = !(seg.flags & (TCP_SYN | TCP_RST)) && nm_is_taken(flow, &seg, from_client) ? NM_TRACKED_TAKEN : 0;
    int event = nm_track(flow, &seg, from_client);
    return (event == NM_NO_EVENT ? NM_EVENTS : event) | taken;
}

nm_flow *nm_gear_expire(nm_gear *gear, double now)
{
    for (int count = 0; count < EXPIRED_AT_ONCE; count++) {
        nm_flow *flow = nm_flows_due(gear->flows, now);
        if (!flow || nm_flow_needs_python(flow))
            return flow;
        nm_gear_remove(gear, flow);
    }
    return NULL;
}

int nm_flow_is_closed(const nm_flow *flow)
{
    return flow->state >= NM_STATE_TIME_WAIT && !(flow->flags & NM_FLOW_PYTHON_STATE);
}

/* Return whether a client's limits allow another connection. A SYN that comes too fast is dropped here, and *dropped is
 * the reason; Python answers one that exceeds the other limit, and forgets a killed flow before. */
static int is_allowed(nm_gear *gear, nm_service *service, const nm_flow *closed, const uint8_t *client, double now,
                      int *dropped)
{
    nm_clients *clients = nm_flows_clients(gear->flows);
    uint16_t service_id = (uint16_t)(service - gear->plan.services);
    int limit = nm_client_limit(clients, &service->limits, service_id, 4, client, now);
    if (limit == NM_LIMIT_RATE && !(closed && closed->flags & NM_FLOW_KILLED)) {
        nm_client_refuse(clients, &service->limited[limit], limit, service_id, 4, client, now);
        *dropped = NM_DROP_CLIENT_NEW_CONNECTIONS;
        gear->counters.drops[*dropped]++;
    }
    return limit == NM_WITHIN_LIMITS;
}

nm_flow *nm_flow_open(nm_gear *gear, nm_flow *closed, const nm_segment *syn, int checksum, double now, int *dropped)
{
    const uint8_t *client = source_of(syn);
    nm_service *service = nm_plan_service(&gear->plan, 4, client, destination_of(syn), syn->dport);
    if (!service || (syn->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN ||
        nm_is_vain_syn(service->flags, syn) || has_bad_sum(syn, checksum) ||
        (service->flags & NM_FLOW_LIMITED && !is_allowed(gear, service, closed, client, now, dropped)))
        return NULL;
    uint16_t service_id = (uint16_t)(service - gear->plan.services);
    if (service->needs_python || syn->payload_len || *nm_plan_suspect(&gear->plan, service_id, 4, client))
        return NULL;
    uint16_t backend_id = nm_plan_pick(service, client, syn->sport);
    endpoint there = endpoint_of(gear, service, backend_id);
    nm_flow *other = nm_flow_find_reply(gear->flows, 4, there.address, there.port, client, syn->sport);
    int is_mirrored = service->flags & NM_FLOW_SERVICE_MIRRORED;
    if ((other && (is_mirrored || !nm_flow_is_closed(other))) || nm_leg_find(gear->legs, 4, there.address, there.port, client, syn->sport))
        return NULL;
    nm_flow *victim = nm_flows_victim(gear->flows, 1, now);
    if (victim && (closed || other || victim->flags & NM_FLOW_PYTHON_STATE))
        return NULL;
    if (closed)
        nm_gear_remove(gear, closed);
    if (other && other != closed)
        nm_gear_remove(gear, other);
    if (victim) {
        nm_gear_remove(gear, victim);
        gear->counters.flows_evicted++;
    }
    nm_flow *flow = nm_gear_insert(gear, 4, client, syn->sport, service_id, backend_id, 0);
    if (!flow)
        return NULL; /* the table is full of connections that are established */
    flow->created_at = now;
    nm_track_syn(flow, syn);
    nm_flow_touch(gear->flows, flow, now, 1);
    if (service->flags & NM_FLOW_LIMITED)
        nm_client_spend(nm_flows_clients(gear->flows), &service->limits, service_id, 4, client, now);
    if (service->round_robin)
        service->next_entry = (service->next_entry + 1) % service->table_len;
    gear->counters.flows_opened++;
    return flow;
}

int nm_flow_open_direct(nm_gear *gear, const nm_backend *backend, const nm_segment *syn_ack, double now)
{
    const uint8_t *client = destination_of(syn_ack);
    if (nm_leg_find(gear->legs, 4, backend->address, backend->port, client, syn_ack->dport) ||
        nm_flow_find_orig(gear->flows, 4, client, syn_ack->dport, backend->address, backend->port))
        return 0; /* its end has consequences in Python */
    uint16_t backend_id = (uint16_t)(backend - gear->plan.backends);
    nm_flow *flow = nm_gear_insert(gear, 4, client, syn_ack->dport, backend->service_id, backend_id, 1);
    if (flow) {
        flow->state = NM_STATE_SYN_RECEIVED;
        nm_flow_touch(gear->flows, flow, now, 1);
    }
    return 1;
}
