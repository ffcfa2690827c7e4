/* The invariants of held bytes; held.h says what each function is for. */
#include "held.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fastpath/held_bytes.h"
#include "must.h"

#define PAWS_TOLERANCE 1
#define MAX_ECHO_AGE 1000
#define CONTINUATION 65536
#define TTL_AT 8
#define MAX_WINDOW 0xffff
#define MAX_SCALE 14
#define AGREEMENT_BITS 36 /* a second copy, to check the first */

/* A second opinion */

int knows_window(const nm_flow *row)
{
    return !(row->flags & NM_FLOW_PICKED_UP) || (row->reply.flags & NM_HALF_RECORDED && !(row->flags & NM_FLOW_LOOSE));
}

int has_takers(const nm_flow *row) { return row->flags & (NM_FLOW_FEEDS_LEGS | NM_FLOW_HAS_READER); }

uint32_t released_to(const nm_flow *row) { return row->orig.next - (row->flags & NM_FLOW_HOLDS ? row->held_len : 0); }

/* Whether a packet may be the one that its receiver takes by header prediction, whatever its acknowledgement. */
static int may_be_predicted(const nm_half *sender, const nm_half *receiver, const uint8_t *packet, size_t len)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    int32_t from_next = after(u32_at(tcp + 4), receiver->ack), from_end = after(u32_at(tcp + 4), sender->end);
    return len > payload_at(packet, len) && !(tcp[13] & URG) && receiver->flags & NM_HALF_ACK && from_next >= 0 &&
           from_next <= (int64_t)receiver->max_window + CONTINUATION && from_end <= CONTINUATION;
}

static int is_old(const nm_half *sender, const nm_half *receiver, const uint8_t *packet, size_t len, double now)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u;
    uint32_t ack = u32_at(tcp + 8), value;
    if (sender->flags & NM_HALF_ACK && after(ack, sender->ack) < 0 && sender->ack - ack > 2 * sender->max_window &&
        !may_be_predicted(sender, receiver, packet, len))
        return 1; /* RFC 5961 5.2 */
    return receiver->flags & NM_HALF_ECHO && receiver->echo && now < receiver->echo_at + MAX_ECHO_AGE &&
           timestamp_of(packet, &value) && after(receiver->echo, value) > PAWS_TOLERANCE &&
           after(sender->stamp, value) > PAWS_TOLERANCE && !(tcp[13] & URG && len == payload_at(packet, len));
}

/* Whether a packet's numbers are near those of its receiver. */
static int agrees(const nm_half *receiver, uint32_t seq, uint32_t ack)
{
    uint64_t of_seq = (uint64_t)llabs(after(seq, receiver->ack)), of_ack = (uint64_t)llabs(after(ack, receiver->end));
    return receiver->flags & NM_HALF_SEQ && (of_seq + 1) * (of_ack + 1) < 1ull << AGREEMENT_BITS;
}

int is_acceptable(const nm_flow *row, const uint8_t *packet, size_t len, int hook, int checksum)
{
    int is_orig = hook == PREROUTING;
    const nm_half *sender = is_orig ? &row->orig : &row->reply, *receiver = is_orig ? &row->reply : &row->orig;
    size_t header_len = packet[0] % 16 * 4u;
    const uint8_t *tcp = packet + header_len;
    uint32_t seq = u32_at(tcp + 4), ack = u32_at(tcp + 8);
    if (!is_orig && hook != FORWARD && !(hook == OUTPUT && row->flags & NM_FLOW_WATCHED))
        return 0;
    if (row->flags & (NM_FLOW_DIRECT | NM_FLOW_KILLED) || row->state != NM_STATE_ESTABLISHED)
        return 0;
    if ((tcp[13] & (SYN | FIN | RST | ACK)) != ACK)
        return 0;
    if (checksum == UNVERIFIED && tcp_sum_of(packet, len, header_len) != 0xffff)
        return 0;
    if (is_orig && packet[TTL_AT] <= 1 && !(row->flags & NM_FLOW_WATCHED))
        return 0;
    if (row->flags & NM_FLOW_LOOSE)
        return agrees(receiver, seq, ack);
    if (row->flags & NM_FLOW_SERVICE_MIRRORED && is_old(sender, receiver, packet, len, row->came_at))
        return 0;
    if (!knows_window(row))
        return agrees(receiver, seq, ack);
    int scale = receiver->scale <= MAX_SCALE ? receiver->scale : 0;
    uint32_t limit = receiver->end; /* a backend's later bytes may be under way to this host */
    if (is_orig && row->flags & NM_FLOW_SERVICE_MIRRORED && after(sender->edge, limit) > 0)
        limit = sender->edge;
    return after(ack, limit) <= 0 && after(seq, sender->end) <= MAX_WINDOW << scale;
}

int has_acked(const nm_flow *row, const uint8_t *packet, size_t len, int is_orig)
{
    const nm_half *receiver = is_orig ? &row->reply : &row->orig;
    uint32_t end = u32_at(packet + packet[0] % 16 * 4u + 4) + (uint32_t)(len - payload_at(packet, len));
    return receiver->flags & NM_HALF_ACK && after(end, receiver->ack) <= 0;
}

int is_known(const nm_flow *row, const uint8_t *packet, size_t len)
{
    uint32_t seq = u32_at(packet + packet[0] % 16 * 4u + 4), first = row->orig.next - row->held_len;
    const uint8_t *data = packet + payload_at(packet, len);
    for (uint32_t i = 0; i < len - payload_at(packet, len); i++) {
        uint8_t known;
        if (row->reply.flags & NM_HALF_ACK && after(seq + i, row->reply.ack) < 0)
            continue;
        if (after(seq + i, first) < 0 || after(seq + i, row->orig.next) >= 0)
            return 0;
        nm_held_copy(row, seq + i - first, &known, 1);
        if (known != data[i])
            return 0;
    }
    return 1;
}

int is_repetition(const nm_flow *row, const uint8_t *packet, size_t len)
{
    if (row->flags & (NM_FLOW_ORIG_GAP | NM_FLOW_PICKED_UP))
        return 0;
    if (row->reply.flags & NM_HALF_ACK && after(row->reply.ack, row->orig.next) > 0)
        return 0;
    return is_known(row, packet, len);
}

static int is_control(const uint8_t *packet) { return packet[packet[0] % 16 * 4u + 13] & (SYN | FIN | RST); }

/* Bytes */

void note_ack(client_flow *flow, const nm_flow *was, const uint8_t *packet, int is_taken)
{
    uint32_t ack = u32_at(packet + packet[0] % 16 * 4u + 8);
    if (flow->row->flags & NM_FLOW_PICKED_UP || was->state != NM_STATE_ESTABLISHED || is_control(packet)) {
        flow->acked = flow->row->reply.ack;
        flow->knows_ack = !!(flow->row->reply.flags & NM_HALF_ACK);
        return;
    }
    if (!is_taken)
        return;
    if (!flow->knows_ack || after(ack, flow->acked) > 0)
        flow->acked = ack;
    flow->knows_ack = 1;
}

void store(client_flow *flow, const uint8_t *data, size_t len)
{
    size_t known = flow->len + flow->waiting;
    if (!len)
        return;
    if (known + len > flow->capacity) {
        flow->capacity = 2 * (known + len);
        must(flow->stream = realloc(flow->stream, flow->capacity));
    }
    memcpy(flow->stream + known, data, len);
}

/* Check one entry of the read buffer. */
static void check_read(const nm_out *read, uint32_t index, uint8_t kind, uint32_t owner, uint16_t holder,
                       const uint8_t *data, size_t len)
{
    const nm_send *one = &read->sends[index];
    must(index < read->count && one->kind == kind && one->owner == owner && one->holder == holder && one->len == len);
    must(!memcmp(read->bytes + one->at, data, len));
}

/* Check what a packet has given for one flow; return the number of entries read so far. */
static uint32_t check_flow(world *w, client_flow *flow, const nm_flow *was, const uint8_t *packet, size_t len, int hook,
                           int checksum, int is_skipped, uint32_t entries)
{
    const nm_flow *row = flow->row;
    const uint8_t *data = packet + payload_at(packet, len);
    size_t data_len = len - payload_at(packet, len);
    int is_orig = hook == PREROUTING, is_read = row->flags & NM_FLOW_HAS_READER;
    int is_own = has_takers(row) && has_ends_of(was, packet, is_orig);
    int is_taken = is_own && is_acceptable(was, packet, len, hook, checksum);
    int is_followed = is_taken && !is_skipped; /* else it has passed without mirroring */
    uint32_t moved = row->orig.next - was->orig.next, replied = row->reply.next - was->reply.next;
    int is_repeated = is_own && is_orig && data_len && u32_at(packet + packet[0] % 16 * 4u + 4) != was->orig.next;
    must(!data_len || !is_followed || !mptcp_subtypes(packet) || has_acked(was, packet, len, is_orig));
    must(!is_followed || !is_repeated || is_repetition(row, packet, len));
    must(!moved || !(packet[packet[0] % 16 * 4u + 13] & URG));
    must(moved == (is_followed && is_orig && !is_repeated ? data_len : 0));
    must(replied == (is_followed && is_read && !is_orig ? data_len : 0));
    if (moved && !(row->flags & NM_FLOW_HOLDS) && knows_window(was)) /* it lies in the backend's window */
        must(after(row->orig.next, was->reply.edge) <= 0 || after(row->orig.next, was->reply.ack) <= 0);
    must(!moved || (!flow->waiting && was->orig.next == flow->first + (uint32_t)flow->len));
    store(flow, data, moved);
    flow->len += moved;
    if (is_own && (row->flags & NM_FLOW_PICKED_UP || !is_orig))
        note_ack(flow, was, packet, is_taken);
    if (is_taken && !is_orig)
        flow->has_rest = is_skipped;
    uint32_t given = released_to(row) - released_to(was);
    must(given <= (row->flags & NM_FLOW_HOLDS ? NM_MAX_RELEASE_LEN : moved));
    if (is_read && given)
        check_read(&w->gear->read, entries++, NM_READ_ORIG, row->id, row->held.holder,
                   flow->stream + (released_to(was) - flow->first), given);
    if (is_read && replied)
        check_read(&w->gear->read, entries++, NM_READ_REPLY, row->id, row->held.holder, data, replied);
    if (is_taken && !is_orig)
        check_released(flow);
    return entries;
}

void check_given(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum)
{
    const nm_counters *counters = &w->gear->counters;
    int is_skipped = memcmp(counters->over_limit, before->counters.over_limit, sizeof counters->over_limit) != 0;
    uint32_t entries = 0;
    size_t data_at = payload_at(packet, len);
    for (int i = 0; i < FLOWS; i++) {
        const nm_flow *was = &before->rows[w->flows[i].row->id];
        entries = check_flow(w, &w->flows[i], was, packet, len, hook, checksum, is_skipped, entries);
    }
    for (int i = 0; i < LEGS; i++) {
        const nm_leg *row = w->legs[i].row;
        if (!row || row->rcv_nxt == w->legs[i].heard || row->source != NM_SOURCE_MESSAGES)
            continue;
        must(row->rcv_nxt - w->legs[i].heard == len - data_at);
        check_read(&w->gear->read, entries++, NM_READ_MIRROR, row->reader, row->ring.holder, packet + data_at,
                   len - data_at);
    }
    must(w->gear->read.count == entries);
    nm_out_clear(&w->gear->read);
}

/* Invariants */

void check_released(const client_flow *flow)
{
    uint32_t start = flow->row->orig.next - flow->row->held_len;
    must(!flow->row->held_len || !flow->knows_ack || flow->has_rest || after(flow->acked, start) <= 0);
}

static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint32_t later(uint32_t a, uint32_t b) { return after(a, b) > 0 ? a : b; }

/* Return how many of a client's bytes lie after an acknowledgement. */
static uint64_t unacked_by(const nm_flow *row, uint32_t ack)
{
    int32_t len = after(row->orig.end, ack) - !!(row->orig.flags & NM_HALF_FIN);
    return len > 0 ? (uint32_t)len : 0;
}

static void check_client_bytes(const nm_flow *row)
{
    uint64_t bytes = nm_flow_client_bytes(row);
    must(bytes <= row->orig.bytes);
    if (!(row->flags & NM_FLOW_HOLDS))
        must(bytes == row->orig.bytes);
    else if (row->reply.flags & NM_HALF_RECORDED) /* its mirrors may have bytes that were not acknowledged here */
        must(bytes == row->orig.bytes - min(row->orig.bytes, unacked_by(row, later(row->reply.ack, row->proven))));
    else if (!(row->reply.flags & NM_HALF_ACK))
        must(!bytes);
    else if (row->iss && !(row->flags & NM_FLOW_PICKED_UP)) /* its SYN was seen */
        must(bytes == min(row->orig.bytes, row->reply.ack - (row->iss + 1)));
}

void check_held(const nm_flow *row)
{
    const nm_ring *ring = &row->held;
    must(ring->count <= ring->capacity && !(ring->capacity & (ring->capacity - 1)));
    must(ring->offset < NM_CHUNK_LEN);
    must((uint64_t)ring->offset + row->held_len <= (uint64_t)ring->count * NM_CHUNK_LEN);
    must(!row->held_len || ring->offset == (row->orig.next - row->held_len) % NM_CHUNK_LEN);
    must(row->held_len <= (row->max_held > MAX_LEN ? row->max_held : MAX_LEN));
    must(has_takers(row) || !ring->capacity);
    check_client_bytes(row);
}

void check_held_of(const client_flow *flow, int with_bytes)
{
    const nm_flow *row = flow->row;
    uint32_t start = row->orig.next - row->held_len;
    if (!has_takers(row))
        return;
    must(row->orig.next == flow->first + (uint32_t)flow->len && row->held_len <= flow->len);
    must(!flow->knows_ack == !(row->reply.flags & NM_HALF_ACK));
    must(!flow->knows_ack || row->reply.ack == flow->acked);
    /* Bytes are given away once the backend has acknowledged them, and not before. */
    if (!(row->flags & NM_FLOW_PICKED_UP))
        must(start == flow->first || (flow->knows_ack && after(start, flow->acked) <= 0));
    if (row->flags & NM_FLOW_HOLDS && !(row->flags & NM_FLOW_LOOSE) && flow->knows_ack &&
        !(row->reply.flags & NM_HALF_RECORDED))
        must(nm_flow_client_bytes(row) == row->orig.bytes - min(row->orig.bytes, unacked_by(row, flow->acked)));
    if (!with_bytes || !row->held_len)
        return;
    uint8_t *held = malloc(row->held_len);
    must(held);
    nm_held_copy(row, 0, held, row->held_len);
    must(!memcmp(held, flow->stream + (start - flow->first), row->held_len));
    free(held);
}
