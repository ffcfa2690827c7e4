/* What has to hold after each step. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include "world.h"

/* Numbers, bytes held, the budget, the heap. */
void check_world(world *w);
/* What was synthesised since the last step, unless packets of it may be missing. */
void check_sends(world *w, int all_there);
/* The bytes that a leg holds are those that its client has sent. */
void check_held(const world *w, const mirror_leg *leg);
/* A packet before and after nm_process() said that it is rewritten. */
void check_rewritten(const world *w, const uint8_t *before, const uint8_t *now, size_t len, int hook, int checksum);

#endif
