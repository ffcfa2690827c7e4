/* Flows of callers, as Python has them: what flows.py and engine.py do where C leaves a packet or a deadline to them. */
#ifndef FUZZ_CALLERS_H
#define FUZZ_CALLERS_H

#include "world.h"

/* One of the flows that are no flows of the world's own; NULL where there is none. */
nm_flow *callers_flow(world *w, uint8_t which);

/* A packet that nm_process() has punted: opens a caller's flow, or moves it. */
void take_punted(world *w, const uint8_t *packet, size_t len, int hook, int checksum);

/* Whether the client of a service is counted among the suspects. */
void set_suspect(world *w, int service, const uint8_t *client, int is_suspect);

/* A flow is over, and gives way. */
void discard(world *w, nm_flow *row);
/* Another host has a flow of a caller's, with some backend; with the highest bit of whose it is our own now. */
void adopt(world *w, uint8_t which, uint8_t whose);
/* Another host has it no more, where it was its. */
void withdraw(world *w, nm_flow *row, int has_ended);

/* Nat.expire() */
void take_due_flows(world *w);

#endif
