/* The deadlines of flows and legs: a heap with one place for each. An earlier deadline moves its place at once, a later
 * one only when the place has reached the top. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_HEAP_H
#define NATMIRROR_FASTPATH_HEAP_H

#include <stdint.h>

/* The deadline of a flow or a leg, part of its row. */
typedef struct {
    double due_at;    /* infinity: never */
    double queued_at; /* the time of its place in the heap, at most due_at; infinity: it has no place */
    uint32_t place;
    uint32_t id; /* of the row */
} nm_due;

typedef struct {
    nm_due **places;
    uint32_t count;
} nm_heap;

/* Set a deadline. places must have room for all rows. */
void nm_heap_set(nm_heap *heap, nm_due *due, double due_at);
void nm_heap_remove(nm_heap *heap, nm_due *due);

/* Return the next deadline, or infinity. */
double nm_heap_next(nm_heap *heap);
/* Return a time before which there is no deadline, without moving places. While packets move many deadlines back
 * and forth, nm_heap_next() would sink each through the whole heap, and the next packet would make it rise again. */
double nm_heap_not_before(const nm_heap *heap);
int nm_heap_is_due(nm_heap *heap, double now);
/* Return the first deadline that is due by now and clear it; NULL if there is none. */
nm_due *nm_heap_take(nm_heap *heap, double now);

#endif
