/* The lists of flows; lists.h says what each function is for. */
#include "lists.h"

#include <string.h>

#include "check.h"
#include "must.h"

int is_half_open(const nm_flow *row)
{
    if (row->state == NM_STATE_SYN_SENT || row->state == NM_STATE_SYN_RECEIVED)
        return 1;
    return row->flags & NM_FLOW_PICKED_UP && !row->reply.packets &&
           (row->state == NM_STATE_ESTABLISHED || row->state == NM_STATE_CLOSING);
}

void mend_links(nm_flow *now, const nm_flow *was)
{
    now->older = was->older;
    now->newer = was->newer;
    now->next_orig = was->next_orig;
    now->next_reply = was->next_reply;
    now->due = was->due;
    now->flags |= was->flags & NM_FLOW_HALF_OPEN; /* its backend may have answered before */
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
    uint32_t spoken = count_spoken(of, &half_open);
    uint32_t oldest = spoken < half_open.count ? half_open.ids[spoken] : NONE;
    if (for_half_open && half_open.count - spoken >= MAX_HALF_OPEN)
        return oldest;
    if (count_rows(of) < MAX_FLOWS)
        return NONE;
    return over.count ? over.ids[0] : oldest;
}

void check_same(const snapshot *before, snapshot *now)
{
    id_list was = list_of(before, NM_FLOW_HALF_OPEN), is = list_of(now, NM_FLOW_HALF_OPEN);
    must(is.count <= was.count);
    uint32_t left = was.count - is.count;
    must(!left || left == count_spoken(before, &was));
    must(!memcmp(is.ids, was.ids + left, is.count * sizeof *is.ids));
    for (uint32_t i = 0; i < was.count; i++) {
        nm_flow *row = &now->rows[was.ids[i]];
        const nm_flow *row_was = &before->rows[was.ids[i]];
        row->older = row_was->older;
        row->newer = row_was->newer;
        if (i < left)
            row->flags |= NM_FLOW_HALF_OPEN;
    }
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        nm_ring *held = &now->rows[id].held;
        const nm_ring *held_was = &before->rows[id].held;
        must(held->offset == held_was->offset && held->count >= held_was->count);
        *held = *held_was;
    }
    must(!memcmp(now, before, sizeof *now));
}

void check_victim(world *w, int for_half_open)
{
    snapshot before, now;
    take_snapshot(w, &before);
    uint32_t expected = victim_of(&before, for_half_open);
    must(nm_flows_victim(w->gear->flows, for_half_open) == nm_flow_by_id(w->gear->flows, expected));
    take_snapshot(w, &now);
    check_same(&before, &now);
    check_flows(w);
}

/* Check that old members of a list have kept their order and new ones are at its end. */
static void check_list(world *w, const snapshot *now, int which)
{
    id_list *was = &w->lists[which], is = list_of(now, which == CLOSED_LIST ? NM_FLOW_CLOSED : NM_FLOW_HALF_OPEN);
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
