"""Decodes PACKET_IN and PACKET_OUT: 1.0.0 §5.4.1 and §5.3.6, 1.3.5 §7.4.1 and §7.3.7, 1.5.1 §7.3.6."""

from struct import Struct

from natmirror.openflow.bodies.actions import decode_actions
from natmirror.openflow.bodies.elements import NO_BUFFER, MalformedBody, Match, MatchField, ReservedPort
from natmirror.openflow.bodies.matches import decode_match
from natmirror.openflow.bodies.v10_ports import widen_port
from natmirror.openflow.bodies.values import PacketIn, PacketOut
from natmirror.openflow.messages import V10, V15

_V10_PACKET_IN, _PACKET_IN = Struct("!IHHBx"), Struct("!IHBBQ")
_PACKET_IN_PADDING_LEN = 2
_V10_PACKET_OUT, _PACKET_OUT, _V15_PACKET_OUT = Struct("!IHH"), Struct("!IIH6x"), Struct("!IH2x")
_UNKNOWN_COOKIE = (1 << 64) - 1


def decode_packet_in(version: int, body: bytes) -> PacketIn:
    """Decode a PACKET_IN."""
    if version == V10:
        buffer_id, total_len, port, reason = _V10_PACKET_IN.unpack_from(body)
        frame = body[_V10_PACKET_IN.size :]
        return PacketIn(buffer_id, reason, 0, _UNKNOWN_COOKIE, _of_port(widen_port(port)), total_len, frame)
    buffer_id, total_len, reason, table, cookie = _PACKET_IN.unpack_from(body)
    match, at = decode_match(body, _PACKET_IN.size)
    return PacketIn(buffer_id, reason, table, cookie, match, total_len, body[at + _PACKET_IN_PADDING_LEN :])


def decode_packet_out(version: int, body: bytes) -> PacketOut:
    """Decode a PACKET_OUT. Its frame is left out if it names a buffer, since the switch ignores it then."""
    if version == V15:
        buffer_id, actions_len = _V15_PACKET_OUT.unpack_from(body)
        match, at = decode_match(body, _V15_PACKET_OUT.size)
    elif version == V10:
        buffer_id, port, actions_len = _V10_PACKET_OUT.unpack_from(body)
        match, at = _of_port(widen_port(port)), _V10_PACKET_OUT.size
    else:
        buffer_id, port, actions_len = _PACKET_OUT.unpack_from(body)
        match, at = _of_port(port), _PACKET_OUT.size
    end = at + actions_len
    if end > len(body):
        raise MalformedBody("the actions of the PACKET_OUT are cut off")
    frame = body[end:] if buffer_id == NO_BUFFER else b""
    return PacketOut(buffer_id, match, decode_actions(version, body[at:end]), frame)


def _of_port(port: int) -> Match:
    return () if port == ReservedPort.ANY else (MatchField("in_port", port),)
