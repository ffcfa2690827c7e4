/* Flows of callers; callers.h says what each function is for. */
#include "callers.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/packet.h"
#include "fastpath/tracker.h"
#include "check.h"
#include "feeding.h"
#include "limits.h"
#include "lists.h"
#include "must.h"
#include "sharing.h"

#define ANSWER_TIMEOUT 0.8 /* failed_attempts.py */
#define PICKED_UP_SCALE 14 /* tracker.py */

nm_flow *callers_flow(world *w, uint8_t which)
{
    nm_flow *found[MAX_FLOWS];
    uint32_t count = 0;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (row && index_of(w, row) < 0)
            found[count++] = row;
    }
    return count ? found[which % count] : NULL;
}

void set_suspect(world *w, int service, const uint8_t *client, int is_suspect)
{
    *nm_plan_suspect(&w->gear->plan, (uint16_t)service, 4, client) = (uint16_t)is_suspect;
}

static void forget(world *w, nm_flow *row)
{
    int index = index_of(w, row);
    if (index >= 0)
        reopen_flow(w, index);
    else
        remove_flow(w, row);
}

void discard(world *w, nm_flow *row)
{
    end_flow(w, row);
    forget(w, row);
}

static uint16_t choose(world *w, nm_service *service, const nm_segment *syn)
{
    uint16_t number = (uint16_t)(service - w->plan.services);
    if (!service->table_len)
        return NM_NO_BACKEND;
    uint16_t usual = nm_plan_pick(service, syn->ip + 12, syn->sport);
    int is_suspect = *nm_plan_suspect(&w->gear->plan, number, 4, syn->ip + 12);
    if (service->round_robin)
        service->next_entry = (service->next_entry + 1) % service->table_len;
    for (uint32_t i = 0; i < service->table_len && is_suspect; i++)
        if (service->table[i] != usual)
            return service->table[i];
    return usual;
}

static int is_own(const world *w, const nm_flow *row) { return row && index_of(w, row) >= 0; }

/* Remove the flows that have one of the two tuples; return 0, and remove none, if one is the world's own. */
static int discard_same_tuples(world *w, const uint8_t *client, uint16_t client_port, const uint8_t *here,
                               uint16_t here_port, const uint8_t *there, uint16_t there_port)
{
    nm_flow *by_orig = nm_flow_find_orig(w->gear->flows, 4, client, client_port, here, here_port);
    nm_flow *by_reply = nm_flow_find_reply(w->gear->flows, 4, there, there_port, client, client_port);
    if (is_own(w, by_orig) || is_own(w, by_reply))
        return 0;
    if (by_orig)
        discard(w, by_orig);
    if (by_reply && by_reply != by_orig)
        discard(w, by_reply);
    return 1;
}

/* Nat._insert() */
static nm_flow *insert(world *w, const uint8_t *client, uint16_t client_port, nm_service *service, uint16_t backend_id,
                       int for_half_open)
{
    nm_flows *flows = w->gear->flows;
    const nm_backend *backend = backend_id == NM_NO_BACKEND ? NULL : &w->plan.backends[backend_id];
    if (!discard_same_tuples(w, client, client_port, service->address, service->port,
                             backend ? backend->address : service->address, backend ? backend->port : service->port))
        return NULL;
    check_victim(w, for_half_open);
    nm_flow *victim;
    for (int is_callers = 0; !is_callers && (victim = nm_flows_victim(flows, for_half_open, w->now));) {
        is_callers = index_of(w, victim) < 0; /* the world's own are opened again */
        forget(w, victim);
    }
    uint16_t service_id = (uint16_t)(service - w->plan.services);
    nm_flow *row = nm_gear_insert(w->gear, 4, client, client_port, service_id, backend_id, 0);
    must(row || nm_flow_count(flows) == MAX_FLOWS);
    return row;
}

/* `again`: the client repeats its SYN, which has taken its token before. */
static void open_for(world *w, nm_service *service, const nm_segment *syn, int again)
{
    if (has_pool((int)(service - w->plan.services)) && !service->table_len)
        return; /* no backend is open */
    if (!again && !take_syn(w, (uint16_t)(service - w->plan.services), syn->ip + 12))
        return;
    uint16_t backend_id = choose(w, service, syn);
    nm_flow *row = insert(w, syn->ip + 12, syn->sport, service, backend_id, 1);
    if (!row)
        return;
    row->created_at = w->now;
    nm_track_syn(row, syn);
    if (syn->payload_len)
        row->flags |= NM_FLOW_PYTHON_STATE;
    nm_flow_touch(w->gear->flows, row, w->now, 1);
}

/* Pick up a connection. */
static void pick_up(world *w, nm_service *service, uint16_t backend_id, const nm_segment *seg, int is_orig)
{
    const uint8_t *client = is_orig ? seg->ip + 12 : seg->ip + 16;
    nm_flow *row = insert(w, client, is_orig ? seg->sport : seg->dport, service, backend_id, 1);
    if (!row)
        return;
    row->state = NM_STATE_ESTABLISHED;
    row->orig.scale = row->reply.scale = PICKED_UP_SCALE;
    row->flags |= NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | (row->flags & NM_FLOW_SERVICE_MIRRORED ? NM_FLOW_PYTHON_STATE : 0);
    nm_flow_touch(w->gear->flows, row, w->now, 1);
    must(nm_track(row, seg, is_orig) == NM_NO_EVENT);
    nm_flow_touch(w->gear->flows, row, w->now, 0);
}

/* Return the backend for a picked up client: the derived one. */
static uint16_t usual_backend(const world *w, int service, const uint8_t *client, uint16_t client_port)
{
    uint16_t first = 0;
    if (!has_pool(service))
        return NM_NO_BACKEND;
    while (w->plan.backends[first].service_id != service)
        first++;
    return w->plan.services[service].derived_len ? derive(&w->plan, service, client, client_port) : first;
}

/* Bindings.take_in(), and Nat.adopt_known() with it */
void adopt(world *w, uint8_t which, uint8_t whose)
{
    endpoint end = caller_end(which);
    uint8_t client[16] = {0};
    uint16_t backend_id = whose % BACKENDS;
    nm_service *service = &w->plan.services[w->plan.backends[backend_id].service_id];
    memcpy(client, end.address, 4);
    if (!nm_plan_is_client(&w->gear->plan, 4, client))
        return;
    nm_flow *row = nm_flow_find_orig(w->gear->flows, 4, client, end.port, service->address, service->port);
    if (is_own(w, row))
        return;
    if (row && row->backend_id == backend_id) {
        release_flow(w, row);
        return;
    }
    row = insert(w, client, end.port, service, backend_id, 0);
    if (!row)
        return;
    row->state = NM_STATE_ESTABLISHED;
    row->orig.scale = row->reply.scale = PICKED_UP_SCALE;
    row->flags |= NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED | (row->flags & NM_FLOW_SERVICE_MIRRORED ? NM_FLOW_PYTHON_STATE : 0);
    if (whose & 64 && row->flags & NM_FLOW_SERVICE_MIRRORED)
        take_record(row, w->first - 1, w->first, ~w->first, 0);
    if (!(whose & 128))
        release_flow(w, row);
    if (!(row->sharing & NM_GUEST))
        nm_flow_touch(w->gear->flows, row, w->now, 1);
}

/* Bindings.withdraw() */
void withdraw(world *w, nm_flow *row, int has_ended)
{
    if (!(row->sharing & NM_GUEST))
        return;
    if (row->seen_at > 0 && !has_ended)
        nm_flow_touch(w->gear->flows, row, w->now, 1);
    else
        forget(w, row);
}

static void open_direct(world *w, uint16_t service_id, uint16_t backend_id, const nm_segment *seg)
{
    const uint8_t *backend = seg->ip + 12, *client = seg->ip + 16;
    if (!discard_same_tuples(w, client, seg->dport, backend, seg->sport, backend, seg->sport))
        return;
    nm_flow *row = nm_gear_insert(w->gear, 4, client, seg->dport, service_id, backend_id, 1);
    if (!row)
        return;
    row->state = NM_STATE_SYN_RECEIVED;
    nm_flow_touch(w->gear->flows, row, w->now, 1);
}

/* Engine._unbound_reply() */
static void take_unbound(world *w, const nm_segment *seg)
{
    const uint8_t *client = seg->ip + 16;
    int number = service_of(w, seg->ip);
    uint16_t backend_id = 0;
    for (; backend_id < BACKENDS; backend_id++) {
        endpoint end = backend_end(&w->plan, backend_id);
        if (end.port == seg->sport && !memcmp(end.address, seg->ip + 12, 4))
            break;
    }
    if (backend_id == BACKENDS || !nm_plan_is_client(&w->gear->plan, 4, client))
        return;
    if ((seg->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
        open_direct(w, w->plan.backends[backend_id].service_id, backend_id, seg);
        return;
    }
    if (number < 0)
        return;
    nm_service *service = &w->plan.services[number];
    const nm_flow *bound =
        nm_flow_find_orig(w->gear->flows, 4, client, seg->dport, service->address, service->port);
    if (seg->payload_len && !(seg->flags & TCP_RST) && (!bound || is_unconfirmed(bound)))
        pick_up(w, service, backend_id, seg, 0);
}

/* Whether a SYN begins a new connection, whatever flow has its ports. */
static int is_new(world *w, nm_flow *row, const nm_segment *syn)
{
    if (!row)
        return 1;
    if (is_lasting(row)) {
        row->flags |= row->iss != syn->seq ? NM_FLOW_PYTHON_STATE : 0;
        return 0; /* the backend decides */
    }
    if (row->state >= NM_STATE_TIME_WAIT || row->iss != syn->seq)
        return 1;
    if (row->state != NM_STATE_SYN_SENT || w->now - row->created_at < ANSWER_TIMEOUT)
        return 0;
    set_suspect(w, row->service_id, row->client, 1);
    return 1;
}

static void move(world *w, nm_flow *row, const nm_segment *seg, int is_orig)
{
    int event = nm_track(row, seg, is_orig);
    int may_throttle = w->plan.services[row->service_id].may_throttle;
    if (event != NM_NO_EVENT || !(seg->flags & TCP_RST))
        nm_flow_touch(w->gear->flows, row, w->now, event != NM_NO_EVENT || (is_orig && seg->flags & TCP_SYN));
    if (row->flags & NM_FLOW_SERVICE_MIRRORED &&
        (event == NM_EVENT_HANDSHAKE || (event == NM_EVENT_SYN_ACK && may_throttle)))
        row->flags |= NM_FLOW_PYTHON_STATE;
    if (event == NM_EVENT_SYN_ACK) {
        if (row->backend_id != NM_NO_BACKEND)
            w->plan.backends[row->backend_id].connections++;
        set_suspect(w, row->service_id, row->client, 0);
    }
}

/* Nat.direct_reply() */
static void move_direct(world *w, nm_flow *row, const nm_segment *seg)
{
    int has_begun = row->state == NM_STATE_SYN_RECEIVED && !(seg->flags & (TCP_SYN | TCP_RST));
    if (has_begun)
        row->state = NM_STATE_ESTABLISHED;
    row->reply.packets++;
    nm_flow_touch(w->gear->flows, row, w->now, has_begun);
}

void take_punted(world *w, const uint8_t *packet, size_t len, int hook, int checksum)
{
    uint8_t *bytes = malloc(len);
    must(bytes);
    if (len)
        memcpy(bytes, packet, len);
    nm_segment seg;
    if (parse(bytes, len, &seg) && (checksum != UNVERIFIED || tcp_sum(seg.ip, seg.tcp, seg.tcp_len) == 0xffff)) {
        const uint8_t *src = bytes + 12, *dst = bytes + 16;
        int is_orig = hook == PREROUTING;
        nm_flow *row = is_orig ? nm_flow_find_orig(w->gear->flows, 4, src, seg.sport, dst, seg.dport)
                               : nm_flow_find_reply(w->gear->flows, 4, src, seg.sport, dst, seg.dport);
        nm_service *service = is_orig ? nm_plan_service(&w->gear->plan, 4, src, dst, seg.dport) : NULL;
        if (service && (seg.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN &&
            !is_vain_syn(bytes, !(service->flags & NM_FLOW_WATCHED)) && is_new(w, row, &seg))
            open_for(w, service, &seg, row && row->state <= NM_STATE_SYN_RECEIVED && row->iss == seg.seq);
        else if (is_own(w, row))
            feed_punted(w, index_of(w, row), &seg, len, hook, checksum);
        else if (row && row->flags & NM_FLOW_DIRECT && !is_orig)
            move_direct(w, row, &seg);
        else if (row && !(row->flags & NM_FLOW_DIRECT))
            move(w, row, &seg, is_orig);
        else if (!row && service && seg.payload_len && !(seg.flags & (TCP_SYN | TCP_RST)))
            pick_up(w, service, usual_backend(w, (int)(service - w->plan.services), src, seg.sport), &seg, 1);
        else if (!row && hook == FORWARD)
            take_unbound(w, &seg);
        check_world(w);
    }
    free(bytes);
}

void take_due_flows(world *w)
{
    snapshot before;
    nm_flow *row;
    for (;;) {
        take_snapshot(w, &before);
        row = nm_gear_expire(w->gear, w->now);
        check_expired(w, &before, row);
        if (!row)
            break;
        int is_told = row->state == NM_STATE_SYN_SENT && !(row->flags & NM_FLOW_UNANSWERED);
        must(row->flags & NM_FLOW_PYTHON_STATE || row->state == NM_STATE_SYN_SENT);
        if (row->state == NM_STATE_SYN_SENT)
            set_suspect(w, row->service_id, row->client, 1);
        if (is_told && index_of(w, row) < 0) {
            row->flags |= NM_FLOW_UNANSWERED;
            nm_flow_touch(w->gear->flows, row, row->seen_at, 1);
        } else if (row->state == NM_STATE_ESTABLISHED && row->first_leg != NM_NO_LEG) {
            nm_flow_keep(w->gear->flows, row, w->now); /* for its copies */
        } else {
            forget(w, row);
        }
        check_world(w);
    }
    must(nm_flows_next_due(w->gear->flows) > w->now);
}
