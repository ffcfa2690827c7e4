/* The lookup table of a pool: natmirror/nat/schedulers.py calls this. */
#ifndef NATMIRROR_FASTPATH_MAGLEV_H
#define NATMIRROR_FASTPATH_MAGLEV_H

#include <stdint.h>

#define NM_MAGLEV_FREE 0xFFFF

typedef struct {
    uint32_t slot; /* its next preferred slot */
    uint32_t skip; /* from each preferred slot to the next */
    uint32_t weight;
    uint32_t share; /* its credit towards its next slot; 0 at first */
    uint16_t place; /* the value written into its slots */
} nm_maglev_backend;

/* Fill `size` slots, a prime number, from the preferences of `count` backends. Round by round, each backend's share
 * grows by its weight over the largest weight; at one, the backend takes its next preferred free slot. Maglev
 * (Eisenbud et al., NSDI 2016), pseudocode 1. */
void nm_maglev_fill(uint16_t *table, uint32_t size, nm_maglev_backend *backends, uint32_t count);

#define NM_MAGLEV_WHOLE (1 << 16)

/* Derive a table from `whole`. A place (a backend's index) keeps limits[place] of its slots, in units of
 * NM_MAGLEV_WHOLE. Each slot that it loses goes to the place of the next kept slot; no other slot changes. Return 0,
 * and leave the table unfilled, if no slot is kept. */
int nm_maglev_share(uint16_t *table, const uint16_t *whole, uint32_t size, const uint32_t *limits);

/* Set has[place] for each place that the table has. */
void nm_maglev_find(const uint16_t *table, uint32_t size, uint8_t *has);

/* Write numbers[place] into each slot in place of the place. */
void nm_maglev_number(uint16_t *table, uint32_t size, const uint16_t *numbers);

#endif
