/* The translation of packets; translation.h says what each function is for. */
#include "fastpath/translation.h"

#include <string.h>

int nm_has_mp_capable(const nm_segment *syn) { return (options_of(syn).mptcp & NM_MPTCP_CAPABLE) != 0; }

static void strip_mp_capable(uint8_t *tcp)
{
    uint8_t *options = tcp + TCP_MIN, old[NM_MAX_OPTIONS_LEN];
    size_t len = (size_t)(tcp[TCP_OFFSET_AT] >> 4) * 4 - TCP_MIN;
    memcpy(old, options, len);
    nm_strip_mp_capable(options, len);
    update_checksum(tcp + TCP_CHECKSUM_AT, old, options, len);
}

/* Rewrite more than addresses and ports; not inlined, so that it costs other packets nothing. */
__attribute__((noinline)) static void rewrite_more(const nm_translation *to, uint8_t *tcp)
{
    if (to->more & NM_STRIPS)
        strip_mp_capable(tcp);
    if (to->more & NM_NARROWS) {
        uint8_t *window = tcp + TCP_WINDOW_AT, old[2];
        memcpy(old, window, 2);
        put16(window, to->window);
        update_checksum(tcp + TCP_CHECKSUM_AT, old, window, 2);
    }
}

/* Adjust a checksum by the sum of all words that have gone, inverted, and of all that came (RFC 1624, equation 3). A
 * ones' complement sum does not depend on the order of bytes, if it is the same in all its words. */
static void adjust(uint8_t *checksum, uint64_t change)
{
    uint16_t sum;
    memcpy(&sum, checksum, 2);
    sum = (uint16_t)~fold(change + (uint16_t)~sum);
    memcpy(checksum, &sum, 2);
}

/* Compute a partial checksum in full: the kernel does not complete the checksum of a rewritten packet. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum)
{
    const nm_translation *to = &gear->translation;
    uint8_t *tcp = packet + to->tcp_at;
    uint8_t *address = packet + (to->is_destination ? IP_DESTINATION_AT : IP_SOURCE_AT);
    uint8_t *port = tcp + (to->is_destination ? TCP_DESTINATION_AT : TCP_SOURCE_AT);
    uint32_t old_address, new_address;
    uint16_t old_port, new_port;
    memcpy(&old_address, address, 4);
    memcpy(&new_address, to->address, 4);
    memcpy(&old_port, port, 2);
    memcpy(address, &new_address, 4);
    put16(port, to->port);
    memcpy(&new_port, port, 2);
    uint64_t change = (uint64_t)~old_address + new_address;
    adjust(packet + IP_CHECKSUM_AT, change);
    if (checksum != NM_CHECKSUM_PARTIAL) {
        adjust(tcp + TCP_CHECKSUM_AT, change + (uint16_t)~old_port + new_port);
    } else {
        put16(tcp + TCP_CHECKSUM_AT, 0);
        put16(tcp + TCP_CHECKSUM_AT, (uint16_t)~tcp_sum(packet, tcp, len - to->tcp_at));
    }
    if (to->more)
        rewrite_more(to, tcp);
}
