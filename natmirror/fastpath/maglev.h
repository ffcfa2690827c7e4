/* The filling of a pool's lookup table, and its shares, of which Python knows what they mean. */
#ifndef NATMIRROR_FASTPATH_MAGLEV_H
#define NATMIRROR_FASTPATH_MAGLEV_H

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

#define NM_MAGLEV_WHOLE (1 << 16)

/* The same table where places take less than their part, ``limits[place]`` of NM_MAGLEV_WHOLE: an entry of which a place
 * is to let go becomes that of the next one that stays, and nothing else moves. 0 where none stays: the table is void. */
int nm_maglev_share(uint16_t *table, const uint16_t *whole, uint32_t size, const uint32_t *limits);

#endif
