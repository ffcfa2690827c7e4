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

#define SLICE 100000         /* nanoseconds: the shortest that the kernel takes */
#define LOWEST 1             /* of the priorities of SCHED_RR: keepalived and others may go before packets */
#define LOOK_INTERVAL 0.01   /* seconds */
#define MOST_LEFT 0.025      /* seconds: a thread with half of a core as its share may take 50 ms of a whole one */

static double processor_time(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Set the calling thread's class; return whether the kernel does it. */
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
    set_class(0);
    priority->goes_first = share > 0 && set_class(1);
    priority->share = priority->goes_first ? share : 0;
    priority->used = processor_time();
    priority->left = MOST_LEFT;
}

void nl_priority_keep(nl_priority *priority, double now)
{
    double passed = now - priority->looked_at;
    if (priority->share <= 0 || passed < LOOK_INTERVAL)
        return;
    double used = processor_time();
    priority->left = fmin(priority->left + priority->share * passed - (used - priority->used), MOST_LEFT);
    priority->left = fmax(priority->left, 0);
    priority->used = used;
    priority->looked_at = now;
    int is_first = priority->left > (priority->goes_first ? 0 : MOST_LEFT / 2);
    if (is_first != priority->goes_first && set_class(is_first))
        priority->goes_first = is_first;
}
