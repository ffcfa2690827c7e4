/* The log of changes for other hosts; sharing.h says what each function is for. */
#include "sharing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "lists.h"
#include "must.h"

static int is_pinned(const world *w, const nm_flow *row)
{
    return row->backend_id != derive(&w->plan, row->service_id, row->client, row->client_port);
}

/* Changes */

void log_changes(world *w, uint32_t max, int is_logging)
{
    check_changes(w);
    free(w->changes.rows);
    w->changes = (nm_changes){.rows = malloc(max * sizeof(nm_change)), .max = max};
    must(w->changes.rows || !max);
    w->is_logging = is_logging;
    w->knows_announced = 0;
    nm_flows_log_changes(w->gear->flows, is_logging ? &w->changes : NULL);
}

static int is_of(const nm_change *change, const nm_flow *row)
{
    return row->family && !(row->flags & NM_FLOW_DIRECT) && row->service_id == change->service_id &&
           row->client_port == change->client_port && !memcmp(row->client, change->client, 16);
}

static const nm_flow *row_of(const snapshot *now, const nm_change *change)
{
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        if (is_of(change, &now->rows[id]))
            return &now->rows[id];
    return NULL;
}

/* Return the last announcement of a client's flow that was not withdrawn, or NULL. */
static nm_change *announced_of(world *w, const nm_change *change)
{
    for (uint32_t i = 0; i < w->announced_count; i++) {
        nm_change *announced = &w->announced[i];
        if (announced->service_id == change->service_id && announced->client_port == change->client_port &&
            !memcmp(announced->client, change->client, 16))
            return announced;
    }
    return NULL;
}

static void withdraw(world *w, nm_change *announced)
{
    if (announced)
        *announced = w->announced[--w->announced_count];
}

static void take_change(world *w, const snapshot *now, const nm_change *change)
{
    const nm_flow *row = row_of(now, change);
    nm_change *announced = announced_of(w, change);
    must(change->family == 4 && change->service_id < SERVICES && has_pool(change->service_id));
    must(change->backend_id < BACKENDS && w->plan.backends[change->backend_id].service_id == change->service_id);
    must(change->kind <= NM_CHANGE_ENDED);
    if (change->kind == NM_CHANGE_BOUND) {
        must(row && row->backend_id == change->backend_id && is_lasting(row) && row->sharing & NM_PINNED);
        must(!announced || w->is_announcing || !w->knows_announced);
        must(announced || w->announced_count < MAX_FLOWS);
        *(announced ? announced : &w->announced[w->announced_count++]) = *change;
        return;
    }
    must(!w->knows_announced || w->is_ending || (announced && announced->backend_id == change->backend_id));
    if (change->kind == NM_CHANGE_FORGOTTEN)
        must(!row || !(row->sharing & NM_PINNED));
    else
        must(w->is_ending || (row && !is_lasting(row)));
    withdraw(w, announced);
}

/* Check that NM_ANNOUNCED flows are those that were announced. */
static void check_announced(world *w, const snapshot *now)
{
    uint32_t shared = 0;
    if (!w->is_logging || !w->knows_announced)
        w->announced_count = 0;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &now->rows[id];
        if (!row->family || row->flags & NM_FLOW_DIRECT)
            continue;
        nm_change one = {.client_port = row->client_port, .service_id = row->service_id, .backend_id = row->backend_id};
        memcpy(one.client, row->client, 16);
        if (row->sharing & NM_GUEST)
            withdraw(w, announced_of(w, &one)); /* the host that passes it announces it now */
        if (!(row->sharing & NM_ANNOUNCED))
            continue;
        shared++;
        if (!w->is_logging || !w->knows_announced)
            w->announced[w->announced_count++] = one;
        must(announced_of(w, &one) && announced_of(w, &one)->backend_id == row->backend_id);
    }
    must(nm_flows_announced(w->gear->flows) == shared && w->announced_count == shared);
    w->knows_announced = 1;
}

void check_changes(world *w)
{
    nm_changes *changes = &w->changes;
    snapshot now;
    take_snapshot(w, &now);
    must(changes->count <= changes->max && (!changes->missed || changes->count == changes->max));
    must(w->is_logging || !changes->count);
    if (changes->missed)
        w->knows_announced = 0;
    for (uint32_t i = 0; i < changes->count; i++)
        if (w->knows_announced)
            take_change(w, &now, &changes->rows[i]);
    changes->count = changes->missed = 0;
    check_announced(w, &now);
}

/* Rows */

static void check_guest(const nm_flow *row)
{
    must(row->state == NM_STATE_ESTABLISHED && !(row->sharing & NM_ANNOUNCED));
    must(!(row->flags & (NM_FLOW_HALF_OPEN | NM_FLOW_CLOSED | NM_FLOW_IDLE)));
    must(row->due.due_at == INFINITY && row->due.queued_at == INFINITY);
}

static void check_row(world *w, const nm_flow *row)
{
    uint32_t bit = 1u << row->id;
    int may_be_shared = row->sharing & NM_PINNED && !(row->sharing & NM_GUEST) && is_lasting(row);
    if (row->flags & NM_FLOW_DIRECT) {
        must(!row->sharing);
        return;
    }
    must(row->sharing <= (NM_PINNED | NM_ANNOUNCED | NM_GUEST));
    if (!(w->stale & bit))
        must(!(row->sharing & NM_PINNED) == !is_pinned(w, row));
    if (row->sharing & NM_GUEST)
        check_guest(row);
    if (is_half_open(row))
        w->unannounced |= bit; /* once its backend has answered, it is announced when it is touched */
    if (row->sharing & NM_ANNOUNCED) {
        must(may_be_shared && !is_half_open(row));
        w->unannounced &= ~bit;
    } else {
        must(!may_be_shared || w->unannounced & bit);
    }
}

void check_sharing(world *w)
{
    uint32_t same = 0;
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        if (nm_flow_by_id(w->gear->flows, id))
            same |= 1u << id & ~w->removed;
    w->stale &= same;
    w->unannounced &= same;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (row)
            check_row(w, row);
    }
    check_changes(w);
}

/* Events */

static void check_swept(world *w, const nm_flow *was, const nm_flow *now, int how)
{
    uint32_t bit = 1u << was->id;
    int pinned = is_pinned(w, was), is_standby = how & NM_SWEEP_STANDBY && pinned;
    if (is_standby && was->state == NM_STATE_ESTABLISHED && was->flags & NM_FLOW_PICKED_UP &&
        !(was->flags & NM_FLOW_PYTHON_STATE) && !was->sharing) {
        must(!now->family);
        w->removed |= bit;
        return;
    }
    int is_claimed = was->sharing & NM_GUEST &&
                     (how & NM_SWEEP_CLAIM_ALL || (how & NM_SWEEP_CLAIM_SEEN && was->seen_at > 0));
    int is_released = how & NM_SWEEP_RELEASE && was->state == NM_STATE_ESTABLISHED && !is_half_open(was);
    int loses_numbers = is_released && !(was->flags & NM_FLOW_PYTHON_STATE);
    int is_guest = (is_released && pinned) || (was->sharing & NM_GUEST && !is_claimed);
    must(now->family && !(now->sharing & NM_PINNED) == !pinned && !(now->sharing & NM_GUEST) == !is_guest);
    must(now->seen_at == (is_released && pinned ? 0 : is_claimed ? w->now : was->seen_at));
    if (!is_guest)
        must(now->due.due_at == flow_deadline(now));
    if (loses_numbers)
        must(!now->orig.flags && !now->reply.flags);
    nm_flow mended = *now;
    mend_links(&mended, was);
    uint32_t listed = NM_FLOW_HALF_OPEN | (is_guest ? NM_FLOW_IDLE : 0); /* a guest is in no list */
    mended.flags = (mended.flags & ~listed) | (was->flags & listed);
    if (loses_numbers) {
        uint32_t set = NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED;
        must((now->flags & set) == set);
        mended.flags = (mended.flags & ~set) | (was->flags & set);
        mended.orig.flags = was->orig.flags;
        mended.reply.flags = was->reply.flags;
    }
    mended.sharing = was->sharing;
    mended.seen_at = was->seen_at;
    mended.came_at = was->came_at;
    mended.counted = was->counted; /* limits.c checks it */
    must(!memcmp(&mended, was, sizeof mended));
    w->stale &= ~bit;
    if (is_standby)
        w->unannounced |= bit;
    else if (!is_half_open(now))
        w->unannounced &= ~bit;
    if (!(how & NM_SWEEP_ANNOUNCE) || !w->is_logging || w->changes.missed || !(now->sharing & NM_ANNOUNCED))
        return;
    uint32_t i = 0;
    while (w->changes.rows[i].kind != NM_CHANGE_BOUND || !is_of(&w->changes.rows[i], now))
        must(++i < w->changes.count);
}

uint32_t sweep(world *w, uint32_t first, uint32_t max, int how)
{
    snapshot before, now;
    take_snapshot(w, &before);
    uint32_t next = nm_gear_sweep(w->gear, first, max, how, w->now), expected = NM_NO_FLOW;
    take_snapshot(w, &now);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *was = &before.rows[id];
        int is_met = id >= first && was->family;
        if (is_met && !max && expected == NM_NO_FLOW)
            expected = id;
        if (is_met && max) {
            max--;
            if (!(was->flags & (NM_FLOW_DIRECT | NM_FLOW_WATCHED))) {
                check_swept(w, was, &now.rows[id], how);
                continue;
            }
            w->stale &= ~(1u << id);
        }
        nm_flow mended = now.rows[id];
        mend_links(&mended, was);
        must(!memcmp(&mended, was, sizeof mended));
    }
    must(next == expected && !memcmp(&now.counters, &before.counters, sizeof now.counters));
    w->is_announcing = 1;
    check_world(w);
    w->is_announcing = 0;
    return next;
}

void release_flow(world *w, nm_flow *row)
{
    if (row->state != NM_STATE_ESTABLISHED || row->flags & NM_FLOW_DIRECT)
        return;
    int was_guest = row->sharing & NM_GUEST; /* and stays so, even if the rules give it the same backend by now */
    row->flags |= NM_FLOW_VOUCHED; /* another host has reported it */
    nm_flow_release(w->gear->flows, row);
    must(!(row->sharing & NM_GUEST) == !(was_guest || row->sharing & NM_PINNED));
    must(!(row->sharing & NM_PINNED) || (row->sharing & NM_GUEST && row->seen_at == 0));
    check_changes(w);
}

void announce(world *w, const nm_flow *row)
{
    nm_flow_announce(w->gear->flows, row);
    must(!w->is_logging || w->changes.count + w->changes.missed == !!(row->sharing & NM_ANNOUNCED));
    w->is_announcing = 1;
    check_changes(w);
    w->is_announcing = 0;
}

void end_flow(world *w, nm_flow *row)
{
    int is_heard = row->sharing & (NM_ANNOUNCED | NM_GUEST);
    nm_flow_end(w->gear->flows, row);
    must(!row->sharing && (!w->is_logging || w->changes.count + w->changes.missed == !!is_heard));
    w->is_ending = 1;
    check_changes(w);
    w->is_ending = 0;
}

void change_plan(world *w, int service, uint8_t how)
{
    plan_change(&w->plan, service, how);
    memset(w->picks, 0, sizeof w->picks);
    w->stale = ~0u;
    check_world(w);
}
