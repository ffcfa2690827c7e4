/* The translation of packets: another source or destination. No I/O, no clock, no policy. For C files only; cffi does
 * not see it.
 */
#ifndef NATMIRROR_FASTPATH_TRANSLATION_H
#define NATMIRROR_FASTPATH_TRANSLATION_H

#include "fastpath/gear.h"
#include "fastpath/packet.h"

/* Note in gear.translation that a packet gets this address and port as its destination, or else as its source; `flags`
 * are those of its flow or service. Return NM_MODIFIED. */
int nm_translate_to(nm_gear *gear, const nm_segment *seg, int is_destination, const uint8_t *address, uint16_t port,
                    uint32_t mark, uint32_t flags);

/* Rewrite the packet that was decided last, as gear.translation says. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum);

#endif
