/* Memory that runs out on demand: natmirror's files are built with malloc(), calloc() and realloc() renamed to
 * these. */
#ifndef FUZZ_FLAKY_H
#define FUZZ_FLAKY_H

#include <stddef.h>

/* Let this number of allocations succeed, then that number fail. */
void flaky_plan(unsigned skip, unsigned fail);
/* Return the number of failed allocations so far. */
unsigned long flaky_failed(void);

void *flaky_malloc(size_t size);
void *flaky_calloc(size_t count, size_t size);
void *flaky_realloc(void *old, size_t size);

#endif
