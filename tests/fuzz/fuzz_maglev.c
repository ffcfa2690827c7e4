/* A pool's lookup table, for sizes and weights as Python gives them, or nearly: each slot has a backend, each
 * backend its share. */
#include <stdlib.h>
#include <string.h>

#include "fastpath/maglev.h"
#include "input.h"
#include "must.h"

#define MAX_BACKENDS 64
#define MAX_WEIGHT 1000 /* file.py */

static const uint32_t SIZES[] = {2, 3, 5, 13, 101, 251, 1009, 65537};

static uint32_t take_weight(input *in)
{
    uint8_t kind = take8(in), fine = take8(in);
    return kind % 4 ? kind % 4 == 1 ? (uint32_t)(MAX_WEIGHT - fine) : 1u + fine : 1;
}

/* Return a backend's slots after some whole rounds; the largest weight gets one in each. */
static uint32_t after_rounds(uint32_t rounds, uint32_t weight, uint32_t largest)
{
    return (uint32_t)((uint64_t)rounds * weight / largest);
}

static void check_parts(const uint16_t *table, uint32_t size, const nm_maglev_backend *backends, uint32_t count)
{
    uint32_t of_place[2 * MAX_BACKENDS] = {0}, largest = 0, rounds = 0;
    for (uint32_t i = 0; i < size; i++) {
        must(table[i] < 2 * count && table[i] % 2 == 1);
        of_place[table[i]]++;
    }
    for (uint32_t i = 0; i < count; i++) {
        must(backends[i].slot < size);
        if (backends[i].weight > largest) {
            largest = backends[i].weight;
            rounds = of_place[backends[i].place];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t has = of_place[backends[i].place], weight = backends[i].weight;
        must(has >= after_rounds(rounds ? rounds - 1 : 0, weight, largest));
        must(has <= after_rounds(rounds + 1, weight, largest));
    }
}

/* A place without share has no slot, one with a whole share has kept its own, and a slot that has moved is a place's
 * that stays. */
static void check_share(input *in, const uint16_t *whole, uint32_t size, uint32_t count)
{
    uint32_t *limits = calloc(2 * count, sizeof *limits);
    uint16_t *table = malloc(size * sizeof *table);
    uint8_t stays[2 * MAX_BACKENDS] = {0};
    must(limits && table);
    int all = 1, none = 1;
    for (uint32_t i = 1; i < 2 * count; i += 2) {
        uint8_t kind = take8(in);
        limits[i] = kind < 64 ? 0 : kind < 128 ? NM_MAGLEV_WHOLE : take16(in);
        all &= limits[i] == NM_MAGLEV_WHOLE;
        none &= !limits[i];
    }
    memcpy(table, whole, size * sizeof *table);
    int some = nm_maglev_share(table, whole, size, limits);
    must(!(none && some));
    must(!all || (some && !memcmp(table, whole, size * sizeof *table)));
    if (!some)
        must(!memcmp(table, whole, size * sizeof *table));
    for (uint32_t i = 0; i < size && some; i++)
        stays[whole[i]] |= table[i] == whole[i];
    for (uint32_t i = 0; i < size && some; i++) {
        must(table[i] < 2 * count && limits[table[i]]);
        must(limits[whole[i]] != NM_MAGLEV_WHOLE || table[i] == whole[i]);
        must(stays[table[i]]);
    }
    free(limits);
    free(table);
}

static void check_places(uint16_t *table, uint32_t size, uint32_t count)
{
    uint16_t *numbers = calloc(2 * count, sizeof *numbers), *before = malloc(size * sizeof *before);
    must(numbers && before);
    for (uint32_t i = 1; i < 2 * count; i += 2)
        numbers[i] = (uint16_t)(0xffff - i);
    uint8_t *has = calloc(2 * count, 1);
    must(has);
    nm_maglev_find(table, size, has);
    for (uint32_t i = 0; i < size; i++)
        must(has[table[i]] == 1);
    for (uint32_t i = 0; i < 2 * count; i += 2)
        must(!has[i]);
    free(has);
    memcpy(before, table, size * sizeof *before);
    nm_maglev_number(table, size, numbers);
    for (uint32_t i = 0; i < size; i++)
        must(table[i] == 0xffff - before[i]);
    free(numbers);
    free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    uint32_t slots = SIZES[take8(&in) % (sizeof SIZES / sizeof *SIZES)], count = take8(&in) % MAX_BACKENDS + 1;
    nm_maglev_backend *backends = calloc(count, sizeof *backends);
    uint16_t *table = malloc(slots * sizeof *table);
    must(backends && table);
    for (uint32_t i = 0; i < count; i++) {
        backends[i].slot = take32(&in) % slots;
        backends[i].skip = take32(&in) % (slots - 1) + 1;
        backends[i].weight = take_weight(&in);
        backends[i].place = (uint16_t)(2 * i + 1);
    }
    nm_maglev_fill(table, slots, backends, count);
    check_parts(table, slots, backends, count);
    check_share(&in, table, slots, count);
    check_places(table, slots, count);
    free(table);
    free(backends);
    return 0;
}
