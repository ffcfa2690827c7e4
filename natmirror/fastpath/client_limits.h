/* Limits per client: how many connections of a service each client has, and how fast it opens them.
 *
 * A connection counts from its SYN until it closes, is reset or expires. A half open one counts for a while only, because
 * anyone can forge a SYN: until the end of the window of NM_HALF_OPEN_WINDOW seconds that follows the one in which its
 * SYN came, or until the client's RST to the backend's SYN-ACK. A connection that is picked up counts once its two ends
 * agree, and one that the other host of a pair passes does not count here.
 *
 * New connections take tokens, which come back at the limit's rate. A SYN that is dropped takes none, so that the client
 * gets through with its next one; a SYN that is refused takes one, so that a client that repeats it at once is soon
 * dropped in C.
 *
 * Each client of a service has a row as long as it has flows. Other rows are idle: they remember tokens that have not
 * come back. There are as many rows as flows, so that an idle row is left whenever a new client needs one; then the
 * longest idle one is forgotten. No I/O, no clock, memory only in nm_clients_new(). This header serves #include and
 * cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_CLIENT_LIMITS_H
#define NATMIRROR_FASTPATH_CLIENT_LIMITS_H

#include <stdint.h>

/* Seconds. Linux sends a SYN-ACK again after 1, 3 and 7 s, so each client that can complete its handshake has done so. */
#define NM_HALF_OPEN_WINDOW 10
#define NM_LIMITED_QUIET 600.0 /* seconds without a refusal after which a client begins to be limited again */

/* The limits of a service. */
typedef struct {
    uint32_t max_connections; /* 0: no limit */
    double rate;              /* new connections a second; 0: no limit */
    double burst;             /* new connections at once */
} nm_limits;

/* What nm_client_limit() returns. */
#define NM_LIMIT_CONNECTIONS 0
#define NM_LIMIT_RATE 1
#define NM_LIMITS 2
#define NM_WITHIN_LIMITS 2

/* The clients that have met one of a service's limits. */
typedef struct {
    uint64_t syns;      /* SYNs that were refused or dropped */
    uint64_t clients;   /* times that a client began to be limited */
    double at;          /* the last time, if there was one */
    uint8_t client[16]; /* of the last SYN */
} nm_limited;

/* nm_flow.counted: what a flow counts as */
#define NM_COUNTED_NOT 0
#define NM_COUNTED_HALF_OPEN 1
#define NM_COUNTED_OPEN 2

/* What a client has of a service. */
typedef struct {
    uint32_t open;
    uint32_t half_open; /* those that count now */
    double spent;       /* tokens that have not come back */
} nm_client_use;

typedef struct nm_clients nm_clients;

/* Return a table for at most this many flows, whose hash is keyed with key[16]; NULL without memory. */
nm_clients *nm_clients_new(uint32_t max_flows, const uint8_t *key);
void nm_clients_free(nm_clients *clients);

/* Count a flow as `after` from now on, which has counted as `before`; its SYN came at created_at. Return what it counts
 * as. */
uint8_t nm_client_count(nm_clients *clients, uint16_t service, uint8_t family, const uint8_t *client, uint8_t before, uint8_t after,
                        double created_at);

/* Return the limit that a client's new connection would exceed, or NM_WITHIN_LIMITS. */
int nm_client_limit(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client, double now);
/* Take a token for a client's new connection. */
void nm_client_spend(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client, double now);
/* Count a SYN that exceeds this limit. */
void nm_client_refuse(nm_clients *clients, nm_limited *limited, int limit, uint16_t service, uint8_t family, const uint8_t *client,
                      double now);
nm_client_use nm_client_used(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client,
                             double now);

/* Return how many rows are in use, and in *idle how many of them are idle. */
uint32_t nm_clients_rows(const nm_clients *clients, uint32_t *idle);

#endif
