"""The states of a leg, the events that change them, and the reasons of its end. The tables below are the whole machine.

Theory. A leg is the active side of a connection (RFC 9293 §3.3.2): it connects, sends a stream, and closes after the
last byte; or the mirror closes first and still gets the rest. A leg from another host begins at RESUMING instead.

    SYN_SENT ---SYN_ACK---> ESTABLISHED <---ANSWERED--- RESUMING
                             |       |
                      FIN_SENT       FIN_RECEIVED
                             v       v
    FIN_WAIT_2 <-- FIN_WAIT_1       CLOSE_WAIT
         |   FIN_ACKED  |                |
    FIN_RECEIVED   FIN_RECEIVED      FIN_SENT
         |              v                v
         |           CLOSING         LAST_ACK
         |              |                |
         |          FIN_ACKED        FIN_ACKED
         v              v                v
       CLOSED         CLOSED           CLOSED           RST, ABORT and ABANDON: from every state to CLOSED

A RST of the mirror changes the state only if it is accepted. In SYN_SENT the leg accepts a RST that acknowledges the
SYN, by which the mirror refuses, and ignores all others (RFC 9293 §3.10.7.3, second check). In all other states it
accepts a RST at exactly the next expected number, answers one elsewhere in the window with a challenge ACK, and ignores
one outside the window (RFC 5961 §3.2). A CLOSED leg is in no table, so no segment reaches it.

All other reasons (a full buffer, a timeout, a mirror that was removed from the rules) end a leg in any state, by ABORT
or by ABANDON, as ENDS says. Leg._step() is the only place that changes the state.
"""

from enum import IntEnum

from natmirror.reasons import EndReason


class LegState(IntEnum):
    """The states of RFC 9293 §3.3.2 that an active opener passes through; CLOSED is the end."""

    SYN_SENT = 0
    ESTABLISHED = 1
    FIN_WAIT_1 = 2
    FIN_WAIT_2 = 3
    CLOSE_WAIT = 4
    CLOSING = 5
    LAST_ACK = 6
    CLOSED = 7
    RESUMING = 8
    """A leg from another host whose mirror has not answered yet which bytes it has. RFC 9293 has no such state."""


class LegEvent(IntEnum):
    """An event that may change a leg's state."""

    SYN_ACK = 0
    """The mirror's SYN has arrived, and acknowledges ours."""
    FIN_SENT = 1
    """Our FIN was sent for the first time."""
    FIN_ACKED = 2
    """The mirror has acknowledged our FIN."""
    FIN_RECEIVED = 3
    """The mirror's FIN and all data before it have arrived."""
    RST = 4
    """A RST of the mirror has been accepted, see above."""
    ANSWERED = 5
    """The mirror has answered a probe, so its position is known (resumption.py)."""
    ABORT = 6
    """We end the leg with a RST (RFC 9293 §3.10.5)."""
    ABANDON = 7
    """We end the leg without a packet."""


TRANSITIONS: dict[tuple[LegState, LegEvent], LegState] = {
    (LegState.SYN_SENT, LegEvent.SYN_ACK): LegState.ESTABLISHED,  # RFC 9293 §3.10.7.3, fourth check
    (LegState.SYN_SENT, LegEvent.RST): LegState.CLOSED,  # "refused"; §3.10.7.3, second check
    (LegState.RESUMING, LegEvent.ANSWERED): LegState.ESTABLISHED,
    (LegState.RESUMING, LegEvent.RST): LegState.CLOSED,  # "mirror-reset", as in all states below
    (LegState.ESTABLISHED, LegEvent.FIN_SENT): LegState.FIN_WAIT_1,  # §3.10.4
    (LegState.ESTABLISHED, LegEvent.FIN_RECEIVED): LegState.CLOSE_WAIT,  # §3.10.7.4, eighth check
    (LegState.ESTABLISHED, LegEvent.RST): LegState.CLOSED,  # §3.10.7.4, second check; RFC 5961 §3.2
    (LegState.FIN_WAIT_1, LegEvent.FIN_ACKED): LegState.FIN_WAIT_2,  # §3.10.7.4, fifth check
    (LegState.FIN_WAIT_1, LegEvent.FIN_RECEIVED): LegState.CLOSING,  # §3.10.7.4, eighth check
    (LegState.FIN_WAIT_1, LegEvent.RST): LegState.CLOSED,
    (LegState.FIN_WAIT_2, LegEvent.FIN_RECEIVED): LegState.CLOSED,  # "closed"; to TIME-WAIT in §3.10.7.4, eighth check
    (LegState.FIN_WAIT_2, LegEvent.RST): LegState.CLOSED,
    (LegState.CLOSE_WAIT, LegEvent.FIN_SENT): LegState.LAST_ACK,  # §3.10.4
    (LegState.CLOSE_WAIT, LegEvent.RST): LegState.CLOSED,
    (LegState.CLOSING, LegEvent.FIN_ACKED): LegState.CLOSED,  # "closed"; to TIME-WAIT in §3.10.7.4, fifth check
    (LegState.CLOSING, LegEvent.RST): LegState.CLOSED,
    (LegState.LAST_ACK, LegEvent.FIN_ACKED): LegState.CLOSED,  # "closed"; §3.10.7.4, fifth check
    (LegState.LAST_ACK, LegEvent.RST): LegState.CLOSED,
    **{
        (state, event): LegState.CLOSED
        for state in LegState
        if state is not LegState.CLOSED
        for event in (LegEvent.ABORT, LegEvent.ABANDON)
    },
}
# Deviation: no TIME-WAIT. If the mirror repeats its FIN, there is no leg, and a RST answers it. The mirror has finished
# both directions, so the RST serves as the last acknowledgement. The client's next connection from this port does not
# have to wait.
# Deviation: no simultaneous open (§3.5, figure 7), because a mirror does not connect to us.


ENDS: dict[EndReason, LegEvent] = {
    EndReason.BUFFER_FULL: LegEvent.ABORT,  # Leg.write()
    EndReason.MEMORY_FULL: LegEvent.ABORT,  # Leg.write()
    EndReason.CLIENT_RESET: LegEvent.ABORT,  # once the mirror has acknowledged all bytes before the RST
    EndReason.UNREACHABLE: LegEvent.ABANDON,  # in SYN_SENT only (RFC 5927 §5.2)
    # Timeouts, each a setting of the mirror; see leg_deadlines.py
    EndReason.CONNECT_TIMEOUT: LegEvent.ABORT,
    EndReason.STALLED: LegEvent.ABORT,
    EndReason.IDLE_TIMEOUT: LegEvent.ABORT,
    EndReason.THROTTLE_LIMIT: LegEvent.ABORT,
    EndReason.LINGER_TIMEOUT: LegEvent.ABORT,
    EndReason.CLOSED: LegEvent.ABORT,  # after ``linger``: the mirror has all bytes, and keeps its own side open
    # Missing bytes or answers: all but the first only where another host has begun the leg
    EndReason.HOLE: LegEvent.ABORT,
    EndReason.TAKEOVER_HOLE: LegEvent.ABORT,
    EndReason.RESUME_TIMEOUT: LegEvent.ABANDON,  # the mirror answers no probe, and would hear no RST
    EndReason.NO_RECORD: LegEvent.ABORT,
}
"""Whether a leg ends with a RST, by the reason, if no segment of its mirror ends it. The leg's owner has more reasons:
it calls Leg.abort() or Leg.abandon()."""
