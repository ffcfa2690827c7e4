/* The account of the memory that mirroring takes: one limit for all threads, and a sixteenth of it for each client.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_BUDGET_H
#define NATMIRROR_FASTPATH_BUDGET_H

#include <stdint.h>

#define NM_HOLDERS 65536
#define NM_NO_HOLDER 0 /* memory of no client: only the budget bounds it */
#define NM_CLIENT_SHARE 16 /* one client may hold 1/16 of the limit */

/* The limit on the memory that mirroring takes in all threads together. */
typedef struct {
    int64_t used; /* bytes; updated atomically */
    int64_t limit;
} nm_budget;

/* What each client of one thread holds, by a keyed hash of its address. Clients with the same hash share a number, and
 * a sixteenth of the budget; no client can find one that shares its number. */
typedef struct {
    nm_budget *budget;
    int64_t *used; /* bytes, NM_HOLDERS of them */
    uint8_t key[16];
} nm_holders;

/* Take bytes from the budget, or give them back, in any thread. Return 0 if the limit does not allow it. */
int nm_budget_take(nm_budget *budget, int64_t count);
void nm_budget_give(nm_budget *budget, int64_t count);

int nm_holders_init(nm_holders *holders, nm_budget *budget, const uint8_t *key); /* 0 without memory */
void nm_holders_free(nm_holders *holders);
/* Return the number of a client. */
uint16_t nm_holder_of(const nm_holders *holders, uint8_t family, const uint8_t *client);
/* Take bytes for a client, or give them back. Return 0 if the budget or the client's part of it does not allow it. */
int nm_holder_take(nm_holders *holders, uint16_t holder, int64_t count);
void nm_holder_give(nm_holders *holders, uint16_t holder, int64_t count);
/* Return the bytes that the client which holds most has. */
int64_t nm_holders_most(const nm_holders *holders);

#endif
