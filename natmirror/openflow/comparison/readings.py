"""Orders of a controller, read: what follows from their bytes alone, and is the same for all sides that send them.

A master that does what production's controller does sends the same bytes, but for the transaction id. So the orders of
one batch are decoded once for all sides, and what is found out about one is kept with it.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import NO_BUFFER, Actions
from natmirror.openflow.bodies.values import Body, FlowFlag, FlowMod
from natmirror.openflow.comparison.causes import BytesKey, pack_way_back
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.tables.bundles import cost_of_length
from natmirror.openflow.tables.packed import PackedMatch, pack_match
from natmirror.openflow.tables.walk import Outputs

_MAX_READINGS = 64
_MAX_LEN = 2048  # bytes of a message that is kept
_COST = 3000  # bytes that Python needs for a reading, besides the message's


@dataclass(slots=True, eq=False)
class FrameSent:
    """Where a frame goes."""

    actions: Actions
    outputs: Outputs | None
    """None where they are not known."""
    in_port: int | None
    """The port that the actions leave out; None where that makes no difference."""
    own: BytesKey | None
    """The frame, if it is not that of the PACKET_IN."""

    def is_same(self, other: "FrameSent") -> bool:
        if self is other:
            return True
        if (self.in_port, self.own) != (other.in_port, other.own):
            return False
        if self.outputs is None or other.outputs is None:
            return self.actions == other.actions
        if self.outputs != other.outputs:
            return False
        return self.actions == other.actions or self.repeated == other.repeated

    @property
    def repeated(self) -> tuple[int, ...]:
        """The ports by which it leaves more than once: the outputs do not show it."""
        ports = Counter(one.args[0] for one in self.actions if one.name == "output")
        return tuple(sorted(port for port in ports.elements() if ports[port] > 1))


@dataclass(slots=True, eq=False)
class Reading:
    """The body of an order, and what follows from it."""

    body: Body
    sent: dict[bool, FrameSent] = field(default_factory=dict)
    """Of a PACKET_OUT whose actions need no tables: where its frame goes, by whether that is the PACKET_IN's."""
    _plain: Body | None = None
    _number: int | None = None
    _packed: tuple[PackedMatch, PackedMatch] | None = None

    @property
    def plain(self) -> Body:
        """The order without what does not matter."""
        if self._plain is None:
            self._plain = plain_of(self.body)
        return self._plain

    @property
    def number(self) -> int:
        """The same for orders that say the same."""
        if self._number is None:
            self._number = hash(self.plain)
        return self._number

    @property
    def packed(self) -> tuple[PackedMatch, PackedMatch]:
        """The match of a FLOW_MOD, and the same for the way back."""
        if self._packed is None:
            assert isinstance(self.body, FlowMod)
            self._packed = pack_match(self.body.match), pack_way_back(self.body.match)
        return self._packed


def plain_of(body: Body) -> Body:
    """Return an order without what does not matter."""
    if not isinstance(body, FlowMod):
        return body
    flags = body.flags & FlowFlag.SEND_FLOW_REM
    if not body.cookie and body.buffer_id == NO_BUFFER and body.flags == flags:
        return body
    return replace(body, cookie=0, buffer_id=NO_BUFFER, flags=flags)


class Readings:
    """The orders of one batch, of all sides."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes that are kept."""
        self._by_bytes: dict[tuple[Type | None, bytes], Reading] = {}

    def read(self, message: Message) -> Reading:
        """Return the reading of a message in the version of the connection. MalformedBody as decode() raises it."""
        key = message.kind, message.body
        reading = self._by_bytes.get(key)
        if reading is None:
            reading = Reading(decode(message))
            length = len(message.raw)
            if length <= _MAX_LEN:
                if len(self._by_bytes) >= _MAX_READINGS:
                    self.clear()
                self._by_bytes[key] = reading
                self.held += length + cost_of_length(length) + _COST
        return reading

    def clear(self) -> None:
        """Forget the batch."""
        self._by_bytes.clear()
        self.held = 0
