/* The C gear: process(), which repeats for a packet what Python has decided for its flow and its legs.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_H
#define NATMIRROR_FASTPATH_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/flow_table.h"
#include "fastpath/leg_table.h"
#include "fastpath/plan.h"

/* What nm_process() says of a packet. */
#define NM_ACCEPT 0   /* pass as it is */
#define NM_MODIFIED 1 /* pass translated */
#define NM_CONSUMED 2 /* a mirror's, for its leg: to be dropped */
/* Python is to decide, for a reason; neither packet nor numbers were touched. */
#define NM_PUNT 3
#define NM_PUNT_MALFORMED 3 /* no whole TCP segment: ICMP, fragments, padding, other protocols */
#define NM_PUNT_CONTROL 4   /* SYN, FIN or RST, or another packet of a flow that is being opened or closed */
#define NM_PUNT_UNKNOWN 5   /* of no flow and no leg */
#define NM_PUNT_STATE 6     /* its flow is another hook's, or a client's direct connection */
#define NM_PUNT_HELD 7      /* its client is held back for a mirror */
#define NM_PUNT_DATA 8      /* data that a leg or a reader wants, out of its turn or past the window */
#define NM_PUNT_LEG 9       /* a leg has something to mend, or no room */
#define NM_PUNT_REASONS 10

/* What lies in nm_gear.read; Python has kinds of its own besides. */
#define NM_READ_ORIG 0  /* the next of what a client has sent */
#define NM_READ_REPLY 1 /* the next of what its backend has sent */
#define NM_READ_MIRROR 2 /* the next of what a leg's mirror has sent; of is the leg's reader */

/* What process() has counted besides flows' and legs' own numbers. */
typedef struct {
    uint64_t fast_packets;   /* decided here */
    uint64_t bad_checksums;  /* among those: passed on as they came, not believed */
    uint64_t mirror_packets; /* among those: for legs */
    uint64_t unbound_packets; /* without a flow: mapped by the plan alone */
    uint64_t flows_opened;
    uint64_t flows_evicted; /* that were over or half open, because others needed their room */
    uint64_t punts[NM_PUNT_REASONS];
} nm_counters;

/* How a packet is translated that was decided with NM_MODIFIED. */
typedef struct {
    uint32_t mark; /* the kernel does it to a packet that carries this; 0: it cannot */
    uint8_t address[4];
    uint16_t port;
    uint8_t is_destination; /* they come in place of the packet's destination; else of its source */
} nm_translation;

typedef struct {
    nm_flows *flows;
    nm_legs *legs;
    nm_plan plan;
    nm_out out;  /* what was synthesised since nm_out_clear() */
    nm_out read; /* what NM_FLOW_HAS_READER flows have sent since then, and what Python has put between that */
    nm_translation translation;
    nm_counters counters;
} nm_gear;

/* A gear with tables of its own; NULL without memory. */
nm_gear *nm_gear_new(uint32_t max_flows, nm_budget *budget, const uint8_t *key);
void nm_gear_free(nm_gear *gear);

/* A new flow of the plan's service and backend, its other numbers zero; a direct one has its backend's ends as its
 * service's. NULL when the table is full or one of the two tuples is taken. */
nm_flow *nm_gear_insert(nm_gear *gear, uint8_t family, const uint8_t *client, uint16_t client_port, uint16_t service_id,
                        uint16_t backend_id, int is_direct);
void nm_gear_remove(nm_gear *gear, nm_flow *flow);

/* What nm_gear_sweep() does besides. */
#define NM_SWEEP_ANNOUNCE 1       /* tell again of all flows with NM_SHARED */
#define NM_SWEEP_CLAIM_SEEN 2 /* make those of other hosts' flows our own whose packets pass here */
#define NM_SWEEP_CLAIM_ALL 4  /* make all of them our own */
#define NM_SWEEP_HAND_OVER 8       /* our packets pass another host from now on */
#define NM_SWEEP_STANDBY 16     /* they do: what cannot be derived any more that host tells, if it lives at all */

/* Go through at most max rows from number first on; the number to go on with, or NM_NO_FLOW after the last. Whether a
 * flow's backend can be derived is looked at anew. */
uint32_t nm_gear_sweep(nm_gear *gear, uint32_t first, uint32_t max, int how, double now);

/* Forget flows that are due, not all at once; the first that only Python may judge, if there is one. */
nm_flow *nm_gear_expire(nm_gear *gear, double now);

/* One packet of len bytes from its IP header on, met at hook (NF_INET_*), with what is known of its transport checksum
 * (0 nothing, 1 right, 2 only the pseudo-header's sum): decided, all numbers brought up to date, or punted. The packet
 * stays as it is: where the answer is NM_MODIFIED, gear.translation says what is to be done to it. */
int nm_decide(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

/* Do that: rewrite the packet that was decided last. */
void nm_translate(const nm_gear *gear, uint8_t *packet, size_t len, int checksum);

/* Both: a packet is rewritten in place. */
int nm_process(nm_gear *gear, uint8_t *packet, size_t len, int hook, int checksum, double now);

/* Send the acknowledgements that are due for legs in their steady state, and the next of what one of them has left to send,
 * up to a leg with something that is Python's: whether there is one. Not all at once: what is left stays due. */
int nm_gear_acknowledge(nm_gear *gear, double now);

/* One more packet of len bytes; 0 where there is no memory for it. */
int nm_out_add(nm_out *out, const uint8_t *packet, uint32_t len, uint16_t segment_len);
/* The same for data. */
int nm_read_add(nm_out *read, uint8_t kind, uint32_t of, const uint8_t *data, uint32_t len);
void nm_out_clear(nm_out *out);

#endif
