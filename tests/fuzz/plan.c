/* The plan of the target; plan.h says what each function is for. */
#include "plan.h"

#include <string.h>

#include "fastpath/hash.h"

#define PORT 6653
#define CALLERS_PORT 50000
#define FLOWS_PORT 40000 /* the port of the world's own flows */

static const struct {
    uint8_t address[4];
    uint16_t port;
    uint32_t flags;
    uint8_t round_robin, hash_port, first, count;
} OF_SERVICE[SERVICES] = {
    [MAGLEV] = {{10, 10, 0, 100}, PORT, 0, 0, 0, FIRST_OF_MAGLEV, 3},
    [ROUND_ROBIN] = {{10, 10, 0, 100}, PORT + 1, NM_FLOW_STRIPS_MPTCP, 1, 0, FIRST_OF_ROUND_ROBIN, 3},
    [UNPOOLED] = {{10, 10, 0, 101}, PORT, NM_FLOW_WATCHED, 0, 0, 0, 0},
    [MIRRORED] = {{10, 10, 0, 102}, PORT, NM_FLOW_SERVICE_MIRRORED | NM_FLOW_STRIPS_MPTCP, 0, 1, FIRST_OF_MIRRORED, 2},
};
/* Some backends are in two pools, and each pool has some of its own; 13 is also an address of mirrors. */
static const uint8_t LAST_OF_BACKEND[BACKENDS] = {11, 12, 14, 12, 13, 15, 11, 16};

static void fill(uint16_t *table, int service, uint32_t len, uint32_t by)
{
    for (uint32_t i = 0; i < len; i++)
        table[i] = (uint16_t)(OF_SERVICE[service].first + (i + by) % OF_SERVICE[service].count);
}

void plan_begin(plan_rows *rows, nm_plan *plan, int may_throttle, int needs_python)
{
    memset(rows, 0, sizeof *rows);
    for (int i = 0; i < BACKENDS; i++) {
        memcpy(rows->backends[i].address, (uint8_t[4]){10, 20, 0, LAST_OF_BACKEND[i]}, 4);
        rows->backends[i].port = PORT;
        rows->backends[i].mark = i % 4 ? MARK + (uint32_t)i : 0;
        rows->total_open[i] = OTHERS;
        rows->backends[i].total_open = i % 3 ? &rows->total_open[i] : NULL;
    }
    for (int i = 0; i < SERVICES; i++) {
        nm_service *service = &rows->services[i];
        memcpy(service->address, OF_SERVICE[i].address, 4);
        service->port = OF_SERVICE[i].port;
        service->family = 4;
        service->flags = OF_SERVICE[i].flags;
        service->round_robin = OF_SERVICE[i].round_robin;
        service->hash_port = OF_SERVICE[i].hash_port;
        service->may_throttle = i == MIRRORED && may_throttle;
        service->needs_python = i == ROUND_ROBIN && needs_python;
        if (i == MAGLEV || i == ROUND_ROBIN) {
            service->flags |= NM_FLOW_LIMITED;
            service->limits.max_connections = i == MAGLEV ? 2 : 3;
            service->limits.rate = i == MAGLEV ? 0 : 0.5;
            service->limits.burst = i == MAGLEV ? 0 : 4;
        }
        service->table = rows->tables[i];
        service->derived = rows->derived[i];
        service->table_len = service->derived_len = OF_SERVICE[i].count ? 2u * OF_SERVICE[i].count + 1 : 0;
        fill(service->table, i, service->table_len, 0);
        fill(service->derived, i, service->derived_len, 0);
        if (i == MIRRORED)
            service->derived_len = 0;
        for (int j = 0; j < OF_SERVICE[i].count; j++)
            rows->backends[OF_SERVICE[i].first + j].service_id = (uint16_t)i;
    }
    rows->networks[0] = (nm_network){10u << 24 | 10 << 16, 0xffffff00};
    rows->networks[1] = (nm_network){10u << 24 | 11 << 16, 0xfffffff0};
    rows->mirrors[0] = (nm_mirror){{10, 20, 0, 13}, PORT}; /* a backend too */
    rows->mirrors[1] = (nm_mirror){{10, 20, 0, 17}, PORT};
    plan->services = rows->services;
    plan->backends = rows->backends;
    plan->networks = rows->networks;
    plan->mirrors = rows->mirrors;
    plan->service_count = SERVICES;
    plan->backend_count = BACKENDS;
    plan->network_count = NETWORKS;
    plan->mirror_count = MIRRORS;
}

int has_pool(int service) { return OF_SERVICE[service].count != 0; }

void plan_change(plan_rows *rows, int number, uint8_t how)
{
    nm_service *service = &rows->services[number];
    if (!has_pool(number))
        return;
    uint32_t len = how % MAX_TABLE_LEN, by = how / MAX_TABLE_LEN % 3;
    if (how & 128) {
        service->table_len = len;
        fill(service->table, number, len, by);
        service->needs_python = !len; /* no backend is open */
        service->next_entry %= len ? len : 1;
    } else {
        service->derived_len = len;
        fill(service->derived, number, len, by);
    }
}

uint16_t derive(const plan_rows *rows, int number, const uint8_t *client, uint16_t client_port)
{
    const nm_service *service = &rows->services[number];
    uint8_t key[6];
    memcpy(key, client, 4);
    set_u16(key + 4, client_port);
    if (!service->derived_len)
        return NM_NO_BACKEND;
    uint64_t hash = nm_siphash((const uint8_t *)"natmirror client", key, service->hash_port ? 6 : 4);
    return rows->derived[number][hash % service->derived_len];
}

static endpoint end_of(const uint8_t *address, uint16_t port)
{
    endpoint made = {.port = port};
    memcpy(made.address, address, 4);
    return made;
}

endpoint service_end(const plan_rows *rows, int service)
{
    return end_of(rows->services[service].address, rows->services[service].port);
}

endpoint backend_end(const plan_rows *rows, int backend)
{
    return end_of(rows->backends[backend].address, rows->backends[backend].port);
}

endpoint mirror_end(const plan_rows *rows, int mirror)
{
    return end_of(rows->mirrors[mirror].address, rows->mirrors[mirror].port);
}

endpoint caller_end(uint8_t which)
{
    static const uint8_t ADDRESSES[][4] = {{10, 10, 0, 20}, {10, 10, 0, 21}, {10, 11, 0, 6}, {10, 10, 0, 11}};
    static const uint8_t OUTSIDE[4] = {10, 11, 0, 16};
    int address = which >> 2 & 3;
    uint16_t port = (uint16_t)((address == 3 ? FLOWS_PORT : CALLERS_PORT) + (which & 3));
    return end_of(which & 64 ? OUTSIDE : ADDRESSES[address], port);
}
