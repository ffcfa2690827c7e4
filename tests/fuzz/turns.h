/* The turns of peers: a second opinion on who has one left, and the invariants of packets over the limit. */
#ifndef FUZZ_TURNS_H
#define FUZZ_TURNS_H

#include "world.h"

#define KEPT 1000 /* tokens that each peer has for genuine packets alone */

extern const uint8_t OF_REPLIES[4]; /* what tells the bucket of all backends' replies to a client from the client's */

/* Leave a peer so many tokens, if it has more; more: NULL, the client for which a mirror with that address sends, or
 * OF_REPLIES. */
void drain(world *w, const uint8_t *address, const uint8_t *more, int rest);

/* Check that the packets over the limit are reported, once. */
void check_refusals(world *w);
/* Return the reason for which the last packet would have been punted, if its peer had had a turn; 0 if it is not over
 * the limit. */
int over_limit_reason(const world *w, const snapshot *before);
/* Check that a packet was punted, or is over the limit, as the turns of its peer say. */
void check_turn(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                int decided);
/* Check that a packet over the limit was dropped if it may be, and otherwise has passed without mirroring. */
void check_over_limit(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum,
                      int decided);

#endif
