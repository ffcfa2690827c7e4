/* What other hosts hear of flows, and what is theirs: a second opinion on nm_flow.sharing, by the rows and the plan. */
#ifndef FUZZ_SHARING_H
#define FUZZ_SHARING_H

#include "world.h"

/* From now on there is room for so many changes between two steps; nobody is told anything where is_told is 0. */
void tell_changes(world *w, uint32_t max, int is_told);

/* What was told since the last call is what has happened to the rows, and all of it. */
void check_changes(world *w);
/* Each row says of itself what plan and state make of it; and the changes. */
void check_sharing(world *w);

/* nm_gear_sweep(): each row has become what how asks for, and no other has changed. Where to go on. */
uint32_t sweep(world *w, uint32_t first, uint32_t max, int how);

/* A flow is another host's from now on, as Python says it of those that are established. */
void lend_flow(world *w, nm_flow *row);
/* It is told once more, if it was told. */
void tell_again(world *w, const nm_flow *row);
/* It is over for certain: it has to be removed next. */
void end_flow(world *w, nm_flow *row);
/* A service's tables become others; flows that are known say what the old ones gave, until a sweep has met them. */
void change_plan(world *w, int service, uint8_t how);

#endif
