/* The invariants of flows; check.h says what each function is for. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "check_without_flow.h"
#include "held.h"
#include "limits.h"
#include "lists.h"
#include "fastpath/packet.h"
#include "fastpath/tracker.h"
#include "must.h"
#include "sharing.h"
#include "turns.h"

#define ANSWER_TIMEOUT 0.8 /* a second copy, to check the first */
#define UNCONFIRMED_TIMEOUT 10
#define MAX_WINDOW 0xffff
#define MAX_SCALE 14
#define LISTED (NM_FLOW_HALF_OPEN | NM_FLOW_CLOSED | NM_FLOW_IDLE)

const double TIMEOUTS[NM_STATES] = {30, 40, 60, 50, 35, 10, 12};

/* The states that one packet can lead to; Python decides a RST to a SYN. */
static const uint8_t NEXT[NM_STATES][NM_STATES] = {
    [NM_STATE_SYN_SENT] = {[NM_STATE_SYN_SENT] = 1, [NM_STATE_SYN_RECEIVED] = 1},
    [NM_STATE_SYN_RECEIVED] =
        {[NM_STATE_SYN_RECEIVED] = 1, [NM_STATE_ESTABLISHED] = 1, [NM_STATE_HALF_CLOSED] = 1, [NM_STATE_CLOSING] = 1,
         [NM_STATE_RESET] = 1},
    [NM_STATE_ESTABLISHED] =
        {[NM_STATE_ESTABLISHED] = 1, [NM_STATE_HALF_CLOSED] = 1, [NM_STATE_CLOSING] = 1, [NM_STATE_RESET] = 1},
    [NM_STATE_HALF_CLOSED] =
        {[NM_STATE_HALF_CLOSED] = 1, [NM_STATE_CLOSING] = 1, [NM_STATE_TIME_WAIT] = 1, [NM_STATE_RESET] = 1},
    [NM_STATE_CLOSING] = {[NM_STATE_CLOSING] = 1, [NM_STATE_TIME_WAIT] = 1, [NM_STATE_RESET] = 1},
    [NM_STATE_TIME_WAIT] = {[NM_STATE_TIME_WAIT] = 1},
    [NM_STATE_RESET] = {[NM_STATE_RESET] = 1},
};

double flow_deadline(const nm_flow *row)
{
    if (row->state == NM_STATE_SYN_SENT && !(row->flags & NM_FLOW_UNANSWERED))
        return row->created_at + ANSWER_TIMEOUT;
    return row->seen_at + (is_unconfirmed(row) ? UNCONFIRMED_TIMEOUT : TIMEOUTS[row->state]);
}

static void check_row(world *w, const nm_flow *row)
{
    nm_flows *flows = w->gear->flows;
    must(row->state < NM_STATES);
    must(row->due.queued_at <= row->due.due_at);
    must(row->sharing & NM_GUEST || row->due.due_at <= flow_deadline(row) ||
         (row->flags & NM_FLOW_IDLE && row->due.due_at <= w->now + TIMEOUTS[row->state]));
    must(!(row->flags & NM_FLOW_IDLE) || (is_lasting(row) && row->flags & NM_FLOW_PYTHON_STATE));
    must(!(row->flags & NM_FLOW_CLOSED) == (row->state < NM_STATE_TIME_WAIT));
    if (!(row->flags & NM_FLOW_HALF_OPEN))
        must(!is_half_open(row) || row->sharing & NM_GUEST);
    else if (!is_half_open(row)) /* the next search for a victim removes it from the list */
        must(row->flags & NM_FLOW_VOUCHED && row->state < NM_STATE_TIME_WAIT);
    must(row->service_id < SERVICES && (row->backend_id < BACKENDS || row->backend_id == NM_NO_BACKEND));
    must(nm_flow_find_orig(flows, 4, row->client, row->client_port, row->service, row->service_port) == row);
    must(nm_flow_find_reply(flows, 4, row->backend, row->backend_port, row->client, row->client_port) == row);
    if (row->flags & NM_FLOW_DIRECT) {
        must(row->backend_id == NM_NO_BACKEND);
        return;
    }
    const nm_service *service = &w->plan.services[row->service_id];
    must(!memcmp(row->service, service->address, 16) && row->service_port == service->port);
    int is_pooled = has_pool(row->service_id);
    must(!is_pooled == (row->backend_id == NM_NO_BACKEND));
    const nm_backend *backend = &w->plan.backends[row->backend_id % BACKENDS];
    must(!memcmp(row->backend, is_pooled ? backend->address : service->address, 16));
    must(row->backend_port == (is_pooled ? backend->port : service->port));
}

void check_flows(world *w)
{
    uint32_t of_service[SERVICES] = {0}, of_backend[BACKENDS] = {0}, ids[MAX_FLOWS + 1];
    uint32_t closed_of_service[SERVICES] = {0}, closed_of_backend[BACKENDS] = {0};
    uint32_t count = nm_flow_ids(w->gear->flows, 0, ids, MAX_FLOWS + 1);
    double next = INFINITY;
    must(count <= MAX_FLOWS && count == nm_flow_count(w->gear->flows));
    for (uint32_t i = 0; i < count; i++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, ids[i]);
        must(row && row->id == ids[i]);
        check_row(w, row);
        next = fmin(next, row->due.due_at);
        if (row->flags & NM_FLOW_DIRECT)
            continue;
        uint32_t is_closed = !!(row->flags & NM_FLOW_CLOSED);
        of_service[row->service_id]++;
        closed_of_service[row->service_id] += is_closed;
        if (row->backend_id == NM_NO_BACKEND)
            continue;
        of_backend[row->backend_id]++;
        closed_of_backend[row->backend_id] += is_closed;
    }
    must(nm_flows_not_before(w->gear->flows) <= next);
    if (looks_closer(w))
        must(nm_flows_next_due(w->gear->flows) == next);
    snapshot now;
    take_snapshot(w, &now);
    check_sharing(w);
    check_lists(w, &now);
    check_counted(w);
    for (int i = 0; i < SERVICES; i++) {
        must(w->plan.services[i].flows == of_service[i] && w->plan.services[i].closed == closed_of_service[i]);
        must(!w->plan.services[i].next_entry || w->plan.services[i].next_entry < w->plan.services[i].table_len);
    }
    for (int i = 0; i < BACKENDS; i++) {
        must(w->plan.backends[i].flows == of_backend[i] && w->plan.backends[i].closed == closed_of_backend[i]);
        must(w->plan.total_open[i] ==
             OTHERS + (w->plan.backends[i].total_open ? of_backend[i] - closed_of_backend[i] : 0));
        must(w->plan.backends[i].connections >= w->connections[i]);
        w->connections[i] = w->plan.backends[i].connections;
    }
    for (int i = 0; i < FLOWS; i++)
        must(nm_flow_by_id(w->gear->flows, w->flows[i].row->id) == w->flows[i].row);
}

int has_ends_of(const nm_flow *row, const uint8_t *packet, int is_orig)
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
        if (!row || !has_ends_of(row, packet, is_orig))
            continue;
        must(!found);
        found = row;
    }
    return found;
}

/* Change a flow as a client's packet does that is dropped over the limit, though its watch queue lets it pass: its
 * backend may have the packet's bytes, which no copy gets. */
static void let_pass(nm_flow *row, const uint8_t *packet, size_t len, int checksum)
{
    size_t header_len = packet[0] % 16 * 4u;
    const uint8_t *tcp = packet + header_len;
    nm_segment seg;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    if ((checksum == UNVERIFIED && tcp_sum_of(packet, len, header_len) != 0xffff) || !nm_is_taken(row, &seg, 1))
        return;
    uint32_t seq = u32_at(tcp + 4), data_len = (uint32_t)(len - payload_at(packet, len));
    uint32_t taken = data_len + !!(tcp[13] & SYN) + (tcp[13] & FIN), ends[2], count = 0;
    if (taken)
        ends[count++] = seq + taken;
    if (tcp[13] & URG)
        ends[count++] = seq + u16_at(tcp + 18) + 1;
    if (has_takers(row) && (data_len || tcp[13] & FIN))
        row->flags |= NM_FLOW_SKIPPED;
    if (after(seq, row->orig.end) > (int64_t)MAX_WINDOW << (row->reply.scale <= MAX_SCALE ? row->reply.scale : 0))
        return;
    if (row->flags & NM_FLOW_AHEAD && after(row->ahead_to, row->orig.end) <= 0)
        row->flags &= ~NM_FLOW_AHEAD;
    for (uint32_t i = 0; i < count; i++) {
        if (after(ends[i], row->flags & NM_FLOW_AHEAD ? row->ahead_to : row->orig.end) <= 0)
            continue;
        row->ahead_to = ends[i];
        row->flags |= NM_FLOW_AHEAD;
    }
}

void check_same_flows(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                      int decided)
{
    snapshot now, expected = *before;
    take_snapshot(w, &now);
    if (decided >= NM_PUNT) {
        now.counters.punts[decided]--;
    } else {
        now.counters.packets_decided_in_c--;
        now.counters.drops[decided]--;
        if (decided == NM_DROP_OVER_LIMIT)
            now.counters.over_limit[over_limit_reason(w, before)]--;
        for (int i = 0; i < SERVICES; i++) /* limits.c checks these */
            memcpy(expected.services[i].limited, now.services[i].limited, sizeof now.services[i].limited);
        for (uint32_t id = 0; id < MAX_FLOWS && hook == PREROUTING && payload_at(packet, len); id++)
            if (has_ends_of(&expected.rows[id], packet, 1) && expected.rows[id].flags & NM_FLOW_WATCHED)
                let_pass(&expected.rows[id], packet, len, checksum);
    }
    check_same(&expected, &now);
}

/* Whether both rows are the same connection, whatever their numbers. */
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
    if (service->round_robin) {
        must(flow->backend_id == service->table[service->next_entry]);
        must(w->plan.services[flow->service_id].next_entry == (service->next_entry + 1) % service->table_len);
        return;
    }
    endpoint client = {.port = service->hash_port ? flow->client_port : 0};
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

int is_client(const uint8_t *address)
{
    return address[0] == 10 && !address[2] && (address[1] == 10 || (address[1] == 11 && address[3] < 16));
}

int is_vain_syn(const uint8_t *packet, int has_pool)
{
    return has_pool && packet[8] <= 1 && (packet[packet[0] % 16 * 4u + 13] & (SYN | ACK | RST)) == SYN;
}

/* Whether the packet is a plain SYN that the backend will accept. */
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
    must(!is_vain_syn(packet, !(flow->flags & NM_FLOW_WATCHED)));
    must(!*nm_plan_suspect(&w->gear->plan, flow->service_id, 4, client));
    must(!before->services[flow->service_id].needs_python);
    must(!nm_leg_find(w->gear->legs, 4, flow->backend, flow->backend_port, client, flow->client_port));
    must(flow->state == NM_STATE_SYN_SENT && flow->iss == u32_at(tcp + 4) && flow->orig.end == flow->iss + 1);
    must(flow->created_at == w->now && flow->seen_at == w->now && flow->first_leg == NM_NO_LEG);
    uint32_t shown = mptcp_subtypes(packet) & ~MP_CAPABLE ? NM_FLOW_MPTCP : 0;
    must(flow->flags == (before->services[flow->service_id].flags | NM_FLOW_HALF_OPEN | shown) && flow->newer == NONE);
    must(!(flow->sharing & (NM_ANNOUNCED | NM_GUEST)));
    check_pick(w, flow, before);
}

/* Whether a client's packet brings data of which it is uncertain whether the backend takes it. */
static int is_unread(const nm_flow *was, const uint8_t *packet, size_t len, int is_orig)
{
    nm_segment seg;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    return is_orig && seg.payload_len && !(seg.flags & (SYN | RST)) && was->flags & NM_FLOW_LOOSE &&
           was->state != NM_STATE_SYN_SENT && !(was->reply.flags & NM_HALF_RECORDED && nm_is_taken(was, &seg, 1));
}

/* Check a flow that existed before and still does: if the packet does not belong to it, is damaged, or is a client's
 * of a direct connection, or its SYN reaches no backend, it is unchanged. */
static void check_moved(world *w, const nm_flow *now, const nm_flow *was, const uint8_t *packet, size_t len,
                        int is_orig, int is_bad)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    nm_flow mended = *now;
    mend_links(&mended, was);
    mended.came_at = was->came_at;
    if (is_bad || !has_ends_of(was, packet, is_orig) || (is_orig && was->flags & NM_FLOW_DIRECT) ||
        (is_orig && is_vain_syn(packet, !(was->flags & NM_FLOW_WATCHED)))) {
        must(!memcmp(&mended, was, sizeof mended));
        return;
    }
    must(is_same(now, was) && NEXT[was->state][now->state]);
    int repeats_syn = is_orig && tcp[13] & SYN && was->state == NM_STATE_SYN_SENT;
    int is_answer = was->state == NM_STATE_SYN_SENT && now->state == NM_STATE_SYN_RECEIVED;
    uint32_t shown = repeats_syn || is_answer ? mptcp_subtypes(packet) : 0;
    shown &= repeats_syn || was->flags & NM_FLOW_STRIPS_MPTCP ? ~MP_CAPABLE : ~0u;
    int has_data = u16_at(packet + 2) > packet[0] % 16 * 4u + (tcp[12] >> 4) * 4u;
    int is_early = is_orig && has_data && now->state == NM_STATE_SYN_RECEIVED; /* the handshake may overtake it */
    uint32_t changing = LISTED | NM_FLOW_LOOSE | NM_FLOW_SKIPPED | NM_FLOW_UNREAD | (is_orig ? NM_FLOW_AHEAD : 0) |
                        (repeats_syn || is_early ? NM_FLOW_AMBIGUOUS : 0);
    must(!(was->flags & ~now->flags & (NM_FLOW_SKIPPED | NM_FLOW_AMBIGUOUS | NM_FLOW_UNREAD)));
    must(!(now->flags & NM_FLOW_UNREAD) == !(was->flags & NM_FLOW_UNREAD || is_unread(was, packet, len, is_orig)));
    int may_be_ahead = is_orig && (has_data || tcp[13] & (SYN | FIN | URG));
    must(may_be_ahead || (now->ahead_to == was->ahead_to && !(now->flags & ~was->flags & NM_FLOW_AHEAD)));
    if (now->flags & ~was->flags & NM_FLOW_AHEAD)
        must(after(now->ahead_to, now->orig.end) > 0);
    must(!(now->flags & NM_FLOW_SKIPPED) || has_takers(now));
    must((now->flags | changing) == (was->flags | changing | (shown ? NM_FLOW_MPTCP : 0)));
    int is_settled = was->flags & NM_FLOW_LOOSE && !(now->flags & NM_FLOW_LOOSE);
    must(is_settled || (now->flags & NM_FLOW_LOOSE) == (was->flags & NM_FLOW_LOOSE));
    if (is_orig && tcp[13] & SYN) { /* its own SYN, repeated */
        must(now->seen_at == w->now && now->due.due_at == flow_deadline(now));
        mended.orig.packets--;
        if (repeats_syn) { /* it may offer something else */
            must(now->orig.max_window >= was->orig.max_window);
            mended.flags = was->flags;
            mended.orig.scale = was->orig.scale;
            mended.orig.max_window = was->orig.max_window;
        }
        mended.seen_at = was->seen_at;
        must(!memcmp(&mended, was, sizeof mended));
    }
    if (now->state == was->state && !(is_settled && is_unconfirmed(was))) {
        must(now->sharing == was->sharing);
        return;
    }
    must(!(was->flags & NM_FLOW_DIRECT) && !(now->sharing & NM_GUEST)); /* a flow whose packets change its state here is our own */
    must(!(now->sharing & NM_ANNOUNCED) == !(now->sharing & NM_PINNED && is_lasting(now) && !is_half_open(now)));
    if (now->state == NM_STATE_SYN_RECEIVED)
        must(!(was->flags & NM_FLOW_PYTHON_STATE) && !*nm_plan_suspect(&w->gear->plan, was->service_id, 4, was->client));
    if (was->flags & NM_FLOW_SERVICE_MIRRORED && now->state == NM_STATE_SYN_RECEIVED)
        must(!w->plan.services[was->service_id].may_throttle);
    else if (was->flags & NM_FLOW_LOOSE && was->orig.flags & NM_HALF_FIN && now->state == NM_STATE_HALF_CLOSED)
        must(now->orig.flags & NM_HALF_FIN); /* over the limit, and its FIN was fed before */
    else if (was->flags & NM_FLOW_SERVICE_MIRRORED && !is_settled)
        must(was->state == NM_STATE_SYN_RECEIVED && now->state == NM_STATE_RESET && !(was->flags & NM_FLOW_PYTHON_STATE));
}

void check_moved_flows(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum)
{
    const nm_counters *counters = &w->gear->counters;
    uint64_t opened = counters->flows_opened - before->counters.flows_opened, removed = 0, evicted = 0;
    const nm_flow *fresh = opened ? flow_of(w, packet, 1) : NULL;
    uint64_t answered[BACKENDS] = {0};
    int is_bad = counters->bad_checksum_packets != before->counters.bad_checksum_packets;
    must(counters->packets_decided_in_c == before->counters.packets_decided_in_c + 1);
    must(opened <= 1 && !opened == !fresh);
    if (!opened && is_without_flow(w, before, packet, hook)) {
        check_without_flow(w, before, packet, len, hook, checksum);
        return;
    }
    uint32_t victim = fresh ? victim_of(before, 1) : NONE;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *now = nm_flow_by_id(w->gear->flows, id), *was = &before->rows[id];
        if (was->family && (!now || now == fresh)) {
            int is_victim = id == victim;
            int is_same = fresh && was->client_port == fresh->client_port && !memcmp(was->client, fresh->client, 16);
            must(!(was->flags & NM_FLOW_PYTHON_STATE));
            must(is_victim || (is_same && was->state >= NM_STATE_TIME_WAIT));
            removed++;
            w->removed |= 1u << id;
            evicted += (uint64_t)is_victim;
        } else if (now && now != fresh) {
            check_moved(w, now, was, packet, len, hook == PREROUTING, is_bad);
            if (was->state == NM_STATE_SYN_SENT && now->state == NM_STATE_SYN_RECEIVED && now->backend_id != NM_NO_BACKEND)
                answered[now->backend_id]++;
        }
    }
    must(evicted <= 1 && counters->flows_evicted == before->counters.flows_evicted + evicted);
    must(!removed || (opened && removed <= 2 && (!evicted || removed == 1)));
    for (int i = 0; i < BACKENDS; i++)
        must(w->plan.backends[i].connections == before->backends[i].connections + answered[i]);
    if (fresh) {
        must(is_syn(packet, len, checksum));
        must(evicted == (victim != NONE));
        check_opened(w, before, fresh, packet);
    }
    for (int i = 0; i < SERVICES && !fresh; i++)
        must(w->plan.services[i].next_entry == before->services[i].next_entry);
}

/* Whether a flow with the packet's client and port exists that may not be replaced, or that may. */
static int is_taken(const world *w, const uint8_t *packet, uint16_t port, int may_give_way)
{
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (row && row->client_port == port && !memcmp(row->client, packet + 12, 4) &&
            may_give_way == (row->state >= NM_STATE_TIME_WAIT && !(row->flags & NM_FLOW_PYTHON_STATE)))
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

void check_not_opened(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int checksum)
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
        uint32_t victim = victim_of(before, 1);
        int has_former = w->plan.services[i].flags & NM_FLOW_SERVICE_MIRRORED && is_taken(w, packet, port, 1);
        must(has_former || is_vain_syn(packet, has_pool(i)) || w->plan.services[i].needs_python ||
             *nm_plan_suspect(&w->gear->plan, (uint16_t)i, 4, packet + 12) ||
             (victim == NONE ? count_rows(before) == MAX_FLOWS
                             : before->rows[victim].flags & NM_FLOW_PYTHON_STATE || is_taken(w, packet, port, 1)));
    }
}

/* Whether a packet, no SYN, of a flow with mirrors changes nothing that Python has to know. */
static int is_quiet(const nm_flow *flow, const uint8_t *packet, size_t len, int is_orig)
{
    nm_segment seg;
    nm_flow next = *flow;
    must(parse((uint8_t *)(uintptr_t)packet, len, &seg));
    int event = nm_track(&next, &seg, is_orig), is_data = (seg.payload_len || seg.flags & FIN) && !(seg.flags & RST);
    if (event != NM_NO_EVENT)
        return event == NM_EVENT_RST && flow->state == NM_STATE_SYN_RECEIVED && !(flow->flags & NM_FLOW_PYTHON_STATE);
    int has_takers = flow->flags & (NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER);
    int is_mptcp = has_takers && seg.payload_len && options_of(&seg).mptcp && !has_acked(flow, packet, len, is_orig);
    if (is_data && (flow->state < NM_STATE_ESTABLISHED || is_mptcp))
        return 0;
    int is_urgent = seg.flags & URG && (!(flow->reply.flags & NM_HALF_ACK) ||
                                        after(seg.seq + seg.payload_len, flow->reply.ack) >= 0);
    if (is_orig)
        return !(is_data || seg.flags & URG) || !nm_is_taken(flow, &seg, 1) ||
               (!(seg.flags & FIN) && !is_urgent && is_repetition(flow, packet, len));
    int is_fin_acked = flow->reply.flags & NM_HALF_ACK && flow->reply.ack == flow->orig.end;
    int has_hole = has_takers && !(flow->flags & NM_FLOW_PICKED_UP) && after(next.reply.ack, flow->orig.next) > 0;
    int awaits_ack = flow->orig.flags & NM_HALF_FIN ? !is_fin_acked : has_hole;
    return !(flow->flags & (NM_FLOW_THROTTLED | NM_FLOW_PAST_WINDOW | NM_FLOW_SKIPPED)) && !flow->held_len && !awaits_ack &&
           !(is_data && flow->flags & NM_FLOW_HAS_READER);
}

/* Whether C decides a packet that opens or ends a flow. */
static int is_gears(const world *w, const nm_flow *flow, const uint8_t *packet, size_t len, int is_orig, int checksum)
{
    size_t header_len = packet[0] % 16 * 4u;
    uint8_t flags = packet[header_len + 13];
    int is_known = flow->flags & NM_FLOW_PYTHON_STATE, is_mirrored = flow->flags & NM_FLOW_SERVICE_MIRRORED;
    if (flow->flags & NM_FLOW_DIRECT)
        return 0;
    if (checksum == UNVERIFIED && tcp_sum_of(packet, len, header_len) != 0xffff)
        return 1;
    if (is_orig && is_vain_syn(packet, !(flow->flags & NM_FLOW_WATCHED)))
        return 1;
    if (flags & RST && flow->state == NM_STATE_SYN_SENT)
        return 0;
    if (flags & SYN && is_orig) {
        int is_waiting = flow->state == NM_STATE_SYN_SENT && w->now < flow->created_at + ANSWER_TIMEOUT;
        return is_syn(packet, len, checksum) && u32_at(packet + header_len + 4) == flow->iss && !is_known &&
               !(flow->flags & NM_FLOW_PICKED_UP) && (is_waiting || flow->state == NM_STATE_SYN_RECEIVED);
    }
    if (flags & SYN)
        return flow->state == NM_STATE_SYN_SENT && !is_known &&
               !(is_mirrored && w->plan.services[flow->service_id].may_throttle) &&
               !*nm_plan_suspect(&w->gear->plan, flow->service_id, 4, flow->client);
    return !is_mirrored || is_quiet(flow, packet, len, is_orig);
}

void check_whose(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                 int is_punted)
{
    uint8_t flags = packet[packet[0] % 16 * 4u + 13];
    int is_orig = hook == PREROUTING;
    const nm_flow *flow = NULL;
    for (uint32_t id = 0; id < MAX_FLOWS && !flow; id++)
        if (has_ends_of(&before->rows[id], packet, is_orig))
            flow = &before->rows[id];
    if (w->gear->counters.flows_opened == before->counters.flows_opened && is_without_flow(w, before, packet, hook))
        must(is_punted || !needs_python_without_flow(w, before, packet, len, hook, checksum));
    int is_opening = is_orig && flags & SYN &&
                     (!flow || (flow->state >= NM_STATE_TIME_WAIT && !(flow->flags & NM_FLOW_PYTHON_STATE)));
    if (!flow || is_opening)
        return;
    int has_silent_client = is_unconfirmed(flow) && !(flow->orig.flags & NM_HALF_SEQ);
    if (flow->flags & NM_FLOW_KILLED || (is_orig && has_silent_client)) {
        must(is_punted);
        return;
    }
    if (is_orig && flow->flags & NM_FLOW_DIRECT)
        must(is_punted == (service_at(w, packet) >= 0 && is_client(packet + 12)));
    else if (!is_orig && hook != FORWARD && !(hook == OUTPUT && flow->flags & NM_FLOW_WATCHED))
        must(is_punted);
    else if (flags & (SYN | FIN | RST) || flow->state != NM_STATE_ESTABLISHED)
        must(is_punted == !is_gears(w, flow, packet, len, is_orig, checksum));
}

void check_expired(world *w, const snapshot *before, const nm_flow *left)
{
    must(!left || flow_deadline(left) <= w->now);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *now = nm_flow_by_id(w->gear->flows, id), *was = &before->rows[id];
        if (!was->family || now) {
            must(!now || is_same(now, was));
            continue;
        }
        must(!(was->flags & NM_FLOW_PYTHON_STATE) && was->state != NM_STATE_SYN_SENT && flow_deadline(was) <= w->now);
        must(!(was->sharing & NM_GUEST));
    }
    check_world(w);
}
