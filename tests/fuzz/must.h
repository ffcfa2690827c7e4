/* An assertion that makes the fuzzer keep the input. assert() would vanish with NDEBUG. */
#ifndef FUZZ_MUST_H
#define FUZZ_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(claim) ((claim) ? (void)0 : must_failed(__FILE__, __LINE__, #claim))

static inline void must_failed(const char *file, int line, const char *claim)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, claim);
    abort();
}

#endif
