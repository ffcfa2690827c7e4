"""The states of one connection's session with one master, and what moves it from one to the next.

Theory. A master that the rules name is called when its switch has said enough (WAITING). While its leg lives the two
talk (OPEN), until one side has closed (CLOSING: nothing more is said, the leg delivers what it holds). When the leg has
ended, the master may be called again. That ends for good for a reason (``why_absent``): at once where there is no leg
(OVER), else when the leg at hand has ended (LAST and LAST_CLOSING are OPEN and CLOSING with that end in sight).
"""

from enum import IntEnum


class SessionState(IntEnum):
    """What a session does now."""

    WAITING = 0
    """It has no leg, and may be called."""
    OPEN = 1
    """Something may be said to the master."""
    CLOSING = 2
    """The leg has been told of the end: nothing more is said."""
    LAST = 3
    """It is open, and none will follow."""
    LAST_CLOSING = 4
    """It is closing, and none will follow."""
    OVER = 5
    """Nothing will come of it any more."""


class SessionEvent(IntEnum):
    """What moves a session from state to state."""

    CALLED = 0
    """The master is being called: there is a leg."""
    CLOSED = 1
    """The leg is told of the end."""
    GIVEN_UP = 2
    """There is a reason why none will follow."""
    LEG_ENDED = 3
    FAILED = 4
    """A fault of ours has ended it, whatever state that has left it in."""


TRANSITIONS: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.WAITING, SessionEvent.CALLED): SessionState.OPEN,
    (SessionState.WAITING, SessionEvent.GIVEN_UP): SessionState.OVER,
    (SessionState.OPEN, SessionEvent.CLOSED): SessionState.CLOSING,
    (SessionState.OPEN, SessionEvent.GIVEN_UP): SessionState.LAST,
    (SessionState.OPEN, SessionEvent.LEG_ENDED): SessionState.WAITING,
    (SessionState.CLOSING, SessionEvent.CLOSED): SessionState.CLOSING,  # the other side has closed too
    (SessionState.CLOSING, SessionEvent.GIVEN_UP): SessionState.LAST_CLOSING,
    (SessionState.CLOSING, SessionEvent.LEG_ENDED): SessionState.WAITING,
    (SessionState.LAST, SessionEvent.CLOSED): SessionState.LAST_CLOSING,
    (SessionState.LAST, SessionEvent.GIVEN_UP): SessionState.LAST,  # a second reason
    (SessionState.LAST, SessionEvent.LEG_ENDED): SessionState.OVER,
    (SessionState.LAST_CLOSING, SessionEvent.CLOSED): SessionState.LAST_CLOSING,
    (SessionState.LAST_CLOSING, SessionEvent.GIVEN_UP): SessionState.LAST_CLOSING,
    (SessionState.LAST_CLOSING, SessionEvent.LEG_ENDED): SessionState.OVER,
    (SessionState.OVER, SessionEvent.GIVEN_UP): SessionState.OVER,
    (SessionState.OVER, SessionEvent.LEG_ENDED): SessionState.OVER,  # a fault came between a leg and CALLED
    **{(state, SessionEvent.FAILED): SessionState.OVER for state in SessionState},
}

HAS_LEG = frozenset((SessionState.OPEN, SessionState.CLOSING, SessionState.LAST, SessionState.LAST_CLOSING))
IS_OPEN = frozenset((SessionState.OPEN, SessionState.LAST))
