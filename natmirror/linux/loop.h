/* The packet loop: it receives packets from queues, has nm_decide() decide them, returns verdicts in batches, then
 * sends synthesised packets, until Python has something to do. It does I/O and reads a clock, but knows nothing of
 * flows. This header serves both #include and cffi's cdef().
 */
#ifndef NATMIRROR_LINUX_LOOP_H
#define NATMIRROR_LINUX_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/gear.h"
#include "fastpath/times.h"
#include "linux/nfqueue.h"
#include "linux/outbox.h"
#include "linux/priority.h"

/* Why nl_run() has returned. */
#define NL_PUNT 1  /* Python decides the packet loop.punted, then calls nl_decided() */
#define NL_TIMER 2 /* the clock shows `until`, nm_gear.read has data for readers, or flows or legs are due; all verdicts
                    * have been sent */
#define NL_WAKE 3  /* another thread has made wake_fd readable */

#define NL_MAX_QUEUES 2

typedef struct {
    nm_gear *gear;
    nq *queues[NL_MAX_QUEUES];
    uint8_t watched[NL_MAX_QUEUES]; /* the queue is a watch queue: its packets always pass unchanged */
    uint32_t full_batches[NL_MAX_QUEUES]; /* the queue's latest batches, in a row, that had as many packets as one can */
    uint64_t missed[NL_MAX_QUEUES]; /* nq_counters.packets_missed of the queue at its last batch */
    uint32_t queue_count;
    double retry_at[NL_MAX_QUEUES]; /* when refused verdicts are sent again */
    double cuts_until[NL_MAX_QUEUES]; /* the kernel cuts large packets until this time; 0: it does not */
    double pauses[NL_MAX_QUEUES];   /* seconds before the last such attempt; 0: the kernel has taken all verdicts */
    uint32_t failed;                /* the queue for which nl_run() has returned an errno */
    int wake_fd;
    int timer_fd;    /* from nl_timer() */
    double armed_at; /* when the timer goes off; infinity: never */
    nl_outbox outbox;
    uint32_t current;     /* the queue of the current batch */
    int is_busy;          /* the last receive() has found packets */
    int has_received;     /* receive() was called since NL_TIMER was last returned */
    double expire_at;     /* no return before this time only because flows expire that Python has to remove */
    double polled_at;     /* when the loop last polled wake_fd and the timer */
    double request_at;    /* when a client's packet was last passed to a backend */
    uint8_t spin_credit;  /* set by an answer that comes while the loop busy-polls; 0: none came lately */
    uint32_t spins_skipped; /* requests without busy polling, for want of credit */
    int64_t preemptions;  /* of the thread, counted at the last poll */
    double no_spin_until; /* no busy polling before this time, because the thread was preempted */
    nl_priority priority; /* of the thread that runs the loop */
    double longest_wait;  /* the receive timeout of the only queue's socket, for a receiving call that blocks; or 0 */
    int count, next;      /* packets of the batch, and the first undecided one */
    double now;           /* when the batch was received, CLOCK_MONOTONIC */
    nq_packet packets[NQ_BATCH];
    nq_packet *punted;
    nm_times delays;   /* from packets' arrival to their verdicts, of a sample of all packets */
    int sample_in;     /* packets until the next one whose delay is measured */
    int sampled;       /* the packet of the batch whose delay is measured; -1: none, or it is already */
} nl_loop;

/* Run until Python has something to do, or the clock shows until. Return NL_PUNT, NL_TIMER or NL_WAKE; or a negative
 * errno where the queue loop.failed fails: the caller removes it from queues[] or replaces it. By then every
 * received packet has its verdict. */
int nl_run(nl_loop *loop, double until);

/* Continue with the packet after the punted one: Python has given its verdict, or defers it. */
void nl_decided(nl_loop *loop);

/* Write the packets that the gear has synthesised, now. */
void nl_send(nl_loop *loop);

/* Return the time, CLOCK_MONOTONIC, in seconds. */
double nl_clock(void);

/* Return a new timer's descriptor, which the caller closes, or a negative errno. */
int nl_timer(void);

#endif
