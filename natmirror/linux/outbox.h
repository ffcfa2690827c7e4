/* The writer of synthesised packets: it writes packets at once while they are few, and joins small ones while they are
 * many. It does I/O, but reads no clock and knows nothing of flows or legs. This header serves both #include and cffi's
 * cdef().
 *
 * A small segment that comes soon after the last write waits for the next of the same stream, and adjacent ones are
 * written as one packet, as GRO joins received packets. A segment of a few bytes costs the kernel and the mirror as
 * much as one of 1,400 bytes. Only the leg waits for it, and a client that is throttled for the mirror.
 */
#ifndef NATMIRROR_LINUX_OUTBOX_H
#define NATMIRROR_LINUX_OUTBOX_H

#include <stdint.h>

#include "fastpath/out_buffer.h"

typedef struct {
    uint64_t packets_sent;    /* packets synthesised and written */
    uint64_t packets_joined;  /* packets written as part of another one, and not counted in packets_sent */
    uint64_t packets_refused; /* packets that the kernel refused; a leg retransmits its own */
} nl_counters;

typedef struct {
    int fd;             /* takes a virtio-net header and a packet with each write */
    double gather_time; /* seconds after a write during which small segments wait; 0: they never wait */
    double written_at;  /* when packets were last written */
    double due_at;      /* when the waiting packets are to be written; infinity: none wait */
    uint32_t examined;  /* number of waiting packets that are known to be small segments */
    nl_counters counters;
} nl_outbox;

/* Write the packets of out now, or let them wait for others until due_at. */
void nl_outbox_gather(nl_outbox *outbox, nm_out *out, double now);
/* Write the packets of out now. */
void nl_outbox_send(nl_outbox *outbox, nm_out *out, double now);

#endif
