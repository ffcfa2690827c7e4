/* The TCP options that natmirror reads. The Python counterpart is Segment in natmirror/net/packet.py; a test compares
 * the two.
 *
 * No I/O, no clock, no policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_OPTIONS_H
#define NATMIRROR_FASTPATH_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "fastpath/tcp_constants.h"

#define NM_MAX_OPTIONS_LEN 40

/* nm_options.mptcp: other bits are 1 << subtype */
#define NM_MPTCP_CAPABLE 1          /* MP_CAPABLE, subtype 0 */
#define NM_MPTCP_NO_SUBTYPE 0x10000 /* an MPTCP option that is too short for its subtype */

typedef struct {
    uint32_t tsval;         /* of the timestamps option (RFC 7323 3.2), if has_timestamps */
    uint32_t tsecr;
    uint32_t mptcp;         /* the subtypes of all MPTCP options (RFC 8684 3); 0: there is none */
    uint8_t has_timestamps;
    uint8_t has_cookie;     /* an option may be a cookie of TCP Fast Open (RFC 7413 4.1.1, RFC 6994 3) */
    uint8_t window_scale;   /* at most NM_MAX_WINDOW_SCALE, or NM_NO_WINDOW_SCALE */
} nm_options;

/* Read the options of a segment: the len bytes after its TCP header's fixed part. Stop at the first malformed one. As
 * in Linux, an option whose length its kind does not have is ignored, and if a kind comes twice, its last one counts. */
void nm_read_options(const uint8_t *at, size_t len, nm_options *found);

/* Return nm_options.mptcp alone: so that its rare callers keep no options on their stack. */
uint32_t nm_mptcp_subtypes(const uint8_t *at, size_t len);

/* Overwrite each MP_CAPABLE option among the len bytes of options by NOPs. */
void nm_strip_mp_capable(uint8_t *at, size_t len);

#endif
