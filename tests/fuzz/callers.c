/* Flows of callers; callers.h says what each function is for. */
#include "callers.h"

#include <stdlib.h>
#include <string.h>

#include "_packet.h"
#include "_track.h"
#include "check.h"
#include "must.h"

#define ANSWER_TIMEOUT 0.8 /* attempts.py */

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
        nm_gear_remove(w->gear, row);
}

static uint16_t choose(world *w, nm_service *service, const segment *syn)
{
    if (!service->table_len)
        return NM_NO_BACKEND;
    uint16_t number = (uint16_t)(service - w->plan.services);
    uint16_t usual = nm_plan_pick(service, syn->ip + 12, syn->sport);
    int is_suspect = *nm_plan_suspect(&w->gear->plan, number, 4, syn->ip + 12);
    if (service->in_turn)
        service->turn = (service->turn + 1) % service->table_len;
    for (uint32_t i = 0; i < service->table_len && is_suspect; i++)
        if (service->table[i] != usual)
            return service->table[i];
    return usual;
}

static int is_own(const world *w, const nm_flow *row) { return row && index_of(w, row) >= 0; }

static void open_for(world *w, nm_service *service, const segment *syn)
{
    nm_flows *flows = w->gear->flows;
    const uint8_t *client = syn->ip + 12;
    uint16_t backend_id = choose(w, service, syn);
    const nm_backend *backend = backend_id == NM_NO_BACKEND ? NULL : &w->plan.backends[backend_id];
    const uint8_t *there = backend ? backend->address : service->address;
    uint16_t there_port = backend ? backend->port : service->port;
    nm_flow *twin = nm_flow_find_orig(flows, 4, client, syn->sport, service->address, service->port);
    nm_flow *other = nm_flow_find_reply(flows, 4, there, there_port, client, syn->sport);
    if (is_own(w, twin) || is_own(w, other))
        return;
    if (twin)
        forget(w, twin);
    if (other && other != twin)
        forget(w, other);
    nm_flow *victim;
    while ((victim = nm_flows_victim(flows, 1)))
        forget(w, victim);
    uint16_t service_id = (uint16_t)(service - w->plan.services);
    nm_flow *row = nm_gear_insert(w->gear, 4, client, syn->sport, service_id, backend_id, 0);
    if (!row) {
        must(nm_flow_count(flows) == MAX_FLOWS);
        return;
    }
    nm_begin(row, syn);
    row->created_at = w->now;
    if (syn->payload_len || row->flags & NM_TAPPED)
        row->flags |= NM_KNOWN;
    nm_flow_touch(flows, row, w->now, 1);
}

/* Whether a SYN begins a connection of its own, whatever there is of its ports. */
static int is_new(world *w, const nm_flow *row, const segment *syn)
{
    if (!row)
        return 1;
    if (row->state == NM_ESTABLISHED || row->state == NM_CLOSING)
        return 0; /* the backend is to judge it */
    if (row->state >= NM_TIME_WAIT || row->iss != syn->seq)
        return 1;
    if (row->state != NM_SYN_SENT || w->now - row->created_at < ANSWER_TIMEOUT)
        return 0;
    set_suspect(w, row->service_id, row->client, 1);
    return 1;
}

static void move(world *w, nm_flow *row, const segment *seg, int is_orig)
{
    if (row->flags & NM_TAPPED)
        row->flags |= NM_KNOWN;
    int event = nm_track(row, seg, is_orig, row->flags & NM_LOOSE);
    nm_flow_touch(w->gear->flows, row, w->now, event != NM_NO_EVENT);
    if (event == NM_SYN_ACK_SEEN) {
        if (row->backend_id != NM_NO_BACKEND)
            w->plan.backends[row->backend_id].connections++;
        set_suspect(w, row->service_id, row->client, 0);
    }
}

void take_punted(world *w, const uint8_t *packet, size_t len, int hook, int checksum)
{
    uint8_t *bytes = malloc(len);
    must(bytes);
    if (len)
        memcpy(bytes, packet, len);
    segment seg;
    if (parse(bytes, len, &seg) && (checksum != UNVERIFIED || tcp_sum(&seg) == 0xffff)) {
        const uint8_t *src = bytes + 12, *dst = bytes + 16;
        int is_orig = hook == PREROUTING;
        nm_flow *row = is_orig ? nm_flow_find_orig(w->gear->flows, 4, src, seg.sport, dst, seg.dport)
                               : nm_flow_find_reply(w->gear->flows, 4, src, seg.sport, dst, seg.dport);
        nm_service *service = is_orig ? nm_plan_service(&w->gear->plan, 4, src, dst, seg.dport) : NULL;
        if (service && (seg.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN && is_new(w, row, &seg))
            open_for(w, service, &seg);
        else if (row && index_of(w, row) < 0)
            move(w, row, &seg, is_orig);
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
        int is_told = row->state == NM_SYN_SENT && !(row->flags & NM_UNANSWERED);
        must(row->flags & NM_KNOWN || row->state == NM_SYN_SENT);
        if (row->state == NM_SYN_SENT)
            set_suspect(w, row->service_id, row->client, 1);
        if (is_told && index_of(w, row) < 0) {
            row->flags |= NM_UNANSWERED;
            nm_flow_touch(w->gear->flows, row, row->seen_at, 1);
        } else {
            forget(w, row);
        }
        check_world(w);
    }
    must(nm_flows_next_due(w->gear->flows) > w->now);
}
