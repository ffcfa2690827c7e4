/* Queues of bytes in chunks, within a limit on memory. No I/O, no clock, no policy.
 *
 * A ring does not know its length: its owner passes it as filled. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_BYTE_RING_H
#define NATMIRROR_FASTPATH_BYTE_RING_H

#include <stdint.h>

#define NM_CHUNK_LEN 4096 /* bytes: rings take memory in chunks of this size */

/* The limit on the memory that mirroring takes in all threads together. */
typedef struct {
    int64_t used; /* bytes; updated atomically */
    int64_t limit;
} nm_budget;

/* A queue of bytes in chunks. */
typedef struct {
    uint8_t **chunks; /* a ring of pointers */
    uint32_t capacity, head, count;
    uint32_t offset; /* bytes of the first chunk that were dropped */
} nm_ring;

/* The chunks of one thread: those that rings have count against the budget, a few free ones are kept for reuse. */
typedef struct nm_chunks nm_chunks;

/* Take bytes from the budget, or give them back, in any thread. Return 0 if the limit does not allow it. */
int nm_budget_take(nm_budget *budget, int64_t count);
void nm_budget_give(nm_budget *budget, int64_t count);

nm_chunks *nm_chunks_new(nm_budget *budget); /* NULL without memory */
void nm_chunks_free(nm_chunks *chunks);

/* Reserve room for len more bytes; return 0 if the budget does not allow it. */
int nm_ring_reserve(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t len);
/* Append bytes to the reserved room. */
void nm_ring_append(nm_ring *ring, uint32_t filled, const uint8_t *data, uint32_t len);
/* Drop the first count bytes. */
void nm_ring_drop(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t count);
/* Return the bytes from offset on that lie in one piece, at most *len; set *len to their number. */
const uint8_t *nm_ring_piece(const nm_ring *ring, uint32_t offset, uint32_t *len);
/* Copy bytes, from offset on. */
void nm_ring_copy(const nm_ring *ring, uint32_t offset, uint8_t *to, uint32_t len);
/* Drop all bytes, and free the ring's own memory. */
void nm_ring_free(nm_chunks *chunks, nm_ring *ring, uint32_t filled);

#endif
