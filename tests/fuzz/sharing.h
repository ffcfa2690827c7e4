/* The log of changes for other hosts, and the flows that are theirs: a second opinion on nm_flow.sharing, by the rows and
 * the plan. */
#ifndef FUZZ_SHARING_H
#define FUZZ_SHARING_H

#include "world.h"

/* Log at most max changes between two steps from now on; none where is_logging is 0. */
void log_changes(world *w, uint32_t max, int is_logging);

/* The changes logged since the last call are what has happened to the rows, and all of it. */
void check_changes(world *w);
/* Each row says of itself what plan and state make of it; and the changes. */
void check_sharing(world *w);

/* Call nm_gear_sweep(): each row has become what how asks for, and no other has changed. Return where to go on. */
uint32_t sweep(world *w, uint32_t first, uint32_t max, int how);

/* Hand a flow over to another host, as Python does with those that are established. */
void release_flow(world *w, nm_flow *row);
/* Announce a flow again, if it was announced. */
void announce(world *w, const nm_flow *row);
/* Note that a flow has ended for every host: it has to be removed next. */
void end_flow(world *w, nm_flow *row);
/* Change a service's tables; until a sweep has met them, flows say what the old ones gave. */
void change_plan(world *w, int service, uint8_t how);

#endif
