"""The states of a mirrored stream, and the events that move it from one to the next: the whole machine is one table.

Theory. A state says two things about a stream. One is how much of it the legs have got: they get the client's bytes as
these come in order (COPYING), and a FIN after the last byte (FINISHED). The other is whether the client's connection
has ended: then no more bytes follow, and the legs stay open only to deliver their buffered bytes.

A stream that another host has begun has two states before these. It stands by while the other host passes the packets
(STANDBY); later records replace the first one. Then the legs ask their mirrors for their positions (ASKING). Until all
mirrors have answered, bytes that are missing here may have reached them from the first host: nothing counts as missing
yet, and the legs stay open although the connection has ended (ENDED_ASKING). A leg may ask its mirror a second time,
when bytes are missing that the client will not send again.

At last the flow leaves its table, and the stream is FORGOTTEN: its remaining legs count its bytes from
``final_bytes``.

Three attributes are not part of the state. ``has_rest`` says that more bytes are in order than one call has written; it
may be set in any state in which the legs get bytes. ``is_adopted`` and ``is_released`` say that another host passed the
connection before, or passes it now.
"""

from enum import IntEnum


class StreamState(IntEnum):
    """Which bytes the legs have got, and whether the client's connection has ended."""

    STANDBY = 0
    """As far as this host knows, another host passes the connection."""
    ASKING = 1
    """Not all mirrors have reported their positions."""
    COPYING = 2
    """The legs get the client's bytes as these come in order."""
    FINISHED = 3
    """The legs have got the stream's end."""
    ENDED_ASKING = 4
    """The client's connection has ended; the legs close when their mirrors have answered."""
    ENDED_UNFINISHED = 5
    """The client's connection has ended: it was reset, or bytes are missing, or are still to be written."""
    ENDED_FINISHED = 6
    """The client's connection has ended, and the legs have got the stream's end."""
    FORGOTTEN = 7
    """The flow has left its table."""


class StreamEvent(IntEnum):
    """An event that moves a stream from state to state."""

    ADOPTED = 0
    """The stream was made from another host's record, with legs."""
    ACTIVATED = 1
    """This host passes the connection from now on."""
    ASKED = 2
    """A leg asks its mirror for its position."""
    ANSWERED = 3
    """All mirrors that were asked have answered, or their legs have ended."""
    FIN = 4
    """The client's last byte and its FIN have come in order."""
    ENDED = 5
    """The client's connection has closed or was reset."""
    FORGOTTEN = 6
    """The flow leaves its table."""


TRANSITIONS: dict[tuple[StreamState, StreamEvent], StreamState] = {
    (StreamState.COPYING, StreamEvent.ADOPTED): StreamState.STANDBY,
    (StreamState.STANDBY, StreamEvent.ACTIVATED): StreamState.ASKING,
    # Only where no leg is left: packets of a connection that has legs activate it first
    (StreamState.STANDBY, StreamEvent.ENDED): StreamState.STANDBY,
    (StreamState.ASKING, StreamEvent.ANSWERED): StreamState.COPYING,
    (StreamState.ASKING, StreamEvent.ENDED): StreamState.ENDED_ASKING,
    (StreamState.COPYING, StreamEvent.ASKED): StreamState.ASKING,
    (StreamState.COPYING, StreamEvent.FIN): StreamState.FINISHED,
    (StreamState.COPYING, StreamEvent.ENDED): StreamState.ENDED_UNFINISHED,
    (StreamState.FINISHED, StreamEvent.ENDED): StreamState.ENDED_FINISHED,
    (StreamState.ENDED_ASKING, StreamEvent.ANSWERED): StreamState.ENDED_UNFINISHED,
    (StreamState.ENDED_UNFINISHED, StreamEvent.ASKED): StreamState.ENDED_ASKING,  # the rest was written, up to a gap
    (StreamState.ENDED_UNFINISHED, StreamEvent.FIN): StreamState.ENDED_FINISHED,  # the rest was written, to its end
    **{
        (state, StreamEvent.FORGOTTEN): StreamState.FORGOTTEN
        for state in StreamState
        if state is not StreamState.FORGOTTEN
    },
}

IS_ASKING = frozenset((StreamState.ASKING, StreamState.ENDED_ASKING))
HAS_END = frozenset((StreamState.FINISHED, StreamState.ENDED_FINISHED))
GOES_ON = frozenset((StreamState.ASKING, StreamState.COPYING))
"""The client's stream goes on, and this host passes it."""
