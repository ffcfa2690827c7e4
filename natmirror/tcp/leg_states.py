"""The states of a leg, and what moves it from one to the next: the whole machine is one table.

Theory. A leg is the active side of a connection (RFC 9293 §3.3.2): it calls, sends a stream, and closes after the last
byte, or the mirror closes first and still gets the rest. Whatever else happens to a leg (too slow, no memory, no
answer) ends it from outside, with a reason.
"""

from enum import IntEnum


class LegState(IntEnum):
    """The states of RFC 9293 §3.3.2 that an active opener passes; CLOSED is the end."""

    SYN_SENT = 0
    ESTABLISHED = 1
    FIN_WAIT_1 = 2
    FIN_WAIT_2 = 3
    CLOSE_WAIT = 4
    CLOSING = 5
    LAST_ACK = 6
    CLOSED = 7
    RESUMING = 8
    """Not of RFC 9293: another host's leg, whose mirror has not said yet how far it has come."""


class LegEvent(IntEnum):
    """What moves a leg from state to state."""

    SYN_ACK = 0
    FIN_SENT = 1
    FIN_ACKED = 2
    FIN_RECEIVED = 3
    RESET = 4
    ANSWERED = 5


TRANSITIONS: dict[tuple[LegState, LegEvent], LegState] = {
    (LegState.SYN_SENT, LegEvent.SYN_ACK): LegState.ESTABLISHED,  # RFC 9293 §3.10.7.3, fourth check
    (LegState.SYN_SENT, LegEvent.RESET): LegState.CLOSED,  # §3.10.7.3, second check
    (LegState.ESTABLISHED, LegEvent.FIN_SENT): LegState.FIN_WAIT_1,  # §3.10.4
    (LegState.ESTABLISHED, LegEvent.FIN_RECEIVED): LegState.CLOSE_WAIT,  # §3.10.7.4, eighth check
    (LegState.ESTABLISHED, LegEvent.RESET): LegState.CLOSED,  # §3.10.7.4, second check; RFC 5961 §3.2
    (LegState.FIN_WAIT_1, LegEvent.FIN_ACKED): LegState.FIN_WAIT_2,  # §3.10.7.4, fifth check
    (LegState.FIN_WAIT_1, LegEvent.FIN_RECEIVED): LegState.CLOSING,  # §3.10.7.4, eighth check
    (LegState.FIN_WAIT_1, LegEvent.RESET): LegState.CLOSED,  # §3.10.7.4, second check; as for all states below
    (LegState.FIN_WAIT_2, LegEvent.FIN_RECEIVED): LegState.CLOSED,  # to TIME-WAIT in §3.10.7.4, eighth check
    (LegState.FIN_WAIT_2, LegEvent.RESET): LegState.CLOSED,
    (LegState.CLOSE_WAIT, LegEvent.FIN_SENT): LegState.LAST_ACK,  # §3.10.4
    (LegState.CLOSE_WAIT, LegEvent.RESET): LegState.CLOSED,
    (LegState.CLOSING, LegEvent.FIN_ACKED): LegState.CLOSED,  # to TIME-WAIT in §3.10.7.4, fifth check
    (LegState.CLOSING, LegEvent.RESET): LegState.CLOSED,
    (LegState.LAST_ACK, LegEvent.FIN_ACKED): LegState.CLOSED,  # §3.10.7.4, fifth check
    (LegState.LAST_ACK, LegEvent.RESET): LegState.CLOSED,
    (LegState.RESUMING, LegEvent.ANSWERED): LegState.ESTABLISHED,
    (LegState.RESUMING, LegEvent.RESET): LegState.CLOSED,
}
# Deviation: no TIME-WAIT. A FIN that the mirror repeats finds no leg and is answered with a RST, which its receiver,
# done with both directions, takes for the last acknowledgement; the client's next connection from this port has no
# wait.
# Deviation: no simultaneous open (§3.5, figure 7). A mirror does not call.
