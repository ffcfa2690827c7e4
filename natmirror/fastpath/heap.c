/* The heap of deadlines; heap.h says what each function is for. */
#include "fastpath/heap.h"

#include <math.h>
#include <stddef.h>

/* Order by time, then by number, so that each run has the same order. */
static int is_before(const nm_due *one, const nm_due *other)
{
    return one->queued_at < other->queued_at || (one->queued_at == other->queued_at && one->id < other->id);
}

static void put(nm_heap *heap, uint32_t place, nm_due *due)
{
    heap->places[place] = due;
    due->place = place;
}

static void rise(nm_heap *heap, nm_due *due)
{
    uint32_t at = due->place;
    while (at && is_before(due, heap->places[(at - 1) / 2])) {
        put(heap, at, heap->places[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, due);
}

static void sink(nm_heap *heap, nm_due *due)
{
    uint32_t at = due->place;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && is_before(heap->places[child + 1], heap->places[child]))
            child++;
        if (!is_before(heap->places[child], due))
            break;
        put(heap, at, heap->places[child]);
        at = child;
    }
    put(heap, at, due);
}

void nm_heap_remove(nm_heap *heap, nm_due *due)
{
    if (due->queued_at == INFINITY)
        return;
    due->queued_at = INFINITY;
    nm_due *last = heap->places[--heap->count];
    if (last == due)
        return;
    put(heap, due->place, last);
    rise(heap, last);
    sink(heap, last);
}

void nm_heap_set(nm_heap *heap, nm_due *due, double due_at)
{
    due->due_at = due_at;
    if (due_at >= due->queued_at)
        return;
    if (due->queued_at == INFINITY)
        put(heap, heap->count++, due);
    due->queued_at = due_at;
    rise(heap, due);
}

double nm_heap_next(nm_heap *heap)
{
    while (heap->count) {
        nm_due *first = heap->places[0];
        if (first->due_at <= first->queued_at)
            return first->queued_at;
        if (first->due_at == INFINITY) {
            nm_heap_remove(heap, first);
        } else {
            first->queued_at = first->due_at;
            sink(heap, first);
        }
    }
    return INFINITY;
}

double nm_heap_not_before(const nm_heap *heap) { return heap->count ? heap->places[0]->queued_at : INFINITY; }

int nm_heap_is_due(nm_heap *heap, double now)
{
    return nm_heap_not_before(heap) <= now && nm_heap_next(heap) <= now && heap->count;
}

nm_due *nm_heap_take(nm_heap *heap, double now)
{
    if (!nm_heap_is_due(heap, now))
        return NULL;
    nm_due *due = heap->places[0];
    nm_heap_remove(heap, due);
    due->due_at = INFINITY;
    return due;
}
