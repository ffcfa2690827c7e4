/* The translation of packets: another source or destination. No I/O, no clock, no policy. For C files only; cffi does
 * not see it.
 */
#ifndef NATMIRROR_FASTPATH_TRANSLATION_H
#define NATMIRROR_FASTPATH_TRANSLATION_H

#include <string.h>

#include "fastpath/gear.h"
#include "fastpath/packet.h"

/* Return whether a SYN has the option MP_CAPABLE. */
int nm_has_mp_capable(const nm_segment *syn);

/* Note in gear.translation that a packet gets this address and port as its destination, or else as its source; `flags`
 * are those of its flow or service. Return NM_MODIFIED. */
static inline int nm_translate_to(nm_gear *gear, const nm_segment *seg, int is_destination, const uint8_t *address,
                                  uint16_t port, uint32_t mark, uint32_t flags)
{
    nm_translation *to = &gear->translation;
    to->is_destination = (uint8_t)is_destination;
    memcpy(to->address, address, sizeof to->address);
    to->port = port;
    to->window = -1;
    to->tcp_at = (uint16_t)(seg->tcp - seg->ip);
    to->strips_mptcp = seg->flags & TCP_SYN && flags & NM_FLOW_STRIPS_MPTCP && nm_has_mp_capable(seg);
    to->mark = to->strips_mptcp ? 0 : mark;
    return NM_MODIFIED;
}

/* Rewrite the packet that was decided last, as gear.translation says. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum);

#endif
