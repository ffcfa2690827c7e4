/* Packets: numbers in network order, sequence numbers, checksums, and one check of all lengths.
 *
 * Checksums: RFC 1071 for the full sum, RFC 1624 for its incremental update. For C files only; cffi does not see it.
 */
#ifndef NATMIRROR_FASTPATH_PACKET_H
#define NATMIRROR_FASTPATH_PACKET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fastpath/checksum_states.h"
#include "fastpath/options.h"

#define IP_MIN 20
#define TCP_MIN 20
#define PROTO_TCP 6
#define FRAGMENT 0x3fff /* more fragments, or an offset */

/* Offsets of fields: in the IP header, in the TCP header. */
#define IP_TTL_AT 8
#define IP_CHECKSUM_AT 10
#define IP_SOURCE_AT 12
#define IP_DESTINATION_AT 16
#define TCP_SOURCE_AT 0
#define TCP_DESTINATION_AT 2
#define TCP_OFFSET_AT 12
#define TCP_WINDOW_AT 14
#define TCP_CHECKSUM_AT 16
#define TCP_URGENT_AT 18

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

static inline size_t address_len(uint8_t family) { return family == 4 ? 4 : 16; }

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static inline void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

/* Return the distance from b to a; negative if a lies before b (RFC 9293 3.4). */
static inline int32_t diff(uint32_t a, uint32_t b) { return (int32_t)(a - b); }

static inline uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* A one's complement sum does not depend on the order of its words, nor on the place of a carry in a longer word. So
 * add four bytes at a time, in several sums in parallel (RFC 1071 2). */
#define SUM_STRIDE 32

typedef uint64_t sums __attribute__((vector_size(SUM_STRIDE / 2)));

static inline uint64_t sum_strides(const uint8_t *data, size_t len)
{
    sums even = {0}, odd = {0};
    for (; len >= SUM_STRIDE; data += SUM_STRIDE, len -= SUM_STRIDE) {
        sums words[2];
        memcpy(words, data, SUM_STRIDE);
        even += (words[0] & 0xffffffff) + (words[1] & 0xffffffff);
        odd += (words[0] >> 32) + (words[1] >> 32);
    }
    even += odd;
    return even[0] + even[1];
}

/* The result is in network order after folding and, on a little-endian machine, swapping. */
static inline uint64_t sum_words(const uint8_t *data, size_t len)
{
    size_t in_strides = len - len % SUM_STRIDE;
    uint64_t sum = in_strides ? sum_strides(data, in_strides) : 0;
    data += in_strides;
    len -= in_strides;
    for (; len >= 4; data += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        sum += word;
    }
    uint32_t rest = 0;
    memcpy(&rest, data, len);
    uint16_t folded = fold(sum + rest);
    uint8_t bytes[2];
    memcpy(bytes, &folded, 2);
    return get16(bytes);
}

/* A whole TCP segment inside an IPv4 packet. */
typedef struct nm_segment {
    uint8_t *ip;
    uint8_t *tcp;
    size_t tcp_len;
    uint32_t payload_len;
    uint32_t seq;
    uint32_t ack;
    uint16_t window;
    uint16_t sport;
    uint16_t dport;
    uint8_t flags;
    uint8_t options_len;
} nm_segment;

static inline const uint8_t *payload_of(const nm_segment *seg) { return seg->tcp + seg->tcp_len - seg->payload_len; }

static inline const uint8_t *source_of(const nm_segment *seg) { return seg->ip + IP_SOURCE_AT; }

static inline const uint8_t *destination_of(const nm_segment *seg) { return seg->ip + IP_DESTINATION_AT; }

/* Return whether the options are timestamps alone, as RFC 7323's appendix A lays them out: most segments have these or
 * none. */
static inline int are_timestamps_alone(const uint8_t *options, size_t len)
{
    return len == 12 && get32(options) == 0x0101080a;
}

static inline nm_options options_of(const nm_segment *seg)
{
    nm_options found;
    nm_read_options(seg->tcp + TCP_MIN, seg->options_len, &found);
    return found;
}

/* Return 0 if the packet is a fragment, padded, of another protocol, or if its lengths contradict each other. */
static inline int parse(uint8_t *packet, size_t len, nm_segment *seg)
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
    size_t data_at = (size_t)(seg->tcp[TCP_OFFSET_AT] >> 4) * 4;
    if (data_at < TCP_MIN || data_at > seg->tcp_len)
        return 0;
    seg->payload_len = (uint32_t)(seg->tcp_len - data_at);
    seg->sport = get16(seg->tcp);
    seg->dport = get16(seg->tcp + 2);
    seg->seq = get32(seg->tcp + 4);
    seg->ack = get32(seg->tcp + 8);
    seg->flags = seg->tcp[13];
    seg->window = get16(seg->tcp + 14);
    seg->options_len = (uint8_t)(data_at - TCP_MIN);
    return 1;
}

/* The sum over pseudo-header and segment, including the checksum field (RFC 9293 3.1). */
static inline uint16_t tcp_sum(const uint8_t *ip, const uint8_t *tcp, size_t tcp_len)
{
    return fold(sum_words(ip + IP_SOURCE_AT, 8) + PROTO_TCP + tcp_len + sum_words(tcp, tcp_len));
}

/* Return whether the segment is known to be damaged. */
static inline int has_bad_sum(const nm_segment *seg, int checksum)
{
    return checksum == NM_CHECKSUM_UNVERIFIED && tcp_sum(seg->ip, seg->tcp, seg->tcp_len) != 0xffff;
}

/* The checksum at `checksum` after the even number of bytes at `old` became those at `fresh` (RFC 1624, equation 3). */
static inline void update_checksum(uint8_t *checksum, const uint8_t *old, const uint8_t *fresh, size_t len)
{
    uint64_t sum = (uint16_t)~get16(checksum);
    for (size_t i = 0; i < len; i += 2)
        sum += (uint64_t)(uint16_t)~get16(old + i) + get16(fresh + i);
    put16(checksum, (uint16_t)~fold(sum));
}

#endif
