/* What is known of a packet's transport checksum. This header serves #include and cffi's cdef() alike. */
#ifndef NATMIRROR_FASTPATH_CHECKSUM_STATES_H
#define NATMIRROR_FASTPATH_CHECKSUM_STATES_H

#define NM_CHECKSUM_UNVERIFIED 0 /* nothing */
#define NM_CHECKSUM_VALID 1
#define NM_CHECKSUM_PARTIAL 2 /* it holds the pseudo-header's sum only: the rest was left to hardware */

#endif
