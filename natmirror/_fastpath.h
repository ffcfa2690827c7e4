/* The C gear's decision on a packet: it repeats what Python has decided for its flow and its legs.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_H
#define NATMIRROR_FASTPATH_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/gear.h"

/* Decide a packet of len bytes from its IP header on, met at hook (NF_INET_*), whose transport checksum is as `checksum`
 * says (NM_CHECKSUM_*). Return NM_ACCEPT, NM_MODIFIED or NM_CONSUMED, with all numbers brought up to date; or NM_PUNT_*,
 * with nothing changed. The packet stays as it is: after NM_MODIFIED, gear.translation says what to do to it. */
int nm_decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

/* Rewrite the packet that was decided last, as gear.translation says. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum);

/* Both. */
int nm_process(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

#endif
