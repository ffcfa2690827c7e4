/* Limits per client; client_limits.h says what each function is for. */
#include "fastpath/client_limits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/hash.h"
#include "fastpath/packet.h"

#define NONE 0 /* row 0 is never used, so that empty chains are zeroed memory, which costs nothing until it is written */
#define ROUNDING 1e-9

/* A client of a service. */
typedef struct {
    double spent, spent_at;        /* tokens, when this was right */
    double whole_at;               /* when all tokens have come back */
    double limited_at[NM_LIMITS];  /* the last refusals */
    int64_t window;                /* the latest window of half_open[] */
    uint32_t half_open[2];         /* half open flows whose SYN came in this window, and in the one before */
    uint32_t open;                 /* open flows */
    uint32_t flows;                /* flows that count as something; 0: the row is idle */
    uint32_t next;                 /* next row in its chain */
    uint32_t older, newer;         /* neighbours in the list of idle rows */
    uint16_t service;
    uint8_t family;
    uint8_t client[16];
} row;

struct nm_clients {
    row *rows;
    uint32_t *heads; /* of chains, by the hash of service and client */
    uint32_t max_rows;
    uint32_t used_count; /* rows from here on were never used */
    uint32_t idle_count;
    uint32_t mask;
    uint32_t oldest, newest; /* idle rows */
    uint8_t key[16];
};

nm_clients *nm_clients_new(uint32_t max_flows, const uint8_t *key)
{
    nm_clients *clients = calloc(1, sizeof *clients);
    uint32_t buckets = 1;
    if (!clients)
        return NULL;
    while (buckets < max_flows && buckets < 1u << 30)
        buckets <<= 1;
    clients->rows = calloc((size_t)max_flows + 1, sizeof *clients->rows);
    clients->heads = calloc(buckets, sizeof *clients->heads);
    clients->max_rows = max_flows + 1;
    clients->used_count = 1;
    clients->mask = buckets - 1;
    memcpy(clients->key, key, sizeof clients->key);
    if (!clients->rows || !clients->heads) {
        nm_clients_free(clients);
        return NULL;
    }
    return clients;
}

void nm_clients_free(nm_clients *clients)
{
    if (!clients)
        return;
    free(clients->rows);
    free(clients->heads);
    free(clients);
}

static uint32_t *head_of(nm_clients *clients, uint16_t service, uint8_t family, const uint8_t *client)
{
    uint8_t key[18];
    size_t len = address_len(family);
    put16(key, service);
    memcpy(key + 2, client, len);
    return &clients->heads[nm_siphash(clients->key, key, len + 2) & clients->mask];
}

static row *find(nm_clients *clients, uint16_t service, uint8_t family, const uint8_t *client)
{
    uint32_t at = *head_of(clients, service, family, client);
    while (at != NONE) {
        row *one = &clients->rows[at];
        if (one->service == service && one->family == family && !memcmp(one->client, client, address_len(family)))
            return one;
        at = one->next;
    }
    return NULL;
}

/* Idle rows */

static void join_idle(nm_clients *clients, row *one)
{
    uint32_t id = (uint32_t)(one - clients->rows);
    one->older = clients->newest;
    one->newer = NONE;
    *(one->older == NONE ? &clients->oldest : &clients->rows[one->older].newer) = id;
    clients->newest = id;
    clients->idle_count++;
}

static void leave_idle(nm_clients *clients, row *one)
{
    *(one->older == NONE ? &clients->oldest : &clients->rows[one->older].newer) = one->newer;
    *(one->newer == NONE ? &clients->newest : &clients->rows[one->newer].older) = one->older;
    clients->idle_count--;
}

/* Return a row of no client: the one that has been idle longest if it remembers nothing any more, or else one that was
 * never used, or else the former; NULL if none is left. */
static row *free_row(nm_clients *clients, double now)
{
    row *idle = clients->oldest == NONE ? NULL : &clients->rows[clients->oldest];
    if (clients->used_count < clients->max_rows && (!idle || idle->whole_at > now))
        return &clients->rows[clients->used_count++];
    if (!idle)
        return NULL;
    leave_idle(clients, idle);
    uint32_t *link = head_of(clients, idle->service, idle->family, idle->client);
    while (*link != (uint32_t)(idle - clients->rows))
        link = &clients->rows[*link].next;
    *link = idle->next;
    return idle;
}

static int64_t window_of(double at) { return (int64_t)floor(at / NM_HALF_OPEN_WINDOW); }

/* Return the client's row, a new one if there is none; NULL if no row is left. */
static row *row_of(nm_clients *clients, uint16_t service, uint8_t family, const uint8_t *client, double now)
{
    row *one = find(clients, service, family, client);
    if (one || !(one = free_row(clients, now)))
        return one;
    uint32_t *head = head_of(clients, service, family, client);
    *one = (row){.limited_at = {-INFINITY, -INFINITY}, .window = window_of(now), .next = *head, .service = service,
                 .family = family};
    memcpy(one->client, client, address_len(family));
    *head = (uint32_t)(one - clients->rows);
    join_idle(clients, one);
    return one;
}

/* Flows */

/* Make this window the latest one, unless a later one is. */
static void roll(row *one, int64_t window)
{
    if (window <= one->window)
        return;
    one->half_open[1] = window == one->window + 1 ? one->half_open[0] : 0;
    one->half_open[0] = 0;
    one->window = window;
}

/* Return the count of half open flows whose SYN came in this window; NULL if they do not count any more. */
static uint32_t *half_open_in(row *one, int64_t window)
{
    return window == one->window ? &one->half_open[0] : window == one->window - 1 ? &one->half_open[1] : NULL;
}

static void add(row *one, uint8_t what, int64_t window, uint32_t by)
{
    uint32_t *half_open = what == NM_COUNTED_HALF_OPEN ? half_open_in(one, window) : NULL;
    if (half_open)
        *half_open += by;
    if (what == NM_COUNTED_OPEN)
        one->open += by;
}

uint8_t nm_client_count(nm_clients *clients, uint16_t service, uint8_t family, const uint8_t *client, uint8_t before, uint8_t after,
                        double created_at)
{
    int64_t window = window_of(created_at);
    row *one = before ? find(clients, service, family, client) : row_of(clients, service, family, client, created_at);
    if (!one)
        return NM_COUNTED_NOT;
    if (before)
        add(one, before, window, (uint32_t)-1);
    else if (!one->flows++)
        leave_idle(clients, one);
    if (after == NM_COUNTED_HALF_OPEN)
        roll(one, window);
    if (after)
        add(one, after, window, 1);
    else if (!--one->flows)
        join_idle(clients, one);
    return after;
}

/* Limits */

static double spent_at(const row *one, const nm_limits *limits, double now)
{
    double spent = fmin(one->spent, limits->burst) - fmax(now - one->spent_at, 0) * limits->rate;
    return fmax(spent, 0);
}

nm_client_use nm_client_used(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client,
                             double now)
{
    row *one = find(clients, service, family, client);
    if (!one)
        return (nm_client_use){0};
    roll(one, window_of(now));
    return (nm_client_use){.open = one->open, .half_open = one->half_open[0] + one->half_open[1],
                           .spent = spent_at(one, limits, now)};
}

int nm_client_limit(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client, double now)
{
    nm_client_use use = nm_client_used(clients, limits, service, family, client, now);
    if (limits->rate > 0 && use.spent + 1 > limits->burst + ROUNDING)
        return NM_LIMIT_RATE;
    if (limits->max_connections && use.open + use.half_open >= limits->max_connections)
        return NM_LIMIT_CONNECTIONS;
    return NM_WITHIN_LIMITS;
}

void nm_client_spend(nm_clients *clients, const nm_limits *limits, uint16_t service, uint8_t family, const uint8_t *client, double now)
{
    row *one = limits->rate > 0 ? row_of(clients, service, family, client, now) : NULL;
    if (!one)
        return;
    one->spent = spent_at(one, limits, now) + 1;
    one->spent_at = now;
    one->whole_at = now + one->spent / limits->rate;
}

void nm_client_refuse(nm_clients *clients, nm_limited *limited, int limit, uint16_t service, uint8_t family, const uint8_t *client,
                      double now)
{
    row *one = find(clients, service, family, client);
    limited->syns++;
    limited->at = now;
    memcpy(limited->client, client, address_len(family));
    if (!one || now - one->limited_at[limit] >= NM_LIMITED_QUIET)
        limited->clients++;
    if (one)
        one->limited_at[limit] = now;
}

uint32_t nm_clients_rows(const nm_clients *clients, uint32_t *idle)
{
    *idle = clients->idle_count;
    return clients->used_count - 1;
}
