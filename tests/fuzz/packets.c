/* Packets for the targets; packets.h says what each function is for. */
#include "packets.h"

#include <string.h>

#define IP_LEN 20
#define TCP_LEN 20
#define TCP 6
#define FRAGMENT 0x3fff
#define TIMESTAMPS 8

uint16_t u16_at(const uint8_t *at) { return (uint16_t)(at[0] * 256 + at[1]); }

uint32_t u32_at(const uint8_t *at) { return u16_at(at) * 65536u + u16_at(at + 2); }

void set_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value / 256);
    at[1] = (uint8_t)(value % 256);
}

void set_u32(uint8_t *at, uint32_t value)
{
    set_u16(at, (uint16_t)(value / 65536));
    set_u16(at + 2, (uint16_t)(value % 65536));
}

/* RFC 1071, word by word; data that is followed by more has an even length. */
static uint32_t add(uint32_t before, const uint8_t *data, size_t len)
{
    uint64_t sum = before;
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += u16_at(data + i);
    if (len % 2)
        sum += data[len - 1] * 256u;
    while (sum > 0xffff)
        sum = sum % 65536 + sum / 65536;
    return (uint32_t)sum;
}

uint16_t ip_sum(const uint8_t *packet, size_t header_len) { return (uint16_t)add(0, packet, header_len); }

uint16_t pseudo_sum_of(const uint8_t *packet, size_t len, size_t header_len)
{
    uint8_t tail[4] = {0, TCP};
    set_u16(tail + 2, (uint16_t)(len - header_len));
    return (uint16_t)add(add(0, packet + 12, 8), tail, sizeof tail);
}

uint16_t tcp_sum_of(const uint8_t *packet, size_t len, size_t header_len)
{
    return (uint16_t)add(pseudo_sum_of(packet, len, header_len), packet + header_len, len - header_len);
}

size_t build(uint8_t *out, const headers *of, int checksum)
{
    size_t data_at = IP_LEN + TCP_LEN + of->options_len;
    size_t room = MAX_LEN - data_at, payload_len = of->payload_len < room ? of->payload_len : room;
    uint8_t *tcp = out + IP_LEN;
    memset(out, 0, data_at);
    out[0] = 0x45;
    out[8] = 64;
    out[9] = TCP;
    memcpy(out + 12, of->src.address, 4);
    memcpy(out + 16, of->dst.address, 4);
    set_u16(tcp, of->src.port);
    set_u16(tcp + 2, of->dst.port);
    set_u32(tcp + 4, of->seq);
    set_u32(tcp + 8, of->ack);
    tcp[12] = (uint8_t)((TCP_LEN + of->options_len) / 4 * 16);
    tcp[13] = of->flags;
    set_u16(tcp + 14, of->window);
    memcpy(tcp + TCP_LEN, of->options, of->options_len);
    if (payload_len)
        memcpy(out + data_at, of->payload, payload_len);
    mend(out, data_at + payload_len, checksum);
    return data_at + payload_len;
}

void mend(uint8_t *packet, size_t len, int checksum)
{
    if (len < IP_LEN || len > MAX_LEN)
        return;
    size_t header_len = packet[0] % 16 * 4u;
    if (header_len < IP_LEN || header_len > len)
        return;
    set_u16(packet + 2, (uint16_t)len);
    set_u16(packet + 10, 0);
    set_u16(packet + 10, (uint16_t)~ip_sum(packet, header_len));
    if (len < header_len + TCP_LEN)
        return;
    uint8_t *field = packet + header_len + 16;
    set_u16(field, 0);
    set_u16(field, checksum == PARTIAL ? pseudo_sum_of(packet, len, header_len)
                                       : (uint16_t)~tcp_sum_of(packet, len, header_len));
}

size_t payload_at(const uint8_t *packet, size_t len)
{
    if (len < IP_LEN + TCP_LEN || packet[0] / 16 != 4 || packet[9] != TCP || u16_at(packet + 6) & FRAGMENT)
        return 0;
    size_t header_len = packet[0] % 16 * 4u;
    if (header_len < IP_LEN || header_len + TCP_LEN > len || u16_at(packet + 2) != len)
        return 0;
    size_t data_at = header_len + packet[header_len + 12] / 16 * 4u;
    return data_at < header_len + TCP_LEN || data_at > len ? 0 : data_at;
}

/* Return the length of a TCP option, a NOP included; 0 at the end of the options, and if it is malformed. */
static int option_len(const uint8_t *at, const uint8_t *end)
{
    int len = at >= end || !*at ? 0 : *at == 1 ? 1 : at + 1 < end && at[1] > 1 ? at[1] : 0;
    return len > end - at ? 0 : len;
}

static uint32_t mptcp_subtype(const uint8_t *at, int len)
{
    return *at != 30 ? 0 : len > 2 ? 1u << at[2] / 16 : 1u << 16;
}

uint32_t mptcp_subtypes(const uint8_t *packet)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u, *end = tcp + tcp[12] / 16 * 4;
    uint32_t subtypes = 0;
    int len;
    for (const uint8_t *at = tcp + TCP_LEN; (len = option_len(at, end)); at += len)
        subtypes |= mptcp_subtype(at, len);
    return subtypes;
}

int timestamp_of(const uint8_t *packet, uint32_t *value)
{
    const uint8_t *tcp = packet + packet[0] % 16 * 4u, *end = tcp + tcp[12] / 16 * 4;
    int len, is_there = 0;
    for (const uint8_t *at = tcp + TCP_LEN; (len = option_len(at, end)); at += len)
        if (*at == TIMESTAMPS && len == 10) {
            *value = u32_at(at + 2);
            is_there = 1;
        }
    return is_there;
}

void strip_mp_capable(uint8_t *packet)
{
    uint8_t *tcp = packet + packet[0] % 16 * 4u, *end = tcp + tcp[12] / 16 * 4;
    int len;
    for (uint8_t *at = tcp + TCP_LEN; (len = option_len(at, end)); at += len)
        if (mptcp_subtype(at, len) == MP_CAPABLE)
            memset(at, 1, (size_t)len);
}
