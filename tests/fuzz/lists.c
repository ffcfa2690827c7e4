/* The lists of flows; lists.h says what each function is for. */
#include "lists.h"

#include <string.h>

#include "check.h"
#include "must.h"

int is_unconfirmed(const nm_flow *row)
{
    return row->flags & NM_FLOW_LOOSE && !(row->flags & NM_FLOW_VOUCHED) && row->state != NM_STATE_TIME_WAIT &&
           row->state != NM_STATE_RESET;
}

int is_half_open(const nm_flow *row)
{
    if (row->state == NM_STATE_SYN_SENT || row->state == NM_STATE_SYN_RECEIVED)
        return 1;
    return is_unconfirmed(row);
}

int is_lasting(const nm_flow *row)
{
    return row->state == NM_STATE_ESTABLISHED || row->state == NM_STATE_HALF_CLOSED || row->state == NM_STATE_CLOSING;
}

void mend_links(nm_flow *now, const nm_flow *was)
{
    now->older = was->older;
    now->newer = was->newer;
    now->next_orig = was->next_orig;
    now->next_reply = was->next_reply;
    now->due = was->due;
    now->flags |= was->flags & (NM_FLOW_HALF_OPEN | NM_FLOW_IDLE); /* it may have had packets before */
}

/* Return all rows with a flag, in the order of their list. */
static id_list list_of(const snapshot *of, uint32_t flag)
{
    id_list list = {.count = 0};
    uint32_t count = 0, at = NONE;
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = &of->rows[id];
        if (!row->family || !(row->flags & flag))
            continue;
        count++;
        if (row->older == NONE) {
            must(at == NONE);
            at = id;
        }
    }
    for (uint32_t before = NONE; at != NONE; before = at, at = of->rows[at].newer) {
        must(at < MAX_FLOWS && list.count < count);
        must(of->rows[at].family && of->rows[at].flags & flag && of->rows[at].older == before);
        list.ids[list.count++] = at;
    }
    must(list.count == count);
    return list;
}

/* Count the oldest rows of the list that are no longer half open, because their backends have answered. */
static uint32_t count_spoken(const snapshot *of, const id_list *half_open)
{
    uint32_t count = 0;
    while (count < half_open->count && !is_half_open(&of->rows[half_open->ids[count]]))
        count++;
    return count;
}

/* Count the oldest rows of the list that are no longer idle, because packets have passed. */
static uint32_t count_awake(const snapshot *of, const id_list *idle)
{
    uint32_t count = 0;
    while (count < idle->count && flow_deadline(&of->rows[idle->ids[count]]) > of->now)
        count++;
    return count;
}

uint32_t count_rows(const snapshot *of)
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        count += of->rows[id].family != 0;
    return count;
}

uint32_t victim_of(const snapshot *of, int for_half_open)
{
    id_list half_open = list_of(of, NM_FLOW_HALF_OPEN), over = list_of(of, NM_FLOW_CLOSED);
    id_list idle = list_of(of, NM_FLOW_IDLE);
    uint32_t awake = count_awake(of, &idle);
    uint32_t spoken = count_spoken(of, &half_open);
    uint32_t oldest = spoken < half_open.count ? half_open.ids[spoken] : NONE;
    if (for_half_open && half_open.count - spoken >= MAX_HALF_OPEN)
        return oldest;
    if (count_rows(of) < MAX_FLOWS)
        return NONE;
    if (over.count)
        return over.ids[0];
    return oldest != NONE ? oldest : awake < idle.count ? idle.ids[awake] : NONE;
}

/* Check that a list has lost nothing, or its first rows that count() counts, and put these back. */
static void put_back(const snapshot *before, snapshot *now, uint32_t flag,
                     uint32_t (*count)(const snapshot *, const id_list *))
{
    id_list was = list_of(before, flag), is = list_of(now, flag);
    must(is.count <= was.count);
    uint32_t left = was.count - is.count;
    must(!left || left == count(before, &was));
    must(!memcmp(is.ids, was.ids + left, is.count * sizeof *is.ids));
    for (uint32_t i = 0; i < was.count; i++) {
        nm_flow *row = &now->rows[was.ids[i]];
        const nm_flow *row_was = &before->rows[was.ids[i]];
        row->older = row_was->older;
        row->newer = row_was->newer;
        if (i < left)
            row->flags |= flag;
    }
}

void check_same(const snapshot *before, snapshot *now)
{
    put_back(before, now, NM_FLOW_HALF_OPEN, count_spoken);
    put_back(before, now, NM_FLOW_IDLE, count_awake);
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        nm_ring *held = &now->rows[id].held;
        const nm_ring *held_was = &before->rows[id].held;
        must(!now->rows[id].held_len || held->offset == held_was->offset); /* an empty ring begins where its next byte does */
        must(held->count >= held_was->count);
        *held = *held_was;
    }
    must(!memcmp(now, before, sizeof *now));
}

void check_victim(world *w, int for_half_open)
{
    snapshot before, now;
    take_snapshot(w, &before);
    uint32_t expected = victim_of(&before, for_half_open);
    must(nm_flows_victim(w->gear->flows, for_half_open, w->now) == nm_flow_by_id(w->gear->flows, expected));
    take_snapshot(w, &now);
    check_same(&before, &now);
    check_flows(w);
}

/* Check that old members of a list have kept their order and new ones are at its end. */
static void check_list(world *w, const snapshot *now, int which)
{
    static const uint32_t FLAGS[LISTS] = {NM_FLOW_HALF_OPEN, NM_FLOW_CLOSED, NM_FLOW_IDLE};
    id_list *was = &w->lists[which], is = list_of(now, FLAGS[which]);
    uint32_t i = 0;
    for (uint32_t at = 0; i < is.count; i++) {
        while (at < was->count && was->ids[at] != is.ids[i])
            at++;
        if (at++ >= was->count)
            break;
    }
    for (; i < is.count; i++)
        for (uint32_t j = 0; j < was->count; j++)
            must(was->ids[j] != is.ids[i] || w->removed >> is.ids[i] & 1);
    *was = is;
}

void check_lists(world *w, const snapshot *now)
{
    for (int i = 0; i < LISTS; i++)
        check_list(w, now, i);
    w->removed = 0;
}
