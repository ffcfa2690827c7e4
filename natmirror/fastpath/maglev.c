/* The lookup table of a pool; maglev.h says what each function is for. */
#include "fastpath/maglev.h"

static uint32_t next_slot(const nm_maglev_backend *backend, uint32_t size)
{
    uint32_t slot = backend->slot + backend->skip;
    return slot >= size ? slot - size : slot;
}

static void take(uint16_t *table, uint32_t size, nm_maglev_backend *backend)
{
    while (table[backend->slot] != NM_MAGLEV_FREE)
        backend->slot = next_slot(backend, size);
    table[backend->slot] = backend->place;
    backend->slot = next_slot(backend, size);
}

void nm_maglev_fill(uint16_t *table, uint32_t size, nm_maglev_backend *backends, uint32_t count)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++)
        largest = backends[i].weight > largest ? backends[i].weight : largest;
    for (uint32_t i = 0; i < size; i++)
        table[i] = NM_MAGLEV_FREE;
    for (uint32_t filled = 0, i = 0; filled < size; i = i + 1 < count ? i + 1 : 0) {
        nm_maglev_backend *backend = &backends[i];
        backend->share += backend->weight;
        if (backend->share < largest)
            continue;
        backend->share -= largest;
        take(table, size, backend);
        filled++;
    }
}

/* Hash a slot to a number below NM_MAGLEV_WHOLE, so that neighbouring slots lie far apart (Knuth's multiplicative
 * hash). */
static uint32_t spread(uint32_t slot) { return slot * 40503 & (NM_MAGLEV_WHOLE - 1); }

int nm_maglev_share(uint16_t *table, const uint16_t *whole, uint32_t size, const uint32_t *limits)
{
    uint32_t first = 0;
    while (first < size && spread(first) >= limits[whole[first]])
        first++;
    if (first == size)
        return 0;
    uint16_t following = whole[first];
    for (uint32_t slot = size; slot-- > 0; table[slot] = following)
        if (spread(slot) < limits[whole[slot]])
            following = whole[slot];
    return 1;
}

void nm_maglev_find(const uint16_t *table, uint32_t size, uint8_t *has)
{
    for (uint32_t slot = 0; slot < size; slot++)
        has[table[slot]] = 1;
}

void nm_maglev_number(uint16_t *table, uint32_t size, const uint16_t *numbers)
{
    for (uint32_t slot = 0; slot < size; slot++)
        table[slot] = numbers[table[slot]];
}
