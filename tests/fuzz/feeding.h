/* What forwarding.py and feeding.py do with the packets of the world's own flows that C leaves to them. */
#ifndef FUZZ_FEEDING_H
#define FUZZ_FEEDING_H

#include "fastpath/packet.h"
#include "world.h"

/* Take a packet of a flow with legs or readers. Copies that have to end begin again. */
void feed_punted(world *w, int index, const nm_segment *seg, size_t len, int hook, int checksum);
/* Release more bytes, where a backend has acknowledged more than one call releases. */
void release_rest(world *w, client_flow *flow);

#endif
