/* The C gear under packets and events that the fuzzer chooses.
 *
 * The input is a row of steps: packets of clients, backends and mirrors near the numbers that would be right, raw
 * bytes, time, timers, legs and flows that come and go, memory that runs out. corpus.py writes the same steps.
 */
#include <string.h>

#include "check.h"
#include "flaky.h"
#include "must.h"
#include "world.h"

enum { FROM_CLIENT, FROM_BACKEND, FROM_MIRROR, RAW, WAIT, DUE, SET_FLOW, SET_LEG, REOPEN, MEMORY, WRITE, STEPS };

/* how, the byte that packets begin with after the step and its flow or leg */
#define HOW_CHECKSUM 3 /* 0 to 2: as nm_process() is told; 3: unverified, and wrong */
#define HOW_OPTIONS 4
#define HOW_NO_ACK 8
#define HOW_PUSH 16
#define HOW_ODD_FLAGS 32
#define HOW_ODD_SEQ 64
#define HOW_ODD_ACK 128

#define SAME_WINDOW 1 /* a mirror's window that stands for the one before */

#define PREROUTING 0
#define FORWARD 2
#define OUTPUT 3

static uint8_t packet[MAX_LEN], pattern[2 * MAX_LEN];

/* Bytes that tell by themselves where in the stream they belong. */
static const uint8_t *bytes_at(uint32_t seq)
{
    if (!pattern[1])
        for (uint32_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (uint8_t)(i * 2654435761u >> 24);
    return pattern + seq % MAX_LEN;
}

/* Lengths where something changes: nothing, a segment, a chunk, the largest packet. */
static uint32_t take_len(input *in, uint32_t mss)
{
    uint8_t kind = take8(in), fine = take8(in);
    switch (kind % 8) {
    case 0:
        return 0;
    case 1:
        return fine;
    case 2:
        return mss;
    case 3:
        return 2 * mss + fine;
    case 4:
        return NM_CHUNK_LEN + 128u - fine;
    case 5:
        return 16u * fine;
    case 6:
        return 10 * mss;
    default:
        return MAX_LEN - HEADERS_LEN - fine;
    }
}

/* What all packets have in common: fills in flags and checksum, and sends it. */
static void send_packet(world *w, input *in, headers *of, uint8_t how, uint8_t odd_flags, int hook)
{
    int checksum = how & HOW_CHECKSUM;
    of->flags = (uint8_t)((how & HOW_NO_ACK ? 0 : ACK) | (how & HOW_PUSH ? PSH : 0));
    if (how & HOW_ODD_FLAGS)
        of->flags = odd_flags;
    of->options_len = how & HOW_OPTIONS ? take8(in) % 11 * 4 : 0;
    for (int i = 0; i < of->options_len; i++)
        of->options[i] = take8(in);
    of->payload = bytes_at(of->seq);
    size_t len = build(packet, of, checksum);
    if (checksum == 3) {
        packet[36] ^= 1;
        checksum = UNVERIFIED;
    }
    process(w, packet, len, hook, checksum);
}

static void from_client(world *w, input *in)
{
    client_flow *flow = &w->flows[take8(in) % FLOWS];
    uint8_t how = take8(in), odd = take8(in);
    headers of = {.src = flow->client, .dst = flow->service, .window = take16(in)};
    of.payload_len = take_len(in, w->mss);
    of.seq = flow->row->flags & NM_MIRRORED ? flow->row->stream_next : flow->row->orig.end;
    of.seq += how & HOW_ODD_SEQ ? (uint32_t)(int8_t)take8(in) : 0;
    of.ack = flow->row->reply.end + (how & HOW_ODD_ACK ? (uint32_t)(int8_t)take8(in) : 0);
    send_packet(w, in, &of, how, odd, PREROUTING);
}

static void from_backend(world *w, input *in)
{
    int index = take8(in) % FLOWS;
    client_flow *flow = &w->flows[index];
    uint8_t how = take8(in), odd = take8(in);
    headers of = {.src = flow->backend, .dst = flow->client, .window = take16(in)};
    of.payload_len = take_len(in, w->mss);
    of.seq = flow->row->reply.end + (how & HOW_ODD_SEQ ? (uint32_t)(int8_t)take8(in) : 0);
    of.ack = flow->row->orig.end;
    if (how & HOW_ODD_ACK)
        of.ack = flow->row->reply.ack + (uint32_t)(int16_t)take16(in);
    send_packet(w, in, &of, how, odd, index == WATCHED && odd & 1 ? OUTPUT : FORWARD);
}

static void from_mirror(world *w, input *in)
{
    mirror_leg *leg = &w->legs[take8(in) % LEGS];
    uint8_t how = take8(in), odd = take8(in);
    headers of = {.src = leg->mirror, .dst = leg->local, .window = take16(in)};
    of.payload_len = odd & 1 ? take_len(in, w->mss) : 0;
    if (!leg->row)
        return;
    if (of.window == SAME_WINDOW)
        of.window = (uint16_t)(leg->row->window >> leg->row->scale);
    uint32_t flight = leg->row->snd_max - leg->row->snd_una;
    of.seq = leg->row->rcv_nxt + (how & HOW_ODD_SEQ ? (uint32_t)(int8_t)take8(in) : 0);
    of.ack = leg->row->snd_max;
    if (how & HOW_ODD_ACK)
        of.ack = leg->row->snd_una + (odd & 2 ? take16(in) % (flight + 1) : (uint32_t)(int16_t)take16(in));
    send_packet(w, in, &of, how, odd, PREROUTING);
}

/* A packet as it was captured, made one of ours in as many respects as the input says. */
static void raw(world *w, input *in)
{
    static const int HOOKS[] = {PREROUTING, FORWARD, OUTPUT, 1};
    uint8_t which = take8(in), how = take8(in), told = take8(in);
    int hook = HOOKS[told & 3], checksum = (told >> 2) % 3;
    client_flow *flow = &w->flows[which % FLOWS];
    mirror_leg *leg = &w->legs[which % LEGS];
    uint32_t len = take16(in);
    if (len > in->left)
        len = (uint32_t)in->left;
    memcpy(packet, in->at, len);
    in->at += len;
    in->left -= len;
    size_t tcp = len ? packet[0] % 16 * 4u : 0;
    if (len >= tcp + 20 && tcp >= 20 && how & 3) {
        const endpoint *src[] = {&flow->client, &flow->backend, &leg->mirror};
        const endpoint *dst[] = {&flow->service, &flow->client, &leg->local};
        int side = (how & 3) - 1;
        memcpy(packet + 12, src[side]->address, 4);
        memcpy(packet + 16, dst[side]->address, 4);
        set_u16(packet + tcp, src[side]->port);
        set_u16(packet + tcp + 2, dst[side]->port);
        if (how & 4 && (side < 2 || leg->row)) {
            const nm_flow *row = flow->row;
            uint32_t seqs[] = {row->flags & NM_MIRRORED ? row->stream_next : row->orig.end, row->reply.end,
                               side < 2 ? 0 : leg->row->rcv_nxt};
            uint32_t acks[] = {row->reply.end, row->orig.end, side < 2 ? 0 : leg->row->snd_max};
            set_u32(packet + tcp + 4, seqs[side]);
            set_u32(packet + tcp + 8, acks[side]);
        }
    }
    if (how & 8)
        mend(packet, len, checksum);
    process(w, packet, len, hook, checksum);
}

static void set_flow(world *w, input *in)
{
    static const uint16_t CHANGING = NM_HELD | NM_WAITING | NM_GAPPED;
    nm_flow *row = w->flows[take8(in) % FLOWS].row;
    uint8_t flags = take8(in), state = take8(in);
    row->flags = (uint16_t)((row->flags & ~CHANGING) | (flags & CHANGING));
    row->state = state % 8 >= NM_STATES ? NM_ESTABLISHED : state % 8;
}

static void set_leg(world *w, input *in)
{
    mirror_leg *leg = &w->legs[take8(in) % LEGS];
    uint8_t how = take8(in), amount = take8(in);
    if (!leg->row)
        return;
    if (how & 1)
        leg->row->flags ^= NM_LEG_STEADY;
    if (how & 2)
        nm_leg_set_due(w->gear->legs, leg->row, w->now + amount / 8.0);
    if (how & 4 && leg->row->mss > 48u + amount)
        leg->row->mss = 48u + amount;
    if (how & 8) /* as losses leave it */
        leg->row->ssthresh = 2 * leg->row->mss;
    if (how & 16) /* as a long time without any does */
        leg->row->cwnd = (amount + 1u) << 12;
    check_world(w);
}

static void reopen(world *w, input *in)
{
    uint8_t which = take8(in);
    int leg = which % LEGS;
    if (which & 128) {
        reopen_flow(w, which % FLOWS);
    } else {
        close_leg(w, leg);
        open_leg(w, leg);
    }
    check_world(w);
}

static void write(world *w, input *in)
{
    client_flow *flow = &w->flows[take8(in) % FLOWS];
    uint32_t len = take_len(in, w->mss);
    if (len && flow->row->flags & NM_MIRRORED)
        write_to_legs(w, flow, bytes_at(flow->row->stream_next), len);
}

static void take_step(world *w, input *in)
{
    uint8_t amount;
    switch (take8(in) % STEPS) {
    case FROM_CLIENT:
        from_client(w, in);
        break;
    case FROM_BACKEND:
        from_backend(w, in);
        break;
    case FROM_MIRROR:
        from_mirror(w, in);
        break;
    case RAW:
        raw(w, in);
        break;
    case WAIT:
        amount = take8(in);
        w->now += amount * amount * 0.0005; /* up to half a minute */
        break;
    case DUE:
        take_due(w);
        break;
    case SET_FLOW:
        set_flow(w, in);
        break;
    case SET_LEG:
        set_leg(w, in);
        break;
    case REOPEN:
        reopen(w, in);
        break;
    case MEMORY:
        amount = take8(in);
        flaky_plan(amount & 15, amount >> 4);
        break;
    default:
        write(w, in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    world w;
    flaky_plan(0, 0);
    int orderly = !(take8(&in) & 1);
    world_begin(&w, &in);
    while (in.left)
        take_step(&w, &in);
    world_end(&w, orderly);
    return 0;
}
