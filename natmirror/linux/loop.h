/* The packet loop: it takes packets from queues, has nm_decide() decide them, gives verdicts back in batches, then sends
 * what was synthesised, until something is for Python. I/O and a clock, but no knowledge of flows. This header serves
 * #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_LINUX_LOOP_H
#define NATMIRROR_LINUX_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/gear.h"
#include "linux/nfqueue.h"
#include "linux/outbox.h"

/* Why nl_run() has come back. */
#define NL_PUNT 1  /* a packet is for Python: loop.punted; nl_decided() comes next */
#define NL_TIMER 2 /* the time has come, or data waits in nm_gear.read: the verdicts of its packets have left */
#define NL_WAKE 3  /* another thread has made wake_fd readable */

#define NL_MAX_QUEUES 2

typedef struct {
    nm_gear *gear;
    nq *queues[NL_MAX_QUEUES];
    uint8_t watched[NL_MAX_QUEUES]; /* its packets pass unchanged, whatever is decided */
    uint32_t queue_count;
    double retry_at[NL_MAX_QUEUES]; /* when verdicts that the kernel refused are sent again */
    double pauses[NL_MAX_QUEUES];   /* seconds before the last such attempt, 0 where the kernel took the last verdicts */
    uint32_t failed;                /* the queue that nl_run() has given an errno for */
    int wake_fd;
    int timer_fd;    /* from nl_timer() */
    double armed_at; /* when the timer goes off; infinity: never */
    nl_outbox outbox;
    uint32_t current; /* the queue that the batch at hand came from */
    int is_busy;          /* the last receive() has found packets */
    int has_received;     /* it was called since Python last did what was due */
    double polled_at;     /* when the loop last polled wake_fd and the timer */
    double request_at;    /* when a packet last went on to a backend */
    uint8_t spin_credit;  /* earned by answers that come while the loop busy-polls; 0: none lately */
    uint32_t spins_skipped; /* requests without credit for busy polling */
    int64_t preemptions;  /* of the thread, as counted when it last polled */
    double no_spin_until; /* no busy polling before, since the thread was preempted */
    double longest_wait;  /* for packets of a single queue, in its own call: the socket's receive timeout, or 0 */
    int count, next;      /* packets of the batch, and the first that is not decided */
    double now;           /* the time of the batch, CLOCK_MONOTONIC */
    nq_packet packets[NQ_BATCH];
    nq_packet *punted;
} nl_loop;

/* Run until something is for Python, or the clock shows until. Return NL_PUNT, NL_TIMER or NL_WAKE; or a negative errno
 * where the queue loop.failed fails: take it out of queues[] or replace it. Every packet that was received has its verdict
 * then. */
int nl_run(nl_loop *loop, double until);

/* Python has given the punted packet its verdict. */
void nl_decided(nl_loop *loop);

/* Write what the gear has synthesised, now. */
void nl_send(nl_loop *loop);

double nl_clock(void);

/* A timer for a loop, to be closed by the caller; a negative errno. */
int nl_timer(void);

#endif
