/* The C gear with packets and events of the fuzzer's choice.
 *
 * The input is a row of steps: packets of clients, backends and mirrors near the numbers that would be right, raw
 * bytes, time, timers, legs and flows that come and go, memory that runs out, and callers whose flows the gear opens
 * and ends by itself. corpus.py writes the same steps.
 */
#include <string.h>

#include "callers.h"
#include "check.h"
#include "flaky.h"
#include "held.h"
#include "looking.h"
#include "must.h"
#include "sharing.h"
#include "turns.h"
#include "world.h"

enum {
    FROM_CLIENT,
    FROM_BACKEND,
    FROM_MIRROR,
    RAW,
    WAIT,
    DUE,
    SET_FLOW,
    SET_LEG,
    REOPEN,
    MEMORY,
    WRITE,
    CALL,
    FROM_CALLER,
    TO_CALLER,
    SET_CALLER,
    STRAY,
    SWEEP,
    SHARE,
    CHANGE_PLAN,
    DRAIN,
    LOOK,
    STEPS
};

/* how: the byte at which packets begin, after the step and its flow or leg */
#define HOW_CHECKSUM 3 /* 0 to 2: the value for nm_process(); 3: unverified, and wrong */
#define HOW_OPTIONS 4
#define HOW_NO_ACK 8
#define HOW_PUSH 16
#define HOW_ODD_FLAGS 32
#define HOW_ODD_SEQ 64
#define HOW_ODD_ACK 128

/* odd: the flags with HOW_ODD_FLAGS; without it, of a client's packet: */
#define ODD_BYTES 1 /* another version of its bytes */
#define ODD_AGAIN 2 /* it begins with the first held byte */

/* how: makes a raw packet one of ours */
#define RAW_SIDE 3 /* 1 to 3: a client's, a backend's, a mirror's */
#define RAW_RELATIVE 4
#define RAW_MENDED 8
#define RAW_CALLERS 16 /* the packet belongs to a caller's flow instead of the world's own */

#define FLOW_FIN 128 /* the client of a loose flow has sent a FIN */

#define SWEEP_HOW 31    /* the value for nm_gear_sweep() */
#define SWEEP_WHOLE 32  /* all slices, from the first to the last */

#define LOOK_SERVICES 7 /* so many services at most */
#define LOOK_WHOLE 8    /* at all flows, and then once more */

#define STRAY_MIRROR 32

#define DRAIN_KIND 3 /* 0 to 3: a client of the world's flows, a caller, a mirror, a backend */
#define DRAIN_REST 7
#define DRAIN_TO_KEPT 8 /* leave the kept tokens as well */
#define DRAIN_SWAMPED 32 /* and more packets wait from now on than the thread keeps up with */
#define DRAIN_REPLIES 16 /* of a flow the tokens for replies, which its backend has for the client */

#define SAME_WINDOW 1 /* stands for the mirror's last window */

static uint8_t packet[MAX_LEN], pattern[2 * MAX_LEN];

/* Return bytes that identify their own position in the stream. */
static const uint8_t *bytes_at(uint32_t seq)
{
    if (!pattern[1])
        for (uint32_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (uint8_t)(i % MAX_LEN * 2654435761u >> 24);
    return pattern + seq % MAX_LEN;
}

/* Lengths at the limits: nothing, a segment, a chunk, the largest packet. */
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

/* Process one packet, and do Python's part if it is punted. */
static void receive(world *w, size_t len, int hook, int checksum)
{
    if (process(w, packet, len, hook, checksum) >= NM_PUNT)
        take_punted(w, packet, len, hook, checksum);
}

/* Fill in flags and checksum, and send the packet. */
static void send_packet(world *w, input *in, headers *of, uint8_t how, uint8_t odd_flags, int hook)
{
    int checksum = how & HOW_CHECKSUM;
    of->flags |= (uint8_t)((how & HOW_NO_ACK ? 0 : ACK) | (how & HOW_PUSH ? PSH : 0));
    if (how & HOW_ODD_FLAGS)
        of->flags = odd_flags;
    of->options_len = how & HOW_OPTIONS ? take8(in) % 11 * 4 : 0;
    for (int i = 0; i < of->options_len; i++)
        of->options[i] = take8(in);
    of->payload = bytes_at(of->seq + (how & HOW_ODD_FLAGS ? 0 : odd_flags & ODD_BYTES));
    size_t len = build(packet, of, checksum);
    if (checksum == 3) {
        packet[36] ^= 1;
        checksum = UNVERIFIED;
    }
    receive(w, len, hook, checksum);
}

static void from_client(world *w, input *in)
{
    client_flow *flow = &w->flows[take8(in) % FLOWS];
    uint8_t how = take8(in), odd = take8(in);
    headers of = {.src = flow->client, .dst = flow->service, .window = take16(in)};
    of.payload_len = take_len(in, w->mss);
    of.seq = has_takers(flow->row) ? flow->row->orig.next : flow->row->orig.end;
    if (!(how & HOW_ODD_FLAGS) && odd & ODD_AGAIN)
        of.seq -= flow->row->held_len;
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
    if (flow->row->flags & NM_FLOW_HAS_READER && !(how & HOW_ODD_SEQ))
        of.seq = flow->row->reply.next;
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
    of.ack += leg->row->seq_offset;
    send_packet(w, in, &of, how, odd, PREROUTING);
}

/* Send a captured packet, made one of ours in as many respects as the input says. */
static void raw(world *w, input *in)
{
    static const int HOOKS[] = {PREROUTING, FORWARD, OUTPUT, 1};
    uint8_t which = take8(in), how = take8(in), context = take8(in);
    int hook = HOOKS[context & 3], checksum = (context >> 2) % 3;
    client_flow *flow = &w->flows[which % FLOWS];
    mirror_leg *leg = &w->legs[which % LEGS];
    uint32_t len = take16(in);
    if (len > in->left)
        len = (uint32_t)in->left;
    memcpy(packet, in->at, len);
    in->at += len;
    in->left -= len;
    const nm_flow *row = how & RAW_CALLERS ? callers_flow(w, which) : flow->row;
    size_t tcp = len ? packet[0] % 16 * 4u : 0;
    if (row && len >= tcp + 20 && tcp >= 20 && how & RAW_SIDE) {
        const uint8_t *src[] = {row->client, row->backend, leg->mirror.address};
        const uint8_t *dst[] = {row->service, row->client, leg->local.address};
        uint16_t sport[] = {row->client_port, row->backend_port, leg->mirror.port};
        uint16_t dport[] = {row->service_port, row->client_port, leg->local.port};
        int side = (how & RAW_SIDE) - 1;
        memcpy(packet + 12, src[side], 4);
        memcpy(packet + 16, dst[side], 4);
        set_u16(packet + tcp, sport[side]);
        set_u16(packet + tcp + 2, dport[side]);
        if (how & RAW_RELATIVE && (side < 2 || leg->row)) {
            uint32_t seqs[] = {has_takers(row) ? row->orig.next : row->orig.end, row->reply.end,
                               side < 2 ? 0 : leg->row->rcv_nxt};
            uint32_t acks[] = {row->reply.end, row->orig.end, side < 2 ? 0 : leg->row->snd_max + leg->row->seq_offset};
            set_u32(packet + tcp + 4, seqs[side]);
            set_u32(packet + tcp + 8, acks[side]);
        }
    }
    if (how & RAW_MENDED)
        mend(packet, len, checksum);
    receive(w, len, hook, checksum);
}

/* Send a caller's SYN, or with other flags another packet without a flow. */
static void call(world *w, input *in)
{
    uint8_t which = take8(in), how = take8(in), odd = take8(in);
    headers of = {.src = caller_end(which), .dst = service_end(&w->plan, which >> 4 & 3), .flags = SYN};
    if (which & 128)
        of.dst.port += 2; /* no service's port */
    of.seq = w->first + (how & HOW_ODD_SEQ ? take8(in) : 0);
    if (how & HOW_ODD_ACK)
        of.payload_len = take_len(in, w->mss);
    send_packet(w, in, &of, how | HOW_NO_ACK, odd, PREROUTING);
}

/* Send the next packet in a caller's flow: the client's, or the backend's, which begins with a SYN-ACK. */
static void within_callers_flow(world *w, input *in, int is_orig)
{
    const nm_flow *row = callers_flow(w, take8(in));
    uint8_t how = take8(in), odd = take8(in);
    headers of = {.window = take16(in)};
    of.payload_len = take_len(in, w->mss);
    if (!row)
        return;
    const nm_half *sender = is_orig ? &row->orig : &row->reply, *receiver = is_orig ? &row->reply : &row->orig;
    endpoint *client = is_orig ? &of.src : &of.dst, *other = is_orig ? &of.dst : &of.src;
    memcpy(client->address, row->client, 4);
    client->port = row->client_port;
    memcpy(other->address, is_orig ? row->service : row->backend, 4);
    other->port = is_orig ? row->service_port : row->backend_port;
    of.flags = !is_orig && row->state == NM_STATE_SYN_SENT ? SYN : 0;
    of.seq = sender->end + (how & HOW_ODD_SEQ ? (uint32_t)(int8_t)take8(in) : 0);
    of.ack = receiver->end;
    if (how & HOW_ODD_ACK) /* a backend may acknowledge a SYN's data */
        of.ack += is_orig ? (uint32_t)(int8_t)take8(in) : (uint32_t)(int16_t)take16(in);
    send_packet(w, in, &of, how, odd, is_orig ? PREROUTING : FORWARD);
}

/* Do what Python does to a caller's flow or its client without a packet. */
static void set_caller(world *w, input *in)
{
    uint8_t which = take8(in), how = take8(in);
    nm_flow *row = callers_flow(w, which);
    endpoint client = caller_end(which);
    if (how & 1)
        set_suspect(w, which >> 4 & 3, client.address, how >> 1 & 1);
    if (row && how & 4)
        row->flags |= NM_FLOW_PYTHON_STATE;
    if (row && how & 64)
        row->flags |= NM_FLOW_HOLDS;
    if (row && how & 8)
        remove_flow(w, row);
    check_world(w);
    if (how & 16)
        check_victim(w, how >> 5 & 1);
}

/* Send a backend's SYN-ACK, or with other flags another packet, to a caller that may have no flow with it; or a mirror's,
 * which has no leg. */
static void stray(world *w, input *in)
{
    uint8_t which = take8(in), whose = take8(in), how = take8(in), odd = take8(in);
    headers of = {.src = backend_end(&w->plan, whose % BACKENDS), .dst = caller_end(which), .flags = SYN};
    if (whose & 128)
        of.src.port++; /* no backend's port */
    int is_mirrors = whose & STRAY_MIRROR;
    if (is_mirrors)
        of.src = mirror_end(&w->plan, whose % MIRRORS);
    of.seq = ~w->first;
    of.ack = w->first + 1 + (how & HOW_ODD_SEQ ? take8(in) : 0);
    if (how & HOW_ODD_ACK)
        of.payload_len = take_len(in, w->mss);
    send_packet(w, in, &of, how, odd, is_mirrors ? PREROUTING : whose & 64 ? OUTPUT : FORWARD);
}

/* Sweep some slices, consecutive or anywhere. */
static void sweep_flows(world *w, input *in)
{
    uint8_t how = take8(in), first = take8(in), max = take8(in) % (MAX_FLOWS + 2);
    if (!(how & SWEEP_WHOLE)) {
        sweep(w, first % (MAX_FLOWS + 2), max, how & SWEEP_HOW);
        return;
    }
    for (uint32_t next = 0; next != NM_NO_FLOW;)
        next = sweep(w, next, max + 1u, how & SWEEP_HOW);
}

/* Look at some flows, or all of them. */
static void look_at_flows(world *w, input *in)
{
    uint8_t how = take8(in), first = take8(in), max = take8(in) % (MAX_FLOWS + 2);
    uint32_t count = (how & LOOK_SERVICES) % (SERVICES + 1);
    if (!(how & LOOK_WHOLE)) {
        look(w, first % (MAX_FLOWS + 2), max, count, 0);
        return;
    }
    for (int is_again = 0; is_again < 2; is_again++)
        must(look(w, 0, MAX_FLOWS, count, is_again) == NM_NO_FLOW);
}

/* Take another host's report of a flow, or report one to it. */
static void share(world *w, input *in)
{
    uint8_t what = take8(in), which = take8(in), how = take8(in);
    nm_flow *row = what & 128 ? w->flows[which % FLOWS].row : callers_flow(w, which);
    switch (what % 8) {
    case 0:
        adopt(w, which, how);
        break;
    case 1:
        log_changes(w, how % (MAX_FLOWS + 1), how < 192);
        break;
    case 2:
        if (row)
            release_flow(w, row);
        break;
    case 3:
        if (row)
            announce(w, row);
        break;
    case 4:
        if (row)
            discard(w, row);
        break;
    case 5:
        if (row)
            withdraw(w, row, how & 1);
        break;
    default:
        if (row)
            nm_flow_touch(w->gear->flows, row, w->now, how & 1);
        break;
    }
    check_world(w);
}

static void change_tables(world *w, input *in)
{
    int service = take8(in) % SERVICES;
    change_plan(w, service, take8(in));
}

static void set_flow(world *w, input *in)
{
    static const uint32_t CHANGING =
        NM_FLOW_THROTTLED | NM_FLOW_PAST_WINDOW | NM_FLOW_ORIG_GAP | NM_FLOW_REPLY_GAP | NM_FLOW_KILLED;
    int index = take8(in) % FLOWS;
    client_flow *flow = &w->flows[index];
    nm_flow *row = flow->row;
    uint8_t flags = take8(in), state = take8(in);
    uint32_t chosen = flags | (flags & 1 ? NM_FLOW_REPLY_GAP : 0) | ((flags & 14) == 14 ? NM_FLOW_KILLED : 0);
    if (index != DIRECT) /* a direct connection is neither copied nor reset */
        row->flags = (row->flags & ~CHANGING) | (chosen & CHANGING);
    flow->waiting = 0; /* the reassembler has lost it */
    row->shown = row->reply.ack + ((uint32_t)state << row->reply.scale);
    if (flags & FLOW_FIN && row->flags & NM_FLOW_LOOSE && row->orig.flags & NM_HALF_SEQ && !(row->orig.flags & NM_HALF_FIN)) {
        row->orig.end++;
        row->orig.flags |= NM_HALF_FIN;
    }
    row->state = state % 8 >= NM_STATES ? NM_STATE_ESTABLISHED : state % 8;
    nm_flow_touch(w->gear->flows, row, row->seen_at, 1);
    check_world(w);
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
    if (how & 8) /* as after losses */
        leg->row->ssthresh = 2 * leg->row->mss;
    if (how & 16) /* as after a long time without losses */
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

/* Leave a client's next packet to Python. */
static void write(world *w, input *in)
{
    const client_flow *flow = &w->flows[take8(in) % FLOWS];
    headers of = {.src = flow->client, .dst = flow->service, .flags = ACK, .payload_len = take_len(in, w->mss)};
    of.seq = flow->row->orig.next + flow->waiting;
    of.ack = flow->row->reply.end;
    of.payload = bytes_at(of.seq);
    take_punted(w, packet, build(packet, &of, VALID), PREROUTING, VALID);
}

/* Leave a peer hardly any turns. */
static void drain_peer(world *w, input *in)
{
    uint8_t which = take8(in), rest = take8(in), number = which >> 2;
    const mirror_leg *leg = &w->legs[number % LEGS];
    endpoint peers[] = {w->flows[number % FLOWS].client, caller_end(number), leg->mirror, backend_end(&w->plan, number % BACKENDS)};
    int kind = which & DRAIN_KIND;
    const uint8_t *more = NULL;
    if (kind == 0 && rest & DRAIN_REPLIES)
        more = OF_REPLIES;
    else if (kind == 2)
        more = leg->flow ? leg->flow->client.address : leg->local.address;
    w->gear->is_swamped = !!(rest & DRAIN_SWAMPED);
    drain(w, peers[kind].address, more, (rest & DRAIN_REST) + (rest & DRAIN_TO_KEPT ? KEPT : 0));
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
    case CALL:
        call(w, in);
        break;
    case FROM_CALLER:
        within_callers_flow(w, in, 1);
        break;
    case TO_CALLER:
        within_callers_flow(w, in, 0);
        break;
    case SET_CALLER:
        set_caller(w, in);
        break;
    case STRAY:
        stray(w, in);
        break;
    case SWEEP:
        sweep_flows(w, in);
        break;
    case SHARE:
        share(w, in);
        break;
    case CHANGE_PLAN:
        change_tables(w, in);
        break;
    case DRAIN:
        drain_peer(w, in);
        break;
    case LOOK:
        look_at_flows(w, in);
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
