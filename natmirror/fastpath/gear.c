/* The C gear's state; gear.h says what each function is for. */
#include "fastpath/gear.h"

#include <stdlib.h>

#include "fastpath/held_bytes.h"

nm_gear *nm_gear_new(uint32_t max_flows, nm_budget *budget, const uint8_t *key)
{
    nm_gear *gear = calloc(1, sizeof *gear);
    if (!gear)
        return NULL;
    gear->flows = nm_flows_new(max_flows, key, &gear->plan);
    gear->chunks = nm_holders_init(&gear->holders, budget, key) ? nm_chunks_new(&gear->holders) : NULL;
    gear->legs = gear->chunks ? nm_legs_new(gear->chunks, key) : NULL;
    gear->turns = nm_turns_new(key);
    if (!gear->flows || !gear->legs || !gear->turns) {
        nm_gear_free(gear);
        return NULL;
    }
    return gear;
}

void nm_gear_free(nm_gear *gear)
{
    if (!gear)
        return;
    for (uint32_t id = 0; gear->flows && nm_flow_ids(gear->flows, id, &id, 1); id++)
        nm_held_clear(gear, nm_flow_by_id(gear->flows, id));
    nm_flows_free(gear->flows);
    nm_legs_free(gear->legs);
    nm_turns_free(gear->turns);
    nm_chunks_free(gear->chunks);
    nm_holders_free(&gear->holders);
    free(gear->out.bytes);
    free(gear->out.sends);
    free(gear->read.bytes);
    free(gear->read.sends);
    free(gear);
}
