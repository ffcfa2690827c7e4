/* The flow table: production's connections, found by the client's two ends or by the backend's.
 *
 * No I/O, no clock, no policy; memory only in nm_flows_new(). This header serves #include and cffi's cdef() alike.
 * Addresses are 16 bytes (IPv4: the first four, the rest zero), ports and sequence numbers in host order.
 */
#ifndef NATMIRROR_FASTPATH_FLOW_TABLE_H
#define NATMIRROR_FASTPATH_FLOW_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/flow_states.h"
#include "fastpath/heap.h"

#define NM_NO_LEG 0xffffffffu  /* the end of a flow's list of legs */
#define NM_NO_FLOW 0xffffffffu /* no row of the table */

/* nm_flow.flags */
#define NM_FLOW_FEEDS_LEGS 1 /* a leg wants the client's data */
#define NM_FLOW_WATCHED 2  /* a service without a pool: looked at, never rewritten */
#define NM_FLOW_DIRECT 4   /* a client that talks to the backend itself: passes, untracked */
#define NM_FLOW_LOOSE 8    /* met in mid-connection: window scales unknown, sequence checks off */
#define NM_FLOW_HELD 16    /* the client is held back for a mirror: punt what the backend sends */
#define NM_FLOW_PAST_WINDOW 32 /* a byte past the backend's window waits until it has moved: the same */
#define NM_FLOW_ORIG_GAP 64  /* some of the client's data waits for other: punt all that carries some */
#define NM_FLOW_SERVICE_MIRRORED 128 /* its service has mirrors: its handshake and its end are Python's */
#define NM_FLOW_PYTHON_STATE 256  /* Python has something of its own about it: only Python may forget it */
#define NM_FLOW_EMBRYONIC 512  /* its handshake is not complete, or it was met in its middle and its backend is silent */
#define NM_FLOW_UNANSWERED 1024 /* Python has heard that its SYN is unanswered */
#define NM_FLOW_CLOSED 2048       /* closed or reset */
#define NM_FLOW_HAS_READER 4096       /* somebody reads what both ends send: it is handed on, see nm_gear.read */
#define NM_FLOW_ABORTED 16384   /* its backend is gone, and both ends were reset: what still comes is Python's */
#define NM_FLOW_REPLY_GAP 8192 /* some of the backend's data waits for other: the same as NM_FLOW_ORIG_GAP */

/* nm_flow.sharing: whether another host would have to be told the flow's backend, to go on with it */
#define NM_UNDERIVED 1 /* it is not the one that the rules alone give */
#define NM_SHARED 2    /* nor is the connection half open, or over: it was told */
#define NM_FOREIGN 4     /* it is another host's, and none of its packets has changed its state here */

/* nm_change.kind */
#define NM_CHANGE_BOUND 0     /* established with a backend that cannot be derived */
#define NM_CHANGE_FORGOTTEN 1 /* no longer known here; it may live on elsewhere */
#define NM_CHANGE_ENDED 2     /* over */

/* nm_half.flags */
#define NM_HALF_SEQ 1 /* end is known */
#define NM_HALF_ACK 2 /* ack and edge are known */
#define NM_HALF_FIN 4 /* a FIN was sent; it lies at end - 1 */
#define NM_HALF_INFERRED 8 /* the number before end was not seen, only told by an acknowledgement's own number */

/* One direction of a connection as its packets tell it. */
typedef struct {
    uint64_t bytes;   /* payload sent, counted by sequence numbers, so retransmissions not twice */
    uint64_t packets; /* everything that passed, retransmissions too */
    uint32_t end;     /* one past the highest sequence number sent (SYN and FIN count) */
    uint32_t ack;     /* highest acknowledgement number sent */
    uint32_t edge;    /* highest right edge of the receive window offered */
    uint32_t next;    /* the first number that was not given to legs or readers, where there are any */
    uint8_t scale;    /* shift of the windows offered (RFC 7323 2.2) */
    uint8_t flags;    /* NM_HALF_* */
} nm_half;

typedef struct {
    nm_half orig;  /* client to service */
    nm_half reply; /* backend to client */
    double created_at;
    double seen_at;
    uint8_t client[16];
    uint8_t service[16];
    uint8_t backend[16];
    uint16_t client_port;
    uint16_t service_port;
    uint16_t backend_port;
    uint8_t family; /* 4 or 6 */
    uint8_t state;  /* NM_STATE_SYN_SENT .. NM_STATE_RESET */
    uint8_t sharing; /* NM_UNDERIVED .. NM_FOREIGN */
    uint16_t flags; /* NM_FLOW_FEEDS_LEGS .. NM_FLOW_REPLY_GAP */
    uint16_t service_id; /* its place in the plan */
    uint16_t backend_id; /* the same; NM_NO_BACKEND where there is no pool, and for NM_FLOW_DIRECT */
    uint32_t account;    /* whose sums its client's bytes belong to; 0: nobody's */
    uint32_t iss;        /* the client's initial sequence number, where its SYN was seen */
    nm_due due;     /* when it is forgotten, if it is not seen meanwhile */
    uint32_t id;    /* index in the table; free again after nm_flow_remove() */
    uint32_t first_leg;   /* the first of its legs, or NM_NO_LEG */
    uint32_t next_orig;
    uint32_t next_reply;
    uint32_t older, newer; /* among those that are embryonic, or over */
} nm_flow;

/* What has become of a flow whose backend cannot be derived. */
typedef struct {
    uint8_t client[16];
    uint16_t client_port;
    uint16_t service_id;
    uint16_t backend_id;
    uint8_t family;
    uint8_t kind; /* NM_CHANGE_BOUND .. NM_CHANGE_ENDED */
} nm_change;

/* Changes in their order, the caller's memory. */
typedef struct {
    nm_change *rows;
    uint32_t max;
    uint32_t count;
    uint32_t missed; /* for which there was no room */
} nm_changes;

typedef struct nm_flows nm_flows;

/* A table for at most max_flows flows whose hash is keyed with key[16]; NULL without memory. */
nm_flows *nm_flows_new(uint32_t max_flows, const uint8_t *key);
void nm_flows_free(nm_flows *flows);

/* A new flow in both indexes, its numbers zero; NULL when the table is full or one of the two tuples is taken. */
nm_flow *nm_flow_insert(nm_flows *flows, uint8_t family, const uint8_t *client, uint16_t client_port,
                   const uint8_t *service, uint16_t service_port, const uint8_t *backend, uint16_t backend_port);
void nm_flow_remove(nm_flows *flows, nm_flow *flow);

/* The flow of a packet from the client to the service, or of one from the backend to the client; NULL if none. */
nm_flow *nm_flow_find_orig(nm_flows *flows, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                      uint16_t dport);
nm_flow *nm_flow_find_reply(nm_flows *flows, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                       uint16_t dport);

/* Note that a packet of the flow has passed; moved says that it changed the state. A flow expires nm_state_timeouts[state]
 * seconds after its last packet. Where its SYN is unanswered it is due once before, for Python to look at. */
void nm_flow_touch(nm_flows *flows, nm_flow *flow, double now, int moved);
/* When its SYN counts as unanswered. */
double nm_flow_answer_due(const nm_flow *flow);
double nm_flows_next_due(nm_flows *flows);
double nm_flows_not_before(const nm_flows *flows); /* none is due before; see nm_heap_not_before() */

/* From now on changes are told there; NULL: nowhere. Flows with NM_SHARED. */
void nm_flows_log_changes(nm_flows *flows, nm_changes *changes);
uint32_t nm_flows_shared(const nm_flows *flows);

/* Its backend can be derived, or not. */
void nm_flow_set_underived(nm_flows *flows, nm_flow *flow, int is_underived);
/* It is over for certain, whoever else knows of it. */
void nm_flow_end(nm_flows *flows, nm_flow *flow);
/* Tell it anew, where it is NM_SHARED. */
void nm_flow_announce(nm_flows *flows, const nm_flow *flow);
/* Its packets pass another host from now on, and nobody hears here what they say. Where its backend cannot be derived it
 * has no deadline; a touch that says moved makes it our own again. */
void nm_flow_hand_over(nm_flows *flows, nm_flow *flow);

/* The flow that is due first, if it is by now; it stays due. Those that were seen meanwhile are put back, not all at once:
 * NULL may mean that there are more. Whether only Python may judge it: where it has something of
 * its own about it, or its SYN is unanswered. */
nm_flow *nm_flows_due(nm_flows *flows, double now);
int nm_flow_needs_python(const nm_flow *flow);

/* The flow that is to go so that another one has room: of a full table the oldest that is over, or else the oldest that is
 * embryonic; and the latter too where the new one begins as embryonic and a quarter of the table is. NULL where none has
 * to go, or none may. */
nm_flow *nm_flows_victim(nm_flows *flows, int for_embryonic);

/* The row with a number, NULL where it is free; the numbers of at most max flows from number first on. */
nm_flow *nm_flow_by_id(nm_flows *flows, uint32_t id);
uint32_t nm_flow_ids(const nm_flows *flows, uint32_t first, uint32_t *ids, uint32_t max);

/* Add up what clients have sent on the flows of each account, of which there are count. */
void nm_flows_add_up(const nm_flows *flows, uint64_t *client_bytes, uint32_t count);

uint32_t nm_flow_count(const nm_flows *flows);

#endif
