/* What Python has prepared for new connections: services, their pools as tables, whose connections they are.
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
    uint32_t flows;       /* that it has now */
    uint32_t *everywhere; /* with those of other gears, which share this; NULL: nobody counts them */
    uint16_t service_id;
    uint32_t mark; /* the kernel translates packets that carry it; 0: it does not know this backend */
    uint64_t connections; /* that it has accepted, ever */
} nm_backend;

typedef struct {
    uint8_t address[16];
    uint16_t port;
    uint8_t family;
    uint8_t with_port; /* the client's port counts too */
    uint8_t in_turn;   /* one entry of the table after the other; else the one that the client's hash says */
    uint8_t is_held;   /* mirrors may hold its clients back */
    uint8_t needs_python; /* Python chooses for each new connection, or there is nobody to choose */
    uint16_t flags;    /* of its flows: NM_FLOW_WATCHED, NM_FLOW_SERVICE_MIRRORED */
    uint32_t flows;    /* that it has now, those of clients that go to a backend themselves not counted */
    uint32_t turn;     /* the entry that is next */
    uint32_t table_len; /* 0 for a service without a pool */
    uint16_t *table;   /* of places in nm_plan.backends */
    uint32_t derived_len;
    uint16_t *derived; /* the same for a client whose backend nobody knows: by its hash, whatever table says */
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
    /* By a hash of service and client: how many clients have lately tried a backend in vain, so that Python chooses. */
    uint16_t suspects[NM_SUSPECTS];
} nm_plan;

/* Whether an address lies in one of the clients' networks. */
int nm_plan_is_client(const nm_plan *plan, uint8_t family, const uint8_t *address);

/* The service that a client calls; NULL where it is none, or not from one of the networks. */
nm_service *nm_plan_service(nm_plan *plan, uint8_t family, const uint8_t *client, const uint8_t *dst, uint16_t dport);

/* The place of the backend that is a new client's; NM_NO_BACKEND where the service has no pool. */
uint16_t nm_plan_pick(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* The place of the backend that the rules alone give a client; NM_NO_BACKEND where the service has no pool. */
uint16_t nm_plan_derive(const nm_service *service, const uint8_t *client, uint16_t client_port);

/* The one service in whose pool a backend is; NULL where there is none, or more than one. */
nm_service *nm_plan_service_of(nm_plan *plan, const uint8_t *backend, uint16_t backend_port);

/* Where the client of a service is counted in suspects[]. */
uint16_t *nm_plan_suspect(nm_plan *plan, uint16_t service, uint8_t family, const uint8_t *client);

#endif
