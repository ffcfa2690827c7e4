/* The leg table; leg_table.h says what each function is for.
 *
 * Legs are allocated in blocks, so that pointers to them stay valid.
 */
#include "fastpath/leg_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/hash.h"
#include "fastpath/packet.h"

#define BLOCK_LEN 256
#define MIN_BUCKETS 1024
#define MARK_INTERVAL 0.01 /* seconds: the resolution of the bytes' age */

struct nm_legs {
    nm_chunks *chunks;
    nm_leg **blocks;
    uint32_t block_count;
    uint32_t *free; /* a stack of leg numbers */
    uint32_t free_count;
    uint32_t count;
    uint32_t *buckets;
    uint32_t bucket_count;
    nm_heap heap;
    nm_mirror_times *times; /* by mirror_id */
    uint32_t time_count;
    uint8_t key[16];
};

/* The table */

nm_legs *nm_legs_new(nm_chunks *chunks, const uint8_t *key)
{
    nm_legs *legs = calloc(1, sizeof *legs);
    if (!legs)
        return NULL;
    legs->chunks = chunks;
    legs->bucket_count = MIN_BUCKETS;
    legs->buckets = malloc(MIN_BUCKETS * sizeof *legs->buckets);
    if (!legs->buckets) {
        free(legs);
        return NULL;
    }
    memset(legs->buckets, 0xff, MIN_BUCKETS * sizeof *legs->buckets);
    memcpy(legs->key, key, sizeof legs->key);
    return legs;
}

void nm_legs_free(nm_legs *legs)
{
    if (!legs)
        return;
    for (uint32_t i = 0; i < legs->block_count * BLOCK_LEN; i++) {
        nm_leg *leg = nm_leg_by_id(legs, i);
        nm_ring_free(legs->chunks, &leg->ring, leg->buffered);
    }
    for (uint32_t i = 0; i < legs->block_count; i++)
        free(legs->blocks[i]);
    free(legs->blocks);
    free(legs->free);
    free(legs->heap.places);
    free(legs->buckets);
    free(legs->times);
    free(legs);
}

uint32_t nm_legs_count(const nm_legs *legs) { return legs->count; }

nm_leg *nm_leg_by_id(nm_legs *legs, uint32_t id) { return &legs->blocks[id / BLOCK_LEN][id % BLOCK_LEN]; }

/* Add a block of legs, and room for them in the stack of free legs and in the heap. */
static int grow(nm_legs *legs)
{
    uint32_t blocks = legs->block_count + 1, count = blocks * BLOCK_LEN;
    nm_leg **new_blocks = realloc(legs->blocks, blocks * sizeof *new_blocks);
    if (new_blocks)
        legs->blocks = new_blocks;
    uint32_t *new_free = realloc(legs->free, count * sizeof *new_free);
    if (new_free)
        legs->free = new_free;
    nm_due **new_heap = realloc(legs->heap.places, count * sizeof *new_heap);
    if (new_heap)
        legs->heap.places = new_heap;
    nm_leg *block = new_blocks && new_free && new_heap ? calloc(BLOCK_LEN, sizeof *block) : NULL;
    if (!block)
        return 0;
    legs->blocks[legs->block_count++] = block;
    for (uint32_t i = 0; i < BLOCK_LEN; i++)
        legs->free[legs->free_count++] = count - 1 - i;
    return 1;
}

static uint32_t *bucket(nm_legs *legs, const nm_leg *leg)
{
    uint32_t hash = nm_hash_ends(legs->key, leg->family, leg->mirror, leg->mirror_port, leg->local, leg->local_port);
    return &legs->buckets[hash & (legs->bucket_count - 1)];
}

/* Double the number of buckets. Without memory for them, the chains grow longer instead. */
static void grow_buckets(nm_legs *legs)
{
    uint32_t old_count = legs->bucket_count, *old = legs->buckets;
    uint32_t *fresh = malloc(2 * old_count * sizeof *fresh);
    if (!fresh)
        return;
    memset(fresh, 0xff, 2 * old_count * sizeof *fresh);
    legs->buckets = fresh;
    legs->bucket_count = 2 * old_count;
    for (uint32_t i = 0; i < old_count; i++) {
        for (uint32_t at = old[i], next; at != NM_NO_LEG; at = next) {
            nm_leg *leg = nm_leg_by_id(legs, at);
            uint32_t *head = bucket(legs, leg);
            next = leg->next_in_bucket;
            leg->next_in_bucket = *head;
            *head = at;
        }
    }
    free(old);
}

nm_leg *nm_leg_find(nm_legs *legs, uint8_t family, const uint8_t *mirror, uint16_t mirror_port, const uint8_t *local,
                    uint16_t local_port)
{
    if (!legs->count)
        return NULL;
    size_t address = address_len(family);
    uint32_t hash = nm_hash_ends(legs->key, family, mirror, mirror_port, local, local_port);
    uint32_t at = legs->buckets[hash & (legs->bucket_count - 1)];
    while (at != NM_NO_LEG) {
        nm_leg *leg = nm_leg_by_id(legs, at);
        if (leg->mirror_port == mirror_port && leg->local_port == local_port && leg->family == family &&
            !memcmp(leg->mirror, mirror, address) && !memcmp(leg->local, local, address))
            return leg;
        at = leg->next_in_bucket;
    }
    return NULL;
}

nm_leg *nm_leg_insert(nm_legs *legs, uint8_t family, const uint8_t *mirror, uint16_t mirror_port,
                      const uint8_t *local, uint16_t local_port)
{
    size_t address = address_len(family);
    if (nm_leg_find(legs, family, mirror, mirror_port, local, local_port) || (!legs->free_count && !grow(legs)))
        return NULL;
    if (legs->count >= legs->bucket_count)
        grow_buckets(legs);
    uint32_t id = legs->free[--legs->free_count];
    nm_leg *leg = nm_leg_by_id(legs, id);
    memset(leg, 0, sizeof *leg);
    leg->id = id;
    leg->family = family;
    memcpy(leg->mirror, mirror, address);
    memcpy(leg->local, local, address);
    leg->mirror_port = mirror_port;
    leg->local_port = local_port;
    leg->next_of_flow = NM_NO_LEG;
    leg->rto_at = leg->ack_at = leg->more_at = leg->stall_timeout = leg->idle_timeout = leg->widen_at = INFINITY;
    leg->due = (nm_due){.due_at = INFINITY, .queued_at = INFINITY, .id = id};
    uint32_t *head = bucket(legs, leg);
    leg->next_in_bucket = *head;
    *head = id;
    legs->count++;
    return leg;
}

/* Deadlines */

void nm_leg_set_due(nm_legs *legs, nm_leg *leg, double due_at) { nm_heap_set(&legs->heap, &leg->due, due_at); }

double nm_legs_next_due(nm_legs *legs) { return nm_heap_next(&legs->heap); }

double nm_legs_not_before(const nm_legs *legs) { return nm_heap_not_before(&legs->heap); }

nm_leg *nm_legs_due(nm_legs *legs, double now)
{
    return nm_heap_is_due(&legs->heap, now) ? nm_leg_by_id(legs, legs->heap.places[0]->id) : NULL;
}

nm_leg *nm_legs_take_due(nm_legs *legs, double now)
{
    nm_due *due = nm_heap_take(&legs->heap, now);
    return due ? nm_leg_by_id(legs, due->id) : NULL;
}

/* Bytes */

int nm_leg_reserve(nm_legs *legs, nm_leg *leg, uint32_t len)
{
    return nm_ring_reserve(legs->chunks, &leg->ring, leg->buffered, len, leg->buffer_seq);
}

/* Halve the number of marks: each covers the bytes of two, with the older one's time. */
static void merge_marks(nm_leg *leg)
{
    for (uint32_t i = 0; i < NM_MARKS / 2; i++) {
        leg->mark_at[i] = leg->mark_at[2 * i];
        leg->mark_end[i] = leg->mark_end[2 * i + 1];
    }
    leg->mark_count = NM_MARKS / 2;
}

/* Note that bytes were buffered. */
static void mark(nm_leg *leg, double now)
{
    if (!leg->mark_count || now - leg->mark_at[leg->mark_count - 1] >= MARK_INTERVAL) {
        if (leg->mark_count == NM_MARKS)
            merge_marks(leg);
        leg->mark_at[leg->mark_count++] = now;
    }
    leg->mark_end[leg->mark_count - 1] = leg->buffer_seq + leg->buffered;
}

void nm_leg_append(nm_leg *leg, const uint8_t *data, uint32_t len, double now)
{
    nm_ring_append(&leg->ring, leg->buffered, data, len);
    leg->buffered += len;
    mark(leg, now);
}

void nm_leg_append_held(nm_leg *leg, nm_ring *held, uint32_t len, double now)
{
    nm_ring_append_from(&leg->ring, leg->buffered, held, len, leg->next_of_flow == NM_NO_LEG);
    leg->buffered += len;
    mark(leg, now);
}

void nm_leg_drop(nm_legs *legs, nm_leg *leg, uint32_t count, uint32_t ack)
{
    nm_ring_drop(legs->chunks, &leg->ring, leg->buffered, count);
    leg->buffered -= count;
    leg->buffer_seq += count;
    uint32_t gone = 0;
    while (gone < leg->mark_count && (int32_t)(leg->mark_end[gone] - ack) <= 0)
        gone++;
    leg->mark_count -= gone;
    memmove(leg->mark_at, leg->mark_at + gone, leg->mark_count * sizeof *leg->mark_at);
    memmove(leg->mark_end, leg->mark_end + gone, leg->mark_count * sizeof *leg->mark_end);
}

void nm_leg_clear(nm_legs *legs, nm_leg *leg)
{
    nm_leg_drop(legs, leg, leg->buffered, leg->buffer_seq + leg->buffered);
}

void nm_leg_copy(const nm_leg *leg, uint32_t offset, uint8_t *to, uint32_t len)
{
    nm_ring_copy(&leg->ring, offset, to, len);
}

void nm_leg_remove(nm_legs *legs, nm_leg *leg)
{
    uint32_t *link = bucket(legs, leg);
    while (*link != leg->id)
        link = &nm_leg_by_id(legs, *link)->next_in_bucket;
    *link = leg->next_in_bucket;
    nm_heap_remove(&legs->heap, &leg->due);
    nm_leg_clear(legs, leg);
    nm_ring_free(legs->chunks, &leg->ring, 0);
    leg->family = 0; /* a free row's mark */
    legs->free[legs->free_count++] = leg->id;
    legs->count--;
}

void nm_legs_add_up(nm_legs *legs, nm_flows *flows, nm_leg_sums *sums, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sums[i] = (nm_leg_sums){.oldest_at = INFINITY};
    for (uint32_t id = 0; id < legs->block_count * BLOCK_LEN; id++) {
        const nm_leg *leg = nm_leg_by_id(legs, id);
        if (!leg->family || leg->mirror_id >= count)
            continue;
        nm_leg_sums *sum = &sums[leg->mirror_id];
        const nm_flow *flow = nm_flow_by_id(flows, leg->flow_id);
        sum->legs++;
        sum->unanswered += !(leg->flags & NM_LEG_ACCEPTED);
        sum->client_bytes += (flow ? nm_flow_client_bytes(flow) : leg->client_bytes) - leg->before_bytes;
        sum->held_bytes += flow && flow->flags & NM_FLOW_HOLDS ? flow->held_len : 0;
        sum->session_bytes += leg->source == NM_SOURCE_MESSAGES ? leg->client_bytes : 0;
        sum->sent_bytes += leg->sent_bytes;
        sum->acked_bytes += leg->acked_bytes;
        sum->consumed_bytes += leg->consumed_bytes;
        sum->retransmits += leg->retransmits;
        sum->timeouts += leg->timeouts;
        sum->in_flight_bytes += leg->snd_nxt - leg->snd_una;
        if (leg->mark_count && leg->mark_at[0] < sum->oldest_at)
            sum->oldest_at = leg->mark_at[0];
        if (leg->flags & NM_LEG_MEASURED && leg->srtt > sum->srtt)
            sum->srtt = leg->srtt;
    }
}

static int is_before(const nm_behind *one, const nm_behind *other)
{
    return one->since < other->since || (one->since == other->since && one->id < other->id);
}

uint32_t nm_legs_behind(nm_legs *legs, double then, const nm_behind *after, nm_behind *found, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < legs->block_count * BLOCK_LEN; id++) {
        const nm_leg *leg = nm_leg_by_id(legs, id);
        if (!leg->family || !leg->mark_count || leg->mark_at[0] > then)
            continue;
        nm_behind one = {.since = leg->mark_at[0], .id = id};
        if ((after && !is_before(after, &one)) || (count == max && !is_before(&one, &found[max - 1])))
            continue;
        uint32_t at = count < max ? count++ : max - 1;
        for (; at && is_before(&one, &found[at - 1]); at--)
            found[at] = found[at - 1];
        found[at] = one;
    }
    return count;
}

/* Times */

/* Return the times of a leg's mirror; NULL without memory for them. */
static nm_mirror_times *times_of(nm_legs *legs, const nm_leg *leg)
{
    uint32_t count = leg->mirror_id + 1u;
    if (count > legs->time_count) {
        nm_mirror_times *grown = realloc(legs->times, count * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + legs->time_count, 0, (count - legs->time_count) * sizeof *grown);
        legs->times = grown;
        legs->time_count = count;
    }
    return &legs->times[leg->mirror_id];
}

void nm_leg_note_lag(nm_legs *legs, const nm_leg *leg, double now)
{
    nm_mirror_times *times = times_of(legs, leg);
    if (times && leg->mark_count)
        nm_times_add(&times->lags, now - leg->mark_at[0]);
}

void nm_leg_note_round_trip(nm_legs *legs, const nm_leg *leg, double seconds)
{
    nm_mirror_times *times = times_of(legs, leg);
    if (times)
        nm_times_add(&times->round_trips, seconds);
}

const nm_mirror_times *nm_legs_times(const nm_legs *legs, uint32_t mirror_id)
{
    return mirror_id < legs->time_count ? &legs->times[mirror_id] : NULL;
}
