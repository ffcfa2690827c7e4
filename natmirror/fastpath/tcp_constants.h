/* Constants of TCP, for both gears.
 *
 * This is the only definition: Python reads them from the library. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_TCP_CONSTANTS_H
#define NATMIRROR_FASTPATH_TCP_CONSTANTS_H

/* The tracker of production's connections */
#define NM_MAX_ECHO_AGE 1000   /* seconds; twice this and delays are less than Linux's TCP_PAWS_WRAP, 2147 s */
#define NM_MAX_WINDOW 0xffff   /* bytes: the window field, before it is scaled */
#define NM_MAX_WINDOW_SCALE 14 /* RFC 7323 2.3 */
#define NM_NO_WINDOW_SCALE 0xff /* nm_half.scale: this end has not offered the option */
#define NM_MAX_SYN_DATA 1460   /* RFC 7413 4.1.3.1: a SYN's data keeps to one segment */
#define NM_AGREEMENT_BITS 36   /* two ends agree if the product of two distances has no more: see tracker.py */
#define NM_CONTINUATION 65536  /* bytes: so near to its sender's last one a segment continues the same stream */
#define NM_BREAK_SILENCE 0.2   /* seconds without a packet: see breaks.py */

/* What a leg offers its mirror */
#define NM_LEG_WINDOW 0xffff /* the window field: a leg consumes what it receives at once */
#define NM_LEG_ACK_DELAY 0.04 /* seconds (RFC 9293 3.8.6.3: less than 0.5; Linux's least) */

/* How much a leg sends */
#define NM_LEG_MAX_SEGMENTS 512 /* new data in one call: three quarters of a megabyte on Ethernet */
#define NM_INITIAL_SEGMENTS 10   /* the initial congestion window (RFC 6928) */
#define NM_SLOW_START_SEGMENTS 2 /* by which one acknowledgement may open the window (RFC 3465 2.3) */
#define NM_MAX_CWND 0x40000000   /* the largest possible receive window (RFC 7323 2.3) */

/* The retransmission timer (RFC 6298), in seconds */
#define NM_RTO_INITIAL 1.0
#define NM_RTO_MIN 0.2 /* Deviation from RFC 6298 2.4 (one second): the same minimum as Linux, because mirrors are near */
#define NM_RTO_MAX 60.0
#define NM_RTO_GRANULARITY 0.001

#endif
