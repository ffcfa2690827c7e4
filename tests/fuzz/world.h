/* A gear with flows and legs in their steady state, and what their clients have sent: what the target plays with.
 *
 * Python's part is played here too, as far as C can be told of it: legs open and close, take what was punted, are due.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include "_emit.h"
#include "_fastpath.h"
#include "input.h"
#include "packets.h"

enum { PLAIN, ONE_LEG, TWO_LEGS, WATCHED, LOOSE, DIRECT, OPENING, FLOWS };
enum { LEGS_OF_FLOWS = 4, LEGS = 12 }; /* the others have no flow, only deadlines */

typedef struct {
    nm_flow *row;
    endpoint client, service, backend;
    uint32_t first;  /* number of the first byte of the stream */
    uint8_t *stream; /* what went to the legs */
    size_t len, capacity;
} client_flow;

typedef struct {
    nm_leg *row; /* NULL: closed */
    client_flow *flow;
    endpoint mirror, local;
    uint32_t first; /* where it came in */
    uint32_t told;  /* one past the last number that it has sent */
    uint32_t heard; /* its rcv_nxt after the step before */
} mirror_leg;

typedef struct {
    nm_budget budget;
    nm_gear *gear;
    client_flow flows[FLOWS];
    mirror_leg legs[LEGS];
    uint32_t crowd; /* legs that only make the table large */
    double now;
    uint32_t first, max_buffer, window;
    uint16_t mss;
    uint8_t scale, leg_flags;
} world;

static inline int32_t after(uint32_t a, uint32_t b) { return (int32_t)(a - b); }

/* All flows and legs open; how they are made stands in the input's first bytes. */
void world_begin(world *w, input *in);
/* Everything closes, and nothing may be left. */
void world_end(world *w, int orderly);

void open_flow(world *w, int index);
void close_flow(world *w, int index);
void reopen_flow(world *w, int index); /* and the legs that are missing */
void open_leg(world *w, int index);
void close_leg(world *w, int index);

/* One packet, in a buffer of exactly its length, through nm_process(): with all checks. */
int process(world *w, const uint8_t *bytes, size_t len, int hook, int checksum);

/* Python's Leg.write() to all legs of a flow, after a punt; nothing happens where one has no room. */
void write_to_legs(world *w, client_flow *flow, const uint8_t *data, uint32_t len);
/* Python's handle_timer(): what is due by now backs off, or is given up and opened anew; and news are heard. */
void take_due(world *w);

#endif
