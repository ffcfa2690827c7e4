/* The lists of flows that are half_open or over, and who is to go for another: a second opinion, by the rows alone. */
#ifndef FUZZ_LISTS_H
#define FUZZ_LISTS_H

#include "world.h"

#define NONE 0xffffffffu

/* What depends on other flows too is made what it was. */
void mend_links(nm_flow *now, const nm_flow *was);
int is_half_open(const nm_flow *row);
uint32_t count_rows(const snapshot *of);
/* The number of the row that has to go so that another has room; NONE where none has to, or none may. */
uint32_t victim_of(const snapshot *of, int for_half_open);
/* Both lists are whole: who was there before and is has kept its place, who is new is at the end. */
void check_lists(world *w, const snapshot *now);
/* Everything is what it was, but that those whose backends have spoken may have left the half_open list's front. */
void check_same(const snapshot *before, snapshot *now);

#endif
