/* Queues of bytes in chunks; byte_ring.h says what each function is for. */
#include "fastpath/byte_ring.h"

#include <stdlib.h>
#include <string.h>

#define MIN_CAPACITY 4
#define MAX_SPARE_CHUNKS 1024 /* 4 MiB are kept for the next rings; the rest goes back to the system */

typedef union chunk {
    union chunk *next;
    uint8_t bytes[NM_CHUNK_LEN];
} chunk;

struct nm_chunks {
    nm_holders *holders;
    chunk *spare;
    uint32_t spare_count;
};

/* Chunks */

nm_chunks *nm_chunks_new(nm_holders *holders)
{
    nm_chunks *chunks = calloc(1, sizeof *chunks);
    if (chunks)
        chunks->holders = holders;
    return chunks;
}

void nm_chunks_free(nm_chunks *chunks)
{
    if (!chunks)
        return;
    while (chunks->spare) {
        chunk *next = chunks->spare->next;
        free(chunks->spare);
        chunks->spare = next;
    }
    free(chunks);
}

static void give_chunk(nm_chunks *chunks, uint8_t *bytes)
{
    chunk *one = (chunk *)(void *)bytes;
    if (chunks->spare_count >= MAX_SPARE_CHUNKS) {
        free(one);
        return;
    }
    one->next = chunks->spare;
    chunks->spare = one;
    chunks->spare_count++;
}

/* Return NULL without memory. */
static uint8_t *take_chunk(nm_chunks *chunks)
{
    chunk *one = chunks->spare;
    if (one) {
        chunks->spare = one->next;
        chunks->spare_count--;
    } else {
        one = malloc(sizeof *one);
    }
    return one ? one->bytes : NULL;
}

/* Rings */

static uint8_t **chunk_at(const nm_ring *ring, uint32_t index)
{
    return &ring->chunks[(ring->head + index) & (ring->capacity - 1)];
}

/* Make room for count pointers to chunks in all. */
static int widen(nm_ring *ring, uint32_t count)
{
    uint32_t capacity = ring->capacity ? ring->capacity : MIN_CAPACITY;
    if (count <= ring->capacity)
        return 1;
    while (capacity < count)
        capacity *= 2;
    uint8_t **fresh = malloc(capacity * sizeof *fresh);
    if (!fresh)
        return 0;
    for (uint32_t i = 0; i < ring->count; i++)
        fresh[i] = *chunk_at(ring, i);
    free(ring->chunks);
    ring->chunks = fresh;
    ring->capacity = capacity;
    ring->head = 0;
    return 1;
}

/* Take chunks until the ring has count of them. */
static int fill(nm_chunks *chunks, nm_ring *ring, uint32_t count)
{
    uint32_t had = ring->count;
    int64_t len = (int64_t)(count - had) * NM_CHUNK_LEN;
    if (!widen(ring, count) || !nm_holder_take(chunks->holders, ring->holder, len))
        return 0;
    while (ring->count < count) {
        uint8_t *bytes = take_chunk(chunks);
        if (!bytes) {
            while (ring->count > had)
                give_chunk(chunks, *chunk_at(ring, --ring->count));
            nm_holder_give(chunks->holders, ring->holder, len);
            return 0;
        }
        *chunk_at(ring, ring->count++) = bytes;
    }
    return 1;
}

int nm_ring_reserve(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t len, uint32_t seq)
{
    uint32_t offset = filled ? ring->offset : seq % NM_CHUNK_LEN;
    uint32_t count = (offset + filled + len + NM_CHUNK_LEN - 1) / NM_CHUNK_LEN;
    if (count > ring->count && !fill(chunks, ring, count))
        return 0;
    ring->offset = offset;
    return 1;
}

void nm_ring_append(nm_ring *ring, uint32_t filled, const uint8_t *data, uint32_t len)
{
    for (uint32_t at = ring->offset + filled; len;) {
        uint32_t fits = NM_CHUNK_LEN - at % NM_CHUNK_LEN;
        if (fits > len)
            fits = len;
        memcpy(*chunk_at(ring, at / NM_CHUNK_LEN) + at % NM_CHUNK_LEN, data, fits);
        data += fits;
        at += fits;
        len -= fits;
    }
}

void nm_ring_append_from(nm_ring *ring, uint32_t filled, nm_ring *from, uint32_t len, int takes)
{
    for (uint32_t done = 0, count; done < len; done += count) {
        uint32_t to = ring->offset + filled + done;
        count = len - done;
        const uint8_t *piece = nm_ring_piece(from, done, &count);
        if (!takes || count < NM_CHUNK_LEN || to % NM_CHUNK_LEN) {
            nm_ring_append(ring, filled + done, piece, count);
        } else {
            uint8_t **taken = chunk_at(from, (from->offset + done) / NM_CHUNK_LEN);
            uint8_t **reserved = chunk_at(ring, to / NM_CHUNK_LEN), *bytes = *reserved;
            *reserved = *taken;
            *taken = bytes;
        }
    }
}

void nm_ring_drop(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t count)
{
    uint32_t had = ring->count;
    ring->offset += count;
    while (ring->count && (ring->offset >= NM_CHUNK_LEN || count == filled)) {
        give_chunk(chunks, *chunk_at(ring, 0));
        ring->head = (ring->head + 1) & (ring->capacity - 1);
        ring->count--;
        ring->offset = ring->offset > NM_CHUNK_LEN ? ring->offset - NM_CHUNK_LEN : 0;
    }
    if (had > ring->count)
        nm_holder_give(chunks->holders, ring->holder, (int64_t)(had - ring->count) * NM_CHUNK_LEN);
    if (!ring->count && ring->capacity > MIN_CAPACITY) {
        free(ring->chunks); /* an idle ring stays small */
        *ring = (nm_ring){.holder = ring->holder};
    }
}

const uint8_t *nm_ring_piece(const nm_ring *ring, uint32_t offset, uint32_t *len)
{
    uint32_t at = ring->offset + offset, fits = NM_CHUNK_LEN - at % NM_CHUNK_LEN;
    if (*len > fits)
        *len = fits;
    return *chunk_at(ring, at / NM_CHUNK_LEN) + at % NM_CHUNK_LEN;
}

void nm_ring_copy(const nm_ring *ring, uint32_t offset, uint8_t *to, uint32_t len)
{
    while (len) {
        uint32_t count = len;
        const uint8_t *piece = nm_ring_piece(ring, offset, &count);
        memcpy(to, piece, count);
        to += count;
        offset += count;
        len -= count;
    }
}

void nm_ring_free(nm_chunks *chunks, nm_ring *ring, uint32_t filled)
{
    nm_ring_drop(chunks, ring, filled, filled);
    free(ring->chunks);
    *ring = (nm_ring){.holder = ring->holder};
}
