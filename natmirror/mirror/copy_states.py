"""The states of a mirrored stream, and what moves it from one to the next: the whole machine is one table.

Theory. Two things are known of a stream at any time. One is how much of it its legs have: they get the client's bytes
as these come in order (COPYING), and a FIN after the last one (FINISHED). The other is whether production's connection
still stands: once it is over, nothing follows, and the legs live on only to deliver what they hold.

A stream that another host has begun takes two steps before that. While the other host still passes the packets, it
stands by (STANDBY), and later records take the place of the first one. Then its mirrors are asked how far they have
come (ASKING): until all have answered, bytes that are missing here may have reached them from the first host, so
nothing counts as missing, and the legs do not learn of the connection's end either (OVER_ASKING). A mirror may be asked
a second time, when bytes are missing that the client will not send again.

At last the flow leaves its table, and the stream is GONE: legs that it has left count its bytes from ``final_bytes``.

What is no state: ``has_rest`` says that more bytes are in order than one call has written, which may be so in any state
while the legs get bytes; ``is_adopted`` and ``is_handed_over`` say whose the connection was before, and is since.
"""

from enum import IntEnum


class StreamState(IntEnum):
    """How far a stream has come."""

    STANDBY = 0
    """Another host passes the connection, as far as is known."""
    ASKING = 1
    """Not all mirrors have answered how far they have come."""
    COPYING = 2
    """The client's bytes go to the legs as they come in order."""
    FINISHED = 3
    """The legs have the stream's end."""
    OVER_ASKING = 4
    """Production's connection is over; the legs learn it when their mirrors have answered."""
    OVER_UNFINISHED = 5
    """Production's connection is over: it was reset, or bytes are missing, or a rest is still to be written."""
    OVER_FINISHED = 6
    """Production's connection is over, and the legs have the stream's end."""
    GONE = 7
    """The flow has left its table."""


class StreamEvent(IntEnum):
    """What moves a stream from state to state."""

    ADOPTED = 0
    """It was picked up for another host's record, with legs."""
    ACTIVATED = 1
    """This host passes the connection from now on."""
    ASKED = 2
    """A mirror is asked how far it has come."""
    ANSWERED = 3
    """No mirror is to answer any more."""
    FIN = 4
    """The last byte and the FIN have come in order."""
    OVER = 5
    """Production's connection has closed or was reset."""
    FORGOTTEN = 6
    """The flow leaves its table."""


TRANSITIONS: dict[tuple[StreamState, StreamEvent], StreamState] = {
    (StreamState.COPYING, StreamEvent.ADOPTED): StreamState.STANDBY,
    (StreamState.STANDBY, StreamEvent.ACTIVATED): StreamState.ASKING,
    # Only where no leg is left: packets of a connection that has some activate it first
    (StreamState.STANDBY, StreamEvent.OVER): StreamState.STANDBY,
    (StreamState.ASKING, StreamEvent.ANSWERED): StreamState.COPYING,
    (StreamState.ASKING, StreamEvent.OVER): StreamState.OVER_ASKING,
    (StreamState.COPYING, StreamEvent.ASKED): StreamState.ASKING,
    (StreamState.COPYING, StreamEvent.FIN): StreamState.FINISHED,
    (StreamState.COPYING, StreamEvent.OVER): StreamState.OVER_UNFINISHED,
    (StreamState.FINISHED, StreamEvent.OVER): StreamState.OVER_FINISHED,
    (StreamState.OVER_ASKING, StreamEvent.ANSWERED): StreamState.OVER_UNFINISHED,
    (StreamState.OVER_UNFINISHED, StreamEvent.ASKED): StreamState.OVER_ASKING,  # the rest was written, up to a gap
    (StreamState.OVER_UNFINISHED, StreamEvent.FIN): StreamState.OVER_FINISHED,  # the rest was written, to its end
    **{(state, StreamEvent.FORGOTTEN): StreamState.GONE for state in StreamState if state is not StreamState.GONE},
}

IS_ASKING = frozenset((StreamState.ASKING, StreamState.OVER_ASKING))
HAS_END = frozenset((StreamState.FINISHED, StreamState.OVER_FINISHED))
