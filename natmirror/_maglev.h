/* The filling of a pool's lookup table, of which Python knows what it means. */
#ifndef NATMIRROR_MAGLEV_H
#define NATMIRROR_MAGLEV_H

#include <stdint.h>

#define NM_MAGLEV_FREE 0xFFFF

typedef struct {
    uint32_t slot; /* that it prefers next */
    uint32_t skip; /* to the one after that */
    uint32_t weight;
    uint32_t share; /* 0: what has added up of its next turn */
    uint16_t place; /* what its slots hold */
} nm_maglev_backend;

/* Fills ``size`` slots, a prime number, from the preferences of ``count`` backends, of which each in turn takes its next
 * preferred free slot: whenever its share, weight by largest weight, has added up to one. Maglev (Eisenbud et al., NSDI
 * 2016), pseudocode 1. */
void nm_maglev_fill(uint16_t *table, uint32_t size, nm_maglev_backend *backends, uint32_t count);

#endif
