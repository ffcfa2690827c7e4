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

static void give_chunk(nm_chunks *chunks, uint16_t holder, uint8_t *bytes)
{
    chunk *one = (chunk *)(void *)bytes;
    nm_holder_give(chunks->holders, holder, NM_CHUNK_LEN);
    if (chunks->spare_count >= MAX_SPARE_CHUNKS) {
        free(one);
        return;
    }
    one->next = chunks->spare;
    chunks->spare = one;
    chunks->spare_count++;
}

static uint8_t *take_chunk(nm_chunks *chunks, uint16_t holder)
{
    chunk *one = chunks->spare;
    if (!nm_holder_take(chunks->holders, holder, NM_CHUNK_LEN))
        return NULL;
    if (one) {
        chunks->spare = one->next;
        chunks->spare_count--;
    } else if (!(one = malloc(sizeof *one))) {
        nm_holder_give(chunks->holders, holder, NM_CHUNK_LEN);
        return NULL;
    }
    return one->bytes;
}

/* Rings */

static uint32_t room(const nm_ring *ring, uint32_t filled) { return ring->count * NM_CHUNK_LEN - ring->offset - filled; }

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

int nm_ring_reserve(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t len)
{
    uint32_t free_len = room(ring, filled);
    uint32_t wanted = len > free_len ? (len - free_len + NM_CHUNK_LEN - 1) / NM_CHUNK_LEN : 0;
    if (!widen(ring, ring->count + wanted))
        return 0;
    for (uint32_t had = ring->count; wanted; wanted--) {
        uint8_t *bytes = take_chunk(chunks, ring->holder);
        if (!bytes) {
            while (ring->count > had)
                give_chunk(chunks, ring->holder, *chunk_at(ring, --ring->count));
            return 0;
        }
        *chunk_at(ring, ring->count++) = bytes;
    }
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

void nm_ring_drop(nm_chunks *chunks, nm_ring *ring, uint32_t filled, uint32_t count)
{
    ring->offset += count;
    while (ring->count && (ring->offset >= NM_CHUNK_LEN || count == filled)) {
        give_chunk(chunks, ring->holder, *chunk_at(ring, 0));
        ring->head = (ring->head + 1) & (ring->capacity - 1);
        ring->count--;
        ring->offset = ring->offset > NM_CHUNK_LEN ? ring->offset - NM_CHUNK_LEN : 0;
    }
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
