/* New flows. flows.py has the rules; tests hold the two against each other. For C files only. */
#ifndef NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H
#define NATMIRROR_FASTPATH_FLOW_LIFECYCLE_H

#include "_fastpath.h"
#include "fastpath/packet.h"

/* Whether a connection is over, and its flow may give way to another without Python. */
int nm_flow_is_closed(const nm_flow *flow);

/* The flow that a client's first SYN opens, in place of twin, one of the same ends that is over, or NULL; NULL where Python
 * is to look at it: nothing was changed then. */
nm_flow *nm_flow_open(nm_gear *gear, nm_flow *twin, const segment *seg, int checksum, double now);

#endif
