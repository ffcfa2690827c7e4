/* What Python has prepared for new connections: clients' networks, services, and their pools as tables.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_PLAN_H
#define NATMIRROR_FASTPATH_PLAN_H

#include <stdint.h>

#define NM_NO_BACKEND 0xffff
#define NM_SUSPECTS 16384

/* A backend of one service's pool. */
typedef struct {
    uint8_t address[16];
    uint16_t port;
    uint32_t flows;        /* that it has now */
    uint32_t *total_flows; /* with those of other gears, which share this count; NULL: not counted */
    uint16_t service_id;
    uint32_t mark;        /* the kernel translates packets that carry it; 0: it does not know this backend */
    uint64_t connections; /* that it has accepted, ever */
} nm_backend;

typedef struct {
    uint8_t address[16];
    uint16_t port;
    uint8_t family;
    uint8_t hash_port;        /* the client's hash includes its port */
    uint8_t round_robin;      /* choose one entry of the table after the other; else by the client's hash */
    uint8_t may_hold_clients; /* its mirrors may hold clients back */
    uint8_t needs_python;     /* Python chooses the backend of each new connection, or refuses it */
    uint16_t flags;           /* of its flows: NM_FLOW_WATCHED, NM_FLOW_SERVICE_MIRRORED */
    uint32_t flows;           /* that it has now, without direct connections */
    uint32_t next_entry;      /* round_robin: of the table */
    uint32_t table_len;       /* 0 for a service without a pool */
    uint16_t *table;          /* indexes of nm_plan.backends */
    uint32_t derived_len;
    uint16_t *derived; /* the same for a client whose flow is not known: by its hash, whatever table says */
} nm_service;

/* A network of clients, IPv4 in host order. */
typedef struct {
    uint32_t address;
    uint32_t mask;
} nm_network;

/* All arrays are the caller's. */
typedef struct {
    nm_service *services;
    nm_backend *backends;
    nm_network *networks;
    uint32_t service_count;
    uint32_t backend_count;
    uint32_t network_count;
    /* By a hash of service and client: how many clients have lately failed to connect, so that Python chooses. */
    uint16_t suspects[NM_SUSPECTS];
} nm_plan;

extern const uint8_t nm_client_key[16]; /* of the client's hash; the same on every host, so that all choose alike */

/* Whether an address lies in one of the clients' networks. */
int nm_plan_is_client(const nm_plan *plan, uint8_t family, const uint8_t *address);

/* The service at dst, or NULL; NULL too for a client of no network. */
nm_service *nm_plan_service(nm_plan *plan, uint8_t family, const uint8_t *client, const uint8_t *dst, uint16_t dport);

/* The index of the backend that a new connection gets; NM_NO_BACKEND where the service has no pool. */
uint16_t nm_plan_pick(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* The index of the backend that the rules alone give a client; NM_NO_BACKEND where the service has no pool. */
uint16_t nm_plan_derive(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* The one service in whose pool a backend is; NULL where there is none, or more than one. */
nm_service *nm_plan_service_of(nm_plan *plan, const uint8_t *backend, uint16_t backend_port);

/* Where the client of a service is counted in suspects[]. */
uint16_t *nm_plan_suspect(nm_plan *plan, uint16_t service, uint8_t family, const uint8_t *client);

#endif
