/* Limits per client: a second opinion on what counts, and on which SYNs exceed a limit. */
#ifndef FUZZ_LIMITS_H
#define FUZZ_LIMITS_H

#include "world.h"

/* Return the limit that a packet exceeds, if it is a SYN that may open a flow, by the flows before it; NM_WITHIN_LIMITS
 * for any other packet. */
int limit_of(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);
/* Check that C has dropped the packet exactly if it comes too fast, and has opened no flow beyond a limit. Take a token
 * if it has opened one. */
void check_limit(world *w, const snapshot *before, int limit, const uint8_t *packet, int decided);
/* Do what Python does with a SYN that C has left to it: return 0 if it exceeds a limit, or else take a token. */
int take_syn(world *w, uint16_t service, const uint8_t *client);
/* Check that each flow counts as what it is, and that each client has what its flows say. */
void check_counted(world *w);

#endif
