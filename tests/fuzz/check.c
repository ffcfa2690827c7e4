/* The invariants after each step; check.h says what each function is for. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_without_flow.h"
#include "held.h"
#include "must.h"

#define RIGHT 0xffff
#define MAX_WINDOW (1u << 30)

static void check_marks(const nm_leg *row)
{
    must(row->mark_count <= NM_MARKS);
    must(!row->buffered == !row->mark_count);
    for (uint32_t i = 1; i < row->mark_count; i++) {
        must(after(row->mark_end[i], row->mark_end[i - 1]) > 0);
        must(row->mark_at[i] >= row->mark_at[i - 1]);
    }
    if (row->mark_count) {
        must(after(row->mark_end[0], row->snd_una) > 0);
        must(row->mark_end[row->mark_count - 1] == row->buffer_seq + row->buffered);
    }
}

static void check_leg(const mirror_leg *leg)
{
    const nm_leg *row = leg->row;
    const nm_ring *ring = &row->ring;
    uint32_t end = row->buffer_seq + row->buffered;
    must(after(row->snd_nxt, row->snd_una) >= 0 && after(row->snd_max, row->snd_nxt) >= 0);
    must(row->snd_nxt == row->snd_max && row->buffer_seq == row->snd_una && after(end, row->snd_max) >= 0);
    must(row->buffered <= (row->max_buffer > MAX_LEN ? row->max_buffer : MAX_LEN));
    must(ring->count <= ring->capacity && !(ring->capacity & (ring->capacity - 1)));
    must(ring->offset < NM_CHUNK_LEN);
    must((uint64_t)ring->offset + row->buffered <= (uint64_t)ring->count * NM_CHUNK_LEN);
    must(!row->buffered || ring->offset == row->buffer_seq % NM_CHUNK_LEN);
    must((uint32_t)row->sent_bytes == row->snd_max - leg->first);
    must((uint32_t)row->acked_bytes == row->snd_una - leg->first);
    must(row->cwnd > 0 && row->cwnd <= MAX_WINDOW && row->window > 0 && row->window <= row->max_window);
    must(row->rto >= 0.2 && row->rto <= 60.0);
    must((row->rto_at < INFINITY) == (row->snd_max != row->snd_una));
    must(row->due.queued_at <= row->due.due_at);
    if (leg->flow)
        must(end == released_to(leg->flow->row));
    if (leg->flow && leg->flow->row->flags & NM_FLOW_HOLDS)
        must(row->buffered + leg->flow->row->held_len <= (row->max_buffer > MAX_LEN ? row->max_buffer : MAX_LEN));
    check_marks(row);
}

int looks_closer(const world *w) { return w->checks % 8 == 0; }

void check_world(world *w)
{
    int64_t chunks = 0, of_client = 0;
    uint16_t client = NM_NO_HOLDER; /* the same one, of all rings with a holder */
    double next = INFINITY;
    uint32_t count = 0;
    for (int i = 0; i < LEGS; i++) {
        if (!w->legs[i].row)
            continue;
        check_leg(&w->legs[i]);
        const nm_ring *ring = &w->legs[i].row->ring;
        chunks += ring->count;
        if (ring->holder != NM_NO_HOLDER) {
            client = ring->holder;
            of_client += ring->count * NM_CHUNK_LEN;
        }
        next = fmin(next, w->legs[i].row->due.due_at);
        count++;
    }
    for (uint32_t id = 0; id < MAX_FLOWS; id++) {
        const nm_flow *row = nm_flow_by_id(w->gear->flows, id);
        if (!row)
            continue;
        check_held(row);
        chunks += row->held.count;
        if (row->held.holder != NM_NO_HOLDER) {
            client = row->held.holder;
            of_client += row->held.count * NM_CHUNK_LEN;
        }
    }
    for (int i = 0; i < FLOWS; i++)
        check_held_of(&w->flows[i], looks_closer(w));
    must(w->budget.used == chunks * NM_CHUNK_LEN && w->budget.used <= w->budget.limit);
    must(client == NM_NO_HOLDER || (w->gear->holders.used[client] == of_client &&
                                    of_client <= w->budget.limit / NM_CLIENT_SHARE));
    must(nm_legs_count(w->gear->legs) == count + w->crowd);
    must(nm_legs_not_before(w->gear->legs) <= next);
    if (looks_closer(w))
        must(nm_legs_next_due(w->gear->legs) == next);
    w->checks++;
    check_flows(w);
}

static mirror_leg *leg_of(world *w, const uint8_t *packet)
{
    for (int i = 0; i < LEGS; i++) {
        mirror_leg *leg = &w->legs[i];
        if (leg->row && !memcmp(packet + 12, leg->local.address, 4) && !memcmp(packet + 16, leg->mirror.address, 4) &&
            u16_at(packet + 20) == leg->local.port && u16_at(packet + 22) == leg->mirror.port)
            return leg;
    }
    return NULL;
}

/* The data is in order, is the client's own, and lies within both windows. */
static void check_data(mirror_leg *leg, const uint8_t *packet, uint32_t seq, uint32_t len, int all_there)
{
    const nm_leg *row = leg->row;
    uint32_t end = row->buffer_seq + row->buffered, at = seq - leg->flow->first;
    must(all_there ? seq == leg->sent : after(seq, leg->sent) >= 0);
    leg->sent = seq + len;
    must(after(leg->sent, row->snd_max) <= 0 && after(leg->sent, row->snd_una + row->window) <= 0);
    must(row->snd_max - row->snd_una <= row->cwnd);
    must((packet[33] == (ACK | PSH)) == (leg->sent == end));
    must(at + (uint64_t)len <= released_to(leg->flow->row) - leg->flow->first);
    must(!(leg->flow->row->flags & NM_FLOW_HOLDS) || (leg->flow->knows_ack && after(leg->sent, leg->flow->acked) <= 0));
    must(!memcmp(packet + HEADERS_LEN, leg->flow->stream + at, len));
}

static void check_send(world *w, const uint8_t *packet, const nm_send *send, int all_there)
{
    must(send->len >= HEADERS_LEN && send->len <= MAX_LEN);
    must(packet[0] == 0x45 && u16_at(packet + 2) == send->len && packet[9] == 6 && packet[32] == 0x50);
    must(ip_sum(packet, 20) == RIGHT);
    must(u16_at(packet + 36) == pseudo_sum_of(packet, send->len, 20));
    mirror_leg *leg = leg_of(w, packet);
    must(leg);
    const nm_leg *row = leg->row;
    uint32_t seq = u32_at(packet + 24) - row->seq_offset, ack = u32_at(packet + 28);
    must(send->segment_len == row->mss);
    must(u16_at(packet + 34) == 0xffff && u16_at(packet + 38) == 0);
    must((packet[33] & ~PSH) == ACK);
    if (send->len > HEADERS_LEN) {
        must(ack == leg->heard || ack == row->rcv_nxt); /* the mirror's data is taken after its acknowledgement */
        check_data(leg, packet, seq, send->len - HEADERS_LEN, all_there);
    } else {
        uint32_t edge = row->snd_una + row->window;
        must(ack == row->rcv_nxt && packet[33] == ACK);
        must(seq == (after(row->snd_max, edge) > 0 ? edge : row->snd_max));
    }
}

void check_sends(world *w, int all_there)
{
    nm_out *out = &w->gear->out;
    uint32_t at = 0;
    must(out->count <= out->max_count && out->used <= out->capacity);
    for (uint32_t i = 0; i < out->count; i++) {
        must(out->sends[i].at == at);
        at += out->sends[i].len;
        must(at <= out->used);
        check_send(w, out->bytes + out->sends[i].at, &out->sends[i], all_there);
    }
    must(at == out->used);
    for (int i = 0; i < LEGS; i++) {
        mirror_leg *leg = &w->legs[i];
        if (!leg->row)
            continue;
        must(!all_there || leg->sent == leg->row->snd_max);
        leg->sent = leg->row->snd_max;
        leg->heard = leg->row->rcv_nxt;
    }
    nm_out_clear(out);
}

void check_buffered(const mirror_leg *leg)
{
    uint32_t len = leg->row->buffered;
    if (!len)
        return;
    uint8_t *buffered = malloc(len);
    must(buffered);
    nm_leg_copy(leg->row, 0, buffered, len);
    must(!memcmp(buffered, leg->flow->stream + (leg->row->buffer_seq - leg->flow->first), len));
    free(buffered);
}

/* The kernel's translation by a mark equals our own without one. */
static void check_mark(const world *w, const nm_flow *flow, int is_beyond_kernel)
{
    uint32_t mark = w->gear->translation.mark;
    if (!flow || is_beyond_kernel) {
        must(!mark);
        return;
    }
    const nm_backend *backend = &w->plan.backends[flow->backend_id];
    must(mark == backend->mark);
    must(!mark || (!memcmp(backend->address, flow->backend, 4) && backend->port == flow->backend_port));
    must(!mark || !memcmp(w->plan.services[backend->service_id].address, flow->service, 4));
}

/* Return the window that a throttled client may see of a reply that passes without mirroring. */
static uint16_t narrowed(const nm_flow *flow, const uint8_t *packet)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    int32_t room = after(flow->shown, u32_at(tcp + 8));
    int64_t most = room < 0 ? 0 : room / (1 << flow->reply.scale);
    return most < u16_at(tcp + 14) ? (uint16_t)most : u16_at(tcp + 14);
}

void check_rewritten(const world *w, const uint8_t *before, const uint8_t *now, size_t len, int hook, int checksum,
                     int is_over_limit)
{
    size_t header_len = before[0] % 16 * 4u, at = hook == PREROUTING ? 16 : 12, port_at = hook == PREROUTING ? 2 : 0;
    const nm_flow *flow = flow_of(w, before, hook == PREROUTING);
    endpoint fresh;
    uint32_t flags;
    if (flow) {
        flags = flow->flags;
        must(!(flow->flags & (NM_FLOW_WATCHED | NM_FLOW_DIRECT)));
        memcpy(fresh.address, hook == PREROUTING ? flow->backend : flow->service, 4);
        fresh.port = hook == PREROUTING ? flow->backend_port : flow->service_port;
    } else if (hook == PREROUTING) {
        int service = service_at(w, before);
        must(service >= 0);
        flags = w->plan.services[service].flags;
        fresh = backend_end(&w->plan, derive(&w->plan, service, before + 12, u16_at(before + header_len)));
    } else {
        must(service_of(w, before) >= 0);
        flags = w->plan.services[service_of(w, before)].flags;
        fresh = service_end(&w->plan, service_of(w, before));
    }
    static uint8_t expected[MAX_LEN];
    memcpy(expected, before, len);
    int strips = before[header_len + 13] & SYN && flags & NM_FLOW_STRIPS_MPTCP && mptcp_subtypes(before) & MP_CAPABLE;
    int narrows = is_over_limit && flow && hook != PREROUTING && flow->flags & NM_FLOW_THROTTLED;
    check_mark(w, flow, strips || narrows);
    if (narrows)
        set_u16(expected + header_len + 14, narrowed(flow, before));
    if (strips)
        strip_mp_capable(expected);
    must(!memcmp(now + at, fresh.address, 4) && u16_at(now + header_len + port_at) == fresh.port);
    /* One's complement sums stay right or wrong as they were; a sum left to hardware is right afterwards. */
    must(ip_sum(now, header_len) == ip_sum(before, header_len));
    must(tcp_sum_of(now, len, header_len) == (checksum == PARTIAL ? RIGHT : tcp_sum_of(before, len, header_len)));
    memcpy(expected + 10, now + 10, 2);
    memcpy(expected + at, now + at, 4);
    memcpy(expected + header_len + port_at, now + header_len + port_at, 2);
    memcpy(expected + header_len + 16, now + header_len + 16, 2);
    must(!memcmp(now, expected, len));
}
