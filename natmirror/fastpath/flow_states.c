/* The transitions between a connection's states; flow_states.h says what they mean. */
#include "fastpath/flow_states.h"

#define NONE NM_NO_STATE

const uint8_t nm_transitions[NM_STATES][NM_EVENTS] = {
    /* SYN-ACK, handshake, first FIN, both FINs, last acknowledgement, RST */
    [NM_STATE_SYN_SENT] = {NM_STATE_SYN_RECEIVED, NONE, NONE, NONE, NONE, NM_STATE_RESET},
    [NM_STATE_SYN_RECEIVED] = {NONE, NM_STATE_ESTABLISHED, NONE, NONE, NONE, NM_STATE_RESET},
    [NM_STATE_ESTABLISHED] = {NONE, NONE, NM_STATE_HALF_CLOSED, NM_STATE_CLOSING, NONE, NM_STATE_RESET},
    [NM_STATE_HALF_CLOSED] = {NONE, NONE, NONE, NM_STATE_CLOSING, NM_STATE_TIME_WAIT, NM_STATE_RESET},
    [NM_STATE_CLOSING] = {NONE, NONE, NONE, NONE, NM_STATE_TIME_WAIT, NM_STATE_RESET},
    [NM_STATE_TIME_WAIT] = {NONE, NONE, NONE, NONE, NONE, NONE},
    [NM_STATE_RESET] = {NONE, NONE, NONE, NONE, NONE, NONE},
};
