"""What a switch and its controller say to each other in production: read along, never touched.

It tells which of the switch's messages come by themselves and which answer the controller, keeps the answers for
masters that ask the same, and knows when the switch was heard last.
"""

from collections import OrderedDict
from enum import Enum, auto
from typing import Any

from natmirror.openflow.datapath import FEATURES, NO_MULTIPART, Datapath, Directory, Key
from natmirror.openflow.framer import Broken, Framer
from natmirror.openflow.wire import (
    MORE,
    VERSIONS,
    Message,
    Type,
    datapath_of,
    multipart_of,
    negotiated,
    parse,
)

_YOUTH = 5.0  # seconds
_MAX_PENDING = 1024  # questions without an answer; the oldest are forgotten first
_MAX_PARTS_LEN = 4 << 20  # bytes of an answer in parts that is not complete

_ANSWERS = {
    Type.FEATURES_REQUEST: Type.FEATURES_REPLY,
    Type.GET_CONFIG_REQUEST: Type.GET_CONFIG_REPLY,
    Type.MULTIPART_REQUEST: Type.MULTIPART_REPLY,
    Type.QUEUE_GET_CONFIG_REQUEST: Type.QUEUE_GET_CONFIG_REPLY,
}
"""Questions whose answers are worth keeping."""
_UNASKED = frozenset(
    (
        Type.PACKET_IN,
        Type.FLOW_REMOVED,
        Type.PORT_STATUS,
        Type.ROLE_STATUS,
        Type.TABLE_STATUS,
        Type.REQUESTFORWARD,
        Type.CONTROLLER_STATUS,
        Type.ECHO_REQUEST,
    )
)
"""What a switch says by itself (§6.1.2 of 1.3.5, 1.4.1 and 1.5.1); and its own ECHO_REQUEST, as a sign of life."""


class Said(Enum):
    """What a message of the switch's is."""

    UNASKED = auto()
    """It has come by itself."""
    ANSWER = auto()
    """The controller had asked for it."""
    OPENING = auto()
    """HELLO, or its failure."""


def key_of(message: Message) -> Key | None:
    """What a request asks for; None where nothing is kept of the answers to it."""
    if message.kind is None or (answer := _ANSWERS.get(message.kind)) is None:
        return None
    if message.kind is Type.MULTIPART_REQUEST:
        kind, _, body = multipart_of(message)
        return answer, kind, body
    return answer, NO_MULTIPART, message.body


class Production:
    """One connection of a switch's. Broken comes out of both methods where it cannot be followed."""

    def __init__(self, directory: Directory, *, in_middle: bool = False) -> None:
        self.version: int | None = None
        """What both HELLOs have come to, or what is spoken where those were not seen."""
        self.datapath: Datapath | None = None
        """The switch, once it has told its features."""
        self.heard_at = float("-inf")
        """When the switch said something last, in seconds."""
        self._began_at = float("inf")
        self._directory = directory
        self._switch = Framer(in_middle=in_middle)
        self._controller = Framer(in_middle=in_middle)
        self._hellos: list[Message] = []
        self._pending: OrderedDict[tuple[int, Type, int], Key] = OrderedDict()
        self._parts: dict[tuple[int, Type, int], list[bytes]] = {}
        self._parts_len = 0
        self._experiments: OrderedDict[int, None] = OrderedDict()

    def from_controller(self, piece: bytes) -> list[Message]:
        """The next of what the controller has sent: its messages that are whole now."""
        messages = [parse(raw) for raw in self._controller.push(piece)]
        for message in messages:
            self._meet(self._controller, message)
            if message.kind is Type.EXPERIMENTER:
                _remember(self._experiments, message.xid, None)
            try:
                key = key_of(message)
            except ValueError:
                continue
            if key is not None:
                _remember(self._pending, (message.xid, *key[:2]), key)
        return messages

    def from_switch(self, piece: bytes, now: float) -> list[tuple[Said, Message]]:
        """The next of what the switch has sent: its messages that are whole now."""
        found = []
        for raw in self._switch.push(piece):
            message = parse(raw)
            self._began_at = min(self._began_at, now)
            self.heard_at = now
            self._meet(self._switch, message)
            found.append((self._classify(message, now), message))
        return found

    def is_asked(self, key: Key) -> bool:
        """Whether the controller waits for such an answer."""
        return key in self._pending.values()

    def is_young(self, now: float) -> bool:
        """Whether the connection has just begun, so that its controller may still be asking who the switch is."""
        return not self._switch.skipped_bytes and now - self._began_at < _YOUTH

    def lose_place(self, *, of_switch: bool) -> None:
        """Bytes of one end are missing from here on."""
        (self._switch if of_switch else self._controller).lose_place()

    def restore(self, datapath: Datapath) -> None:
        """The switch that is at the other end of a connection met in its middle, as is known from before."""
        self.datapath = datapath

    def _meet(self, framer: Framer, message: Message) -> None:
        """A HELLO, or the first message of a connection that was met in its middle, tells the version."""
        if message.kind is Type.HELLO and self.version is None:
            self._hellos.append(message)
            if len(self._hellos) < 2:
                return
            version = negotiated(*self._hellos[:2])
        elif self.version is None and framer.version is not None:
            version = framer.version
        else:
            return
        if version not in VERSIONS:
            raise Broken("of-version")
        self.version = self._switch.version = self._controller.version = version

    def _classify(self, message: Message, now: float) -> Said:
        kind = message.kind
        if kind in _UNASKED:
            if kind is Type.PORT_STATUS and self.datapath is not None:
                self._directory.port_changed(self.datapath, message, now)
            return Said.UNASKED
        if kind is Type.HELLO:
            return Said.OPENING
        if kind is Type.EXPERIMENTER and message.xid not in self._experiments:
            return Said.UNASKED  # as Nicira's own PACKET_INs come
        if kind is Type.MULTIPART_REPLY:
            self._take_part(message, now)
        elif kind is not None:
            self._take_answer((message.xid, kind, NO_MULTIPART), (message.body,), now)
        return Said.ANSWER

    def _take_part(self, message: Message, now: float) -> None:
        """A multipart answer is known once its last part is here."""
        try:
            multipart, flags, body = multipart_of(message)
        except ValueError:
            return
        place = (message.xid, Type.MULTIPART_REPLY, multipart)
        self._parts_len += len(body)
        parts = self._parts.setdefault(place, [])
        parts.append(body)
        if self._parts_len > _MAX_PARTS_LEN:
            self._parts.clear()
            self._parts_len = 0
        elif not flags & MORE:
            del self._parts[place]
            self._parts_len -= sum(map(len, parts))
            self._take_answer(place, tuple(parts), now)

    def _take_answer(self, place: tuple[int, Type, int], bodies: tuple[bytes, ...], now: float) -> None:
        key = self._pending.pop(place, None)
        if key is None:
            return
        if key == FEATURES and self.version is not None:
            try:
                self.datapath = self._directory.enter(*datapath_of(bodies[0]), self.version)
            except ValueError:
                return
        if self.datapath is not None:
            self._directory.learn(self.datapath, key, bodies, now)


def _remember(table: "OrderedDict[Any, Any]", key: Any, value: Any) -> None:
    table[key] = value
    if len(table) > _MAX_PENDING:
        table.popitem(last=False)
