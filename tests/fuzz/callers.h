/* Flows of callers: what flows.py and engine.py do with the packets and deadlines that C leaves to them. */
#ifndef FUZZ_CALLERS_H
#define FUZZ_CALLERS_H

#include "world.h"

/* Return one of the flows that are not the world's own, or NULL. */
nm_flow *callers_flow(world *w, uint8_t which);

/* Handle a punted packet: open a caller's flow, or update it, or feed the legs and readers of the world's own. */
void take_punted(world *w, const uint8_t *packet, size_t len, int hook, int checksum);

/* Whether the client of a service is counted among the suspects. */
void set_suspect(world *w, int service, const uint8_t *client, int is_suspect);

/* Remove a flow that has ended. */
void discard(world *w, nm_flow *row);
/* Take another host's record of a caller's flow, with some backend; with the highest bit of whose, the flow is ours
 * now, and with the next one its numbers are the record's if its service has mirrors. */
void adopt(world *w, uint8_t which, uint8_t whose);
/* Withdraw another host's record of the flow, if it has one. */
void withdraw(world *w, nm_flow *row, int has_ended);

/* Nat.expire() */
void take_due_flows(world *w);

#endif
