/* The leg table: connections to mirrors, found by the mirror's and our own address and port. No I/O, no clock, no
 * policy.
 *
 * A leg is the sending side of a TCP connection (natmirror/tcp/sender.py explains its numbers), with a queue of the
 * client's bytes that the mirror has not acknowledged. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_LEG_TABLE_H
#define NATMIRROR_FASTPATH_LEG_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/byte_ring.h"
#include "fastpath/flow_table.h"
#include "fastpath/heap.h"
#include "fastpath/times.h"

#define NM_MARKS 8 /* marks of a leg, by which it knows the age of its bytes */

/* nm_leg.flags */
#define NM_LEG_STEADY 1   /* established, no loss to repair: C takes data and acknowledgements */
#define NM_LEG_SACK 2     /* both ends use selective acknowledgements */
#define NM_LEG_SAMPLING 4 /* a round trip is being measured: sample_end and sample_at */
#define NM_LEG_MEASURED 8 /* srtt and rttvar hold a measured round trip */
#define NM_LEG_ACCEPTED 16 /* its mirror has accepted it, or answered after another host had opened it */

/* nm_leg.source */
#define NM_SOURCE_RAW 0      /* the client's own bytes, with its own sequence numbers */
#define NM_SOURCE_MESSAGES 1 /* messages that Python composes; the mirror's answers go into nm_gear.read */

typedef struct {
    uint8_t mirror[16];
    uint8_t local[16];
    uint16_t mirror_port;
    uint16_t local_port;
    uint8_t family; /* 4 or 6 */
    uint8_t flags;  /* NM_LEG_* */
    uint8_t scale;  /* shift of the mirror's windows */
    uint8_t source; /* NM_SOURCE_*: the origin of its bytes */
    uint32_t seq_offset; /* added to the leg's own numbers, below, it gives those on the wire */

    uint32_t snd_una, snd_nxt, snd_max; /* first unacknowledged, next to send, one past the highest ever sent */
    uint32_t window, max_window;
    uint32_t buffer_seq; /* number of the first buffered byte */
    uint32_t buffered;   /* bytes */
    uint32_t max_buffer;
    uint32_t mss, full_mss; /* natmirror/tcp/path_mtu.py */

    uint32_t cwnd, ssthresh, cwnd_acked, duplicates; /* natmirror/tcp/congestion.py */
    uint32_t sample_end;
    double sample_at, rto, srtt, rttvar; /* natmirror/tcp/retransmit_timer.py */
    double rto_at;                       /* when the retransmission timer expires; infinity: it is off */
    double progress_at, sent_at, heard_at, written_at;
    double stall_timeout, idle_timeout; /* infinity: none */
    double widen_at; /* when mss becomes full_mss; infinity: it is */

    uint32_t rcv_nxt;
    double ack_at;  /* when the delayed acknowledgement is due; infinity: none is */
    double more_at; /* when to send the data that exceeded the limit of one call; infinity: none is left */
    uint64_t sent_bytes, acked_bytes, consumed_bytes;
    uint32_t retransmits, timeouts;

    nm_ring ring;
    double mark_at[NM_MARKS];
    uint32_t mark_end[NM_MARKS]; /* bytes before this number have been buffered since mark_at */
    uint32_t mark_count;

    nm_due due;
    uint64_t client_bytes; /* all bytes of the client, once flow_id is NM_NO_FLOW */
    uint64_t before_bytes; /* the bytes of the client that count but lie before the leg's first one */
    uint32_t flow_id;      /* the client's connection */
    uint16_t mirror_id;    /* the mirror whose sums include the leg */
    uint32_t reader;       /* NM_SOURCE_MESSAGES: the number of the reader of the mirror's data in nm_gear.read */
    uint32_t id;           /* index in the table; free again after nm_leg_remove() */
    uint32_t next_in_bucket;
    uint32_t next_of_flow; /* the next leg of the same flow, or NM_NO_LEG */
} nm_leg;

/* Sums over the open legs of one mirror. */
typedef struct {
    uint64_t legs;
    uint64_t unanswered; /* those of them that are not NM_LEG_ACCEPTED */
    uint64_t client_bytes;  /* nm_flow_client_bytes() of their flows without before_bytes; of sessions: of their messages */
    uint64_t session_bytes; /* the part of them that is of sessions' messages */
    uint64_t held_bytes;    /* of their clients, not acknowledged by the backends yet */
    uint64_t sent_bytes, acked_bytes, consumed_bytes, retransmits, timeouts;
    uint64_t in_flight_bytes;
    double oldest_at; /* when the oldest unacknowledged byte was buffered; infinity: there is none */
    double srtt;      /* the longest of all legs; 0: none is measured */
} nm_leg_sums;

/* What the acknowledgements of one mirror have shown, on all its legs. */
typedef struct {
    nm_times lags;        /* the age of the oldest unacknowledged byte, at each of them */
    nm_times round_trips; /* as the retransmission timers measure them */
} nm_mirror_times;

typedef struct nm_legs nm_legs;

/* Return a table whose buffers take chunks from these and whose hash is keyed with key[16]; NULL without memory. */
nm_legs *nm_legs_new(nm_chunks *chunks, const uint8_t *key);
void nm_legs_free(nm_legs *legs);
uint32_t nm_legs_count(const nm_legs *legs);

/* Insert a leg, its numbers zero and its times infinite. Return NULL if it exists, or without memory. */
nm_leg *nm_leg_insert(nm_legs *legs, uint8_t family, const uint8_t *mirror, uint16_t mirror_port,
                      const uint8_t *local, uint16_t local_port);
nm_leg *nm_leg_find(nm_legs *legs, uint8_t family, const uint8_t *mirror, uint16_t mirror_port, const uint8_t *local,
                    uint16_t local_port);
nm_leg *nm_leg_by_id(nm_legs *legs, uint32_t id);
/* Remove a leg and give back its memory. */
void nm_leg_remove(nm_legs *legs, nm_leg *leg);

/* Reserve room for len more bytes; return 0 if the budget does not allow it. */
int nm_leg_reserve(nm_legs *legs, nm_leg *leg, uint32_t len);
/* Append bytes to the reserved room. */
void nm_leg_append(nm_leg *leg, const uint8_t *data, uint32_t len, double now);
/* Append the first len held bytes of its flow to the reserved room. The flow's last leg takes them out of the ring,
 * where they are undefined afterwards. */
void nm_leg_append_held(nm_leg *leg, nm_ring *held, uint32_t len, double now);
/* Drop the first count bytes; the mirror has acknowledged up to number ack. */
void nm_leg_drop(nm_legs *legs, nm_leg *leg, uint32_t count, uint32_t ack);
/* Drop all bytes. */
void nm_leg_clear(nm_legs *legs, nm_leg *leg);
/* Copy buffered bytes. */
void nm_leg_copy(const nm_leg *leg, uint32_t offset, uint8_t *to, uint32_t len);

/* Set a leg's deadline. */
void nm_leg_set_due(nm_legs *legs, nm_leg *leg, double due_at);
/* Return the next deadline, or infinity. The second returns a time before which there is none
 * (nm_heap_not_before()). */
double nm_legs_next_due(nm_legs *legs);
double nm_legs_not_before(const nm_legs *legs);
/* Return the first leg that is due by now, or NULL. The second clears its deadline. */
nm_leg *nm_legs_due(nm_legs *legs, double now);
nm_leg *nm_legs_take_due(nm_legs *legs, double now);

/* Sum up the legs of each mirror; count is the number of mirrors. */
void nm_legs_add_up(nm_legs *legs, nm_flows *flows, nm_leg_sums *sums, uint32_t count);

/* A leg, and since when its oldest unacknowledged byte has been buffered. */
typedef struct {
    double since;
    uint32_t id;
} nm_behind;

/* Write to found the first max legs whose oldest unacknowledged byte has waited since then or longer, the longest first,
 * then by number: those behind *after, or from the first on if after is NULL. Return their number. */
uint32_t nm_legs_behind(nm_legs *legs, double then, const nm_behind *after, nm_behind *found, uint32_t max);

/* Note the age of a leg's oldest byte, before an acknowledgement drops it; and a round trip that was measured. */
void nm_leg_note_lag(nm_legs *legs, const nm_leg *leg, double now);
void nm_leg_note_round_trip(nm_legs *legs, const nm_leg *leg, double seconds);
/* Return what was noted of a mirror; NULL: nothing. */
const nm_mirror_times *nm_legs_times(const nm_legs *legs, uint32_t mirror_id);

#endif
