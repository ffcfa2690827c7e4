/* Packets for the targets, and a second opinion on those that come out: nothing of natmirror's own is used here, so
 * that a fault of its checksums or its lengths cannot hide itself. */
#ifndef FUZZ_PACKETS_H
#define FUZZ_PACKETS_H

#include <stddef.h>
#include <stdint.h>

#define HEADERS_LEN 40
#define MAX_LEN 0xffff
#define MAX_OPTIONS_LEN 40

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define URG 0x20

#define MP_CAPABLE 1u /* of mptcp_subtypes() */

#define PREROUTING 0 /* the hook of received packets */
#define FORWARD 2
#define OUTPUT 3

#define UNVERIFIED 0
#define VALID 1
#define PARTIAL 2

typedef struct {
    uint8_t address[4];
    uint16_t port;
} endpoint;

typedef struct {
    endpoint src, dst;
    uint32_t seq, ack;
    uint16_t window;
    uint8_t flags;
    uint8_t options_len; /* a multiple of four */
    uint8_t options[MAX_OPTIONS_LEN];
    const uint8_t *payload;
    size_t payload_len;
} headers;

uint16_t u16_at(const uint8_t *at);
uint32_t u32_at(const uint8_t *at);
void set_u16(uint8_t *at, uint16_t value);
void set_u32(uint8_t *at, uint32_t value);

/* Return the folded one's complement sum, the checksum field included: 0xffff if it is right. */
uint16_t ip_sum(const uint8_t *packet, size_t header_len);
uint16_t tcp_sum_of(const uint8_t *packet, size_t len, size_t header_len);
uint16_t pseudo_sum_of(const uint8_t *packet, size_t len, size_t header_len);

/* Write a packet to out, which has MAX_LEN bytes, and return its length. PARTIAL leaves the TCP checksum to
 * hardware. */
size_t build(uint8_t *out, const headers *of, int checksum);

/* Correct both lengths and checksums, as far as the packet is long enough to have them. */
void mend(uint8_t *packet, size_t len, int checksum);

/* Return the offset of the payload of a TCP packet with right lengths; 0 if it is none. */
size_t payload_at(const uint8_t *packet, size_t len);

/* Return the subtypes of a whole TCP packet's MPTCP options, each as 1 << subtype. */
uint32_t mptcp_subtypes(const uint8_t *packet);
/* Return whether a whole TCP packet has a timestamps option, and its TSval. */
int timestamp_of(const uint8_t *packet, uint32_t *value);
/* Overwrite a whole TCP packet's MP_CAPABLE options by NOPs. */
void strip_mp_capable(uint8_t *packet);

#endif
