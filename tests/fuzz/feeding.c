/* Python's part for flows with legs or readers; feeding.h says what each function is for.
 *
 * Out-of-order data is left out, as if it had found no room. Data past the backend's window waits in the world's
 * stream, after the bytes that were in order, unless bytes are held anyway.
 */
#include "feeding.h"

#include <string.h>

#include "check.h"
#include "fastpath/held_bytes.h"
#include "fastpath/tracker.h"
#include "flaky.h"
#include "held.h"
#include "must.h"

#define WAITING_FLAGS (NM_FLOW_PAST_WINDOW | NM_FLOW_ORIG_GAP)

static uint8_t slice[NM_MAX_RELEASE_LEN];

static void replace_leg(world *w, int index)
{
    close_leg(w, index);
    open_leg(w, index);
}

/* Leg.write(): give the leg its flow's next bytes. Return 0 if it has no room for them. */
static int write_to_leg(world *w, nm_leg *row, const uint8_t *data, uint32_t len)
{
    unsigned long failed = flaky_failed();
    if ((row->buffered && (uint64_t)row->buffered + len > row->max_buffer) || !nm_leg_reserve(w->gear->legs, row, len))
        return 0;
    nm_leg_append(row, data, len, w->now);
    nm_leg_output(row, w->now, &w->gear->out);
    nm_leg_set_due(w->gear->legs, row, nm_leg_deadline(row));
    check_sends(w, flaky_failed() == failed);
    return 1;
}

static void write_to_legs(world *w, const client_flow *flow, const uint8_t *data, uint32_t len)
{
    for (int i = 0; i < LEGS_OF_FLOWS; i++)
        if (w->legs[i].row && w->legs[i].flow == flow && !write_to_leg(w, w->legs[i].row, data, len))
            replace_leg(w, i);
}

/* Reassembler.push(), but what is ready waits, too. Return 0 if two versions of a byte differ. */
static int take_data(client_flow *flow, const nm_segment *seg)
{
    const nm_flow *row = flow->row;
    int64_t len = seg->payload_len, at = (int64_t)flow->len + after(seg->seq, row->orig.next);
    int64_t known = (int64_t)flow->len + flow->waiting, first = (int64_t)flow->len - row->held_len;
    int64_t from = at > first ? at : first, to = at + len < known ? at + len : known;
    if (from < to && memcmp(flow->stream + from, payload_of(seg) + (from - at), (size_t)(to - from)))
        return 0;
    int64_t fresh = at + len - known;
    if (at <= known && fresh > 0 && flow->waiting + fresh <= MAX_LEN) {
        store(flow, payload_of(seg) + (len - fresh), (size_t)fresh);
        flow->waiting += (uint32_t)fresh;
    }
    return 1;
}

/* Feeding._hold(): hold the next len of the bytes that wait. Return 0 if there is no room. */
static int hold(world *w, client_flow *flow, uint32_t len)
{
    nm_flow *row = flow->row;
    const uint8_t *data = flow->stream + flow->len;
    for (int i = 0; i < LEGS_OF_FLOWS && row->flags & NM_FLOW_HOLDS; i++) {
        const nm_leg *leg = w->legs[i].row;
        uint64_t waiting = leg && w->legs[i].flow == flow ? (uint64_t)leg->buffered + row->held_len : 0;
        if (waiting && waiting + len > leg->max_buffer)
            replace_leg(w, i);
    }
    int64_t used = w->budget.used;
    if (!nm_held_reserve(w->gear, row, row->orig.next, len)) {
        must(w->budget.used == used);
        return 0;
    }
    nm_held_append(row, data, len);
    row->orig.next += len;
    flow->len += len;
    flow->waiting -= len;
    if (!(row->flags & NM_FLOW_HOLDS))
        write_to_legs(w, flow, data, len);
    return 1;
}

/* Free held bytes that the backend has acknowledged, and no more than one call may give to legs. */
static void release(world *w, client_flow *flow)
{
    nm_flow *row = flow->row;
    int32_t acked = after(flow->acked, row->orig.next - row->held_len);
    uint32_t ready = acked <= 0 ? 0 : (uint32_t)acked < row->held_len ? (uint32_t)acked : row->held_len;
    int holds = row->flags & NM_FLOW_HOLDS;
    uint32_t len = holds && ready > NM_MAX_RELEASE_LEN ? NM_MAX_RELEASE_LEN : ready;
    flow->has_rest = len < ready;
    if (holds)
        nm_held_copy(row, 0, slice, len);
    nm_held_drop(w->gear, row, len);
    if (len && holds)
        write_to_legs(w, flow, slice, len);
}

void release_rest(world *w, client_flow *flow)
{
    if (flow->has_rest)
        release(w, flow);
}

/* Feeding.feed(), after the reassembler has the data. Return 0 if the copies end. */
static int feed(world *w, client_flow *flow)
{
    nm_flow *row = flow->row;
    uint32_t limit = after(row->reply.edge, row->reply.ack) > 0 ? row->reply.edge : row->reply.ack;
    int32_t room = row->flags & NM_FLOW_HOLDS || !knows_window(row) ? MAX_LEN : after(limit, row->orig.next);
    uint32_t ready = room <= 0 ? 0 : (uint32_t)room < flow->waiting ? (uint32_t)room : flow->waiting;
    if (ready && !hold(w, flow, ready))
        return 0;
    row->flags = (row->flags & ~(uint32_t)WAITING_FLAGS) | (flow->waiting ? WAITING_FLAGS : 0);
    if (flow->knows_ack)
        release(w, flow);
    return !flow->knows_ack || after(flow->acked, row->orig.next) <= 0; /* else bytes are missing */
}

/* Take the backend's data, if it is in order. */
static void take_reply(nm_flow *row, const nm_segment *seg)
{
    uint32_t end = seg->seq + seg->payload_len;
    if (!(row->flags & NM_FLOW_HAS_READER) || after(seg->seq, row->reply.next) > 0 || after(end, row->reply.next) <= 0)
        return;
    row->reply.next = end;
    row->flags &= ~(uint32_t)NM_FLOW_REPLY_GAP;
}

void feed_punted(world *w, int index, const nm_segment *seg, size_t len, int hook, int checksum)
{
    client_flow *flow = &w->flows[index];
    nm_flow *row = flow->row;
    int is_orig = hook == PREROUTING;
    if (!has_takers(row) || !is_acceptable(row, seg->ip, len, hook, checksum))
        return;
    must(nm_is_taken(row, seg, is_orig));
    int is_urgent = seg->flags & URG && is_orig, is_past_fin = row->orig.flags & NM_HALF_FIN && is_orig;
    if (row->flags & NM_FLOW_SKIPPED || is_past_fin || is_urgent || (seg->payload_len && mptcp_subtypes(seg->ip))) {
        reopen_flow(w, index);
        return;
    }
    int event = nm_track(row, seg, is_orig);
    nm_flow_touch(w->gear->flows, row, w->now, event != NM_NO_EVENT);
    if (!is_orig || row->flags & NM_FLOW_PICKED_UP)
        note_ack(flow, row, seg->ip, 1);
    if (!is_orig)
        take_reply(row, seg);
    if ((is_orig && !take_data(flow, seg)) || !feed(w, flow))
        reopen_flow(w, index);
    check_released(flow);
}
