"""PACKET_INs as the causes of orders: what a controller's order must have to be an answer to one."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from natmirror.openflow.bodies.elements import NO_BUFFER, Match, ReservedPort
from natmirror.openflow.bodies.frames import Fields, frame_fields
from natmirror.openflow.bodies.values import Body, PacketIn, PacketOut
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.packed import PackedFrame, PackedMatch, pack_frame, pack_match

MAX_KEPT_LEN = 2048
"""Bytes of a message that are kept; the rest is cut off."""
_HEADERS_LEN = 256  # bytes of a frame that are kept to show it
_MAX_PAST, _PAST_COST = 256, 250  # frames, and the bytes that Python needs for each
_COST = 3500  # bytes that Python needs for a cause besides its message
_SWAPPED = {
    **{"eth_src": "eth_dst", "ipv4_src": "ipv4_dst", "ipv6_src": "ipv6_dst", "tcp_src": "tcp_dst"},
    **{"udp_src": "udp_dst", "sctp_src": "sctp_dst", "arp_spa": "arp_tpa", "arp_sha": "arp_tha"},
}
_SWAPPED |= {there: back for back, there in _SWAPPED.items()}
_ONE_WAY = frozenset(("in_port", "in_phy_port", "arp_op", "icmpv4_type", "icmpv6_type"))
"""Fields that say nothing about the way back."""
_FLOW_FIELDS = ("ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "ip_proto")


@dataclass(slots=True, eq=False)
class Cause:
    """A PACKET_IN."""

    number: int
    """Its place among all of its connection."""
    at: float
    message: Message
    """The message, cut off if it is long."""
    message_key: "BytesKey"
    """What is the same for equal messages."""
    packet_in: PacketIn
    """With the beginning of its frame only."""
    frame_key: "BytesKey"
    fields: Fields
    """The frame's fields, and those that the switch says, such as ``metadata``."""
    there: PackedFrame
    """The same, packed."""
    _back: PackedFrame | None = None

    @property
    def back(self) -> PackedFrame:
        """The fields of a frame on the way back, packed."""
        if self._back is None:
            self._back = pack_frame(way_back(self.fields))
        return self._back

    @property
    def has_fields_of_frame(self) -> bool:
        """Whether all fields are the frame's and its port: the switch says nothing else, such as ``metadata``."""
        match = self.packet_in.match
        return len(match) == 1 and match[0].name == "in_port" and match[0].mask is None

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return len(self.message.raw) + _COST


BytesKey = tuple[int, int]
"""What is the same for equal bytes: the length and a hash."""


def key_of(raw: bytes) -> BytesKey:
    """Return the key of a frame, or of a message."""
    return len(raw), hash(raw)


def cut(message: Message) -> Message:
    """Return a message, cut off if it is long."""
    if len(message.raw) <= MAX_KEPT_LEN:
        return message
    return replace(message, raw=message.raw[:MAX_KEPT_LEN])


def cause_of(number: int, at: float, message: Message, packet_in: PacketIn) -> Cause:
    """Return the cause that a PACKET_IN is."""
    fields = frame_fields(packet_in.frame, packet_in.in_port)
    fields.update((one.name, one.value) for one in packet_in.match if one.mask is None)
    key = key_of(packet_in.frame)
    return Cause(
        number,
        at,
        cut(message),
        key_of(message.raw),
        packet_in if key[0] <= _HEADERS_LEN else replace(packet_in, frame=packet_in.frame[:_HEADERS_LEN]),
        key,
        fields,
        pack_frame(fields),
    )


def way_back(fields: Mapping[str, int]) -> Fields:
    """Return the fields of a frame that answers one with these fields."""
    return {_SWAPPED.get(name, name): value for name, value in fields.items() if name not in _ONE_WAY}


def pack_way_back(match: Match) -> PackedMatch:
    """Return a match without what says nothing about the way back."""
    return pack_match(tuple(one for one in match if one.name not in _ONE_WAY))


def is_covered(frame: PackedFrame, match: PackedMatch) -> bool:
    """Return whether a match covers a frame, and not simply all frames."""
    return bool(match.mask) and not (
        match.mask & ~frame.present or (match.value ^ frame.value) & match.mask or match.others
    )


class PastFrames:
    """The latest frames that the switch has sent, by which answers that come too late are recognised."""

    def __init__(self) -> None:
        self._keys: OrderedDict[BytesKey, None] = OrderedDict()

    def saw(self, cause: Cause) -> None:
        """Keep the frame of a PACKET_IN."""
        self._keys[cause.frame_key] = None
        self._keys.move_to_end(cause.frame_key)
        if len(self._keys) > _MAX_PAST:
            self._keys.popitem(last=False)

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return _PAST_COST * len(self._keys)

    def clear(self) -> None:
        """Forget all frames."""
        self._keys.clear()

    def has_frame_of(self, body: Body) -> bool:
        """Return whether an order sends such a frame, or one in a buffer."""
        return isinstance(body, PacketOut) and (body.buffer_id != NO_BUFFER or key_of(body.frame) in self._keys)


def has_port_of(cause: Cause, packet_out: PacketOut) -> bool:
    """Return whether a PACKET_OUT names the port of a PACKET_IN, or none."""
    port = packet_out.in_port
    return port == cause.packet_in.in_port or port in (ReservedPort.ANY, ReservedPort.CONTROLLER)


def follows_from(cause: Cause, fields: Mapping[str, int]) -> bool:
    """Return whether a controller has made a frame with these fields out of that of a PACKET_IN: a reply of its own, as
    to an ARP request, or the same packet with other addresses below IP, as a router sends it."""
    about = cause.fields
    if "eth_type" not in fields or fields["eth_type"] != about.get("eth_type"):
        return False
    if "arp_op" in fields:
        return fields["arp_tpa"] == about.get("arp_spa") and fields["arp_spa"] == about.get("arp_tpa")
    known = [(fields.get(name), about.get(name)) for name in _FLOW_FIELDS]
    if fields.get("ip_proto") is not None and all(one == other for one, other in known):
        return True
    back = way_back(about)
    return fields.get("ip_proto") is not None and all(fields.get(name) == back.get(name) for name in _FLOW_FIELDS)
