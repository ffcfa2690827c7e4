/* A histogram of durations, for the metrics. No I/O, no clock, no policy. This header serves #include and cffi's cdef()
 * alike.
 */
#ifndef NATMIRROR_FASTPATH_TIMES_H
#define NATMIRROR_FASTPATH_TIMES_H

#include <stdint.h>

#define NM_TIME_BOUNDS 18

typedef struct {
    uint64_t counts[NM_TIME_BOUNDS + 1]; /* durations above the bound before and up to this one; the last has none */
    double sum;                          /* seconds */
} nm_times;

extern const double nm_time_bounds[NM_TIME_BOUNDS]; /* seconds, in ascending order */

/* Count a duration; one below 0 counts as 0. */
void nm_times_add(nm_times *times, double seconds);

#endif
