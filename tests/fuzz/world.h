/* The world of the target: a gear with flows and legs in their steady state, and the bytes that their clients have
 * sent.
 *
 * Beside these there are flows of callers, which come and go; the world knows no more of them than their rows. Python's
 * part is played here too, as far as C notices it: legs open and close, take what was punted, are due.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include "fastpath/flow_lifecycle.h"
#include "fastpath/leg_sender.h"
#include "_fastpath.h"
#include "input.h"
#include "packets.h"
#include "plan.h"

enum { PLAIN, ONE_LEG, TWO_LEGS, WATCHED, PICKED_UP, DIRECT, READ, PICKED_UP_READ, RECORDED, RECORDED_READ, FLOWS };
enum { MAX_FLOWS = FLOWS + 10, MAX_HALF_OPEN = MAX_FLOWS / 4 + 1 };
enum { LEGS_OF_FLOWS = 5, LEGS = 13 }; /* the others have no flow, only deadlines */

typedef struct {
    nm_flow *row;
    endpoint client, service, backend;
    uint32_t first;   /* sequence number of the first byte of the stream */
    uint32_t acked;   /* the highest number that its backend has acknowledged, if knows_ack */
    uint8_t knows_ack;
    uint8_t has_rest; /* bytes are held that it has acknowledged: they were too many for one call */
    uint8_t *stream;  /* the client's data in order, and then what waits for the backend's window */
    size_t len, capacity;
    uint32_t waiting; /* bytes after the first len of the stream */
} client_flow;

typedef struct {
    nm_leg *row; /* NULL: closed */
    client_flow *flow;
    endpoint mirror, local;
    uint32_t first; /* the number at which it joined the stream */
    uint32_t sent;  /* one past the last number that it has sent */
    uint32_t heard; /* its rcv_nxt after the step before */
} mirror_leg;

/* A snapshot of what nm_process() may change of flows. */
typedef struct {
    nm_flow rows[MAX_FLOWS]; /* family 0: free */
    nm_service services[SERVICES];
    nm_backend backends[BACKENDS];
    nm_counters counters;
    double now;
} snapshot;

/* The backend that the hash has given a client. */
typedef struct {
    endpoint client;
    uint16_t backend_id;
    uint8_t is_known;
} pick;

enum { PICKS = 64 };

/* The tokens that a peer has left. */
typedef struct {
    uint8_t peer[8]; /* its address, and for a mirror or a backend the client's */
    double left, at;
    int surcharge;
} peer_turns;

enum { MAX_PEERS = 1024 }; /* more than an input has packets of unknown senders */

/* The tokens that a client of a service with limits has spent. */
typedef struct {
    uint8_t client[4];
    uint16_t service;
    double spent, at;
} limited_client;

/* Flows' numbers, from the oldest to the newest. */
typedef struct {
    uint32_t ids[MAX_FLOWS], count;
} id_list;

enum { HALF_OPEN_LIST, CLOSED_LIST, IDLE_LIST, LISTS };

typedef struct {
    nm_budget budget;
    nm_gear *gear;
    plan_rows plan;
    uint64_t connections[BACKENDS]; /* after the step before */
    pick picks[SERVICES][PICKS];
    id_list lists[LISTS]; /* after the step before */
    uint32_t removed;     /* a bit for each row removed since then: its number may be reused */
    client_flow flows[FLOWS];
    mirror_leg legs[LEGS];
    peer_turns peers[MAX_PEERS];
    uint32_t peer_count;
    uint64_t refusals;
    limited_client clients[MAX_PEERS];
    uint32_t client_count;
    nm_changes changes;
    nm_change announced[MAX_FLOWS]; /* the changes that other hosts have from us */
    uint32_t announced_count;
    uint32_t stale; /* a bit for each row that was pinned or not by other tables than the present ones */
    uint32_t unannounced; /* a bit for each row that may have to be announced and was not */
    uint8_t is_logging, knows_announced, is_announcing, is_ending;
    uint32_t crowd; /* legs that only make the table large */
    uint32_t checks, looks;
    double now;
    uint32_t first, max_buffer, window;
    uint16_t mss;
    uint8_t scale, leg_flags;
    uint8_t holders; /* a bit for each flow with legs or a reader that get only acknowledged bytes; the ninth shares the first */
} world;

static inline int32_t after(uint32_t a, uint32_t b) { return (int32_t)(a - b); }

/* Open all flows and legs as the input's first bytes say. */
void world_begin(world *w, input *in);
/* Close everything, and check that nothing is left. */
void world_end(world *w, int orderly);

void open_flow(world *w, int index);
/* Give a picked up flow the numbers of another host's record: tracker.begin_adopted(). */
void take_record(nm_flow *row, uint32_t iss, uint32_t una, uint32_t backend_nxt, uint8_t scale);
void close_flow(world *w, int index);
void reopen_flow(world *w, int index); /* and the legs that are missing */
void remove_flow(world *w, nm_flow *row);
int index_of(const world *w, const nm_flow *row); /* -1 for a caller's */
void open_leg(world *w, int index);
void close_leg(world *w, int index);

/* Pass one packet through nm_process(), in a buffer of exactly its length, with all checks. */
int process(world *w, const uint8_t *bytes, size_t len, int hook, int checksum);

/* Do Python's handle_timer(): legs that are due back off, or are ended and opened again. */
void take_due(world *w);

void take_snapshot(const world *w, snapshot *of);

#endif
