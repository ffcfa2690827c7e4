/* The C gear; _fastpath.h says what each function is for.
 *
 * Rows are preallocated and found through two chained hash indexes. The rules for numbers and checksums are those of
 * tcp.py and packet.py: tests hold the two against each other.
 */
#include "_fastpath.h"

#include <stdlib.h>
#include <string.h>

#define NONE 0xffffffffu

#define HOOK_PREROUTING 0
#define HOOK_FORWARD 2
#define HOOK_OUTPUT 3

#define CHECKSUM_UNVERIFIED 0
#define CHECKSUM_PARTIAL 2

#define IP_MIN 20
#define TCP_MIN 20
#define PROTO_TCP 6
#define FRAGMENT 0x3fff /* more fragments, or an offset */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct nm_table {
    nm_flow *rows;
    uint32_t *orig;  /* heads of chains, by the hash of client and service */
    uint32_t *reply; /* heads of chains, by the hash of backend and client */
    uint32_t *free;  /* a stack of row numbers */
    uint32_t max_flows;
    uint32_t free_count;
    uint32_t mask;
    uint8_t key[16];
    nm_counters counters;
};

/* What process() has to know of a TCP segment. */
typedef struct {
    uint8_t *ip;
    uint8_t *tcp;
    size_t tcp_len;
    uint32_t payload_len;
    uint32_t seq;
    uint32_t ack;
    uint16_t window;
    uint8_t flags;
} segment;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* SipHash */

static uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static uint64_t little64(const uint8_t *at, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t nm_siphash(const uint8_t *key, const uint8_t *data, size_t len)
{
    uint64_t k0 = little64(key, 8), k1 = little64(key + 8, 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    size_t at = 0;
    for (;; at += 8) {
        size_t left = len - at;
        uint64_t word = left >= 8 ? little64(data + at, 8) : little64(data + at, left) | (uint64_t)(len & 0xff) << 56;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The flow table */

static size_t address_len(uint8_t family) { return family == 4 ? 4 : 16; }

static uint32_t bucket(const nm_table *table, const uint8_t *src, uint16_t sport, const uint8_t *dst, uint16_t dport,
                       size_t address)
{
    uint8_t tuple[36];
    memcpy(tuple, src, address);
    memcpy(tuple + address, dst, address);
    put16(tuple + 2 * address, sport);
    put16(tuple + 2 * address + 2, dport);
    return (uint32_t)nm_siphash(table->key, tuple, 2 * address + 4) & table->mask;
}

static void free_parts(nm_table *table)
{
    free(table->rows);
    free(table->orig);
    free(table->reply);
    free(table->free);
    free(table);
}

nm_table *nm_new(uint32_t max_flows, const uint8_t *key)
{
    nm_table *table = calloc(1, sizeof *table);
    uint32_t buckets = 1;
    if (!table)
        return NULL;
    while (buckets < max_flows && buckets < 1u << 30)
        buckets <<= 1;
    table->rows = calloc(max_flows, sizeof *table->rows);
    table->orig = malloc(buckets * sizeof *table->orig);
    table->reply = malloc(buckets * sizeof *table->reply);
    table->free = malloc(max_flows * sizeof *table->free);
    if (!table->rows || !table->orig || !table->reply || !table->free) {
        free_parts(table);
        return NULL;
    }
    memset(table->orig, 0xff, buckets * sizeof *table->orig);
    memset(table->reply, 0xff, buckets * sizeof *table->reply);
    for (uint32_t i = 0; i < max_flows; i++)
        table->free[i] = max_flows - 1 - i;
    table->max_flows = table->free_count = max_flows;
    table->mask = buckets - 1;
    memcpy(table->key, key, sizeof table->key);
    return table;
}

void nm_free(nm_table *table)
{
    if (table)
        free_parts(table);
}

uint32_t nm_flow_count(const nm_table *table) { return table->max_flows - table->free_count; }

nm_counters *nm_table_counters(nm_table *table) { return &table->counters; }

nm_flow *nm_find_orig(nm_table *table, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                      uint16_t dport)
{
    size_t address = address_len(family);
    uint32_t at = table->orig[bucket(table, src, sport, dst, dport, address)];
    for (; at != NONE; at = table->rows[at].next_orig) {
        nm_flow *flow = &table->rows[at];
        if (flow->client_port == sport && flow->service_port == dport && flow->family == family &&
            !memcmp(flow->client, src, address) && !memcmp(flow->service, dst, address))
            return flow;
    }
    return NULL;
}

nm_flow *nm_find_reply(nm_table *table, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                       uint16_t dport)
{
    size_t address = address_len(family);
    uint32_t at = table->reply[bucket(table, src, sport, dst, dport, address)];
    for (; at != NONE; at = table->rows[at].next_reply) {
        nm_flow *flow = &table->rows[at];
        if (flow->backend_port == sport && flow->client_port == dport && flow->family == family &&
            !memcmp(flow->backend, src, address) && !memcmp(flow->client, dst, address))
            return flow;
    }
    return NULL;
}

nm_flow *nm_insert(nm_table *table, uint8_t family, const uint8_t *client, uint16_t client_port,
                   const uint8_t *service, uint16_t service_port, const uint8_t *backend, uint16_t backend_port)
{
    size_t address = address_len(family);
    if (!table->free_count || nm_find_orig(table, family, client, client_port, service, service_port) ||
        nm_find_reply(table, family, backend, backend_port, client, client_port))
        return NULL;
    uint32_t id = table->free[--table->free_count];
    uint32_t *orig = &table->orig[bucket(table, client, client_port, service, service_port, address)];
    uint32_t *reply = &table->reply[bucket(table, backend, backend_port, client, client_port, address)];
    nm_flow *flow = &table->rows[id];
    memset(flow, 0, sizeof *flow);
    flow->id = id;
    flow->family = family;
    memcpy(flow->client, client, address);
    memcpy(flow->service, service, address);
    memcpy(flow->backend, backend, address);
    flow->client_port = client_port;
    flow->service_port = service_port;
    flow->backend_port = backend_port;
    flow->next_orig = *orig;
    flow->next_reply = *reply;
    *orig = *reply = id;
    return flow;
}

void nm_remove(nm_table *table, nm_flow *flow)
{
    size_t address = address_len(flow->family);
    uint32_t *link = &table->orig[bucket(table, flow->client, flow->client_port, flow->service, flow->service_port,
                                         address)];
    while (*link != flow->id)
        link = &table->rows[*link].next_orig;
    *link = flow->next_orig;
    link = &table->reply[bucket(table, flow->backend, flow->backend_port, flow->client, flow->client_port, address)];
    while (*link != flow->id)
        link = &table->rows[*link].next_reply;
    *link = flow->next_reply;
    table->free[table->free_count++] = flow->id;
}

/* Checksums (RFC 1071, RFC 1624) */

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint64_t sum_words(const uint8_t *data, size_t len)
{
    uint64_t sum = 0;
    for (; len >= 2; data += 2, len -= 2)
        sum += get16(data);
    return len ? sum + ((uint64_t)data[0] << 8) : sum;
}

/* The sum over pseudo-header and segment, the checksum field as it stands (RFC 9293 3.1). */
static uint16_t tcp_sum(const segment *seg)
{
    return fold(sum_words(seg->ip + 12, 8) + PROTO_TCP + seg->tcp_len + sum_words(seg->tcp, seg->tcp_len));
}

/* The checksum at `checksum` after the even number of bytes at `old` became those at `fresh` (RFC 1624, equation 3). */
static void update_checksum(uint8_t *checksum, const uint8_t *old, const uint8_t *fresh, size_t len)
{
    uint64_t sum = (uint16_t)~get16(checksum);
    for (size_t i = 0; i < len; i += 2)
        sum += (uint64_t)(uint16_t)~get16(old + i) + get16(fresh + i);
    put16(checksum, (uint16_t)~fold(sum));
}

/* The address and port that lie at these places become others; a sum left to hardware is not touched here. */
static void replace(segment *seg, size_t address_at, size_t port_at, const uint8_t *address, uint16_t port, int partial)
{
    uint8_t old[6], fresh[6];
    memcpy(old, seg->ip + address_at, 4);
    memcpy(old + 4, seg->tcp + port_at, 2);
    memcpy(fresh, address, 4);
    put16(fresh + 4, port);
    memcpy(seg->ip + address_at, fresh, 4);
    memcpy(seg->tcp + port_at, fresh + 4, 2);
    update_checksum(seg->ip + 10, old, fresh, 4);
    if (!partial)
        update_checksum(seg->tcp + 16, old, fresh, 6);
}

static void complete_checksum(segment *seg)
{
    put16(seg->tcp + 16, 0);
    put16(seg->tcp + 16, (uint16_t)~tcp_sum(seg));
}

/* Packets */

/* An IPv4 packet with a whole TCP segment that is neither fragment nor padded; 0 otherwise. */
static int parse(uint8_t *packet, size_t len, segment *seg)
{
    if (len < IP_MIN || packet[0] >> 4 != 4)
        return 0;
    size_t ip_len = (size_t)(packet[0] & 15) * 4;
    if (ip_len < IP_MIN || get16(packet + 2) != len || ip_len + TCP_MIN > len || get16(packet + 6) & FRAGMENT ||
        packet[9] != PROTO_TCP)
        return 0;
    seg->ip = packet;
    seg->tcp = packet + ip_len;
    seg->tcp_len = len - ip_len;
    size_t data_at = (size_t)(seg->tcp[12] >> 4) * 4;
    if (data_at < TCP_MIN || data_at > seg->tcp_len)
        return 0;
    seg->payload_len = (uint32_t)(seg->tcp_len - data_at);
    seg->seq = get32(seg->tcp + 4);
    seg->ack = get32(seg->tcp + 8);
    seg->flags = seg->tcp[13];
    seg->window = get16(seg->tcp + 14);
    return 1;
}

static int32_t diff(uint32_t a, uint32_t b) { return (int32_t)(a - b); }

/* tcp.update() for segments without SYN and FIN. */
static void update(nm_half *sender, const nm_half *receiver, const segment *seg, int loose)
{
    uint32_t end = seg->seq + seg->payload_len;
    sender->packets++;
    if (!(seg->flags & TCP_ACK) ||
        !(loose || !(receiver->flags & NM_HALF_SEQ) || diff(seg->ack, receiver->end) <= 0))
        return;
    if (!(sender->flags & NM_HALF_SEQ)) {
        sender->end = end;
        sender->bytes += seg->payload_len;
        sender->flags |= NM_HALF_SEQ;
    } else if (loose || !(receiver->flags & NM_HALF_ACK) || diff(seg->seq, receiver->edge) <= 0) {
        int32_t advance = diff(end, sender->end);
        if (advance > 0 && !(sender->flags & NM_HALF_FIN)) {
            sender->end = end;
            sender->bytes += (uint32_t)advance;
            sender->flags = (uint8_t)(seg->payload_len ? sender->flags & ~NM_HALF_TOLD : sender->flags | NM_HALF_TOLD);
        }
    }
    uint32_t edge = seg->ack + ((uint32_t)seg->window << (sender->scale & 31));
    if (!(sender->flags & NM_HALF_ACK)) {
        sender->ack = seg->ack;
        sender->edge = edge;
        sender->flags |= NM_HALF_ACK;
        return;
    }
    if (diff(sender->ack, seg->ack) < 0)
        sender->ack = seg->ack;
    if (diff(sender->edge, edge) < 0)
        sender->edge = edge;
}

int nm_process(nm_table *table, uint8_t *packet, size_t len, int hook, int checksum, double now)
{
    segment seg;
    if (!parse(packet, len, &seg) || seg.flags & (TCP_SYN | TCP_FIN | TCP_RST))
        return NM_PUNT;
    uint16_t sport = get16(seg.tcp), dport = get16(seg.tcp + 2);
    int is_orig = hook == HOOK_PREROUTING;
    nm_flow *flow = is_orig ? nm_find_orig(table, 4, packet + 12, sport, packet + 16, dport)
                            : nm_find_reply(table, 4, packet + 12, sport, packet + 16, dport);
    if (!flow || flow->state != NM_ESTABLISHED || (is_orig && flow->flags & NM_MIRRORED && seg.payload_len) ||
        (!is_orig && flow->flags & (NM_HELD | NM_WAITING)))
        return NM_PUNT;
    if (hook != HOOK_PREROUTING && hook != HOOK_FORWARD && !(hook == HOOK_OUTPUT && flow->flags & NM_WATCHED))
        return NM_PUNT;
    if (flow->flags & NM_DIRECT) {
        if (is_orig)
            return NM_PUNT;
        flow->seen_at = now;
        flow->reply.packets++;
        table->counters.fast_packets++;
        return NM_ACCEPT;
    }
    nm_half *sender = is_orig ? &flow->orig : &flow->reply;
    const nm_half *receiver = is_orig ? &flow->reply : &flow->orig;
    table->counters.fast_packets++;
    if (checksum == CHECKSUM_UNVERIFIED && tcp_sum(&seg) != 0xffff) {
        table->counters.bad_checksums++;
    } else {
        update(sender, receiver, &seg, flow->flags & NM_LOOSE);
        flow->seen_at = now;
    }
    if (flow->flags & NM_WATCHED)
        return NM_ACCEPT;
    if (is_orig)
        replace(&seg, 16, 2, flow->backend, flow->backend_port, checksum == CHECKSUM_PARTIAL);
    else
        replace(&seg, 12, 0, flow->service, flow->service_port, checksum == CHECKSUM_PARTIAL);
    if (checksum == CHECKSUM_PARTIAL)
        complete_checksum(&seg);
    return NM_MODIFIED;
}
