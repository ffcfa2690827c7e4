/* The states of a connection between a client and its backend, as its packets show them, both directions together.
 *
 * This is the only definition: Python reads names, numbers and transitions from the library. This header serves
 * #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_FLOW_STATES_H
#define NATMIRROR_FASTPATH_FLOW_STATES_H

#include <stdint.h>

/* nm_flow.state */
#define NM_STATE_SYN_SENT 0     /* the client has sent its SYN */
#define NM_STATE_SYN_RECEIVED 1 /* the backend has answered it with a SYN-ACK */
#define NM_STATE_ESTABLISHED 2  /* the client has acknowledged the SYN-ACK */
#define NM_STATE_HALF_CLOSED 3  /* one end has sent a FIN; the other may still send */
#define NM_STATE_CLOSING 4      /* both have sent a FIN */
#define NM_STATE_TIME_WAIT 5    /* and each has acknowledged the other's */
#define NM_STATE_RESET 6        /* one end has sent a RST that the other accepts */
#define NM_STATES 7

/* What a segment means for the connection as a whole. */
#define NM_NO_EVENT (-1) /* the segment changes no state */
#define NM_EVENT_SYN_ACK 0
#define NM_EVENT_HANDSHAKE 1 /* the client's acknowledgement of the SYN-ACK */
#define NM_EVENT_FIN 2       /* the first FIN */
#define NM_EVENT_BOTH_FINS 3 /* the second FIN, or both at once */
#define NM_EVENT_LAST_ACK 4  /* the acknowledgement of the second FIN */
#define NM_EVENT_RST 5
#define NM_EVENTS 6

/* The next state, by state and event; NM_NO_STATE if the event means nothing in that state. */
#define NM_NO_STATE 0xff
extern const uint8_t nm_transitions[NM_STATES][NM_EVENTS];

/* Seconds after which a SYN counts as unanswered: Linux repeats a SYN after one second (RFC 6298 2). */
#define NM_SYN_ANSWER_TIMEOUT 0.8

/* Seconds from the last packet of an unconfirmed flow to its expiry: several times the round trip and the delay of an
 * acknowledgement (RFC 9293 3.8.6.3), after which an end that lives has answered. What is sent again is picked up again. */
#define NM_UNCONFIRMED_TIMEOUT 10

#endif
