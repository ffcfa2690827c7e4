/* Histograms of durations; times.h says what each function is for. */
#include "fastpath/times.h"

/* From the time that an idle loop needs for a packet to that after which a mirror has stalled. */
const double nm_time_bounds[NM_TIME_BOUNDS] = {0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                                               0.02,    0.05,    0.1,    0.2,    0.5,    1.0,   2.0,   5.0,   10.0};

void nm_times_add(nm_times *times, double seconds)
{
    int at = 0;
    if (seconds < 0)
        seconds = 0;
    while (at < NM_TIME_BOUNDS && seconds > nm_time_bounds[at])
        at++;
    times->counts[at]++;
    times->sum += seconds;
}
