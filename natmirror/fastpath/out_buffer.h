/* A buffer of synthesised packets, or of data for a reader. This header serves #include and cffi's cdef()
 * alike.
 */
#ifndef NATMIRROR_FASTPATH_OUT_BUFFER_H
#define NATMIRROR_FASTPATH_OUT_BUFFER_H

#include <stdint.h>

/* One packet, whose TCP checksum holds the pseudo-header's sum only; or one piece of data. */
typedef struct {
    uint32_t at; /* where it begins in nm_out.bytes */
    uint32_t len;
    uint32_t owner;       /* data: the number of its flow, or of a leg's reader */
    uint16_t segment_len; /* a packet: the most data of one segment on the wire */
    uint16_t holder;      /* data: the client that it counts for */
    uint8_t kind;         /* data: NM_READ_*, or one of Python's own kinds */
} nm_send;

/* It grows with its content. A packet for which there is no memory is lost, as on any network. */
typedef struct {
    uint8_t *bytes;
    nm_send *sends;
    uint32_t used, capacity;   /* bytes */
    uint32_t count, max_count; /* packets, or pieces of data */
} nm_out;

/* Make room for one more packet of len bytes. Return the place to write it to; NULL without memory. */
uint8_t *nm_out_reserve(nm_out *out, uint32_t len, uint32_t segment_len);

/* Append a packet; return 0 without memory. */
int nm_out_add(nm_out *out, const uint8_t *packet, uint32_t len, uint16_t segment_len);

/* Make room for len bytes of data. Return the place to write them to; NULL without memory. */
uint8_t *nm_read_reserve(nm_out *read, uint8_t kind, uint32_t owner, uint16_t holder, uint32_t len);

/* Append data; return 0 without memory. */
int nm_read_add(nm_out *read, uint8_t kind, uint32_t owner, uint16_t holder, const uint8_t *data, uint32_t len);

void nm_out_clear(nm_out *out);

#endif
