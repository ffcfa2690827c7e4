"""The states of a production connection, read from the library; flow_states.h explains each."""

from enum import IntEnum, StrEnum

from natmirror._ffi import lib


class State(IntEnum):
    """The state of a connection, both directions together."""

    SYN_SENT = lib.NM_STATE_SYN_SENT
    SYN_RECEIVED = lib.NM_STATE_SYN_RECEIVED
    ESTABLISHED = lib.NM_STATE_ESTABLISHED
    CLOSING = lib.NM_STATE_CLOSING
    TIME_WAIT = lib.NM_STATE_TIME_WAIT
    RESET = lib.NM_STATE_RESET


class FlowState(StrEnum):
    """The state of a client's connection, as the API shows it."""

    SYN_SENT = "syn-sent"
    """The client has sent its SYN."""
    SYN_RECEIVED = "syn-received"
    """The backend has answered with a SYN-ACK."""
    ESTABLISHED = "established"
    """The client has acknowledged the SYN-ACK, or the flow was picked up."""
    CLOSING = "closing"
    """One end has sent a FIN, or both have and one of these is not acknowledged yet."""
    TIME_WAIT = "time-wait"
    """Both ends have sent a FIN, and each has acknowledged the other's."""
    RESET = "reset"
    """One end, or natmirror, has reset the connection."""
    GONE = "gone"
    """The flow has left the flow table, but one of its legs still delivers buffered bytes."""


SHOWN_STATES = {state: FlowState[state.name] for state in State}
"""The states as the API shows them."""


class Event(IntEnum):
    """What an accepted segment means for the connection as a whole."""

    SYN_ACK = lib.NM_EVENT_SYN_ACK
    HANDSHAKE = lib.NM_EVENT_HANDSHAKE
    FIN = lib.NM_EVENT_FIN
    LAST_ACK = lib.NM_EVENT_LAST_ACK
    RST = lib.NM_EVENT_RST


TRANSITIONS: dict[tuple[State, Event], State] = {
    (state, event): State(lib.nm_transitions[state][event])
    for state in State
    for event in Event
    if lib.nm_transitions[state][event] != lib.NM_NO_STATE
}

TIMEOUTS: dict[State, float] = {state: lib.nm_state_timeouts[state] for state in State}
"""Seconds from a flow's last packet to its expiry, by its state."""
