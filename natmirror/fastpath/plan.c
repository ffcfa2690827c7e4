/* The plan; plan.h says what each function is for. natmirror/nat/schedulers.py makes its tables. */
#include "fastpath/plan.h"

#include <string.h>

#include "fastpath/hash.h"
#include "fastpath/packet.h"

const uint8_t nm_client_key[16] = {'n', 'a', 't', 'm', 'i', 'r', 'r', 'o', 'r', ' ', 'c', 'l', 'i', 'e', 'n', 't'};
static const uint8_t SUSPECT_KEY[16] = {'n', 'a', 't', 'm', 'i', 'r', 'r', 'o', 'r', ' ', 'w', 'a', 'r', 'y', ' ', ' '};

int nm_plan_is_client(const nm_plan *plan, uint8_t family, const uint8_t *client)
{
    if (family != 4)
        return 0;
    for (uint32_t i = 0; i < plan->network_count; i++)
        if ((get32(client) & plan->networks[i].mask) == plan->networks[i].address)
            return 1;
    return 0;
}

nm_service *nm_plan_service(nm_plan *plan, uint8_t family, const uint8_t *client, const uint8_t *dst, uint16_t dport)
{
    for (uint32_t i = 0; i < plan->service_count; i++) {
        nm_service *service = &plan->services[i];
        if (service->port == dport && service->family == family && !memcmp(service->address, dst, address_len(family)))
            return nm_plan_is_client(plan, family, client) ? service : NULL;
    }
    return NULL;
}

uint32_t nm_plan_backends_at(const nm_plan *plan, const uint8_t *address, uint16_t port, const nm_backend **backend)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->backend_count; i++) {
        const nm_backend *one = &plan->backends[i];
        if (one->port != port || memcmp(one->address, address, address_len(plan->services[one->service_id].family)))
            continue;
        *backend = one;
        count++;
    }
    return count;
}

int nm_plan_is_mirror(const nm_plan *plan, const uint8_t *address, uint16_t port)
{
    for (uint32_t i = 0; i < plan->mirror_count; i++) {
        const nm_mirror *mirror = &plan->mirrors[i];
        if (mirror->port == port && !memcmp(mirror->address, address, sizeof mirror->address))
            return 1;
    }
    return 0;
}

static uint64_t client_hash(const nm_service *service, const uint8_t *client, uint16_t client_port)
{
    uint8_t key[18];
    size_t len = address_len(service->family);
    memcpy(key, client, len);
    if (service->hash_port) {
        put16(key + len, client_port);
        len += 2;
    }
    return nm_siphash(nm_client_key, key, len);
}

uint16_t nm_plan_pick(const nm_service *service, const uint8_t *client, uint16_t client_port)
{
    if (!service->table_len)
        return NM_NO_BACKEND;
    if (service->round_robin)
        return service->table[service->next_entry];
    return service->table[client_hash(service, client, client_port) % service->table_len];
}

uint16_t nm_plan_derive(const nm_service *service, const uint8_t *client, uint16_t client_port)
{
    if (!service->derived_len)
        return NM_NO_BACKEND;
    return service->derived[client_hash(service, client, client_port) % service->derived_len];
}

uint16_t *nm_plan_suspect(nm_plan *plan, uint16_t service, uint8_t family, const uint8_t *client)
{
    uint8_t key[18];
    size_t len = address_len(family);
    put16(key, service);
    memcpy(key + 2, client, len);
    return &plan->suspects[nm_siphash(SUSPECT_KEY, key, len + 2) % NM_SUSPECTS];
}
