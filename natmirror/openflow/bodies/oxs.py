"""Decodes and encodes the statistics of 1.5, which are TLVs (1.5.1 §7.2.4)."""

from struct import Struct
from typing import NamedTuple

from natmirror.openflow.bodies.elements import MalformedBody

_HEAD, _TLV_HEAD = Struct("!2xH"), Struct("!HBB")
_BASIC = 0x8002
_DURATION, _FLOWS, _PACKETS, _BYTES = 0, 3, 4, 5
_SIZES = {_DURATION: 8, _FLOWS: 4, _PACKETS: 8, _BYTES: 8}
_BILLION = 1_000_000_000


class Stats(NamedTuple):
    """The statistics that are read; 0 where the switch did not send one."""

    duration: float = 0.0
    packets: int = 0
    bytes: int = 0
    flows: int = 0


def decode_stats(raw: bytes, at: int) -> tuple[Stats, int]:
    """Decode an ``ofp_stats``. Return it and where it ends, with its padding."""
    length = _HEAD.unpack_from(raw, at)[0]
    end = at + length
    if length < _HEAD.size or end > len(raw):
        raise MalformedBody("the statistics are cut off")
    found: dict[int, int] = {}
    tlv_at = at + _HEAD.size
    while tlv_at < end:
        of_class, number, size = _TLV_HEAD.unpack_from(raw, tlv_at)
        start = tlv_at + _TLV_HEAD.size
        tlv_at = start + size
        if tlv_at > end:
            raise MalformedBody("a field of the statistics is cut off")
        if of_class != _BASIC or (number := number >> 1) not in _SIZES:
            continue
        if size != _SIZES[number]:
            raise MalformedBody(f"a field of the statistics has {size} bytes")
        found[number] = int.from_bytes(raw[start:tlv_at], "big")
    seconds, nanoseconds = divmod(found.get(_DURATION, 0), 1 << 32)
    stats = Stats(seconds + nanoseconds / _BILLION, found.get(_PACKETS, 0), found.get(_BYTES, 0), found.get(_FLOWS, 0))
    return stats, at + (length + 7 & ~7)


def split_duration(duration: float) -> tuple[int, int]:
    """Return a duration's seconds and nanoseconds."""
    return divmod(round(duration * _BILLION), _BILLION)


def encode_stats(stats: Stats, *, of_flow: bool) -> bytes:
    """Return an ``ofp_stats``, with its padding: of one flow, with its duration, or of several, with their number."""
    seconds, nanoseconds = split_duration(stats.duration)
    first = (_DURATION, seconds << 32 | nanoseconds) if of_flow else (_FLOWS, stats.flows)
    tlvs = b"".join(
        _TLV_HEAD.pack(_BASIC, number << 1, _SIZES[number]) + value.to_bytes(_SIZES[number], "big")
        for number, value in (first, (_PACKETS, stats.packets), (_BYTES, stats.bytes))
    )
    length = _HEAD.size + len(tlvs)
    return _HEAD.pack(length) + tlvs + bytes(-length % 8)
