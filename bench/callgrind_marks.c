/* Marks the part of a program that valgrind's callgrind counts; Python loads it with ctypes. Outside of callgrind these
 * functions do nothing.
 */
#include <valgrind/callgrind.h>

void count_begin(void);
void count_end(const char *name);

void count_begin(void)
{
    CALLGRIND_ZERO_STATS;
    CALLGRIND_START_INSTRUMENTATION;
}

/* Have callgrind write the counts since count_begin() into a file, with this name in it. */
void count_end(const char *name)
{
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT(name);
}
