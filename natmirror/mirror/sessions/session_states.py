"""The states of one connection's session with one master, and the events that move it from one to the next.

Theory. A session opens its leg when enough is known of its switch (WAITING). It exchanges messages while the leg lives
(OPEN), until one side closes (CLOSING: no more messages, the leg delivers what it holds). When the leg has ended, the
session may open the next one. Once there is a reason against a further session (``why_absent``), it ends: at once where
it has no leg (ENDED), else when its leg ends. LAST and LAST_CLOSING are OPEN and CLOSING with such a reason.
"""

from enum import IntEnum


class SessionState(IntEnum):
    """The state of a session."""

    WAITING = 0
    """It has no leg, and may open one."""
    OPEN = 1
    """It has a leg, and may send messages to the master."""
    CLOSING = 2
    """The leg has got the stream's end: no more messages follow."""
    LAST = 3
    """OPEN, and no session will follow."""
    LAST_CLOSING = 4
    """CLOSING, and no session will follow."""
    ENDED = 5
    """It has no leg, and will open none."""


class SessionEvent(IntEnum):
    """An event that moves a session from state to state."""

    LEG_OPENED = 0
    """The session has opened a leg to its master."""
    CLOSED = 1
    """The leg gets the stream's end."""
    GIVEN_UP = 2
    """There is a reason against a further session."""
    LEG_ENDED = 3
    FAILED = 4
    """A fault has ended the session, in whatever state."""


TRANSITIONS: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.WAITING, SessionEvent.LEG_OPENED): SessionState.OPEN,
    (SessionState.WAITING, SessionEvent.GIVEN_UP): SessionState.ENDED,
    (SessionState.OPEN, SessionEvent.CLOSED): SessionState.CLOSING,
    (SessionState.OPEN, SessionEvent.GIVEN_UP): SessionState.LAST,
    (SessionState.OPEN, SessionEvent.LEG_ENDED): SessionState.WAITING,
    (SessionState.CLOSING, SessionEvent.CLOSED): SessionState.CLOSING,  # the other side has closed too
    (SessionState.CLOSING, SessionEvent.GIVEN_UP): SessionState.LAST_CLOSING,
    (SessionState.CLOSING, SessionEvent.LEG_ENDED): SessionState.WAITING,
    (SessionState.LAST, SessionEvent.CLOSED): SessionState.LAST_CLOSING,
    (SessionState.LAST, SessionEvent.GIVEN_UP): SessionState.LAST,  # a second reason
    (SessionState.LAST, SessionEvent.LEG_ENDED): SessionState.ENDED,
    (SessionState.LAST_CLOSING, SessionEvent.CLOSED): SessionState.LAST_CLOSING,
    (SessionState.LAST_CLOSING, SessionEvent.GIVEN_UP): SessionState.LAST_CLOSING,
    (SessionState.LAST_CLOSING, SessionEvent.LEG_ENDED): SessionState.ENDED,
    (SessionState.ENDED, SessionEvent.GIVEN_UP): SessionState.ENDED,
    # A fault came between the leg and LEG_OPENED
    (SessionState.ENDED, SessionEvent.LEG_ENDED): SessionState.ENDED,
    **{(state, SessionEvent.FAILED): SessionState.ENDED for state in SessionState},
}

HAS_LEG = frozenset((SessionState.OPEN, SessionState.CLOSING, SessionState.LAST, SessionState.LAST_CLOSING))
IS_OPEN = frozenset((SessionState.OPEN, SessionState.LAST))
