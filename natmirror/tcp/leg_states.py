"""The states of a leg, what moves it from one to another, and why it ends: the whole machine is in the tables below.

Theory. A leg is the active side of a connection (RFC 9293 §3.3.2): it calls, sends a stream, and closes after the last
byte; or the mirror closes first and still gets the rest. A leg of another host's enters at RESUMING instead.

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

A RST of the mirror's moves the state only where it is believed. In SYN_SENT that is one which acknowledges the SYN: the
mirror has refused, and any other is ignored (RFC 9293 §3.10.7.3, second check). In all other states it is one with
exactly the next number that is expected; another one inside the window is answered with a challenge ACK, one outside of
it is ignored (RFC 5961 §3.2). A leg that is CLOSED is in no table any more: no segment reaches it.

Whatever else ends a leg (a full buffer, a timeout, a mirror that has left the rules) ends it in any state, by ABORT or
by ABANDON: ENDS says by which. Leg._step() is the only place that moves the state.
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
    """The mirror's SYN has come, and acknowledges ours."""
    FIN_SENT = 1
    """Our FIN was sent for the first time."""
    FIN_ACKED = 2
    """The mirror has acknowledged our FIN."""
    FIN_RECEIVED = 3
    """The mirror's FIN has come, and all before it."""
    RST = 4
    """A RST of the mirror's that is believed, see above."""
    ANSWERED = 5
    """The mirror has answered a probe with how far it has come (resumption.py)."""
    ABORT = 6
    """We end the leg, and send a RST (RFC 9293 §3.10.5)."""
    ABANDON = 7
    """We end the leg, and send nothing."""


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
# Deviation: no TIME-WAIT. A FIN that the mirror repeats finds no leg and is answered with a RST, which its receiver,
# done with both directions, takes for the last acknowledgement; the client's next connection from this port has no
# wait.
# Deviation: no simultaneous open (§3.5, figure 7). A mirror does not call.

REFUSED, MIRROR_RESET, COMPLETE = "refused", "mirror-reset", "closed"
"""Why a leg ends by a segment of its mirror's: the rows of TRANSITIONS above."""

BUFFER_FULL, MEMORY_FULL, CLIENT_RESET, UNREACHABLE = "buffer-full", "memory-full", "client-reset", "unreachable"
CONNECT_TIMEOUT, STALLED, IDLE_TIMEOUT = "connect-timeout", "stalled", "idle-timeout"
THROTTLE_LIMIT, LINGER_TIMEOUT = "throttle-limit", "linger-timeout"
HOLE, TAKEOVER_HOLE, NO_ANSWER, NO_RECORD = "hole", "takeover-hole", "no-answer", "no-record"

ENDS: dict[str, LegEvent] = {
    BUFFER_FULL: LegEvent.ABORT,  # more bytes wait than the mirror's ``buffer`` has room for: Leg.write()
    MEMORY_FULL: LegEvent.ABORT,  # all legs together hold as much as they may: Leg.write()
    CLIENT_RESET: LegEvent.ABORT,  # production's connection was reset, and the mirror has acknowledged all before that
    UNREACHABLE: LegEvent.ABANDON,  # an ICMP error about the SYN, in SYN_SENT only (RFC 5927 §5.2)
    # Timeouts, each a setting of the mirror's that leg_deadlines.py counts
    CONNECT_TIMEOUT: LegEvent.ABORT,  # ``connect-timeout``: no SYN-ACK
    STALLED: LegEvent.ABORT,  # ``stall-timeout``: bytes wait, and none is acknowledged
    IDLE_TIMEOUT: LegEvent.ABORT,  # ``idle-timeout``: nothing waits, and neither side sends
    THROTTLE_LIMIT: LegEvent.ABORT,  # ``throttle-limit``: a client was held back as long for this leg
    LINGER_TIMEOUT: LegEvent.ABORT,  # ``linger``: production's connection is over, and the mirror lacks bytes
    COMPLETE: LegEvent.ABORT,  # the same, where the mirror has everything and keeps its own side open
    # Bytes or answers that are missing: all but the first only where another host has begun the leg
    HOLE: LegEvent.ABORT,  # bytes never passed here, and the client will not send them again
    TAKEOVER_HOLE: LegEvent.ABORT,  # the same between the record of another host's and what came here
    NO_ANSWER: LegEvent.ABANDON,  # ``connect-timeout``: the mirror answers no probe, and would hear no RST
    NO_RECORD: LegEvent.ABORT,  # there is no record of the leg, or only one of an older leg between the same ends
}
"""How a leg ends, by the reason, where no segment of its mirror's ends it. Its owner has more reasons, and says with
Leg.abort() or Leg.abandon() which of the two it is."""
