/* The tables of a connection's states; flow_states.h says what they mean. */
#include "fastpath/flow_states.h"

#define NONE NM_NO_STATE

const uint8_t nm_transitions[NM_STATES][NM_EVENTS] = {
    /* SYN-ACK, handshake, FIN, last acknowledgement, RST */
    [NM_STATE_SYN_SENT] = {NM_STATE_SYN_RECEIVED, NONE, NONE, NONE, NM_STATE_RESET},
    [NM_STATE_SYN_RECEIVED] = {NONE, NM_STATE_ESTABLISHED, NONE, NONE, NM_STATE_RESET},
    [NM_STATE_ESTABLISHED] = {NONE, NONE, NM_STATE_CLOSING, NONE, NM_STATE_RESET},
    [NM_STATE_CLOSING] = {NONE, NONE, NONE, NM_STATE_TIME_WAIT, NM_STATE_RESET},
    [NM_STATE_TIME_WAIT] = {NONE, NONE, NONE, NONE, NONE},
    [NM_STATE_RESET] = {NONE, NONE, NONE, NONE, NONE},
};

const double nm_state_timeouts[NM_STATES] = {
    [NM_STATE_SYN_SENT] = 30, /* by then a client repeats its SYN at most every 16 s (RFC 6298, Linux) */
    [NM_STATE_SYN_RECEIVED] = 60,
    [NM_STATE_ESTABLISHED] = 7440, /* 2 hours 4 minutes (RFC 5382 5, REQ-5) */
    [NM_STATE_CLOSING] = 240,      /* the transitory idle-timeout of RFC 5382 5, REQ-5 */
    [NM_STATE_TIME_WAIT] = 10,     /* retransmitted FINs still find the binding (Linux's conntrack: CLOSE) */
    [NM_STATE_RESET] = 10,
};
