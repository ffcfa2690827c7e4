/* The state of the C gear: its tables, its plan, its last decision, its packets to send and its counters.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_GEAR_H
#define NATMIRROR_FASTPATH_GEAR_H

#include <stdint.h>

#include "fastpath/flow_table.h"
#include "fastpath/leg_table.h"
#include "fastpath/out_buffer.h"
#include "fastpath/plan.h"
#include "fastpath/turns.h"

/* The decisions of nm_process(). */
#define NM_ACCEPT 0   /* the packet passes unchanged */
#define NM_MODIFIED 1 /* it passes translated */
#define NM_CONSUMED 2 /* a mirror has sent it to a leg: it is dropped */
/* From here on: dropped, for this reason (natmirror/reasons.py). */
#define NM_DROP_AMBIGUOUS_REPLY 3
#define NM_DROP_CLIENT_NEW_CONNECTIONS 4
#define NM_DROP_FORMER_BACKEND 5
#define NM_DROP_OVER_LIMIT 6
#define NM_DROP_PAST_SERVICE 7
/* From here on: punted to Python, for this reason; neither the packet nor any number was changed. */
#define NM_PUNT 8
#define NM_PUNT_NOT_TCP 8            /* not exactly one TCP segment: ICMP, fragments, padding, other protocols */
#define NM_PUNT_OPENING_OR_CLOSING 9 /* SYN, FIN or RST, or another packet of a flow that is opening or closing */
#define NM_PUNT_NO_FLOW 10           /* a packet of no flow and no leg: data, or a mirror's */
#define NM_PUNT_SPECIAL_FLOW 11      /* its flow was killed, is direct to a service's endpoint, or passes at another hook */
#define NM_PUNT_THROTTLED 12         /* its client is throttled for a mirror */
#define NM_PUNT_OUT_OF_ORDER 13      /* data that a leg or a reader wants, out of order or past the window */
#define NM_PUNT_LEG_REPAIR 14        /* a leg has no room, or is not in its steady state (NM_LEG_STEADY) */
#define NM_PUNT_RESET 15             /* a RST that ends a flow with mirrors: it comes once */
#define NM_PUNT_MPTCP 16             /* data of a flow with legs or readers, with an MPTCP option */
#define NM_PUNT_COPY_BEGINS 17       /* a client's data, with which a copy may begin again */
#define NM_PUNT_REASONS 18

/* nm_send.kind in nm_gear.read; Python uses further kinds. */
#define NM_READ_ORIG 0   /* the next bytes of a client */
#define NM_READ_REPLY 1  /* the next bytes of its backend */
#define NM_READ_MIRROR 2 /* the next bytes of a leg's mirror; nm_send.owner is the leg's reader */

/* The counters of nm_process(). */
typedef struct {
    uint64_t packets_decided_in_c;
    uint64_t bad_checksum_packets; /* of these: passed on as they came, their numbers ignored */
    uint64_t mirror_packets;       /* of these: for legs */
    uint64_t packets_without_flow; /* of these: without a flow, translated by the plan alone */
    uint64_t flows_opened;
    uint64_t flows_evicted; /* closed, half open or idle flows removed to make room for new ones */
    uint64_t direct_connections;
    uint64_t drops[NM_PUNT]; /* by NM_DROP_* */
    uint64_t over_limit[NM_PUNT_REASONS]; /* packets that would have been punted, of peers without a turn */
    uint64_t punts[NM_PUNT_REASONS];
} nm_counters;

/* nm_translation.more */
#define NM_NARROWS 1 /* write the window */
#define NM_STRIPS 2  /* overwrite MP_CAPABLE */

/* The translation of the last packet decided, if that decision was NM_MODIFIED. */
typedef struct {
    uint32_t mark;          /* the kernel translates a packet that carries this mark; 0: it cannot */
    uint8_t address[4];     /* this and port replace the packet's destination, or else its source */
    uint16_t port;
    uint16_t window;        /* with NM_NARROWS, this replaces the packet's window field */
    uint16_t tcp_at;        /* where the packet's TCP header begins */
    uint8_t is_destination;
    uint8_t more;           /* NM_NARROWS | NM_STRIPS: what the kernel would not do, so that the mark is 0 */
} nm_translation;

typedef struct {
    nm_flows *flows;
    nm_holders holders;
    nm_legs *legs;
    nm_chunks *chunks; /* the memory of legs' buffers and of held bytes */
    nm_turns *turns;
    nm_plan plan;
    nm_out out;  /* packets synthesised since nm_out_clear() */
    nm_out read; /* data of NM_FLOW_HAS_READER flows since nm_out_clear(), between it entries that Python has added */
    nm_translation translation;
    const double *begin_at; /* for each account: when copies of its flows may begin again; in the caller's memory */
    uint32_t begin_count;   /* accounts; later ones have no copies that wait */
    uint32_t is_swamped;  /* more packets wait than two batches have */
    double sheds_until;   /* strays pass as far as their senders may send them before this time */
    uint32_t unseen; /* times that packets have passed a watch queue unseen */
    nm_counters counters;
} nm_gear;

/* A gear with tables of its own; NULL without memory. */
nm_gear *nm_gear_new(uint32_t max_flows, nm_budget *budget, const uint8_t *key);
void nm_gear_free(nm_gear *gear);

#endif
