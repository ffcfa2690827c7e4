/* The codec of netfilter queues: batches of packets out of the kernel's netlink messages, verdicts into them.
 *
 * It knows no flows. One queue, one socket, one thread. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_LINUX_NFQUEUE_H
#define NATMIRROR_LINUX_NFQUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/checksum_states.h"

#define NQ_BATCH 32

typedef struct {
    const uint8_t *payload; /* from the IP header on; valid until the next nq_receive() */
    uint32_t len;
    uint32_t id;
    uint32_t mark; /* somebody else's, 0 where there is none */
    uint8_t hook; /* NF_INET_* */
    uint8_t checksum; /* NM_CHECKSUM_*: what the kernel says of it */
    uint8_t truncated; /* the kernel gave only a part: a verdict may not carry a payload */
} nq_packet;

typedef struct {
    uint64_t packets;
    uint64_t marked; /* verdicts with a mark, which leave the rest to the kernel */
    uint64_t truncated;
    uint64_t malformed;      /* messages that contradict themselves */
    uint64_t enobufs;        /* times the kernel found our receive buffer full */
    uint64_t late_verdicts;  /* the packet was gone when its verdict came */
    uint64_t verdict_errors; /* any other refusal of a verdict */
    uint64_t send_refusals;  /* times the kernel refused verdicts, which were kept and sent again */
    uint64_t verdicts_never_sent;       /* verdicts that never reached the kernel */
    uint64_t oversized;      /* packets dropped because a verdict cannot carry them */
} nq_counters;

typedef struct nq nq;

/* The codec over a queue's netlink socket, which stays the caller's; NULL without memory. */
nq *nq_new(int fd, uint16_t number);
void nq_free(nq *queue);
nq_counters *nq_queue_counters(nq *queue);
int nq_fd(const nq *queue);

/* At most NQ_BATCH packets that wait, without blocking, or where waits is set with the first as long as the socket's
 * receive timeout says; a negative errno where the socket itself fails. */
int nq_receive(nq *queue, nq_packet *packets, int waits);

/* The packets of one datagram of len bytes, at most max of them. */
int nq_parse(nq *queue, const uint8_t *datagram, size_t len, nq_packet *packets, int max);

/* The number of the last request of ours that the kernel has acknowledged, and its answer (0 or a positive errno). */
uint32_t nq_acknowledged(const nq *queue);
int nq_answer(const nq *queue);

/* The id of the packet received last; ids grow by one with each packet that the kernel queues. */
uint32_t nq_last_id(const nq *queue);

/* How often nq_receive() has read all that the kernel had sent. */
uint32_t nq_emptied(const nq *queue);

/* A verdict, to be sent with the next nq_flush(), or before where many bytes have gathered; a payload of length 0
 * leaves the packet as it is. There is room for the verdicts of the packets that nq_receive() gave last; before any
 * other verdict the caller has to ask nq_has_room(). */
void nq_accept(nq *queue, uint32_t id, const uint8_t *payload, size_t len);
/* The same for a packet that was rewritten where it lies: it is not copied, so nq_flush() has to come before the next
 * nq_receive(). */
void nq_accept_packet(nq *queue, const nq_packet *packet);
/* Let a packet pass as it is, with a mark in place of its own. */
void nq_accept_marked(nq *queue, uint32_t id, uint32_t mark);
void nq_drop(nq *queue, uint32_t id);
int nq_has_room(const nq *queue);
/* Give a verdict if there is room: 0 where there is none. */
int nq_give(nq *queue, uint32_t id, int accepts, const uint8_t *payload, size_t len);

/* Have the kernel drop, or accept, the packets up to an id that it still holds, and answer (nq_acknowledged()): 0 where
 * there were some, ENOENT where there were none. Sent as verdicts are, behind them. */
void nq_sweep(nq *queue, uint32_t id, int accepts, uint32_t request);

/* Send what waits, in its order. 0 where the kernel refuses: what it has not taken stays, and nq_receive() gives nothing
 * until a later nq_flush() has sent it. */
int nq_flush(nq *queue);
int nq_is_refused(const nq *queue);
/* How many messages wait to be sent. */
uint32_t nq_waiting(const nq *queue);
/* Why the kernel refuses them, where that is not want of memory: an errno, or 0. The queue has to be bound again. */
int nq_failure(const nq *queue);

#endif
