/* Packets of no flow and no leg; without_flow.h says what each function is for. */
#include "fastpath/without_flow.h"

#include "fastpath/flow_lifecycle.h"
#include "fastpath/peers.h"
#include "fastpath/tracker.h"
#include "fastpath/translation.h"

static int accept(nm_gear *gear)
{
    gear->counters.packets_decided_in_c++;
    return NM_ACCEPT;
}

static int drop(nm_gear *gear, int reason)
{
    gear->counters.packets_decided_in_c++;
    gear->counters.drops[reason]++;
    return reason;
}

/* Return whether a backend would take a client's packet without a flow for one of a flow between them, of another
 * service, so that it would get what no copy has. A RST may not have reached the backend. */
static int is_past_service(const nm_gear *gear, const nm_segment *seg, const uint8_t *backend, uint16_t port)
{
    const nm_flow *flow = nm_flow_find_reply(gear->flows, 4, backend, port, source_of(seg), seg->sport);
    return flow && !(flow->flags & NM_FLOW_DIRECT) && (flow->state != NM_STATE_TIME_WAIT || flow->held_len);
}

/* Pass a client's packet to the backend that the rules alone give the client, and count it; or drop it. is_refused: as for
 * nm_is_shed(). */
static int pass_to_derived(nm_gear *gear, const nm_service *service, const nm_segment *seg, uint64_t *counter,
                           int is_refused, double now)
{
    const uint8_t *address = service->address;
    uint16_t port = service->port;
    if (!(service->flags & NM_FLOW_WATCHED)) {
        uint16_t backend_id = nm_plan_derive(service, source_of(seg), seg->sport);
        if (backend_id == NM_NO_BACKEND)
            return NM_PUNT_NO_FLOW; /* the service was removed: only Python has its former table */
        address = gear->plan.backends[backend_id].address;
        port = gear->plan.backends[backend_id].port;
    }
    if (is_past_service(gear, seg, address, port))
        return drop(gear, NM_DROP_PAST_SERVICE);
    if (!(service->flags & NM_FLOW_WATCHED) && nm_is_shed(gear, source_of(seg), is_refused, now))
        return drop(gear, NM_DROP_OVER_LIMIT);
    (*counter)++;
    gear->counters.packets_decided_in_c++;
    if (service->flags & NM_FLOW_WATCHED)
        return NM_ACCEPT;
    return nm_translate_to(gear, seg, 1, address, port, 0, service->flags);
}

static int decide_to_service(nm_gear *gear, const nm_service *service, const nm_segment *seg, int checksum, double now)
{
    if (has_bad_sum(seg, checksum)) /* the backend will drop it */
        return pass_to_derived(gear, service, seg, &gear->counters.bad_checksum_packets, 0, now);
    if (nm_is_vain_syn(service->flags, seg))
        return pass_to_derived(gear, service, seg, &gear->counters.packets_without_flow, 0, now);
    if ((seg->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN)
        return NM_PUNT_OPENING_OR_CLOSING; /* nm_flow_open() has left it to Python */
    if (seg->payload_len && !(seg->flags & TCP_RST))
        return NM_PUNT_NO_FLOW; /* its connection is picked up, or its bytes are counted as lost */
    return pass_to_derived(gear, service, seg, &gear->counters.packets_without_flow, 0, now);
}

int nm_decide_without_flow(nm_gear *gear, const nm_segment *seg, int checksum, double now)
{
    const nm_service *service = nm_plan_service(&gear->plan, 4, source_of(seg), destination_of(seg), seg->dport);
    if (service)
        return decide_to_service(gear, service, seg, checksum, now);
    if (is_past_service(gear, seg, destination_of(seg), seg->dport))
        return drop(gear, NM_DROP_PAST_SERVICE);
    const nm_backend *backend;
    if (nm_plan_is_mirror(&gear->plan, source_of(seg), seg->sport) &&
        !nm_plan_backends_at(&gear->plan, source_of(seg), seg->sport, &backend))
        return NM_PUNT_NO_FLOW; /* a mirror that is no backend: natmirror answers with a RST */
    return accept(gear);
}

int nm_decide_direct(nm_gear *gear, const nm_segment *seg)
{
    /* With the endpoint of a service it may be the service's, of which only Python knows all. */
    if (nm_plan_service(&gear->plan, 4, source_of(seg), destination_of(seg), seg->dport))
        return NM_PUNT_SPECIAL_FLOW;
    return accept(gear);
}

static int pass_to_client(nm_gear *gear, const nm_service *service, const nm_segment *seg)
{
    gear->counters.packets_decided_in_c++;
    gear->counters.packets_without_flow++;
    return nm_translate_to(gear, seg, 0, service->address, service->port, 0, service->flags);
}

/* Decide a backend's SYN-ACK. Usually the client has connected to the backend directly; but while new flows evict others
 * or find no room, the SYN-ACK most likely answers a SYN to the service. */
static int decide_syn_ack(nm_gear *gear, const nm_backend *backend, const nm_segment *seg, double now)
{
    const uint8_t *client = destination_of(seg);
    const nm_service *service = &gear->plan.services[backend->service_id];
    if (!(seg->flags & TCP_RST) && nm_flows_is_crowded(gear->flows, now) &&
        !nm_flow_find_orig(gear->flows, 4, client, seg->dport, service->address, service->port))
        return pass_to_client(gear, service, seg); /* else the client has connected again since, to another backend */
    if (!nm_flow_open_direct(gear, backend, seg, now))
        return NM_PUNT_OPENING_OR_CLOSING;
    gear->counters.direct_connections++;
    return accept(gear);
}

int nm_decide_unbound_reply(nm_gear *gear, const nm_segment *seg, int checksum, double now)
{
    const uint8_t *client = destination_of(seg);
    const nm_backend *backend;
    uint32_t count = nm_plan_backends_at(&gear->plan, source_of(seg), seg->sport, &backend);
    if (!count || !nm_plan_is_client(&gear->plan, 4, client))
        return accept(gear);
    int is_syn_ack = (seg->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
    if (count > 1) /* of a direct connection, Python knows to which of the services it counts */
        return is_syn_ack ? NM_PUNT_OPENING_OR_CLOSING : drop(gear, NM_DROP_AMBIGUOUS_REPLY);
    if (is_syn_ack)
        return decide_syn_ack(gear, backend, seg, now);
    const nm_service *service = &gear->plan.services[backend->service_id];
    const nm_flow *bound = nm_flow_find_orig(gear->flows, 4, client, seg->dport, service->address, service->port);
    if (bound && !nm_flow_is_unconfirmed(bound))
        return drop(gear, NM_DROP_FORMER_BACKEND); /* the client's port has a connection with another backend now */
    if (seg->payload_len && !(seg->flags & TCP_RST) && !has_bad_sum(seg, checksum))
        return NM_PUNT_NO_FLOW; /* its connection is picked up */
    return pass_to_client(gear, service, seg);
}

int nm_pass_without_flow(nm_gear *gear, const nm_segment *seg, int is_orig, double now)
{
    const nm_backend *backend;
    if (!is_orig)
        return nm_plan_backends_at(&gear->plan, source_of(seg), seg->sport, &backend) == 1
                   ? pass_to_client(gear, &gear->plan.services[backend->service_id], seg)
                   : NM_PUNT_NO_FLOW;
    const nm_service *service = nm_plan_service(&gear->plan, 4, source_of(seg), destination_of(seg), seg->dport);
    return service ? pass_to_derived(gear, service, seg, &gear->counters.packets_without_flow, 1, now) : NM_PUNT_NO_FLOW;
}
