/* Memory that runs out; flaky.h says what each function is for. */
#include "flaky.h"

#include <stdlib.h>

static unsigned to_skip, to_fail;
static unsigned long failed;

void flaky_plan(unsigned skip, unsigned fail)
{
    to_skip = skip;
    to_fail = fail;
}

unsigned long flaky_failed(void) { return failed; }

static int fails(void)
{
    if (to_skip) {
        to_skip--;
        return 0;
    }
    if (!to_fail)
        return 0;
    to_fail--;
    failed++;
    return 1;
}

void *flaky_malloc(size_t size) { return fails() ? NULL : malloc(size); }

void *flaky_calloc(size_t count, size_t size) { return fails() ? NULL : calloc(count, size); }

void *flaky_realloc(void *old, size_t size) { return fails() ? NULL : realloc(old, size); }
