/* The account of mirroring's memory; budget.h says what each function is for. */
#include "fastpath/budget.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/hash.h"
#include "fastpath/packet.h"

int nm_budget_take(nm_budget *budget, int64_t count)
{
    if (__atomic_add_fetch(&budget->used, count, __ATOMIC_RELAXED) <= budget->limit)
        return 1;
    nm_budget_give(budget, count);
    return 0;
}

void nm_budget_give(nm_budget *budget, int64_t count) { __atomic_sub_fetch(&budget->used, count, __ATOMIC_RELAXED); }

int nm_holders_init(nm_holders *holders, nm_budget *budget, const uint8_t *key)
{
    holders->budget = budget;
    holders->used = calloc(NM_HOLDERS, sizeof *holders->used);
    memcpy(holders->key, key, sizeof holders->key);
    return holders->used != NULL;
}

void nm_holders_free(nm_holders *holders) { free(holders->used); }

uint16_t nm_holder_of(const nm_holders *holders, uint8_t family, const uint8_t *client)
{
    return (uint16_t)(1 + nm_siphash(holders->key, client, address_len(family)) % (NM_HOLDERS - 1));
}

int nm_holder_take(nm_holders *holders, uint16_t holder, int64_t count)
{
    int64_t used = holders->used[holder] + count;
    if (holder != NM_NO_HOLDER && used > holders->budget->limit / NM_CLIENT_SHARE)
        return 0;
    if (!nm_budget_take(holders->budget, count))
        return 0;
    holders->used[holder] = used;
    return 1;
}

void nm_holder_give(nm_holders *holders, uint16_t holder, int64_t count)
{
    holders->used[holder] -= count;
    nm_budget_give(holders->budget, count);
}

int64_t nm_holders_most(const nm_holders *holders)
{
    int64_t most = 0;
    for (uint32_t i = NM_NO_HOLDER + 1; i < NM_HOLDERS; i++)
        if (holders->used[i] > most)
            most = holders->used[i];
    return most;
}
