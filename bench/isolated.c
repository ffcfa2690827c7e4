/* Measures the time that the C code takes for a packet, without kernel, queue or Python: nanoseconds, the median of
many
 * passes.
 *
 *   isolated
 *
 * Prints one line of JSON: a name for each measure, and its nanoseconds. The yardstick is one keyed hash; ratios to it
 * can be compared between machines, and between times on one machine.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_fastpath.h"
#include "fastpath/flow_lifecycle.h"
#include "fastpath/hash.h"
#include "fastpath/packet.h"

enum { PASSES = 9, MANY = 100000, FEW = 10, SMALL = 64, LARGE = 65000, PORT = 6653, PREROUTING = 0, FORWARD = 2 };
enum { UNVERIFIED, VALID, PARTIAL };

static const uint8_t SERVICE[16] = {10, 10, 0, 100}, BACKEND[16] = {10, 20, 0, 11}, MIRROR[16] = {10, 20, 0, 13};
static const uint8_t KEY[16] = {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};

typedef struct {
    nm_budget budget;
    nm_service service;
    nm_backend backend;
    nm_network network;
    uint16_t table[1];
    nm_gear *gear;
    uint32_t flow_count, order[MANY]; /* flows in random order, so that no cache predicts the next one */
    uint32_t numbers[MANY];           /* each client's next sequence number */
} bench;

static bench b;
static uint8_t packet[LARGE + 40];
static volatile uint64_t sink;

static uint64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void client(uint32_t number, uint8_t *address, uint16_t *port)
{
    memset(address, 0, 16);
    address[0] = 10;
    address[1] = 11;
    address[2] = (uint8_t)(number >> 8 & 0x7f);
    address[3] = (uint8_t)number;
    *port = (uint16_t)(1024 + (number >> 15));
}

/* Write a segment into `packet`; return its length. Its checksum is wrong, but the measures declare it as right. */
static size_t write_packet(const uint8_t *src, uint16_t sport, const uint8_t *dst, uint16_t dport, uint8_t flags,
                           uint32_t seq, uint32_t ack, size_t payload_len)
{
    size_t len = 40 + payload_len;
    memset(packet, 0, 40);
    packet[0] = 0x45;
    put16(packet + 2, (uint16_t)len);
    packet[8] = 64;
    packet[9] = PROTO_TCP;
    memcpy(packet + 12, src, 4);
    memcpy(packet + 16, dst, 4);
    put16(packet + 20, sport);
    put16(packet + 22, dport);
    put32(packet + 24, seq);
    put32(packet + 28, ack);
    packet[32] = 0x50;
    packet[33] = flags;
    put16(packet + 34, 0xffff);
    nm_segment seg;
    if (!parse(packet, len, &seg))
        abort();
    return len;
}

static void begin(uint32_t flows)
{
    b.budget.limit = 1 << 30;
    b.service = (nm_service){.port = PORT, .family = 4, .table_len = 1, .table = b.table};
    memcpy(b.service.address, SERVICE, 16);
    b.backend = (nm_backend){.port = PORT};
    memcpy(b.backend.address, BACKEND, 16);
    b.network = (nm_network){.address = 10u << 24, .mask = 0xff000000u};
    b.gear = nm_gear_new(2 * MANY, &b.budget, KEY);
    if (!b.gear)
        abort();
    b.gear->plan.services = &b.service;
    b.gear->plan.backends = &b.backend;
    b.gear->plan.networks = &b.network;
    b.gear->plan.service_count = b.gear->plan.network_count = 1;
    b.flow_count = flows;
    for (uint32_t i = 0; i < flows; i++) {
        uint8_t address[16];
        uint16_t port;
        client(i, address, &port);
        nm_flow *flow = nm_gear_insert(b.gear, 4, address, port, 0, 0, 0);
        if (!flow)
            abort();
        flow->state = NM_STATE_ESTABLISHED;
        flow->flags |= NM_FLOW_PICKED_UP;
        flow->orig.scale = flow->reply.scale = 14;
        nm_flow_touch(b.gear->flows, flow, 1.0, 1);
        b.order[i] = i;
        b.numbers[i] = 1;
    }
    srand(1);
    for (uint32_t i = flows; i > 1; i--) {
        uint32_t other = (uint32_t)rand() % i, kept = b.order[i - 1];
        b.order[i - 1] = b.order[other];
        b.order[other] = kept;
    }
}

static void end(void) { nm_gear_free(b.gear); }

/* Measures: each does one thing for the n-th packet. */

static void hash(uint32_t n)
{
    uint8_t tuple[12] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16)};
    sink += nm_siphash(KEY, tuple, sizeof tuple);
}

static void parse_it(uint32_t n)
{
    nm_segment seg = {0};
    packet[39] = (uint8_t)n;
    sink += (uint64_t)parse(packet, SMALL, &seg) + seg.seq;
}

static void look_up(uint32_t n)
{
    uint8_t address[16];
    uint16_t port;
    client(b.order[n % b.flow_count], address, &port);
    const nm_flow *flow = nm_flow_find_orig(b.gear->flows, 4, address, port, SERVICE, PORT);
    if (!flow)
        abort();
    sink += flow->id;
}

static size_t template_len;
static int template_hook, template_checksum;

/* Process a packet of the next flow in turn, with its client's address in the template. */
static void process(uint32_t n)
{
    uint8_t address[16];
    uint16_t port;
    client(b.order[n % b.flow_count], address, &port);
    int is_orig = template_hook == PREROUTING;
    memcpy(packet + (is_orig ? 12 : 16), address, 4);
    memcpy(packet + (is_orig ? 16 : 12), is_orig ? SERVICE : BACKEND, 4);
    put16(packet + (is_orig ? 20 : 22), port);
    if (nm_process(b.gear, packet, template_len, template_hook, template_checksum, 2.0) != NM_MODIFIED)
        abort();
}

/* A SYN opens a flow, which is removed again. */
static void open_one(uint32_t n)
{
    uint8_t address[16] = {10, 12, (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(packet + 12, address, 4);
    memcpy(packet + 16, SERVICE, 4);
    if (nm_process(b.gear, packet, 40, PREROUTING, VALID, 2.0) != NM_MODIFIED)
        abort();
    nm_gear_remove(b.gear, nm_flow_find_orig(b.gear->flows, 4, address, get16(packet + 20), SERVICE, PORT));
}

/* A client's message to the backend and a leg, and the mirror's acknowledgement of it. */
static void mirror_one(uint32_t n)
{
    uint8_t address[16];
    uint16_t port;
    uint32_t place = b.order[n % b.flow_count];
    client(place, address, &port);
    uint32_t seq = b.numbers[place];
    b.numbers[place] += SMALL - 40;
    size_t len = write_packet(address, port, SERVICE, PORT, TCP_ACK | TCP_PSH, seq, 1, SMALL - 40);
    if (nm_process(b.gear, packet, len, PREROUTING, VALID, 2.0) != NM_MODIFIED)
        abort();
    len = write_packet(MIRROR, PORT, address, port, TCP_ACK, 1, b.numbers[place], 0);
    if (nm_process(b.gear, packet, len, PREROUTING, VALID, 2.0) != NM_CONSUMED)
        abort();
    nm_out_clear(&b.gear->out);
}

static void add_legs(void)
{
    for (uint32_t i = 0; i < b.flow_count; i++) {
        uint8_t address[16];
        uint16_t port;
        client(i, address, &port);
        nm_flow *flow = nm_flow_find_orig(b.gear->flows, 4, address, port, SERVICE, PORT);
        nm_leg *leg = nm_leg_insert(b.gear->legs, 4, MIRROR, PORT, address, port);
        if (!leg)
            abort();
        flow->flags |= NM_FLOW_FEEDS_LEGS | NM_FLOW_SERVICE_MIRRORED;
        flow->first_leg = leg->id;
        flow->orig.next = 1;
        flow->orig.flags = flow->reply.flags = NM_HALF_SEQ | NM_HALF_ACK;
        flow->orig.end = flow->reply.ack = flow->reply.end = flow->orig.ack = 1;
        flow->reply.edge = 1u << 30;
        leg->next_of_flow = NM_NO_LEG;
        leg->flags = NM_LEG_STEADY;
        leg->snd_una = leg->snd_nxt = leg->snd_max = leg->buffer_seq = leg->rcv_nxt = 1;
        leg->scale = 7;
        leg->window = leg->max_window = 1 << 20;
        leg->max_buffer = 1 << 24;
        leg->mss = 1460;
        leg->cwnd = 14600;
        leg->ssthresh = 1 << 30;
        leg->rto = 1.0;
        leg->stall_timeout = 120.0;
        leg->idle_timeout = leg->rto_at = 1e9;
    }
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, c = *(const double *)other;
    return (a > c) - (a < c);
}

static void measure(const char *name, void (*once)(uint32_t), uint32_t count)
{
    double each[PASSES];
    static int measured;
    for (uint32_t n = 0; n < count; n++)
        once(n);
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t start = nanoseconds();
        for (uint32_t n = 0; n < count; n++)
            once(n);
        each[pass] = (double)(nanoseconds() - start) / count;
    }
    qsort(each, PASSES, sizeof *each, compare);
    printf("%s\"%s\": %.1f", measured++ ? ", " : "{", name, each[PASSES / 2]);
}

static void measure_process(const char *name, int hook, int checksum, size_t len, uint32_t count)
{
    int is_orig = hook == PREROUTING;
    template_hook = hook;
    template_checksum = checksum;
    template_len = write_packet(is_orig ? SERVICE : BACKEND, PORT, is_orig ? SERVICE : BACKEND, PORT, TCP_ACK, 1, 1,
                                len - 40);
    measure(name, process, count);
}

int main(void)
{
    static const uint8_t client_address[16] = {10, 12};
    begin(FEW);
    write_packet(client_address, 1, SERVICE, PORT, TCP_ACK, 1, 1, SMALL - 40);
    measure("hash", hash, MANY);
    measure("parse", parse_it, MANY);
    measure("lookup_10", look_up, MANY);
    measure_process("request_10", PREROUTING, VALID, SMALL, MANY);
    measure_process("reply_10", FORWARD, VALID, SMALL, MANY);
    measure_process("full_sum_64k", PREROUTING, PARTIAL, LARGE, 1000);
    write_packet(client_address, 1, SERVICE, PORT, TCP_SYN, 1, 0, 0);
    measure("open", open_one, MANY);
    add_legs();
    measure("mirrored_10", mirror_one, MANY);
    end();
    begin(MANY);
    measure("lookup_100k", look_up, MANY);
    measure_process("request_100k", PREROUTING, VALID, SMALL, MANY);
    add_legs();
    measure("mirrored_100k", mirror_one, MANY);
    end();
    puts("}");
    return 0;
}
