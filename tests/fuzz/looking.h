/* Looks at flows, checked against the rows. */
#ifndef FUZZ_LOOKING_H
#define FUZZ_LOOKING_H

#include "world.h"

/* Call nm_gear_look() for the first count services, and check that it counts no more flows than these have, and changes
 * nothing else of them. is_again: nothing has happened since the look before, at the same flows. Return the number to
 * continue with. */
uint32_t look(world *w, uint32_t first, uint32_t max, uint32_t count, int is_again);

#endif
