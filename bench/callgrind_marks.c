/* Where a program begins and ends to be counted by valgrind's callgrind; loaded into Python with ctypes. Outside of
 * callgrind these do nothing.
 */
#include <valgrind/callgrind.h>

void count_begin(void);
void count_end(const char *name);

void count_begin(void)
{
    CALLGRIND_ZERO_STATS;
    CALLGRIND_START_INSTRUMENTATION;
}

/* Writes what was executed since count_begin() into a file of callgrind's, with this name in it. */
void count_end(const char *name)
{
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT(name);
}
