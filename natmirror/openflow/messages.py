"""OpenFlow on the wire: the common header, the message types, and the few messages that natmirror builds.

Numbers are those of the OpenFlow Switch Specifications: 1.0.0 §5, 1.3.5 §7, 1.4.1 §7, 1.5.1 §7. ``Type`` has the
numbers of 1.3 and later; 1.0 has others from PACKET_OUT on.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

V10, V13, V14, V15 = 1, 4, 5, 6
VERSIONS = {V10: "1.0", V13: "1.3", V14: "1.4", V15: "1.5"}
"""The supported versions, by their number on the wire."""

HEADER = Struct("!BBHI")
HEADER_LEN = HEADER.size
MULTIPART_HEADER_LEN = {V10: 4}
"""Bytes of type and flags before a multipart message's body, by version; 8 in all others, with padding."""


class Type(IntEnum):
    """The type of a message."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    EXPERIMENTER = 4
    FEATURES_REQUEST = 5
    FEATURES_REPLY = 6
    GET_CONFIG_REQUEST = 7
    GET_CONFIG_REPLY = 8
    SET_CONFIG = 9
    PACKET_IN = 10
    FLOW_REMOVED = 11
    PORT_STATUS = 12
    PACKET_OUT = 13
    FLOW_MOD = 14
    GROUP_MOD = 15
    PORT_MOD = 16
    TABLE_MOD = 17
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19
    BARRIER_REQUEST = 20
    BARRIER_REPLY = 21
    QUEUE_GET_CONFIG_REQUEST = 22
    QUEUE_GET_CONFIG_REPLY = 23
    ROLE_REQUEST = 24
    ROLE_REPLY = 25
    GET_ASYNC_REQUEST = 26
    GET_ASYNC_REPLY = 27
    SET_ASYNC = 28
    METER_MOD = 29
    ROLE_STATUS = 30
    TABLE_STATUS = 31
    REQUESTFORWARD = 32
    BUNDLE_CONTROL = 33
    BUNDLE_ADD_MESSAGE = 34
    CONTROLLER_STATUS = 35


_V10_FROM_PACKET_OUT = (
    Type.PACKET_OUT,
    Type.FLOW_MOD,
    Type.PORT_MOD,
    Type.MULTIPART_REQUEST,  # 1.0 calls them statistics
    Type.MULTIPART_REPLY,
    Type.BARRIER_REQUEST,
    Type.BARRIER_REPLY,
    Type.QUEUE_GET_CONFIG_REQUEST,
    Type.QUEUE_GET_CONFIG_REPLY,
)
_V10_TYPES = (*(Type(number) for number in range(Type.PACKET_OUT)), *_V10_FROM_PACKET_OUT)
_LAST = {V13: Type.METER_MOD, V14: Type.BUNDLE_ADD_MESSAGE, V15: Type.CONTROLLER_STATUS}
_QUEUE_CONFIG = {Type.QUEUE_GET_CONFIG_REQUEST, Type.QUEUE_GET_CONFIG_REPLY}  # removed in 1.4


def _types(version: int) -> tuple[Type | None, ...]:
    if version == V10:
        return _V10_TYPES
    known = [kind for kind in Type if kind <= _LAST[version] and not (version >= V14 and kind in _QUEUE_CONFIG)]
    return tuple(Type(number) if number in known else None for number in range(_LAST[version] + 1))


TYPES = {version: _types(version) for version in VERSIONS}
"""By version, the type of each number on the wire; None where the version has no such type."""
_TYPES_OF_ANY_VERSION = (Type.HELLO, Type.ERROR)
_NAMES: dict[Type | None, str] = {**{kind: kind.name.lower() for kind in Type}, None: "unknown"}
_NUMBERS = {
    version: {kind: number for number, kind in enumerate(types) if kind is not None} for version, types in TYPES.items()
}


class Multipart(IntEnum):
    """The type of a multipart message; in 1.0 the numbers are the same up to QUEUE."""

    DESC = 0
    FLOW = 1
    AGGREGATE = 2
    TABLE = 3
    PORT_STATS = 4
    QUEUE = 5
    GROUP = 6
    GROUP_DESC = 7
    GROUP_FEATURES = 8
    METER = 9
    METER_CONFIG = 10
    METER_FEATURES = 11
    TABLE_FEATURES = 12
    PORT_DESC = 13
    FLOW_MONITOR = 16
    FLOW_STATS = 17


STATISTICS = frozenset(
    (
        Multipart.FLOW,
        Multipart.AGGREGATE,
        Multipart.TABLE,
        Multipart.PORT_STATS,
        Multipart.QUEUE,
        Multipart.GROUP,
        Multipart.METER,
        Multipart.FLOW_STATS,
    )
)
"""Multipart types whose answers are outdated at once."""

MORE = 1
"""The flag of a multipart message that another one follows (OFPMPF_REPLY_MORE, OFPMPF_REQ_MORE)."""


class Refusal(IntEnum):
    """Codes of the error type BAD_REQUEST, the same in all versions."""

    BAD_TYPE = 1
    BAD_MULTIPART = 2
    BAD_EXPERIMENTER = 3
    EPERM = 5
    BAD_LEN = 6
    IS_SLAVE = 10  # since 1.2


NICIRA = 0x2320
"""The experimenter id of Open vSwitch's extensions."""

BAD_REQUEST = 1
ROLE_REQUEST_FAILED, ROLE_STALE, ROLE_BAD = 11, 0, 2
BUNDLE_FAILED, BUNDLE_BAD_TYPE = 17, 6
_MAX_ELEMENTS = 16  # elements of a HELLO that are read; one is defined (1.3.5 §7.5.1)
_ERROR_DATA_LEN = 64  # "at least 64 bytes of the failed request" (1.3.5 §7.5.4)


@dataclass(slots=True)
class Message:
    """One message. ``kind`` is None for a type that its version does not define."""

    version: int
    kind: Type | None
    xid: int
    raw: bytes
    """The whole message, as received."""

    @property
    def body(self) -> bytes:
        """The bytes after the header."""
        return self.raw[HEADER_LEN:]

    @property
    def name(self) -> str:
        """The type's name in lower case."""
        return _NAMES[self.kind]


def parse(raw: bytes) -> Message:
    """Parse a whole message. In an unsupported version only HELLO and ERROR have a kind."""
    version, number, _, xid = HEADER.unpack_from(raw)
    types = TYPES.get(version, _TYPES_OF_ANY_VERSION)
    return Message(version, types[number] if number < len(types) else None, xid, raw)


def build(version: int, kind: Type, xid: int, body: bytes = b"") -> bytes:
    """Return a message as bytes; ValueError where it is too long."""
    length = HEADER_LEN + len(body)
    if length > 0xFFFF:
        raise ValueError(f"a message has at most 65,535 bytes, this one {length}")
    return HEADER.pack(version, _NUMBERS[version][kind], length, xid) + body


def hello(version: int, xid: int) -> bytes:
    """Return a HELLO that offers one version only, from 1.3 on also in a bitmap (1.3.5 §7.5.1)."""
    bitmap = Struct("!HHI").pack(1, 8, 1 << version) if version >= V13 else b""
    return build(version, Type.HELLO, xid, bitmap)


def offered(message: Message) -> set[int]:
    """Return the versions that a HELLO offers: those in its bitmap, or all up to its own (1.3.5 §6.3.1)."""
    return _in_bitmap(message) or set(range(1, message.version + 1))


def _in_bitmap(message: Message) -> set[int]:
    """Return the versions in a HELLO's bitmap; an empty set where it has none, or a malformed one."""
    body, at = message.body, 0
    for _ in range(_MAX_ELEMENTS):
        if at + 4 > len(body):
            break
        kind, length = Struct("!HH").unpack_from(body, at)
        if length < 4 or at + length > len(body):
            break
        if kind == 1:
            if length < 8 or length % 4:
                break
            numbers = int.from_bytes(body[at + 4 : at + 8], "big")  # the first word has the versions up to 31
            return {version for version in range(1, 32) if numbers >> version & 1}
        at += (length + 7) & ~7
    return set()


def negotiated(one: Message, other: Message) -> int | None:
    """Return the version that two HELLOs agree on (1.3.5 §6.3.1); None where there is none."""
    if _in_bitmap(one) and _in_bitmap(other):
        return max(offered(one) & offered(other), default=None)
    version = min(one.version, other.version)
    return version if version in offered(one) and version in offered(other) else None


def error(request: Message, kind: int, code: int) -> bytes:
    """Return the ERROR that refuses a request; it has the beginning of the request."""
    body = Struct("!HH").pack(kind, code) + request.raw[:_ERROR_DATA_LEN]
    return build(request.version, Type.ERROR, request.xid, body)


def multipart_of(message: Message) -> tuple[int, int, bytes]:
    """Return the multipart type, flags and body of a message; ValueError where it is too short."""
    header_len = MULTIPART_HEADER_LEN.get(message.version, 8)
    if len(message.body) < header_len:
        raise ValueError("the multipart message is too short for its header")
    kind, flags = Struct("!HH").unpack_from(message.body)
    return kind, flags, message.body[header_len:]


def datapath_of(version: int, features: bytes) -> tuple[int, int]:
    """Return the datapath id and the auxiliary id in the body of a FEATURES_REPLY; ValueError where it is too short.

    1.0 has no auxiliary connections; it has padding there.
    """
    if len(features) < 24:
        raise ValueError("the FEATURES_REPLY is too short")
    return int.from_bytes(features[0:8], "big"), 0 if version == V10 else features[13]
