/* The flow table: production's connections, found by client and service or by backend and client.
 *
 * No I/O, no clock, no policy; memory only in nm_flows_new(). This header serves #include and cffi's cdef() alike.
 * Addresses are 16 bytes (IPv4: the first four, the rest zero), ports and sequence numbers in host order.
 */
#ifndef NATMIRROR_FASTPATH_FLOW_TABLE_H
#define NATMIRROR_FASTPATH_FLOW_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/byte_ring.h"
#include "fastpath/client_limits.h"
#include "fastpath/flow_states.h"
#include "fastpath/heap.h"
#include "fastpath/plan.h"

#define NM_NO_LEG 0xffffffffu  /* the end of a flow's list of legs */
#define NM_NO_FLOW 0xffffffffu /* no row of the table */

/* nm_flow.flags */
#define NM_FLOW_FEEDS_LEGS 1         /* a leg gets the client's data */
#define NM_FLOW_WATCHED 2            /* of a service without a pool: its packets are read, never rewritten */
#define NM_FLOW_DIRECT 4             /* the client talks to the backend directly: packets pass, untracked */
#define NM_FLOW_PICKED_UP 8          /* its SYN did not pass here: window scales unknown */
#define NM_FLOW_THROTTLED 16         /* a mirror throttles the client: punt the backend's packets */
#define NM_FLOW_PAST_WINDOW 32       /* a byte past the backend's window waits for the window: punt the backend's packets */
#define NM_FLOW_ORIG_GAP 64          /* client data waits for earlier data: punt the client's data */
#define NM_FLOW_SERVICE_MIRRORED 128 /* its service has mirrors: Python sees its handshake and its end */
#define NM_FLOW_PYTHON_STATE 256     /* Python keeps state for it: only Python may remove it */
#define NM_FLOW_HALF_OPEN 512        /* its handshake is not complete, or it is unconfirmed */
#define NM_FLOW_UNANSWERED 1024      /* Python has counted its SYN as unanswered */
#define NM_FLOW_CLOSED 2048          /* in TIME-WAIT, or reset */
#define NM_FLOW_HAS_READER 4096      /* the data of both ends goes into nm_gear.read too */
#define NM_FLOW_REPLY_GAP 8192       /* backend data waits for earlier data: punt the backend's data */
#define NM_FLOW_KILLED 16384         /* its backend failed and both ends were reset: punt all further packets */
#define NM_FLOW_HOLDS 32768          /* legs and readers get only bytes that the backend has acknowledged */
#define NM_FLOW_STRIPS_MPTCP 0x10000 /* MP_CAPABLE is stripped from SYN and SYN-ACK */
#define NM_FLOW_MPTCP 0x20000        /* SYN or SYN-ACK have shown that it belongs to an MPTCP connection: never copied */
#define NM_FLOW_IDLE 0x40000         /* it was silent for its timeout, and stays for its copies; see nm_flow_keep() */
#define NM_FLOW_LOOSE 0x80000        /* picked up, and its two ends have not agreed on their numbers here */
#define NM_FLOW_VOUCHED 0x100000     /* its binding is certain though it is loose: it was established, or is reported */
#define NM_FLOW_SKIPPED 0x200000     /* data of its client passed without mirroring: its copies end */
#define NM_FLOW_UNSEEN 0x400000      /* the same, and perhaps: packets have passed its watch queue unseen */
#define NM_FLOW_AMBIGUOUS 0x800000   /* it is unknown which SYN or first data its backend took: never copied */
#define NM_FLOW_RECONNECTS 0x1000000 /* a copy that has ended waits for a break in the client's data, to begin again */
#define NM_FLOW_AT_BREAK 0x2000000   /* there is one at break_at */
#define NM_FLOW_UNREAD 0x4000000     /* client data passed whose numbers agreed with nothing: its backend may have it */
#define NM_FLOW_AHEAD 0x8000000      /* its backend may have bytes of the client past orig.end, up to ahead_to */
#define NM_FLOW_LIMITED 0x10000000   /* its service has limits per client: it counts */

/* nm_flow.sharing: what another host needs to know of the flow */
#define NM_PINNED 1    /* the rules alone give another backend */
#define NM_ANNOUNCED 2 /* the flow is pinned, neither half open nor closed, and NM_CHANGE_BOUND was logged */
#define NM_GUEST 4     /* another host passes it, and none of its packets has changed its state here */

/* nm_change.kind */
#define NM_CHANGE_BOUND 0     /* a pinned flow is established */
#define NM_CHANGE_FORGOTTEN 1 /* this host has removed it; another host may still pass it */
#define NM_CHANGE_ENDED 2     /* it has closed */

/* nm_half.flags */
#define NM_HALF_SEQ 1      /* end is known */
#define NM_HALF_ACK 2      /* ack and edge are known */
#define NM_HALF_FIN 4      /* a FIN was sent; it lies at end - 1 */
#define NM_HALF_STAMP 16   /* stamp is known */
#define NM_HALF_ECHO 32    /* TS.Recent has come to echo, at most NM_MAX_ECHO_AGE before echo_at */
#define NM_HALF_RECORDED 128 /* ack and edge are another host's: the true ones may be higher */
#define NM_HALF_REVOKED 64 /* a FIN was sent that its receiver may take or not, for example with a byte's number */
#define NM_HALF_INFERRED 8 /* the byte before end was not seen: an acknowledgement's sequence number implies it */

/* One direction of a connection, as observed from its packets. */
typedef struct {
    uint64_t bytes;   /* payload sent, counted by sequence numbers: retransmissions count once */
    uint64_t packets; /* all packets that passed, retransmissions included */
    uint32_t end;     /* one past the highest sequence number sent (SYN and FIN count) */
    uint32_t ack;     /* highest acknowledgement number sent */
    uint32_t edge;    /* highest right edge of the receive window offered */
    uint32_t next;    /* where legs or readers get the data: the first number that has not passed here in order */
    /* Only where the service has mirrors: */
    double echo_at;      /* when echo has moved, or its beginning; INFINITY: nothing is known of TS.Recent any more */
    uint32_t max_window; /* the largest window offered, in bytes */
    uint32_t stamp;      /* the latest TSval sent (RFC 7323 3.2) */
    uint32_t echo;       /* the latest TSecr sent; before the first one, a TSval below all that the other end has sent */
    uint8_t scale;       /* shift of the windows offered (RFC 7323 2.2) */
    uint8_t flags;    /* NM_HALF_* */
} nm_half;

/* A flow at the last look (looks.h). Looks are meant by their numbers; 0: none. */
typedef struct {
    uint32_t requests, replies; /* the lower bits of orig.packets and reply.packets */
    uint32_t ack;               /* orig.ack */
    uint32_t reply_end, reply_ack;
    uint32_t state;
    uint32_t spoke_in;          /* the last look at which its client had sent something since the look before */
    uint32_t heard_in;          /* the same for its backend */
    uint32_t passed_in;         /* the last look since which data was acknowledged, or sent by its backend, at once */
    uint32_t waits_from;        /* the look since which its client has waited for an acknowledgement */
    uint32_t unreached_from;    /* the look since which its backend has waited for one */
} nm_looked;

typedef struct {
    nm_half orig;  /* client to service */
    nm_half reply; /* backend to client */
    double created_at;
    double seen_at;
    double came_at; /* when the last packet came, whether it refreshes the flow or not */
    uint8_t client[16];
    uint8_t service[16];
    uint8_t backend[16];
    uint16_t client_port;
    uint16_t service_port;
    uint16_t backend_port;
    uint8_t family;        /* 4 or 6 */
    uint8_t state;         /* NM_STATE_* */
    uint8_t sharing;       /* NM_PINNED | NM_ANNOUNCED | NM_GUEST */
    uint8_t counted;       /* NM_COUNTED_*: what it counts as, among its client's connections */
    uint32_t flags;        /* NM_FLOW_* */
    uint16_t service_id;   /* index of nm_plan.services */
    uint16_t backend_id;   /* of nm_plan.backends; NM_NO_BACKEND where there is no pool, and for NM_FLOW_DIRECT */
    uint32_t account;      /* the ledger's account that its client's bytes count in; 0: none */
    uint32_t shown;        /* NM_FLOW_THROTTLED: the right edge of the window that the client has seen */
    uint32_t iss;          /* the client's initial sequence number, where its SYN was seen */
    nm_due due;            /* when it expires, unless a packet passes before */
    uint32_t id;           /* index in the table; free again after nm_flow_remove() */
    uint32_t first_leg;    /* the first of its legs, or NM_NO_LEG */
    uint32_t next_orig;    /* next row in its chain of the index by client */
    uint32_t next_reply;   /* next row in its chain of the index by backend */
    uint32_t older, newer; /* neighbours in the list of half open, closed or idle flows */
    nm_ring held;          /* held_bytes.h */
    uint32_t held_len;     /* bytes; they end at orig.next */
    uint32_t max_held;     /* bytes; the first ones may be more */
    uint32_t unseen;       /* nm_gear.unseen at its last packet, or when it began */
    uint32_t break_at;     /* NM_FLOW_RECONNECTS: the end of the client's data that passed last, if known */
    uint32_t ahead_to;     /* NM_FLOW_AHEAD: see nm_note_ahead() */
    nm_looked looked;
    uint32_t proven;       /* of a flow from another host: its mirrors have the bytes before, so its backend has them */
} nm_flow;

/* A change of a pinned flow, for the other hosts. */
typedef struct {
    uint8_t client[16];
    uint16_t client_port;
    uint16_t service_id;
    uint16_t backend_id;
    uint8_t family;
    uint8_t kind; /* NM_CHANGE_BOUND .. NM_CHANGE_ENDED */
} nm_change;

/* A log of changes, the oldest first, in the caller's memory. */
typedef struct {
    nm_change *rows;
    uint32_t max;
    uint32_t count;
    uint32_t missed; /* changes for which there was no room */
} nm_changes;

/* Sums over the flows of one account. */
typedef struct {
    uint64_t client_bytes; /* their nm_flow_client_bytes() */
    uint32_t connections;
} nm_account_sums;

typedef struct nm_flows nm_flows;

/* A table for at most max_flows flows, whose hash is keyed with key[16], of the services and backends of a plan; NULL
 * without memory. */
nm_flows *nm_flows_new(uint32_t max_flows, const uint8_t *key, nm_plan *plan);
void nm_flows_free(nm_flows *flows);

/* Insert a flow into both indexes, all its numbers zero. Return NULL if the table is full or has one of the two
 * tuples. */
nm_flow *nm_flow_insert(nm_flows *flows, uint8_t family, const uint8_t *client, uint16_t client_port,
                        const uint8_t *service, uint16_t service_port, const uint8_t *backend, uint16_t backend_port);
void nm_flow_remove(nm_flows *flows, nm_flow *flow);

/* Find the flow of a packet from the client to the service, or of one from the backend to the client; NULL if there is
 * none. */
nm_flow *nm_flow_find_orig(nm_flows *flows, uint8_t family, const uint8_t *client, uint16_t client_port,
                           const uint8_t *service, uint16_t service_port);
nm_flow *nm_flow_find_reply(nm_flows *flows, uint8_t family, const uint8_t *backend, uint16_t backend_port,
                            const uint8_t *client, uint16_t client_port);

/* Note that a packet of the flow has passed; moved: the packet has changed the state. A flow expires
 * its state's timeout after its last packet, and an unconfirmed one sooner. A flow with an unanswered SYN is due once
 * before that, for Python to count it. */
void nm_flow_touch(nm_flows *flows, nm_flow *flow, double now, int moved);
/* Count a flow among its client's connections again, or not any more, after NM_FLOW_LIMITED has changed. */
void nm_flow_recount(nm_flows *flows, nm_flow *flow);
/* Return the connections of each client of the services with limits. */
nm_clients *nm_flows_clients(const nm_flows *flows);
/* Keep a flow that is due, because its connection may be alive though it is silent: it is due again after another
 * timeout, and until a packet passes it may be evicted. */
void nm_flow_keep(nm_flows *flows, nm_flow *flow, double now);
/* Set the seconds from a flow's last packet to its expiry, for each state. A flow follows at its next packet that
 * changes its state or when it is due, or at once with nm_flow_renew_deadline(). */
void nm_flows_set_timeouts(nm_flows *flows, const double *timeouts);
void nm_flow_renew_deadline(nm_flows *flows, nm_flow *flow);
/* Return the time at which the flow's SYN counts as unanswered. */
double nm_flow_answer_due(const nm_flow *flow);
double nm_flows_next_due(nm_flows *flows);
double nm_flows_not_before(const nm_flows *flows); /* no flow is due before this; see nm_heap_not_before() */

/* Log changes to this log from now on; NULL: to none. */
void nm_flows_log_changes(nm_flows *flows, nm_changes *changes);
/* Count the flows with NM_ANNOUNCED. */
uint32_t nm_flows_announced(const nm_flows *flows);

/* Note whether the flow is pinned to a backend that the rules alone do not give. */
void nm_flow_set_pinned(nm_flows *flows, nm_flow *flow, int is_pinned);
/* Log that the flow has ended for every host. */
void nm_flow_end(nm_flows *flows, nm_flow *flow);
/* Log NM_CHANGE_BOUND again for a flow with NM_ANNOUNCED. */
void nm_flow_announce(nm_flows *flows, const nm_flow *flow);
/* Release the flow to another host, which passes its packets from now on: its numbers here become stale. A pinned flow
 * becomes NM_GUEST, without a deadline, until nm_flow_touch() with moved makes it this host's own again. */
void nm_flow_release(nm_flows *flows, nm_flow *flow);

/* Return the flow that expires first, if it has expired by now; it stays due. Flows that have had packets meanwhile get
 * their new deadline, a bounded number of them in one call: NULL may mean that more are due. */
nm_flow *nm_flows_due(nm_flows *flows, double now);
/* Return whether the flow is unconfirmed: it is loose, nothing else makes its binding certain, and it is not closed. */
int nm_flow_is_unconfirmed(const nm_flow *flow);
/* Return whether the flow is half open: its handshake is not complete, or it is unconfirmed. */
int nm_flow_is_half_open(const nm_flow *flow);
/* Return whether only Python may remove the flow, because it keeps state for it or the flow's SYN is unanswered. */
int nm_flow_needs_python(const nm_flow *flow);

/* Return the flow to evict for a new one: in a full table the oldest closed flow, or else the oldest half open one, or
 * else the one that has been idle longest; where a quarter of the table is half open and the new flow begins as such,
 * the oldest half open one. NULL if no flow has to be evicted, or none may. */
nm_flow *nm_flows_victim(nm_flows *flows, int for_half_open, double now);
/* Return whether the next new flow evicts another one or finds no room. */
int nm_flows_is_crowded(nm_flows *flows, double now);

/* Return the row with this number, or NULL if it is free. Write the numbers of at most max flows, from number first
 * on. */
nm_flow *nm_flow_by_id(nm_flows *flows, uint32_t id);
uint32_t nm_flow_ids(const nm_flows *flows, uint32_t first, uint32_t *ids, uint32_t max);
/* The same for flows of a network's clients, or of their port port if that is not 0. Look at a bounded number of rows, from
 * number *first on, and write to *first the number to go on with; NM_NO_FLOW at the end. */
uint32_t nm_flow_ids_of(const nm_flows *flows, const nm_network *clients, uint16_t port, uint32_t *first, uint32_t *ids,
                        uint32_t max);
/* Write the IPv4 addresses of at most max clients whose packets pass this host to addresses[4 * max], each once, and to
 * are_answered[max] whether the client has got a backend's answer, for certain: anyone can forge a SYN, the RST after it,
 * and packets of a connection that is not known here. Look at a bounded number of rows. Return the number of
 * clients, and in *is_cut whether there may be more. */
uint32_t nm_flow_clients(const nm_flows *flows, uint8_t *addresses, uint8_t *are_answered, uint32_t max, int *is_cut);

/* Return how many bytes of the client count for its copies: with NM_FLOW_HOLDS those that the backend has acknowledged,
 * once its numbers are certain; else all that the client has sent. */
uint64_t nm_flow_client_bytes(const nm_flow *flow);
/* Add up the flows of each account; there are count accounts. Count in without_account[service_id] the connections of
 * account 0, of service_count services. A connection counts if it is open, certain, and passes this host. */
void nm_flows_add_up(const nm_flows *flows, nm_account_sums *sums, uint32_t count, uint32_t *without_account,
                     uint32_t service_count);

/* Write the traffic of each service since it got its number, of its removed flows too; there are count services. */
void nm_flows_traffic(const nm_flows *flows, nm_traffic *traffic, uint32_t count);

uint32_t nm_flow_count(const nm_flows *flows);

#endif
