/* How soon the kernel gives a packet thread its core after each packet. This header serves both #include and cffi's
 * cdef().
 *
 * While the thread takes less than a share of a core, it goes first: SCHED_RR, before all programs of the usual class.
 * One that takes more would keep them from their work, so it is of the usual class itself, with short turns. A token
 * bucket decides: it fills with the share, and what the thread takes flows out. It holds what comes in within 12.5 ms: with
 * a share of four fifths, a thread that takes all of a core keeps others from it for 50 ms at once, and threads that share
 * a core do so no longer than one. What a thread takes beyond, as for long work in
 * Python, it owes. */
#ifndef NATMIRROR_LINUX_PRIORITY_H
#define NATMIRROR_LINUX_PRIORITY_H

typedef struct {
    double share;     /* of a core, below which the thread goes first; 0: it never does, or the kernel forbids it */
    double looked_at; /* CLOCK_MONOTONIC: when the loop last looked at what the thread takes */
    double used;      /* processor seconds that the thread had taken by then */
    double left;      /* processor seconds that it may take at once and still go first; below 0: it owes them */
    int goes_first;
} nl_priority;

/* Have the calling thread go first while it takes less than this share of a core, where the kernel allows it, and else
 * be run for short turns that begin soon, with the same part of the core as others (Linux 6.12; older ones ignore it).
 * Programs and threads that it starts are of the usual class. A thread to which the operator has given another class
 * (CPUSchedulingPolicy=, chrt) keeps it, whether that was before or later. */
void nl_priority_begin(nl_priority *priority, double share);

/* Look at what the calling thread takes, every 10 ms at most, and change its class if it has to. */
void nl_priority_keep(nl_priority *priority, double now);

/* Have the calling thread be of the usual class from now on. */
void nl_priority_end(nl_priority *priority);

#endif
