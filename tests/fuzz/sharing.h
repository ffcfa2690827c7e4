/* Flows that are shared with other hosts: change them as Python does, and check nm_flow.sharing and the log of changes
 * for other hosts against the rows and the plan. */
#ifndef FUZZ_SHARING_H
#define FUZZ_SHARING_H

#include "world.h"

/* Log at most max changes between two steps from now on; none where is_logging is 0. */
void log_changes(world *w, uint32_t max, int is_logging);

/* Check that the changes logged since the last call are exactly those of the rows. */
void check_changes(world *w);
/* Check that each row's sharing follows from plan and state, and check the changes. */
void check_sharing(world *w);

/* Call nm_gear_sweep(), and check that each row has become what how asks for and no other row has changed. Return the
 * number to continue with. */
uint32_t sweep(world *w, uint32_t first, uint32_t max, int how);

/* Release a flow to another host, as Python does with established ones. */
void release_flow(world *w, nm_flow *row);
/* Announce a flow again, if it was announced. */
void announce(world *w, const nm_flow *row);
/* Note that a flow has ended for every host: it has to be removed next. */
void end_flow(world *w, nm_flow *row);
/* Change a service's tables. Until a sweep has visited them, flows follow the old tables. */
void change_plan(world *w, int service, uint8_t how);

#endif
