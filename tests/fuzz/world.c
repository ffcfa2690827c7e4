/* The world of the target; world.h says what each function is for. */
#include "world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "callers.h"
#include "check.h"
#include "feeding.h"
#include "flaky.h"
#include "held.h"
#include "limits.h"
#include "must.h"
#include "sharing.h"
#include "turns.h"

#define MIN_MSS 48 /* leg.py lets no mirror ask for less */
#define MAX_SCALE 14
#define MAX_SSTHRESH (1u << 30)
#define INITIAL_SEGMENTS 10
#define CLIENT_PORT 40000
#define CROWD 1100 /* more than a block of legs, and more than the buckets for them */
#define CROWDED 0xc0
#define PORT 6653
#define RECORDED_LEN 1000 /* bytes that another host has passed */
#define PROVEN_LEN 100    /* of these, those whose acknowledgement no record has */
#define SPREAD 2654435761u /* odd, so its multiples differ modulo 2^32: each leg gets its own offset */

static const uint8_t CLIENT_ADDRESS[4] = {10, 10, 0, 11}, MIRROR_ADDRESS[4] = {10, 20, 0, 13};
static const uint8_t OWN_ADDRESS[4] = {10, 20, 0, 1};
enum { OWN_SOURCE = 2 }; /* this leg has an address of the host's own */
static const uint8_t KEY[16] = {1, 2, 3};
static const int FLOW_OF_LEG[LEGS_OF_FLOWS] = {ONE_LEG, TWO_LEGS, TWO_LEGS, WATCHED, RECORDED};
static const struct {
    uint16_t service_id, backend_id;
    uint32_t flags;
} OF_FLOW[FLOWS] = {
    [PLAIN] = {MAGLEV, FIRST_OF_MAGLEV, 0},
    [ONE_LEG] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_FEEDS_LEGS},
    [TWO_LEGS] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER},
    [WATCHED] = {UNPOOLED, NM_NO_BACKEND, NM_FLOW_SERVICE_MIRRORED | NM_FLOW_FEEDS_LEGS},
    [PICKED_UP] = {MAGLEV, FIRST_OF_MAGLEV, NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED},
    [DIRECT] = {MAGLEV, FIRST_OF_MAGLEV, NM_FLOW_DIRECT},
    [READ] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_HAS_READER},
    [PICKED_UP_READ] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_HAS_READER | NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED},
    [RECORDED] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_FEEDS_LEGS | NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED},
    [RECORDED_READ] = {MIRRORED, FIRST_OF_MIRRORED, NM_FLOW_HAS_READER | NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED},
};

static endpoint at(const uint8_t *address, uint16_t port)
{
    endpoint made = {.port = port};
    memcpy(made.address, address, 4);
    return made;
}

static void put_address(uint8_t *to, const endpoint *from)
{
    memset(to, 0, 16);
    memcpy(to, from->address, 4);
}

/* Flows */

void take_record(nm_flow *row, uint32_t iss, uint32_t una, uint32_t backend_nxt, uint8_t scale)
{
    row->iss = iss;
    row->orig.end = una;
    row->orig.ack = row->reply.end = backend_nxt;
    row->orig.flags = NM_HALF_SEQ | NM_HALF_INFERRED;
    row->reply.ack = row->reply.edge = row->proven = una;
    row->reply.flags = NM_HALF_SEQ | NM_HALF_RECORDED;
    row->reply.scale = scale;
}

/* Python keeps state for the flow, so that only the world removes it. */
void open_flow(world *w, int index)
{
    client_flow *flow = &w->flows[index];
    uint16_t backend_id = OF_FLOW[index].backend_id;
    uint8_t client[16];
    flow->client = at(CLIENT_ADDRESS, (uint16_t)(CLIENT_PORT + index));
    flow->service = service_end(&w->plan, OF_FLOW[index].service_id);
    flow->backend = backend_id == NM_NO_BACKEND ? flow->service : backend_end(&w->plan, backend_id);
    if (index == DIRECT)
        flow->service = flow->backend;
    put_address(client, &flow->client);
    nm_flow *row = nm_gear_insert(w->gear, 4, client, flow->client.port, OF_FLOW[index].service_id, backend_id,
                                  index == DIRECT);
    must(row);
    flow->row = row;
    flow->first = flow->acked = row->orig.next = w->first;
    flow->len = 0;
    flow->waiting = 0;
    flow->has_rest = 0;
    row->state = NM_STATE_ESTABLISHED;
    row->flags |= OF_FLOW[index].flags | NM_FLOW_PYTHON_STATE;
    if (has_takers(row) && w->holders >> index % 8 & 1)
        row->flags |= NM_FLOW_HOLDS;
    row->max_held = w->max_buffer;
    if (index % 2)
        row->held.holder = nm_holder_of(&w->gear->holders, 4, client);
    row->created_at = w->now;
    int is_picked_up = OF_FLOW[index].flags & NM_FLOW_PICKED_UP;
    flow->knows_ack = !is_picked_up;
    row->reply.next = ~flow->first;
    nm_flow_touch(w->gear->flows, row, w->now, 1);
    row->orig.scale = row->reply.scale = is_picked_up ? MAX_SCALE : w->scale;
    if (index == RECORDED || index == RECORDED_READ) {
        take_record(row, w->first - RECORDED_LEN, w->first - PROVEN_LEN, ~flow->first, w->scale);
        row->orig.end = row->proven = w->first; /* tracker.infer_sent(): its mirrors have come so far */
        row->orig.bytes = PROVEN_LEN;
    }
    if (is_picked_up)
        return;
    row->orig.flags = row->reply.flags = NM_HALF_SEQ | NM_HALF_ACK;
    row->orig.end = row->reply.ack = flow->first;
    row->reply.end = row->orig.ack = ~flow->first;
    row->orig.edge = row->orig.ack + w->window;
    row->reply.edge = row->reply.ack + w->window;
    row->orig.max_window = row->reply.max_window = w->window;
}

void close_flow(world *w, int index)
{
    for (int i = 0; i < LEGS_OF_FLOWS; i++)
        if (FLOW_OF_LEG[i] == index)
            close_leg(w, i);
    remove_flow(w, w->flows[index].row);
    w->flows[index].row = NULL;
}

void remove_flow(world *w, nm_flow *row)
{
    check_changes(w); /* what this step has logged of the row */
    w->removed |= 1u << row->id;
    nm_gear_remove(w->gear, row);
    check_changes(w);
}

int index_of(const world *w, const nm_flow *row)
{
    for (int i = 0; i < FLOWS; i++)
        if (w->flows[i].row == row)
            return i;
    return -1;
}

/* Legs */

static void link_legs(world *w, const client_flow *flow)
{
    uint32_t next = NM_NO_LEG;
    for (int i = LEGS_OF_FLOWS - 1; i >= 0; i--) {
        mirror_leg *leg = &w->legs[i];
        if (!leg->row || leg->flow != flow)
            continue;
        leg->row->next_of_flow = next;
        next = leg->row->id;
    }
    flow->row->first_leg = next;
}

void open_leg(world *w, int index)
{
    mirror_leg *leg = &w->legs[index];
    uint8_t mirror[16], local[16];
    leg->flow = index < LEGS_OF_FLOWS ? &w->flows[FLOW_OF_LEG[index]] : NULL;
    leg->mirror = at(MIRROR_ADDRESS, (uint16_t)(PORT + index));
    leg->local = leg->flow ? leg->flow->client : at(CLIENT_ADDRESS, (uint16_t)(CLIENT_PORT + FLOWS + index));
    if (index == OWN_SOURCE)
        leg->local = at(OWN_ADDRESS, CLIENT_PORT);
    put_address(mirror, &leg->mirror);
    put_address(local, &leg->local);
    nm_leg *row = nm_leg_insert(w->gear->legs, 4, mirror, leg->mirror.port, local, leg->local.port);
    if (!row) {
        must(flaky_failed());
        return;
    }
    leg->row = row;
    leg->first = leg->sent = leg->flow ? released_to(leg->flow->row) : w->first;
    row->snd_una = row->snd_nxt = row->snd_max = row->buffer_seq = leg->first;
    row->flow_id = leg->flow ? leg->flow->row->id : NM_NO_FLOW;
    if (index % 2)
        row->ring.holder = nm_holder_of(&w->gear->holders, 4, local);
    row->seq_offset = (leg->first + (uint32_t)index + 1) * SPREAD;
    row->rcv_nxt = leg->heard = ~leg->first;
    row->flags = NM_LEG_STEADY | w->leg_flags;
    if (!leg->flow && index % 2) {
        row->source = NM_SOURCE_MESSAGES;
        row->reader = 1000 + (uint32_t)index;
    }
    row->scale = w->scale;
    row->window = row->max_window = w->window;
    row->max_buffer = w->max_buffer;
    row->mss = row->full_mss = w->mss;
    row->cwnd = INITIAL_SEGMENTS * row->mss;
    row->ssthresh = MAX_SSTHRESH;
    row->rto = 1.0;
    row->progress_at = row->sent_at = row->heard_at = w->now;
    row->stall_timeout = 30.0;
    row->idle_timeout = index % 2 ? INFINITY : 300.0;
    nm_leg_set_due(w->gear->legs, row, nm_leg_deadline(row));
    if (leg->flow)
        link_legs(w, leg->flow);
}

void close_leg(world *w, int index)
{
    mirror_leg *leg = &w->legs[index];
    if (!leg->row)
        return;
    check_buffered(leg);
    int64_t buffered = (int64_t)leg->row->ring.count * NM_CHUNK_LEN, used = w->budget.used;
    nm_leg_remove(w->gear->legs, leg->row);
    must(w->budget.used == used - buffered);
    leg->row = NULL;
    if (leg->flow)
        link_legs(w, leg->flow);
}

void reopen_flow(world *w, int index)
{
    close_flow(w, index);
    open_flow(w, index);
    for (int i = 0; i < LEGS_OF_FLOWS; i++)
        if (!w->legs[i].row)
            open_leg(w, i);
}

/* All of it */

static nm_leg *one_of_crowd(world *w, uint32_t index, int insert)
{
    uint8_t mirror[16] = {10, 30}, local[16] = {10, 10, 0, 12};
    uint16_t port = (uint16_t)(index + 1);
    return insert ? nm_leg_insert(w->gear->legs, 4, mirror, PORT, local, port)
                  : nm_leg_find(w->gear->legs, 4, mirror, PORT, local, port);
}

static void gather(world *w)
{
    for (; w->crowd < CROWD; w->crowd++)
        must(one_of_crowd(w, w->crowd, 1));
}

static void disperse(world *w)
{
    while (w->crowd) {
        nm_leg *row = one_of_crowd(w, --w->crowd, 0);
        must(row);
        nm_leg_remove(w->gear->legs, row);
    }
}

void world_begin(world *w, input *in)
{
    static const uint32_t MAX_BUFFERS[] = {1, 4096, 20000, 1200000}, LIMITS[] = {4096, 65536, 200000, 1 << 26};
    memset(w, 0, sizeof *w);
    uint8_t how = take8(in);
    w->first = take32(in);
    w->max_buffer = MAX_BUFFERS[how & 3];
    w->budget.limit = LIMITS[how >> 2 & 3];
    w->leg_flags = how & 16 ? NM_LEG_SACK : 0;
    uint8_t scale = take8(in);
    w->scale = scale % 128 % (MAX_SCALE + 1);
    w->window = (uint32_t)take16(in) << w->scale;
    if (!w->window)
        w->window = 0xffff;
    uint16_t mss = take16(in) % 1461;
    w->mss = mss < MIN_MSS ? MIN_MSS : mss;
    w->holders = take8(in);
    w->now = 1000.0;
    if (how & 32) { /* memory may be short from the start */
        flaky_plan(take8(in) & 15, 1);
        w->gear = nm_gear_new(MAX_FLOWS, &w->budget, KEY);
        flaky_plan(0, 0);
    }
    if (!w->gear)
        must(w->gear = nm_gear_new(MAX_FLOWS, &w->budget, KEY));
    nm_flows_set_timeouts(w->gear->flows, TIMEOUTS);
    plan_begin(&w->plan, &w->gear->plan, scale >= 128, how >= 128);
    log_changes(w, MAX_FLOWS, 1);
    for (int i = 0; i < FLOWS; i++)
        open_flow(w, i);
    for (int i = 0; i < LEGS; i++)
        open_leg(w, i);
    if ((how & CROWDED) == CROWDED)
        gather(w);
    check_world(w);
}

void world_end(world *w, int orderly)
{
    flaky_plan(0, 0);
    if (orderly) {
        for (int i = 0; i < LEGS; i++)
            close_leg(w, i);
        disperse(w);
        must(nm_legs_count(w->gear->legs) == 0);
        must(nm_legs_next_due(w->gear->legs) == INFINITY);
        for (int i = 0; i < FLOWS; i++)
            close_flow(w, i);
        nm_flow *row;
        while ((row = callers_flow(w, 0)))
            remove_flow(w, row);
        must(w->budget.used == 0);
        must(nm_flow_count(w->gear->flows) == 0 && nm_flows_next_due(w->gear->flows) == INFINITY);
        must(!nm_flows_victim(w->gear->flows, 1, w->now) && !nm_gear_expire(w->gear, INFINITY));
        must(!nm_legs_take_due(w->gear->legs, INFINITY));
        for (int i = 0; i < SERVICES; i++)
            must(w->plan.services[i].flows == 0 && w->plan.services[i].closed == 0);
        for (int i = 0; i < BACKENDS; i++)
            must(w->plan.backends[i].flows == 0 && w->plan.backends[i].closed == 0 &&
                 w->plan.total_open[i] == OTHERS);
        must(nm_flows_announced(w->gear->flows) == 0);
        check_refusals(w);
    }
    nm_gear_free(w->gear);
    must(w->budget.used == 0);
    free(w->changes.rows);
    for (int i = 0; i < FLOWS; i++)
        free(w->flows[i].stream);
}

/* Steps */

void take_snapshot(const world *w, snapshot *of)
{
    memset(of, 0, sizeof *of);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (!row)
            continue;
        memcpy(&of->rows[id], row, sizeof *row);
        of->rows[id].came_at = w->now; /* as if the next packet were its own */
    }
    memcpy(of->services, w->plan.services, sizeof of->services);
    memcpy(of->backends, w->plan.backends, sizeof of->backends);
    memcpy(&of->counters, &w->gear->counters, sizeof of->counters);
    of->now = w->now;
}

/* Check that nothing was sent or read, and that legs' numbers have not changed, except for reserved room. */
static void check_untouched(world *w, nm_leg *legs)
{
    must(w->gear->out.count == 0 && w->gear->read.count == 0 && w->gear->read.used == 0);
    for (int i = 0; i < LEGS; i++) {
        if (!w->legs[i].row)
            continue;
        legs[i].ring = w->legs[i].row->ring;
        must(!memcmp(&legs[i], w->legs[i].row, sizeof *legs));
    }
}

int process(world *w, const uint8_t *bytes, size_t len, int hook, int checksum)
{
    snapshot before;
    nm_leg legs[LEGS];
    take_snapshot(w, &before);
    for (int i = 0; i < LEGS; i++)
        if (w->legs[i].row)
            memcpy(&legs[i], w->legs[i].row, sizeof legs[i]);
    uint8_t *packet = malloc(len);
    must(packet);
    if (len)
        memcpy(packet, bytes, len);
    unsigned long failed = flaky_failed();
    int limit = limit_of(w, &before, bytes, len, hook, checksum);
    int decided = nm_process(w->gear, packet, len, hook, checksum, w->now);
    must(decided >= 0 && decided < NM_PUNT_REASONS);
    int over = over_limit_reason(w, &before), needs_python = decided >= NM_PUNT || over;
    check_limit(w, &before, limit, bytes, decided);
    if (decided >= NM_PUNT || decided == NM_DROP_OVER_LIMIT || decided == NM_DROP_CLIENT_NEW_CONNECTIONS) {
        check_untouched(w, legs);
        check_same_flows(w, &before, bytes, len, hook, checksum, decided);
        if (hook == PREROUTING && payload_at(bytes, len) && limit == NM_WITHIN_LIMITS)
            check_not_opened(w, &before, bytes, len, checksum);
    } else {
        must(payload_at(bytes, len)); /* else it is no whole TCP segment */
        check_given(w, &before, bytes, len, hook, checksum);
        check_moved_flows(w, &before, bytes, len, hook, checksum);
    }
    if (payload_at(bytes, len) && decided != NM_DROP_CLIENT_NEW_CONNECTIONS)
        check_whose(w, &before, bytes, len, hook, checksum, needs_python);
    check_turn(w, &before, bytes, len, hook, checksum, decided);
    if (over)
        check_over_limit(w, &before, bytes, len, hook, checksum, decided);
    if (decided == NM_MODIFIED)
        check_rewritten(w, bytes, packet, len, hook, checksum, over);
    else
        must(!len || !memcmp(packet, bytes, len));
    free(packet);
    check_sends(w, flaky_failed() == failed);
    check_world(w);
    return decided;
}

void take_due(world *w)
{
    for (int taken = 0; taken < LEGS; taken++) {
        int needs_python = nm_legs_acknowledge(w->gear->legs, &w->gear->out, w->now);
        check_sends(w, !flaky_failed());
        must(!needs_python || nm_legs_next_due(w->gear->legs) <= w->now);
        nm_leg *row = nm_legs_take_due(w->gear->legs, w->now);
        if (!row)
            break;
        if (!needs_python) { /* it had more to send than one call allows */
            must(row->flags & NM_LEG_STEADY && row->more_at <= w->now);
            nm_leg_set_due(w->gear->legs, row, nm_leg_deadline(row));
            taken--;
            continue;
        }
        int index = 0;
        while (w->legs[index].row != row)
            must(++index < LEGS);
        must(row->due.due_at == INFINITY);
        if (row->rto_at <= w->now) {
            row->flags &= (uint8_t)~NM_LEG_SAMPLING;
            row->rto = fmin(2 * row->rto, 60.0);
            row->rto_at = w->now + row->rto;
            nm_leg_set_due(w->gear->legs, row, nm_leg_deadline(row));
        } else {
            close_leg(w, index);
            open_leg(w, index);
        }
        check_world(w);
    }
    for (int i = 0; i < FLOWS; i++)
        release_rest(w, &w->flows[i]);
    take_due_flows(w);
    check_world(w);
}
