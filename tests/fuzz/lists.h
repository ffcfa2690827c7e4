/* Check the lists of half open, closed and idle flows, and the choice of a victim, from the rows alone. */
#ifndef FUZZ_LISTS_H
#define FUZZ_LISTS_H

#include "world.h"

#define NONE 0xffffffffu

/* Restore the fields that depend on other flows, too. */
void mend_links(nm_flow *now, const nm_flow *was);
int is_unconfirmed(const nm_flow *row);
int is_half_open(const nm_flow *row);
int is_lasting(const nm_flow *row); /* neither opening nor closed */
uint32_t count_rows(const snapshot *of);
/* Return the number of the row to evict for another; NONE if none has to be evicted, or none may. */
uint32_t victim_of(const snapshot *of, int for_half_open);
/* Check that all lists are whole: old members have kept their order, new ones are at the end. */
void check_lists(world *w, const snapshot *now);
/* Check that nothing changed, except that flows whose backends have answered may have left the half open list's
 * front, flows that have had packets the idle list's, and room for held bytes may have been reserved. */
void check_same(const snapshot *before, snapshot *now);

#endif
