/* The C gear: the flow table, and process(), which repeats for a packet what Python has decided for its flow.
 *
 * No I/O, no clock, no policy; memory only in nm_new(). This header serves #include and cffi's cdef() alike.
 * Addresses are 16 bytes (IPv4: the first four, the rest zero), ports and sequence numbers in host order.
 */
#ifndef NATMIRROR_FASTPATH_H
#define NATMIRROR_FASTPATH_H

#include <stddef.h>
#include <stdint.h>

/* What nm_process() says of a packet. */
#define NM_PUNT 0     /* Python is to decide; neither packet nor state was touched */
#define NM_ACCEPT 1   /* pass as it is */
#define NM_MODIFIED 2 /* pass as rewritten in place */

/* nm_flow.state: the connection as production's two ends see it. */
#define NM_SYN_SENT 0
#define NM_SYN_RECEIVED 1
#define NM_ESTABLISHED 2
#define NM_CLOSING 3
#define NM_TIME_WAIT 4
#define NM_RESET 5

/* nm_flow.flags */
#define NM_MIRRORED 1 /* a leg wants the client's data: punt what carries some */
#define NM_WATCHED 2  /* a service without a pool: looked at, never rewritten */
#define NM_DIRECT 4   /* a client that talks to the backend itself: passes, untracked */
#define NM_LOOSE 8    /* met in mid-connection: window scales unknown, sequence checks off */
#define NM_HELD 16    /* the client is held back for a mirror: punt what the backend sends */
#define NM_WAITING 32 /* a byte past the backend's window waits until it has moved: the same */

/* nm_half.flags */
#define NM_HALF_SEQ 1 /* end is known */
#define NM_HALF_ACK 2 /* ack and edge are known */
#define NM_HALF_FIN 4 /* a FIN was sent; it lies at end - 1 */
#define NM_HALF_TOLD 8 /* the number before end was not seen, only told by an acknowledgement's own number */

/* One direction of a connection as its packets tell it. */
typedef struct {
    uint64_t bytes;   /* payload sent, counted by sequence numbers, so retransmissions not twice */
    uint64_t packets; /* everything that passed, retransmissions too */
    uint32_t end;     /* one past the highest sequence number sent (SYN and FIN count) */
    uint32_t ack;     /* highest acknowledgement number sent */
    uint32_t edge;    /* highest right edge of the receive window offered */
    uint8_t scale;    /* shift of the windows offered (RFC 7323 2.2) */
    uint8_t flags;    /* NM_HALF_* */
} nm_half;

typedef struct {
    nm_half orig;  /* client to service */
    nm_half reply; /* backend to client */
    double seen_at;
    uint8_t client[16];
    uint8_t service[16];
    uint8_t backend[16];
    uint16_t client_port;
    uint16_t service_port;
    uint16_t backend_port;
    uint8_t family; /* 4 or 6 */
    uint8_t state;  /* NM_SYN_SENT .. NM_RESET */
    uint8_t flags;  /* NM_MIRRORED .. NM_WAITING */
    uint32_t id;    /* index in the table; free again after nm_remove() */
    uint32_t next_orig;
    uint32_t next_reply;
} nm_flow;

/* What process() counted besides the flows' own numbers. */
typedef struct {
    uint64_t fast_packets;  /* decided here */
    uint64_t bad_checksums; /* among those: passed on as they came, not believed */
} nm_counters;

typedef struct nm_table nm_table;

/* A table for at most max_flows flows whose hash is keyed with key[16]; NULL without memory. */
nm_table *nm_new(uint32_t max_flows, const uint8_t *key);
void nm_free(nm_table *table);

/* A new flow in both indexes, its numbers zero; NULL when the table is full or one of the two tuples is taken. */
nm_flow *nm_insert(nm_table *table, uint8_t family, const uint8_t *client, uint16_t client_port,
                   const uint8_t *service, uint16_t service_port, const uint8_t *backend, uint16_t backend_port);
void nm_remove(nm_table *table, nm_flow *flow);

/* The flow of a packet from the client to the service, or of one from the backend to the client; NULL if none. */
nm_flow *nm_find_orig(nm_table *table, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                      uint16_t dport);
nm_flow *nm_find_reply(nm_table *table, uint8_t family, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                       uint16_t dport);

uint32_t nm_flow_count(const nm_table *table);
nm_counters *nm_table_counters(nm_table *table);

/* One packet of len bytes from its IP header on, met at hook (NF_INET_*), with what is known of its transport checksum
 * (0 nothing, 1 right, 2 only the pseudo-header's sum): decided, its flow's numbers brought up to date, or punted. */
int nm_process(nm_table *table, uint8_t *packet, size_t len, int hook, int checksum, double now);

/* SipHash-2-4 (Aumasson, Bernstein: SipHash, INDOCRYPT 2012). */
uint64_t nm_siphash(const uint8_t *key, const uint8_t *data, size_t len);

#endif
