/* Whose turn a packet takes (turns.h), and which packets are strays. */
#ifndef NATMIRROR_FASTPATH_PEERS_H
#define NATMIRROR_FASTPATH_PEERS_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/gear.h"
#include "fastpath/packet.h"

/* Return the bucket of a packet's peer: the mirror's or all backends' for its client, or else its sender's. */
nm_bucket *nm_peer_of(nm_gear *gear, const uint8_t *packet, size_t len, const nm_flow *flow, const nm_leg *leg,
                      int is_orig, double now);
/* Return whether to drop a client's stray: the thread sheds strays, and the client has sent more of them than it may. Then
 * the thread goes on shedding them. is_refused: the packet was refused a turn before. */
int nm_is_shed(nm_gear *gear, const uint8_t *client, int is_refused, double now);
/* Return whether a client's data of a flow is dropped for the same reason, and count it: the backend has acknowledged all
 * of it, and would only do so again, or has never been heard, and would reset a connection that it does not know. */
int nm_sheds_data(nm_gear *gear, const nm_flow *flow, const nm_segment *seg, double now);
/* Return whether a packet of this flow, or of no flow and no leg (NULL), is of no established connection. */
static inline int nm_is_stray(const nm_flow *flow)
{
    return !flow || ((flow->state != NM_STATE_ESTABLISHED || flow->flags & NM_FLOW_LOOSE) &&
                     (nm_flow_is_half_open(flow) || flow->state == NM_STATE_RESET));
}

#endif
