/* The packet loop; loop.h describes its functions. */
#define _GNU_SOURCE
#include "linux/loop.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "_fastpath.h"
#include "fastpath/flow_lifecycle.h"
#include "fastpath/leg_sender.h"
#include "fastpath/translation.h"

#define MAX_WAIT 3600000       /* milliseconds of one poll() */
#define POLL_INTERVAL 0.002    /* seconds between two polls of wake_fd and the timer while packets keep coming */
#define SMALL_LEN 1024         /* bytes up to which copying a packet costs less than translating it in the kernel */
#define SPIN_TIME 0.0001       /* seconds of busy polling for the answer to a request: waking up takes as long */
#define NO_SPIN_TIME 0.05      /* seconds without busy polling after the thread was preempted */
#define MAX_SPIN_CREDIT 8      /* busy polls in a row without an answer, after which the loop busy-polls ... */
#define TRY_SPIN_EVERY 64      /* ... only for one request of this many */
#define EXPIRY_PAUSE 0.004     /* seconds: a peer may have opened thousands of flows that expire at once (worker.py) */
#define CUT_TIME 10.0          /* seconds for which the kernel cuts all large packets, after one above 64 KiB */
#define SAMPLE_EVERY 16        /* of so many packets, the delay of one is measured, of each batch one at most */
#define SWAMPED 2               /* full batches in a row: more packets wait than come while one is decided */
/* Seconds between two attempts to send verdicts that the kernel refused for want of memory; doubled each time. */
#define FIRST_PAUSE 0.001
#define LONGEST_PAUSE 0.02

double nl_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void nl_send(nl_loop *loop) { nl_outbox_send(&loop->outbox, &loop->gear->out, nl_clock()); }

/* Choose the packet of a new batch whose delay is measured. */
static void choose_sample(nl_loop *loop)
{
    loop->sampled = loop->sample_in < loop->count ? loop->sample_in : -1;
    loop->sample_in = loop->sampled < 0 ? loop->sample_in - loop->count : SAMPLE_EVERY - 1;
}

/* Measure the delay of the chosen packet, once its verdict is sent. */
static void measure_delay(nl_loop *loop)
{
    if (loop->sampled < 0 || loop->sampled >= loop->next)
        return;
    double arrived_at = nq_arrived_at(&loop->packets[loop->sampled]);
    struct timespec now;
    loop->sampled = -1;
    if (!arrived_at)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    nm_times_add(&loop->delays, (double)now.tv_sec + (double)now.tv_nsec / 1e9 - arrived_at);
}

/* Send a queue's verdicts; do not send refused ones again before their pause is over. */
static void flush_queue(nl_loop *loop, uint32_t index, double now)
{
    nq *queue = loop->queues[index];
    if (nq_is_refused(queue) && now < loop->retry_at[index])
        return;
    if (nq_flush(queue)) {
        loop->pauses[index] = 0;
        return;
    }
    loop->pauses[index] = fmin(fmax(2 * loop->pauses[index], FIRST_PAUSE), LONGEST_PAUSE);
    loop->retry_at[index] = now + loop->pauses[index];
}

/* Send the batch's verdicts, then the packets synthesised for it: a mirror never delays production. */
static void flush(nl_loop *loop, double now)
{
    for (uint32_t i = 0; i < loop->queue_count; i++)
        flush_queue(loop, i, now);
    measure_delay(loop);
    nl_outbox_gather(&loop->outbox, &loop->gear->out, now);
}

/* Return the negative errno of a queue whose verdicts cannot be sent, and set loop.failed to its index; else 0. */
static int failure(nl_loop *loop)
{
    for (uint32_t i = 0; i < loop->queue_count; i++)
        if (nq_failure(loop->queues[i])) {
            loop->failed = i;
            return -nq_failure(loop->queues[i]);
        }
    return 0;
}

/* Return the time at which refused verdicts are to be sent again; infinity if there are none. */
static double next_retry(const nl_loop *loop)
{
    double next = INFINITY;
    for (uint32_t i = 0; i < loop->queue_count; i++)
        if (nq_is_refused(loop->queues[i]))
            next = fmin(next, loop->retry_at[i]);
    return next;
}

/* Have the kernel translate a large packet by its mark: then the packet need not be copied, which is half of its
 * cost. For a small packet the lookup of the mark would cost more. A mark that another program has set must stay:
 * rewrite such a packet in place. */
static void translate(nl_loop *loop, nq *queue, const nq_packet *packet, uint8_t *bytes)
{
    if (loop->gear->translation.mark && !packet->mark && packet->len > SMALL_LEN) {
        nq_accept_marked(queue, packet->id, loop->gear->translation.mark);
        return;
    }
    nm_translate(loop->gear, bytes, packet->len, packet->checksum);
    nq_accept_packet(queue, packet);
}

/* Decide a packet; return 0 if Python has to decide it. */
static int decide(nl_loop *loop, nq_packet *packet)
{
    nq *queue = loop->queues[loop->current];
    if (packet->can_cut) { /* above 64 KiB: BIG TCP */
        nq_cut(queue, packet->id);
        loop->cuts_until[loop->current] = loop->now + CUT_TIME;
        return 1;
    }
    if (packet->truncated) {
        if (loop->watched[loop->current]) {
            nq_accept(queue, packet->id, NULL, 0);
            loop->gear->unseen++;
        } else
            nq_drop(queue, packet->id); /* a packet of which we have only a part cannot be rewritten */
        return 1;
    }
    uint8_t *bytes = (uint8_t *)(uintptr_t)packet->payload; /* in the codec's own buffer */
    int decided = nm_decide(loop->gear, bytes, packet->len, packet->hook, packet->checksum, loop->now);
    if (decided >= NM_PUNT)
        return 0;
    int watched = loop->watched[loop->current];
    if (decided == NM_MODIFIED && packet->hook == NF_INET_PRE_ROUTING)
        loop->request_at = loop->now;
    if (decided >= NM_CONSUMED && !watched)
        nq_drop(queue, packet->id);
    else if (decided == NM_MODIFIED && !watched)
        translate(loop, queue, packet, bytes);
    else
        nq_accept(queue, packet->id, NULL, 0);
    return 1;
}

/* Note whether packets have passed a watch queue unseen, before a packet behind them is decided. */
static void note_missed(nl_loop *loop)
{
    uint64_t missed = nq_queue_counters(loop->queues[loop->current])->packets_missed;
    if (missed == loop->missed[loop->current])
        return;
    loop->missed[loop->current] = missed;
    loop->gear->unseen += loop->watched[loop->current];
}

/* Have the kernel queue large packets whole again, some time after one was too large. */
static void stop_cutting(nl_loop *loop)
{
    double until = loop->cuts_until[loop->current];
    if (until == 0 || loop->now < until || !nq_has_room(loop->queues[loop->current]))
        return;
    loop->cuts_until[loop->current] = 0;
    nq_stop_cutting(loop->queues[loop->current]);
}

/* Note whether more packets wait in the current queue than this many, which were received from it. */
static void note_backlog(nl_loop *loop, int count)
{
    uint32_t *full = &loop->full_batches[loop->current];
    *full = count == NQ_BATCH ? *full + 1 : 0;
    loop->gear->is_swamped = *full >= SWAMPED;
    if (loop->gear->is_swamped)
        loop->gear->sheds_until = nl_clock() + NM_SHED_TIME;
}

/* Receive a batch from the next queue that has packets, round-robin. Return the number of packets, 0 where no queue has
 * any, or a negative errno. */
static int take_batch(nl_loop *loop, int waits)
{
    for (uint32_t tried = 0; tried < loop->queue_count; tried++) {
        loop->current = (loop->current + 1) % loop->queue_count;
        int count = nq_receive(loop->queues[loop->current], loop->packets, waits);
        note_backlog(loop, count);
        if (count) {
            loop->count = count > 0 ? count : 0;
            loop->failed = loop->current;
            loop->next = 0;
            loop->now = nl_clock();
            choose_sample(loop);
            note_missed(loop);
            stop_cutting(loop);
            return count;
        }
    }
    return 0;
}

/* Return the time until which busy polling for the answer to the last request pays off; 0 if it does not. */
static double spin_until(nl_loop *loop, double now)
{
    double until = loop->request_at + SPIN_TIME;
    if (now >= until || now < loop->no_spin_until)
        return 0;
    return loop->spin_credit || ++loop->spins_skipped % TRY_SPIN_EVERY == 0 ? until : 0;
}

/* Receive a batch by busy polling until a time. Only a batch for which the loop had to wait earns credit. */
static int spin(nl_loop *loop, double until)
{
    int count = take_batch(loop, 0);
    if (count)
        return count;
    while (!count && nl_clock() < until)
        count = take_batch(loop, 0);
    loop->spin_credit = count ? MAX_SPIN_CREDIT : (uint8_t)(loop->spin_credit - (loop->spin_credit > 0));
    return count;
}

/* Receive a batch; busy-poll or block for it where that pays. With a single queue the receiving call itself blocks,
 * unless something else is due sooner: while packets keep coming that saves two system calls of three. */
static int receive(nl_loop *loop, double due)
{
    double now = nl_clock(), until = fmin(spin_until(loop, now), due);
    int waits = loop->is_busy && loop->longest_wait > 0 && now + loop->longest_wait < due;
    int count = until > now ? spin(loop, until) : 0;
    return count || (until > now && !waits) ? count : take_batch(loop, waits);
}

int nl_timer(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Make the timer expire at a time or earlier. If it already does, leave it alone: setting the timer costs more than a
 * packet, above all in a virtual machine, and each packet moves deadlines. */
static void arm(nl_loop *loop, double until)
{
    if (loop->armed_at <= until)
        return;
    double nanoseconds = fmin((until - floor(until)) * 1e9 + 1, 999999999);
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)until, .tv_nsec = (long)nanoseconds}};
    if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        loop->armed_at = until;
}

/* If we were preempted, another task wants this core: stop busy polling for a while. */
static void note_preemption(nl_loop *loop)
{
    struct rusage used;
    if (getrusage(RUSAGE_THREAD, &used) || used.ru_nivcsw == loop->preemptions)
        return;
    loop->preemptions = used.ru_nivcsw;
    loop->no_spin_until = loop->polled_at + NO_SPIN_TIME;
}

/* Wait for wake_fd or a packet, until a time or a little longer; return whether wake_fd is readable. */
static int wait_until(nl_loop *loop, double until)
{
    struct pollfd fds[NL_MAX_QUEUES + 2] = {
        {.fd = loop->wake_fd, .events = POLLIN},
        {.fd = loop->timer_fd, .events = POLLIN},
    };
    for (uint32_t i = 0; i < loop->queue_count; i++) /* poll() ignores a negative descriptor */
        fds[i + 2] = (struct pollfd){.fd = nq_is_refused(loop->queues[i]) ? -1 : nq_fd(loop->queues[i]), .events = POLLIN};
    if (until > nl_clock())
        arm(loop, until);
    poll(fds, loop->queue_count + 2, until <= nl_clock() ? 0 : MAX_WAIT);
    uint64_t times;
    loop->polled_at = nl_clock();
    note_preemption(loop);
    nl_priority_keep(&loop->priority, loop->polled_at);
    if (fds[1].revents && read(loop->timer_fd, &times, sizeof times) > 0)
        loop->armed_at = INFINITY;
    return fds[0].revents != 0;
}

int nl_run(nl_loop *loop, double until)
{
    nm_gear *gear = loop->gear;
    nl_priority_keep(&loop->priority, nl_clock()); /* Python may have taken long */
    for (;;) {
        for (; loop->next < loop->count; loop->next++) {
            nq_packet *packet = &loop->packets[loop->next];
            if (!decide(loop, packet)) {
                flush(loop, loop->now);
                loop->punted = packet;
                return NL_PUNT;
            }
        }
        double now = nl_clock();
        int is_due = now >= until || gear->read.count || nm_legs_acknowledge(gear->legs, &gear->out, now);
        int expires = nm_gear_expire(gear, now) && now >= loop->expire_at;
        flush(loop, now);
        int failed = failure(loop);
        if (failed)
            return failed;
        if ((is_due || expires) && loop->has_received) {
            nl_send(loop); /* Python may take a while */
            loop->expire_at = expires ? now + EXPIRY_PAUSE : loop->expire_at;
            loop->has_received = 0; /* receive packets next, however much is due */
            return NL_TIMER;
        }
        double flows_due = fmax(nm_flows_not_before(gear->flows), loop->expire_at);
        double due = fmin(until, fmin(nm_legs_not_before(gear->legs), flows_due));
        int count = receive(loop, due);
        loop->has_received = 1;
        if (count < 0)
            return count;
        loop->is_busy = count > 0;
        if (count && loop->now - loop->polled_at < POLL_INTERVAL)
            continue;
        if (wait_until(loop, count ? 0 : fmin(fmin(due, next_retry(loop)), loop->outbox.due_at))) {
            nl_send(loop);
            return NL_WAKE;
        }
    }
}

void nl_decided(nl_loop *loop)
{
    loop->punted = NULL;
    loop->next++;
}
