/* The turns of peers; turns.h says what each function is for. */
#include "fastpath/turns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/hash.h"

#define SETS 1024 /* a power of two */
#define WAYS 4    /* the buckets among which an address has its place */

struct nm_bucket {
    uint8_t peer[8]; /* the peer's address, and what tells several buckets of one address apart */
    uint64_t is_used;
    double at;   /* when `left` was right */
    double left; /* tokens */
    double strays; /* that pass while the thread sheds them */
    uint64_t refused;
    uint32_t surcharge; /* tokens */
};

struct nm_turns {
    nm_bucket buckets[SETS * WAYS];
    uint8_t key[16];
};

nm_turns *nm_turns_new(const uint8_t *key)
{
    nm_turns *turns = calloc(1, sizeof *turns);
    if (turns)
        memcpy(turns->key, key, sizeof turns->key);
    return turns;
}

void nm_turns_free(nm_turns *turns) { free(turns); }

static double left_at(const nm_bucket *one, double now)
{
    double left = one->left + (now - one->at) * NM_TURNS_RATE;
    return left < NM_TURNS_BURST ? left : NM_TURNS_BURST;
}

/* Return the peer's bucket; a new one replaces a free one, or else the fullest. */
static nm_bucket *bucket_of(nm_turns *turns, const uint8_t *peer, double now)
{
    nm_bucket *set = &turns->buckets[nm_siphash(turns->key, peer, sizeof set->peer) % SETS * WAYS], *place = NULL;
    for (nm_bucket *one = set; one < set + WAYS; one++) {
        if (one->is_used && !memcmp(one->peer, peer, sizeof one->peer))
            return one;
        if (!place || (place->is_used && (!one->is_used || left_at(one, now) > left_at(place, now))))
            place = one;
    }
    *place = (nm_bucket){.at = now, .left = NM_TURNS_BURST, .strays = NM_STRAYS_BURST, .is_used = 1};
    memcpy(place->peer, peer, sizeof place->peer);
    return place;
}

nm_bucket *nm_turns_of(nm_turns *turns, const uint8_t *address, const uint8_t *more, double now)
{
    uint8_t peer[8] = {0};
    memcpy(peer, address, 4);
    if (more)
        memcpy(peer + 4, more, 4);
    nm_bucket *one = bucket_of(turns, peer, now);
    one->left = left_at(one, now);
    one->strays = fmin(one->strays + (now - one->at) * NM_STRAYS_RATE, NM_STRAYS_BURST);
    one->at = now;
    return one;
}

int nm_turn_favours_genuine(const nm_bucket *peer, int price, int is_swamped)
{
    return is_swamped || peer->surcharge || peer->left < price + NM_TURNS_KEPT;
}

int nm_turn_take(nm_bucket *peer, int price, int is_genuine, int is_swamped)
{
    int is_full = is_swamped && peer->left < NM_TURNS_AMPLE;
    double whole = price + (is_genuine ? 0.0 : is_full ? NM_TURNS_SURCHARGE : peer->surcharge);
    if (peer->left < whole + (is_genuine ? 0 : NM_TURNS_KEPT)) {
        peer->refused++;
        if (!is_genuine && peer->surcharge < NM_TURNS_SURCHARGE)
            peer->surcharge++;
        return 0;
    }
    peer->left -= whole;
    if (!is_genuine)
        peer->surcharge -= peer->surcharge < NM_TURNS_RELIEF ? peer->surcharge : NM_TURNS_RELIEF;
    return 1;
}

void nm_turn_note_stray(nm_bucket *peer)
{
    double saved = NM_TURNS_KEPT + NM_TURNS_STEADY + peer->surcharge;
    if (peer->left > saved)
        peer->left = fmax(peer->left - 1, saved);
}

int nm_turn_pass_stray(nm_bucket *peer, int is_refused)
{
    if (peer->strays >= 1) {
        peer->strays -= 1;
        return 1;
    }
    peer->refused += !is_refused;
    return 0;
}

nm_refusals nm_turns_take_refusals(nm_turns *turns)
{
    nm_refusals found = {0};
    for (nm_bucket *one = turns->buckets; one < turns->buckets + SETS * WAYS; one++) {
        if (!one->refused)
            continue;
        found.peers++;
        found.packets += one->refused;
        if (one->refused > found.most) {
            found.most = one->refused;
            memcpy(found.address, one->peer, sizeof found.address);
        }
        one->refused = 0;
    }
    return found;
}
