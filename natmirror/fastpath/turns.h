/* Turns: the packets that Python decides. Each peer has so many a second, so that none takes the others' time.
 *
 * A peer has a token bucket, found by its address. For each client a mirror has one of its own, and all backends have
 * one together, so that what they send takes no turn of the client's; together, because a client that answers no SYN-ACK
 * has all of them send theirs again. A part of the bucket is kept for genuine packets: those whose numbers prove that
 * their sender knows the connection. So a host that forges a peer's address can take the rest only, and the peer's
 * connections have at least that part at once, and each second all tokens that come in: as long as the bucket is not
 * filled beyond the kept part, other packets get none of them. A second bucket would do the same, but it would give one
 * peer twice the thread's time.
 *
 * A peer that sends far more than its turns gets fewer of them: each packet that finds no turn adds a token to the
 * surcharge, which the next turn costs beside its price. For Python does more than the packets that a peer pays for: a
 * backend's SYN-ACK, the RST that rejects it and the flow's end are three times as much as the SYN of a flood. No
 * surcharge is on genuine packets, and it has a limit, because anyone can send such packets in a peer's name. It falls by
 * a little with each turn that it is paid for. If the first turn cleared it, the tokens that come in during a stop of the
 * thread soon afterwards would buy a flood ten turns in a row, just when all others wait already. While more packets wait
 * than the thread keeps up with (nm_gear.is_swamped), each turn of a peer that has spent half of what it may has the full
 * surcharge, for a longer stop brings in more tokens. A peer that keeps within its turns has more left, and pays nothing
 * for a flood of another one.
 *
 * A stray is a packet that C decides, of no established connection. A peer that sends strays all the time saves up few
 * turns. Otherwise, the next of its packets that Python decides would come in a row, and others would wait for all of
 * them. Strays cost no peer its last turns, as anyone can send them in its name.
 *
 * Once the thread is swamped, it sheds strays: a peer's pass only as far as it has tokens of a kind of their own for them.
 * Each that passes takes the thread as long as any packet, and its answer again, so that a stop of some milliseconds, while
 * another program has the core, would take several times as long to make up for. The thread sheds strays until none was
 * dropped for NM_SHED_TIME, not only until the packets that wait are few again: else a flood that is just too much for it
 * would always keep about two batches waiting. As long as it keeps up with all packets, all strays pass.
 *
 * All connections of a peer have one bucket, so their number gains it nothing. The table has a fixed size; where it is
 * crowded, the fullest bucket gives way, whose peer has the least to lose and gets a full one with its next packet: a
 * crowd gives peers more turns, but takes none. No I/O, no clock, memory only in nm_turns_new(). This header serves
 * #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_TURNS_H
#define NATMIRROR_FASTPATH_TURNS_H

#include <stdint.h>

/* A packet that Python decides costs the thread 20 to 120 us, by machine and kind (make junk), and a connection that
 * never opens costs three: SYN, SYN-ACK and RST, 50 to 250 us. So a flood with the full surcharge has at most some 3 % of
 * the thread's time, and a peer that stays just within its turns, at worst, 60 %. After a pause, it makes the others wait
 * once for what it has in store: 125 ms at most. Both parts of the store have room for what a client sends at once while
 * a leg connects or repairs a loss. */
#define NM_TURNS_RATE 10000.0 /* tokens that a peer gets each second */
#define NM_TURNS_BURST 3000.0 /* tokens that a peer can have in store */
#define NM_TURNS_KEPT 1000.0  /* of these, for genuine packets alone */
#define NM_TURNS_AMPLE 2000.0 /* a peer with so many left has no surcharge because the thread is swamped */
#define NM_TURNS_STEADY 12.0  /* strays leave so many beside these: three packets take the thread 150 us */
#define NM_STRAYS_RATE 5000.0 /* strays of a peer that pass each second while the thread sheds them */
#define NM_STRAYS_BURST 1000.0 /* of these, at once */
#define NM_SHED_TIME 1.0 /* seconds for which the thread sheds strays after it was swamped, or has dropped one */
#define NM_TURNS_SURCHARGE 96 /* tokens, at most: with it, a peer has 100 turns of others a second */
#define NM_TURNS_RELIEF 4 /* tokens by which the surcharge falls with each turn */
#define NM_TURN_OF_DATA 1     /* the price of a packet of an established flow, or of a leg */
#define NM_TURN_OF_OTHERS 4   /* the price of any other packet: a thread opens fewer connections than that */

/* The peers that have been refused turns since the last report. */
typedef struct {
    uint32_t peers;
    uint64_t packets;    /* of all of them */
    uint8_t address[4]; /* of the peer with the most refusals */
    uint64_t most;      /* that peer's refusals */
} nm_refusals;

typedef struct nm_turns nm_turns;
typedef struct nm_bucket nm_bucket; /* the tokens of one peer */

/* Return a table whose hash is keyed with key[16]; NULL without memory. */
nm_turns *nm_turns_new(const uint8_t *key);
void nm_turns_free(nm_turns *turns);

/* Return the bucket, with its tokens now, of the peer with this IPv4 address; `more` is NULL, or what tells several
 * buckets of one address apart. It is the peer's until the next call. */
nm_bucket *nm_turns_of(nm_turns *turns, const uint8_t *address, const uint8_t *more, double now);
/* Return whether genuine packets alone get a turn at this price, or get it without the surcharge. */
int nm_turn_favours_genuine(const nm_bucket *peer, int price, int is_swamped);
/* Take a turn at this price, and the surcharge unless the packet is genuine: while the thread is_swamped, the full one,
 * unless the peer has NM_TURNS_AMPLE. Return 0 if it has too few tokens left for it; then the surcharge grows. */
int nm_turn_take(nm_bucket *peer, int price, int is_genuine, int is_swamped);
/* Note a stray of this peer. */
void nm_turn_note_stray(nm_bucket *peer);
/* Return whether a stray of this peer passes while the thread sheds them. If not, it counts as a refusal, unless it
 * is_refused a turn already. */
int nm_turn_pass_stray(nm_bucket *peer, int is_refused);

/* Report the refusals since the last call. */
nm_refusals nm_turns_take_refusals(nm_turns *turns);

#endif
