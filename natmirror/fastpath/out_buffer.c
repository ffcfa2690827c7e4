/* The buffer of packets and data; out_buffer.h says what each function is for. */
#include "fastpath/out_buffer.h"

#include <stdlib.h>
#include <string.h>

#define MIN_LEN 64 /* bytes of capacity, and packets */

uint8_t *nm_out_reserve(nm_out *out, uint32_t len, uint32_t segment_len)
{
    if (len > UINT32_MAX / 2 - MIN_LEN - out->used)
        return NULL; /* places are 32 bits wide, and the capacity doubles */
    if (out->count == out->max_count) {
        uint32_t max_count = out->max_count ? 2 * out->max_count : MIN_LEN;
        nm_send *sends = realloc(out->sends, max_count * sizeof *sends);
        if (!sends)
            return NULL;
        out->sends = sends;
        out->max_count = max_count;
    }
    if (len > out->capacity - out->used || !out->bytes) { /* an empty entry has a place, too */
        uint32_t capacity = 2 * (out->used + len) + MIN_LEN;
        uint8_t *bytes = realloc(out->bytes, capacity);
        if (!bytes)
            return NULL;
        out->bytes = bytes;
        out->capacity = capacity;
    }
    out->sends[out->count++] = (nm_send){.at = out->used, .len = len, .segment_len = (uint16_t)segment_len};
    out->used += len;
    return out->bytes + out->used - len;
}

void nm_out_clear(nm_out *out) { out->used = out->count = 0; }

int nm_out_add(nm_out *out, const uint8_t *packet, uint32_t len, uint16_t segment_len)
{
    uint8_t *at = nm_out_reserve(out, len, segment_len);
    if (at && len)
        memcpy(at, packet, len);
    return at != NULL;
}

uint8_t *nm_read_reserve(nm_out *read, uint8_t kind, uint32_t owner, uint16_t holder, uint32_t len)
{
    uint8_t *at = nm_out_reserve(read, len, 0);
    if (at) {
        read->sends[read->count - 1].kind = kind;
        read->sends[read->count - 1].owner = owner;
        read->sends[read->count - 1].holder = holder;
    }
    return at;
}

int nm_read_add(nm_out *read, uint8_t kind, uint32_t owner, uint16_t holder, const uint8_t *data, uint32_t len)
{
    uint8_t *at = nm_read_reserve(read, kind, owner, holder, len);
    if (at && len)
        memcpy(at, data, len);
    return at != NULL;
}
