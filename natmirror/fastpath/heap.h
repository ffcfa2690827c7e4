/* When flows and legs are due: a heap with one place for each, moved to an earlier time at once and to a later one when
 * it comes up. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_HEAP_H
#define NATMIRROR_FASTPATH_HEAP_H

#include <stdint.h>

/* A part of what is due. */
typedef struct {
    double due_at;    /* infinity: never */
    double queued_at; /* the time of its place in the heap, at most due_at; infinity: it has none */
    uint32_t place;
    uint32_t id; /* whose it is */
} nm_due;

typedef struct {
    nm_due **places;
    uint32_t count;
} nm_heap;

/* It is due at a time from now on. The heap has room for whatever there is. */
void nm_heap_set(nm_heap *heap, nm_due *due, double due_at);
void nm_heap_remove(nm_heap *heap, nm_due *due);

/* When the next one is due, or infinity; the one that is due by now, which then has no deadline any more, or NULL. */
double nm_heap_next(nm_heap *heap);
/* A time before which none is due: what was put off and has not come up yet is not looked at. While packets move many a
 * deadline to and fro, looking at each would have it sink through the whole heap, and rise again with the next packet. */
double nm_heap_not_before(const nm_heap *heap);
int nm_heap_is_due(nm_heap *heap, double now);
nm_due *nm_heap_take(nm_heap *heap, double now);

#endif
