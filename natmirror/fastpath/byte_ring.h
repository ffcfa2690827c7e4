/* Queues of bytes in chunks, within a limit on memory. No I/O, no clock, no policy.
 *
 * A ring does not know its length: its owner passes it as filled. A byte's place in its chunk is its sequence number
 * modulo NM_CHUNK_LEN, so that a whole chunk can pass from one ring to another without a copy. This header serves
 * #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_BYTE_RING_H
#define NATMIRROR_FASTPATH_BYTE_RING_H

#include <stdint.h>

#include "fastpath/budget.h"

#define NM_CHUNK_LEN 4096 /* bytes: rings take memory in chunks of this size */

/* A queue of bytes in chunks. */
typedef struct {
    uint8_t **chunks; /* a ring of pointers */
    uint32_t capacity, head, count;
    uint32_t offset; /* where the first byte lies in the first chunk */
    uint16_t holder; /* the client for which it takes chunks */
} nm_ring;

/* The chunks of one thread: its clients hold those that rings have, a few free ones are kept for reuse. */
typedef struct nm_chunks nm_chunks;

nm_chunks *nm_chunks_new(nm_holders *holders); /* NULL without memory */
void nm_chunks_free(nm_chunks *chunks);

/* Reserve room for len more bytes; return 0 if its client may not hold them. seq: the first byte's sequence number. */
int nm_ring_reserve(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t len, uint32_t seq);
/* Append bytes to the reserved room. */
void nm_ring_append(nm_ring *ring, uint32_t filled, const uint8_t *data, uint32_t len);
/* Append the first len bytes of another ring to the reserved room. With takes, whole chunks change places with reserved
 * ones instead of being copied: afterwards these bytes of the other ring are undefined. */
void nm_ring_append_from(nm_ring *ring, uint32_t filled, nm_ring *from, uint32_t len, int takes);
/* Drop the first count bytes. */
void nm_ring_drop(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t count);
/* Return the bytes from offset on that lie in one piece, at most *len; set *len to their number. */
const uint8_t *nm_ring_piece(const nm_ring *ring, uint32_t offset, uint32_t *len);
/* Copy bytes, from offset on. */
void nm_ring_copy(const nm_ring *ring, uint32_t offset, uint8_t *to, uint32_t len);
/* Drop all bytes, and free the ring's own memory. */
void nm_ring_free(nm_chunks *chunks, nm_ring *ring, uint32_t filled);

#endif
