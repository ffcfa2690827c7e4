/* Decide a packet in C, or punt it to Python.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_H
#define NATMIRROR_FASTPATH_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/gear.h"

/* Decide a packet of len bytes, which begins with its IP header, at a hook (NF_INET_*); `checksum` (NM_CHECKSUM_*)
 * is the state of its transport checksum. Return NM_ACCEPT, NM_MODIFIED, NM_CONSUMED or NM_DROP_*, with all numbers up
 * to date; or NM_PUNT_*, with nothing changed. The packet itself is never changed: after NM_MODIFIED, gear.translation
 * holds the change. */
int nm_decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

/* Decide, and translate if needed. */
int nm_process(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

#endif
