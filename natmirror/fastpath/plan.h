/* The plan, from which C opens connections: the clients' networks, the services, and their pools as tables. Python
 * makes it.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_PLAN_H
#define NATMIRROR_FASTPATH_PLAN_H

#include <stdint.h>

#include "fastpath/client_limits.h"

#define NM_NO_BACKEND 0xffff
#define NM_SUSPECTS 16384

/* A backend of one service's pool. */
typedef struct {
    uint8_t address[16];
    uint16_t port;
    uint32_t flows;       /* its flows now */
    uint32_t closed;      /* those of them that are in TIME-WAIT, or reset */
    uint32_t *total_open; /* the others in all gears, which share this count; NULL: not counted */
    uint16_t service_id;
    uint32_t mark;        /* the kernel translates packets that carry this mark; 0: it does not know the backend */
    uint64_t connections; /* all connections that it has accepted */
} nm_backend;

/* The traffic of some flows: nm_half's packets and bytes. */
typedef struct {
    uint64_t connections;
    uint64_t client_packets, client_bytes;
    uint64_t backend_packets, backend_bytes;
} nm_traffic;

typedef struct {
    uint8_t address[16];
    uint16_t port;
    uint8_t family;
    uint8_t hash_port;        /* the client's hash includes its port */
    uint8_t round_robin;      /* choose the table's entries in turn, else by the client's hash */
    uint8_t may_throttle;     /* its mirrors may throttle clients */
    uint8_t needs_python;     /* Python chooses the backend of each new connection, or refuses it */
    uint32_t flags;           /* for its flows: NM_FLOW_WATCHED, _SERVICE_MIRRORED, _STRIPS_MPTCP, _LIMITED */
    uint32_t flows;           /* its flows now, without direct connections */
    uint32_t closed;          /* those of them that are in TIME-WAIT, or reset */
    nm_traffic removed;       /* the traffic of its flows that are no longer in the table */
    uint32_t next_entry;      /* round_robin: the table's next entry */
    uint32_t table_len;       /* 0 for a service without a pool */
    uint16_t *table;          /* indexes of nm_plan.backends */
    uint32_t derived_len;
    uint16_t *derived; /* the table for clients whose flow is unknown: always by the client's hash */
    nm_limits limits;               /* for each client, with NM_FLOW_LIMITED in flags */
    nm_limited limited[NM_LIMITS];  /* the clients that have met each of them */
} nm_service;

/* A network of clients: IPv4, host order. */
typedef struct {
    uint32_t address;
    uint32_t mask;
} nm_network;

/* A mirror whose packets reach no client: IPv4. */
typedef struct {
    uint8_t address[4];
    uint16_t port;
} nm_mirror;

/* The caller owns all arrays. */
typedef struct {
    nm_service *services;
    nm_backend *backends;
    nm_network *networks;
    nm_mirror *mirrors;
    uint32_t service_count;
    uint32_t backend_count;
    uint32_t network_count;
    uint32_t mirror_count;
    /* By a hash of service and client: the number of clients that have lately failed to connect. Python chooses for
     * them. */
    uint16_t suspects[NM_SUSPECTS];
} nm_plan;

extern const uint8_t nm_client_key[16]; /* of the client's hash; the same on all hosts, so that they choose alike */

/* Return whether an address lies in one of the clients' networks. */
int nm_plan_is_client(const nm_plan *plan, uint8_t family, const uint8_t *address);

/* Return the service at dst; NULL if there is none, or the client is in no network. */
nm_service *nm_plan_service(nm_plan *plan, uint8_t family, const uint8_t *client, const uint8_t *dst, uint16_t dport);

/* Return the index of the backend for a new connection; NM_NO_BACKEND if the service has no pool. */
uint16_t nm_plan_pick(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* Return the index of the backend that the rules alone give a client; NM_NO_BACKEND if the service has no pool. */
uint16_t nm_plan_derive(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* Return the number of pools that have a backend with this address and port; *backend becomes one of them, if there is
 * any. */
uint32_t nm_plan_backends_at(const nm_plan *plan, const uint8_t *address, uint16_t port, const nm_backend **backend);

/* Return whether one of the plan's mirrors has this address and port. */
int nm_plan_is_mirror(const nm_plan *plan, const uint8_t *address, uint16_t port);

/* Return the entry of suspects[] for a client of a service. */
uint16_t *nm_plan_suspect(nm_plan *plan, uint16_t service, uint8_t family, const uint8_t *client);

#endif
