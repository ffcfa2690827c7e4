/* The codec of netfilter queues: it parses packets from the kernel's netlink messages, and writes verdicts as such
 * messages.
 *
 * It knows nothing of flows. A codec belongs to one queue, one socket and one thread. This header serves both #include
 * and cffi's cdef().
 */
#ifndef NATMIRROR_LINUX_NFQUEUE_H
#define NATMIRROR_LINUX_NFQUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/checksum_states.h"

#define NQ_BATCH 32

typedef struct {
    const uint8_t *payload; /* from the IP header on; valid until the next nq_receive() */
    const uint8_t *arrival; /* nq_arrived_at(); valid as long as the payload */
    uint32_t len;
    uint32_t id;
    uint32_t mark; /* set by another program; 0: none */
    uint8_t hook; /* NF_INET_* */
    uint8_t checksum; /* NM_CHECKSUM_*, as the kernel reports it */
    uint8_t truncated; /* the kernel sent only a part of the packet: a verdict must not have a payload */
    uint8_t can_cut;   /* truncated, but consists of segments (GSO): nq_cut() has the kernel queue each by itself */
} nq_packet;

typedef struct {
    uint64_t packets_received;
    uint64_t packets_translated_by_kernel; /* accepted with a mark, by which the kernel translates them */
    uint64_t packets_missed;               /* numbered by the kernel, but not received here */
    uint64_t packets_truncated;            /* of which the kernel sent only a part */
    uint64_t packets_cut;                  /* of these, given back to the kernel to be cut into their segments */
    uint64_t packets_oversized;            /* dropped because they are too large for a verdict */
    uint64_t messages_malformed;           /* messages from the kernel that are inconsistent or cut */
    uint64_t receive_buffer_overruns;      /* times our receive buffer was full */
    uint64_t verdicts_late;                /* refused because the kernel no longer held the packet */
    uint64_t verdicts_refused;             /* refused for another reason */
    uint64_t verdict_sends_refused;        /* times the kernel refused verdicts, which were kept and sent again */
    uint64_t verdicts_not_sent;            /* verdicts that could not be sent to the kernel */
} nq_counters;

typedef struct nq nq;

/* Return a new codec for a queue's netlink socket, which the caller closes; NULL without memory. */
nq *nq_new(int fd, uint16_t number);
void nq_free(nq *queue);
nq_counters *nq_queue_counters(nq *queue);
int nq_fd(const nq *queue);

/* Receive at most NQ_BATCH packets without blocking; with waits, block for the first one, up to the socket's receive
 * timeout. Return their number, or a negative errno where the socket fails. */
int nq_receive(nq *queue, nq_packet *packets, int waits);

/* Parse one datagram of len bytes; return the number of its packets, at most max. */
int nq_parse(nq *queue, const uint8_t *datagram, size_t len, nq_packet *packets, int max);

/* Return the time of day, in seconds, at which the kernel received a packet; 0: it has not noted that. */
double nq_arrived_at(const nq_packet *packet);

/* Return the number of our last request that the kernel has answered, and the answer: 0 or a positive errno. */
uint32_t nq_acknowledged(const nq *queue);
int nq_answer(const nq *queue);

/* Return the id of the packet received last; the kernel numbers the packets that it queues. */
uint32_t nq_last_id(const nq *queue);

/* Return the number of times that nq_receive() has read everything that the kernel had sent. */
uint32_t nq_emptied(const nq *queue);

/* Give a verdict. The next nq_flush() sends it, or an earlier one when many bytes have gathered. A payload of length
 * 0 leaves the packet unchanged. There is always room for the verdicts of the packets that nq_receive() returned
 * last; before any other verdict the caller must ask nq_has_room(). */
void nq_accept(nq *queue, uint32_t id, const uint8_t *payload, size_t len);
/* Accept a packet that was rewritten in place. It is not copied, so the caller must call nq_flush() before the next
 * nq_receive(). */
void nq_accept_packet(nq *queue, const nq_packet *packet);
/* Accept a packet unchanged, except for its mark. */
void nq_accept_marked(nq *queue, uint32_t id, uint32_t mark);
void nq_drop(nq *queue, uint32_t id);
/* Have the kernel queue the segments of a packet with can_cut one by one, behind the packets that wait already; and
 * likewise those of all later packets, until nq_stop_cutting(): so later ones do not overtake them. */
void nq_cut(nq *queue, uint32_t id);
void nq_stop_cutting(nq *queue);
int nq_has_room(const nq *queue);
/* Give a verdict if there is room; return 0 where there is none. */
int nq_give(nq *queue, uint32_t id, int accepts, const uint8_t *payload, size_t len);

/* Ask the kernel to drop or accept the packets up to an id that it still holds. Its answer (nq_acknowledged()) is 0 if
 * there were some, ENOENT if there were none. The request is sent like a verdict, after those given earlier. */
void nq_probe(nq *queue, uint32_t id, int accepts, uint32_t request);

/* Send all verdicts in order. Return 0 where the kernel refuses: then the verdicts that it has not taken are kept, and
 * nq_receive() returns no packets until a later nq_flush() has sent them. */
int nq_flush(nq *queue);
int nq_is_refused(const nq *queue);
/* Return the number of messages that wait to be sent. */
uint32_t nq_waiting(const nq *queue);
/* Return the errno with which the kernel refuses verdicts, or 0 if it only lacks memory. After an errno the queue must
 * be bound again. */
int nq_failure(const nq *queue);

#endif
