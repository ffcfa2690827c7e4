/* A packet thread's scheduling class; priority.h describes its functions. */
#define _GNU_SOURCE
#include "linux/priority.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE 100000       /* nanoseconds: the shortest that the kernel takes */
#define LOWEST 1           /* of the priorities of SCHED_RR: whatever else has real-time priority may go before packets */
#define LOOK_INTERVAL 0.01 /* seconds */
#define STORE_TIME 0.0125  /* seconds in which an empty bucket fills */
#define MOST_OWED 1.0      /* processor seconds */

static double processor_time(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Return whether the calling thread has the class that nl_priority gave it last. */
static int has_class(int goes_first)
{
    struct sched_attr now;
    return syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0 &&
           now.sched_policy == (goes_first ? SCHED_RR : SCHED_NORMAL) &&
           now.sched_priority == (goes_first ? LOWEST : 0);
}

/* Set the calling thread's class; return whether the kernel does it. It keeps its nice value, which the operator may
 * change in either class: without CAP_SYS_NICE, the kernel refuses a lower one. */
static int set_class(int goes_first)
{
    struct sched_attr attributes = {.size = sizeof attributes, .sched_flags = SCHED_FLAG_RESET_ON_FORK};
    if (goes_first) {
        attributes.sched_policy = SCHED_RR;
        attributes.sched_priority = LOWEST;
    } else {
        attributes.sched_policy = SCHED_NORMAL;
        attributes.sched_nice = getpriority(PRIO_PROCESS, 0);
        attributes.sched_runtime = SLICE;
    }
    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

void nl_priority_begin(nl_priority *priority, double share)
{
    priority->share = 0;
    priority->goes_first = 0;
    if (!has_class(0))
        return;
    priority->used = processor_time();
    priority->left = STORE_TIME * share;
    if (!set_class(0) || share <= 0 || !set_class(1))
        return;
    priority->share = share;
    priority->goes_first = 1;
}

void nl_priority_keep(nl_priority *priority, double now)
{
    double passed = now - priority->looked_at, most = STORE_TIME * priority->share;
    if (priority->share <= 0 || passed < LOOK_INTERVAL)
        return;
    double used = processor_time(), least = priority->goes_first ? -MOST_OWED : fmin(priority->left, 0);
    priority->left = fmin(priority->left + priority->share * passed - (used - priority->used), most);
    priority->left = fmax(priority->left, least); /* in the usual class it owes no more */
    priority->used = used;
    priority->looked_at = now;
    int is_first = priority->left > (priority->goes_first ? 0 : most / 2);
    if (is_first == priority->goes_first)
        return;
    if (!has_class(priority->goes_first))
        priority->share = 0; /* from now on, the class is the operator's */
    else if (set_class(is_first))
        priority->goes_first = is_first;
}

void nl_priority_end(nl_priority *priority)
{
    if (priority->share > 0 && priority->goes_first && has_class(1))
        set_class(0);
    priority->share = 0;
    priority->goes_first = 0;
}
