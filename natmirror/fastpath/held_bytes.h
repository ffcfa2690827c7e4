/* The bytes of a client that its backend has not acknowledged yet, for flows whose legs or readers get them.
 *
 * They lie before nm_flow.orig.next. With NM_FLOW_HOLDS legs and readers get a byte when the backend acknowledges it;
 * else they have it already, and it is kept to be compared with a retransmission. The Python counterpart is
 * natmirror/fastpath/held_bytes.py. No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_HELD_BYTES_H
#define NATMIRROR_FASTPATH_HELD_BYTES_H

#include <stdint.h>

#include "fastpath/gear.h"

#define NM_MAX_RELEASE_LEN 1048576 /* bytes that one call gives to legs: packets wait meanwhile */

/* Reserve room for len more bytes, the first of which has this sequence number. Return 0 if the flow may not hold so
 * many, or without memory. */
int nm_held_reserve(nm_gear *gear, nm_flow *flow, uint32_t seq, uint32_t len);
/* Append bytes to the reserved room. */
void nm_held_append(nm_flow *flow, const uint8_t *data, uint32_t len);
/* Copy held bytes, from offset on. */
void nm_held_copy(const nm_flow *flow, uint32_t offset, uint8_t *to, uint32_t len);
/* Return whether all of these bytes, the first of which has this sequence number, are held. */
int nm_held_has(const nm_flow *flow, uint32_t seq, const uint8_t *data, uint32_t len);
/* Drop the first count bytes; or all, with the flow's own memory for them. */
void nm_held_drop(nm_gear *gear, nm_flow *flow, uint32_t count);
void nm_held_clear(nm_gear *gear, nm_flow *flow);

#endif
