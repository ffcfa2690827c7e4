"""The states of a production connection, read from the library; flow_states.h explains each."""

from enum import IntEnum, StrEnum

from natmirror._ffi import lib


class State(IntEnum):
    """The state of a connection, both directions together."""

    SYN_SENT = lib.NM_STATE_SYN_SENT
    SYN_RECEIVED = lib.NM_STATE_SYN_RECEIVED
    ESTABLISHED = lib.NM_STATE_ESTABLISHED
    HALF_CLOSED = lib.NM_STATE_HALF_CLOSED
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
    HALF_CLOSED = "half-closed"
    """One end has sent a FIN; the other may still send."""
    CLOSING = "closing"
    """Both ends have sent a FIN, and one of these is not acknowledged yet."""
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
    BOTH_FINS = lib.NM_EVENT_BOTH_FINS
    LAST_ACK = lib.NM_EVENT_LAST_ACK
    RST = lib.NM_EVENT_RST


TRANSITIONS: dict[tuple[State, Event], State] = {
    (state, event): State(lib.nm_transitions[state][event])
    for state in State
    for event in Event
    if lib.nm_transitions[state][event] != lib.NM_NO_STATE
}

IS_OPEN = frozenset((State.ESTABLISHED, State.HALF_CLOSED, State.CLOSING))
"""The states between the handshake and the end."""


def timeouts_by_state(opening: float, established: float, closing: float, closed: float) -> dict[State, float]:
    """Return the seconds from a flow's last packet to its expiry, by its state."""
    return {
        State.SYN_SENT: opening,
        State.SYN_RECEIVED: opening,
        State.ESTABLISHED: established,
        State.HALF_CLOSED: established,
        State.CLOSING: closing,
        State.TIME_WAIT: closed,
        State.RESET: closed,
    }
