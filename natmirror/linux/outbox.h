/* The way out for what was synthesised: packets leave at once while there are few, and in company where there are many.
 * I/O, but no clock and no knowledge of flows or legs. This header serves #include and cffi's cdef() alike.
 *
 * A small piece of a stream that comes soon after something has left waits for the next of the same stream, and what
 * follows on each other leaves as one packet, as a network card gathers what it receives. A request of a few bytes costs
 * the kernel, the mirror and its answer the same as 1,400 bytes do; and nobody waits for a mirror but its leg, and a client
 * that is held back for it.
 */
#ifndef NATMIRROR_LINUX_OUTBOX_H
#define NATMIRROR_LINUX_OUTBOX_H

#include <stdint.h>

#include "fastpath/out_buffer.h"

typedef struct {
    uint64_t sent;        /* packets synthesised and written */
    uint64_t joined;      /* those that left as part of another one, which sent does not count */
    uint64_t send_errors; /* those that the kernel refused: their legs send them again */
} nl_counters;

typedef struct {
    int fd;         /* takes a virtio-net header and a packet with each write */
    double pause;   /* seconds after something has left in which small pieces wait; 0: they never do */
    double left_at; /* when something last left */
    double due_at;  /* when what waits is to leave; infinity: nothing waits */
    uint32_t seen;  /* so many of what waits have been looked at */
    nl_counters counters;
} nl_outbox;

/* Let what is in out leave, or wait until due_at for company. */
void nl_outbox_look(nl_outbox *outbox, nm_out *out, double now);
/* Let it leave now. */
void nl_outbox_send(nl_outbox *outbox, nm_out *out, double now);

#endif
