/* The translation of packets; translation.h says what each function is for. */
#include "fastpath/translation.h"

#include <string.h>

int nm_has_mp_capable(const nm_segment *syn) { return (options_of(syn).mptcp & NM_MPTCP_CAPABLE) != 0; }

/* Rare: not inlined, so that it costs other packets nothing. */
__attribute__((noinline)) static void strip_mp_capable(uint8_t *tcp)
{
    uint8_t *options = tcp + TCP_MIN, old[NM_MAX_OPTIONS_LEN];
    size_t len = (size_t)(tcp[TCP_OFFSET_AT] >> 4) * 4 - TCP_MIN;
    memcpy(old, options, len);
    nm_strip_mp_capable(options, len);
    update_checksum(tcp + TCP_CHECKSUM_AT, old, options, len);
}

/* Compute a partial checksum in full: the kernel does not complete the checksum of a rewritten packet. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum)
{
    const nm_translation *to = &gear->translation;
    uint8_t *tcp = packet + to->tcp_at;
    uint8_t *address = packet + (to->is_destination ? IP_DESTINATION_AT : IP_SOURCE_AT);
    uint8_t *port = tcp + (to->is_destination ? TCP_DESTINATION_AT : TCP_SOURCE_AT);
    uint8_t old[6], fresh[6];
    memcpy(old, address, 4);
    memcpy(old + 4, port, 2);
    memcpy(fresh, to->address, 4);
    put16(fresh + 4, to->port);
    memcpy(address, fresh, 4);
    memcpy(port, fresh + 4, 2);
    update_checksum(packet + IP_CHECKSUM_AT, old, fresh, 4);
    if (to->window >= 0) {
        uint8_t *window = tcp + TCP_WINDOW_AT, was[2];
        memcpy(was, window, 2);
        put16(window, (uint16_t)to->window);
        update_checksum(tcp + TCP_CHECKSUM_AT, was, window, 2);
    }
    if (checksum != NM_CHECKSUM_PARTIAL) {
        update_checksum(tcp + TCP_CHECKSUM_AT, old, fresh, 6);
    } else {
        put16(tcp + TCP_CHECKSUM_AT, 0);
        put16(tcp + TCP_CHECKSUM_AT, (uint16_t)~tcp_sum(packet, tcp, len - to->tcp_at));
    }
    if (to->strips_mptcp)
        strip_mp_capable(tcp);
}
