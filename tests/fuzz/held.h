/* The invariants of held bytes, and a second opinion on which packets their receivers accept. */
#ifndef FUZZ_HELD_H
#define FUZZ_HELD_H

#include "world.h"

/* Whether the window that the backend offers is known. */
int knows_window(const nm_flow *row);
/* Whether a leg or a reader takes the client's data. */
int has_takers(const nm_flow *row);
/* Return the number up to which legs and readers have the client's bytes. */
uint32_t released_to(const nm_flow *row);
/* Whether the receiver of a plain packet of an established flow takes it; row: before the packet. */
int is_acceptable(const nm_flow *row, const uint8_t *packet, size_t len, int hook, int checksum);

/* Whether the receiver of a segment has acknowledged all its data; row: before the packet. */
int has_acked(const nm_flow *row, const uint8_t *packet, size_t len, int is_orig);
/* Whether each byte of a client's segment is acknowledged, or equals the one that is held. */
int is_known(const nm_flow *row, const uint8_t *packet, size_t len);
/* Whether a client's segment brings its copies nothing: it repeats bytes, and no byte waits or is missing. */
int is_repetition(const nm_flow *row, const uint8_t *packet, size_t len);

/* Note the acknowledgement of a backend's packet, if its client takes it. Take the tracker's word for a flow that was
 * picked up, after a packet of either end, and for packets that are not plain or not of an established flow. */
void note_ack(client_flow *flow, const nm_flow *was, const uint8_t *packet, int is_taken);
/* Keep the client's next bytes, after those that are known already. */
void store(client_flow *flow, const uint8_t *data, size_t len);

/* Check that a packet that was not punted has given legs and readers what it may give, and no more. */
void check_given(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);
/* Check that no acknowledged bytes are held, unless they are the rest of too many. */
void check_released(const client_flow *flow);
/* Check a row's numbers of held bytes; and those of a flow of the world with the bytes of its client. */
void check_held(const nm_flow *row);
void check_held_of(const client_flow *flow, int with_bytes);

#endif
