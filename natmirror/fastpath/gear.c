/* The C gear's state; gear.h says what each function is for. */
#include "fastpath/gear.h"

#include <stdlib.h>

nm_gear *nm_gear_new(uint32_t max_flows, nm_budget *budget, const uint8_t *key)
{
    nm_gear *gear = calloc(1, sizeof *gear);
    if (!gear)
        return NULL;
    gear->flows = nm_flows_new(max_flows, key);
    gear->chunks = nm_chunks_new(budget);
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
    nm_flows_free(gear->flows);
    nm_legs_free(gear->legs);
    nm_turns_free(gear->turns);
    nm_chunks_free(gear->chunks);
    free(gear->out.bytes);
    free(gear->out.sends);
    free(gear->read.bytes);
    free(gear->read.sends);
    free(gear);
}
