/* A client's unacknowledged bytes; held_bytes.h says what each function is for. */
#include "fastpath/held_bytes.h"

#include <string.h>

int nm_held_reserve(nm_gear *gear, nm_flow *flow, uint32_t seq, uint32_t len)
{
    if (flow->held_len && (uint64_t)flow->held_len + len > flow->max_held)
        return 0;
    return nm_ring_reserve(gear->chunks, &flow->held, flow->held_len, len, seq - flow->held_len);
}

void nm_held_append(nm_flow *flow, const uint8_t *data, uint32_t len)
{
    nm_ring_append(&flow->held, flow->held_len, data, len);
    flow->held_len += len;
}

void nm_held_copy(const nm_flow *flow, uint32_t offset, uint8_t *to, uint32_t len)
{
    nm_ring_copy(&flow->held, offset, to, len);
}

int nm_held_has(const nm_flow *flow, uint32_t seq, const uint8_t *data, uint32_t len)
{
    uint32_t offset = seq - (flow->orig.next - flow->held_len);
    if (offset > flow->held_len || len > flow->held_len - offset)
        return 0;
    while (len) {
        uint32_t count = len;
        const uint8_t *piece = nm_ring_piece(&flow->held, offset, &count);
        if (memcmp(piece, data, count))
            return 0;
        data += count;
        offset += count;
        len -= count;
    }
    return 1;
}

void nm_held_drop(nm_gear *gear, nm_flow *flow, uint32_t count)
{
    nm_ring_drop(gear->chunks, &flow->held, flow->held_len, count);
    flow->held_len -= count;
}

void nm_held_clear(nm_gear *gear, nm_flow *flow)
{
    nm_ring_free(gear->chunks, &flow->held, flow->held_len);
    flow->held_len = 0;
}
