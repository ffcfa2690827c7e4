/* The lookup table of a pool: natmirror/nat/schedulers.py calls this. */
#ifndef NATMIRROR_FASTPATH_MAGLEV_H
#define NATMIRROR_FASTPATH_MAGLEV_H

#include <stdint.h>

#define NM_MAGLEV_FREE 0xFFFF

typedef struct {
    uint32_t slot; /* that it prefers next */
    uint32_t skip; /* to the one after that */
    uint32_t weight;
    uint32_t share; /* 0 at first: the credit that has added up for its next slot */
    uint16_t place; /* the value of its slots */
} nm_maglev_backend;

/* Fill `size` slots, a prime number, from the preferences of `count` backends: round-robin, each takes its next preferred
 * free slot whenever its share, weight by largest weight, has added up to one. Maglev (Eisenbud et al., NSDI
 * 2016), pseudocode 1. */
void nm_maglev_fill(uint16_t *table, uint32_t size, nm_maglev_backend *backends, uint32_t count);

#define NM_MAGLEV_WHOLE (1 << 16)

/* Derive from the table `whole` one in which each place keeps only limits[place] of its slots, in units of NM_MAGLEV_WHOLE:
 * a slot that a place loses goes to the place of the next slot that is kept, and no other slot moves. Return 0 where no
 * slot is kept: then the table is not filled. */
int nm_maglev_share(uint16_t *table, const uint16_t *whole, uint32_t size, const uint32_t *limits);

#endif
