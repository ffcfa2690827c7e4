/* The state of a packet's transport checksum. This header serves #include and cffi's cdef() alike. */
#ifndef NATMIRROR_FASTPATH_CHECKSUM_STATES_H
#define NATMIRROR_FASTPATH_CHECKSUM_STATES_H

#define NM_CHECKSUM_UNVERIFIED 0 /* not verified yet */
#define NM_CHECKSUM_VALID 1
#define NM_CHECKSUM_PARTIAL 2 /* the pseudo-header's sum only: hardware was to complete it */

#endif
