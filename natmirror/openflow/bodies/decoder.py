"""Decodes the body of a message into its value."""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.fields import ONF
from natmirror.openflow.bodies.flows import decode_flow_mod, decode_flow_removed, decode_nicira_flow_mod
from natmirror.openflow.bodies.groups import decode_group_mod, decode_meter_mod
from natmirror.openflow.bodies.packets import decode_packet_in, decode_packet_out
from natmirror.openflow.bodies.settings import (
    decode_bundle_control,
    decode_error,
    decode_nicira_role_request,
    decode_port_mod,
    decode_role_request,
    decode_set_async,
    decode_table_mod,
)
from natmirror.openflow.bodies.statistics import (
    decode_aggregate_stats,
    decode_flow_stats,
    decode_flow_stats_request,
    decode_table_stats,
)
from natmirror.openflow.bodies.values import Barrier, Body, BundleAdd, Opaque, TableStatsRequest
from natmirror.openflow.messages import (
    HEADER,
    HEADER_LEN,
    MORE,
    NICIRA,
    V10,
    V13,
    Message,
    Multipart,
    Type,
    multipart_of,
    parse,
)

_BUNDLE_ADD = Struct("!I2xH")
_NOT_IN_BUNDLES = (Type.BUNDLE_CONTROL, Type.BUNDLE_ADD_MESSAGE)
_EXPERIMENTER = Struct("!II")
_ONF_ID = ONF.to_bytes(4, "big")
_NX_ROLE_REQUEST, _NX_FLOW_MOD = 10, 13
_ONF_BUNDLE_CONTROL, _ONF_BUNDLE_ADD = 2300, 2301
"""Bundles as an extension of OpenFlow 1.3, with the layout of 1.4."""


def decode(message: Message) -> Body:
    """Return the value of a message's body. MalformedBody where the body does not have the layout of its type.

    The message is in one of VERSIONS. Time and memory are bounded by its length, which is at most 65,535 bytes.
    """
    try:
        return _decode(message)
    except StructError:
        raise MalformedBody(f"the {message.name} is too short, or an item in it has a wrong length") from None


def _decode(message: Message) -> Body:
    decoder = _DECODERS.get(message.kind) if message.kind is not None else None
    if decoder is not None:
        return decoder(message.version, message.body)
    match message.kind:
        case Type.MULTIPART_REQUEST:
            return _decode_request(message)
        case Type.MULTIPART_REPLY:
            return _decode_reply(message)
        case Type.EXPERIMENTER:
            return _decode_experimenter(message)
        case Type.BUNDLE_ADD_MESSAGE:
            return _decode_bundle_add(message.version, message.body)
    return Opaque(message.name, message.body)


_DECODERS: dict[Type, Callable[[int, bytes], Body]] = {
    Type.FLOW_MOD: decode_flow_mod,
    Type.FLOW_REMOVED: decode_flow_removed,
    Type.PACKET_IN: decode_packet_in,
    Type.PACKET_OUT: decode_packet_out,
    Type.GROUP_MOD: decode_group_mod,
    Type.METER_MOD: lambda _, body: decode_meter_mod(body),
    Type.PORT_MOD: decode_port_mod,
    Type.TABLE_MOD: decode_table_mod,
    Type.ROLE_REQUEST: lambda _, body: decode_role_request(body),
    Type.SET_ASYNC: decode_set_async,
    Type.BUNDLE_CONTROL: lambda _, body: decode_bundle_control(body),
    Type.BARRIER_REQUEST: lambda *_: Barrier(),
    Type.ERROR: lambda _, body: decode_error(body),
}


def _multipart(message: Message) -> tuple[int, bool, bytes]:
    """Return a multipart message's type, whether more parts follow, and its body."""
    try:
        kind, flags, body = multipart_of(message)
    except ValueError as error:
        raise MalformedBody(str(error)) from None
    return kind, bool(flags & MORE), body


def _decode_request(message: Message) -> Body:
    kind, has_more, body = _multipart(message)
    match kind:
        case Multipart.FLOW | Multipart.AGGREGATE | Multipart.FLOW_STATS if not has_more:
            return decode_flow_stats_request(message.version, kind, body)
        case Multipart.TABLE if not has_more:
            return TableStatsRequest()
    return Opaque(f"{message.name} {_multipart_name(kind)}", body)


def _decode_reply(message: Message) -> Body:
    kind, has_more, body = _multipart(message)
    match kind:
        case Multipart.FLOW | Multipart.FLOW_STATS:
            return decode_flow_stats(message.version, kind, body, has_more=has_more)
        case Multipart.AGGREGATE:
            return decode_aggregate_stats(message.version, body)
        case Multipart.TABLE:
            return decode_table_stats(message.version, body, has_more=has_more)
    return Opaque(f"{message.name} {_multipart_name(kind)}", body)


def _multipart_name(kind: int) -> str:
    return Multipart(kind).name.lower() if kind in _MULTIPARTS else str(kind)


_MULTIPARTS = frozenset(Multipart)


def _decode_experimenter(message: Message) -> Body:
    body = message.body
    experimenter, subtype = _EXPERIMENTER.unpack_from(body)
    rest = body[_EXPERIMENTER.size :]
    if (experimenter, subtype) == (NICIRA, _NX_ROLE_REQUEST):
        return decode_nicira_role_request(rest)
    if (experimenter, subtype, message.version) == (NICIRA, _NX_FLOW_MOD, V10):
        return decode_nicira_flow_mod(rest)
    if experimenter == ONF and message.version == V13 and subtype == _ONF_BUNDLE_CONTROL:
        return decode_bundle_control(rest)
    if experimenter == ONF and message.version == V13 and subtype == _ONF_BUNDLE_ADD:
        return _decode_bundle_add(message.version, rest)
    return Opaque(f"{message.name} {experimenter:#x} {subtype}", rest)


def _decode_bundle_add(version: int, body: bytes) -> BundleAdd:
    """Decode a BUNDLE_ADD_MESSAGE, with the message in it."""
    bundle_id, flags = _BUNDLE_ADD.unpack_from(body)
    at = _BUNDLE_ADD.size
    inner_version, _, length, _ = HEADER.unpack_from(body, at)
    if inner_version != version or not HEADER_LEN <= length <= len(body) - at:
        raise MalformedBody("the message in the BUNDLE_ADD_MESSAGE has another version or is cut off")
    inner = parse(body[at : at + length])
    if inner.kind in _NOT_IN_BUNDLES or (inner.body[:4] == _ONF_ID and inner.kind is Type.EXPERIMENTER):
        raise MalformedBody("a bundle is in a bundle")  # 1.4.1 §7.3.9.6 forbids it, so decoding never nests deeper
    return BundleAdd(bundle_id, flags, decode(inner), inner.xid)
