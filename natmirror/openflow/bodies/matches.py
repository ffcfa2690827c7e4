"""Decodes and encodes matches of OXM fields, and of Open vSwitch's NXM fields (1.3.5 §7.2.3, ovs-fields(7))."""

from collections.abc import Iterable
from struct import Struct

from natmirror.openflow.bodies.elements import MalformedBody, Match, MatchField
from natmirror.openflow.bodies.fields import (
    BY_HEADER,
    EXPERIMENTER,
    FIELDS,
    HEADERS,
    IP_TOS,
    SHORT_IN_PORT,
    VLAN_TCI,
    XREGS,
    XXREGS,
    Field,
    Header,
    unknown_name,
)
from natmirror.openflow.bodies.v10_ports import widen_port

_MAX_FIELDS = 256  # of one match; the specification has some fifty
_OXM_MATCH = 1  # OFPMT_OXM
_MATCH_HEAD = Struct("!HH")
_TLV_HEAD = Struct("!HBB")
_TLV_HEAD_LEN = _TLV_HEAD.size
_EXPERIMENTER_LEN = 4
_SPLIT = {VLAN_TCI, IP_TOS, SHORT_IN_PORT, *XREGS, *XXREGS}
"""Fields whose bits a match has under other names."""
_REGISTER_BITS = 32
_ONE_REGISTER = (1 << _REGISTER_BITS) - 1


def decode_field(raw: bytes, at: int, end: int) -> tuple[Field | None, MatchField, int]:
    """Decode the TLV at ``at``. Return its field (None if unknown), its content, and where it ends."""
    if at + _TLV_HEAD_LEN > end:
        raise MalformedBody("a match field is cut off")
    of_class, number, length = _TLV_HEAD.unpack_from(raw, at)
    start = at + _TLV_HEAD_LEN
    at = start + length
    if at > end:
        raise MalformedBody("a match field is longer than the match")
    experimenter = 0
    if of_class == EXPERIMENTER:
        if length < _EXPERIMENTER_LEN:
            raise MalformedBody("a match field is too short for its experimenter")
        experimenter = int.from_bytes(raw[start : start + _EXPERIMENTER_LEN], "big")
        start += _EXPERIMENTER_LEN
    size = at - start
    has_mask = number & 1
    if has_mask:
        if size & 1:
            raise MalformedBody("a masked match field has an odd length")
        size >>= 1
    value = int.from_bytes(raw[start : start + size], "big")
    header = (of_class, number >> 1, experimenter)
    field = BY_HEADER.get(header)
    if field is None:
        name, bits = unknown_name(header, size), 8 * size
    elif size != field.size:
        raise MalformedBody(f"the match field {field.name} has {size} bytes")
    else:
        name, bits = field.name, field.bits
    if not has_mask:
        if value >> bits:
            raise MalformedBody(f"the value of {name} is too large")
        return field, MatchField(name, value), at
    all_ones = (1 << bits) - 1
    mask = int.from_bytes(raw[start + size : at], "big") & all_ones
    return field, MatchField(name, value & mask, None if mask == all_ones else mask), at


def _split(field: Field, one: MatchField) -> Iterable[MatchField]:
    """Yield the fields of a match that hold the bits of a field of ``_SPLIT``."""
    value, mask = one.value, field.all_ones if one.mask is None else one.mask
    if field is SHORT_IN_PORT:
        yield MatchField("in_port", widen_port(value), None if one.mask is None else mask | 0xFFFF_0000)
    elif field is IP_TOS:
        yield _part("ip_dscp", value, mask, 2, 6)
    elif field is VLAN_TCI:
        yield _part("vlan_vid", value, mask, 0, 13)
        yield _part("vlan_pcp", value, mask, 13, 3)
    else:
        count = field.bits // _REGISTER_BITS
        first = count * (XREGS if field in XREGS else XXREGS).index(field)
        for index in range(count):
            yield _part(f"reg{first + index}", value, mask, (count - 1 - index) * _REGISTER_BITS, _REGISTER_BITS)


def _part(name: str, value: int, mask: int, shift: int, bits: int) -> MatchField:
    all_ones = (1 << bits) - 1
    mask = mask >> shift & all_ones
    return MatchField(name, value >> shift & mask, None if mask == all_ones else mask)


def decode_fields(raw: bytes, at: int, end: int) -> Match:
    """Decode consecutive TLVs into a match."""
    found: dict[str, MatchField] = {}
    while at < end:
        if len(found) >= _MAX_FIELDS:
            raise MalformedBody(f"the match has more than {_MAX_FIELDS} fields")
        field, one, at = decode_field(raw, at, end)
        for part in _split(field, one) if field in _SPLIT else (one,):
            if part.name in found:
                raise MalformedBody(f"the match has {part.name} twice")
            found[part.name] = part
    if len(found) < 2:
        return tuple(one for one in found.values() if one.mask != 0)
    return tuple(sorted(one for one in found.values() if one.mask != 0))


def decode_match(raw: bytes, at: int) -> tuple[Match, int]:
    """Decode an ``ofp_match`` of 1.3 and later. Return it and where it ends, with its padding."""
    kind, length = _MATCH_HEAD.unpack_from(raw, at)
    end = at + length
    if kind != _OXM_MATCH or length < _MATCH_HEAD.size or end > len(raw):
        raise MalformedBody("the match has no OXM header or is cut off")
    return decode_fields(raw, at + _MATCH_HEAD.size, end), at + (length + 7 & ~7)


def header_of(name: str) -> tuple[Header, int]:
    """Return the header of a field's TLV and the bytes of its value. KeyError for a name that no decoder gives."""
    if name in HEADERS:
        header = HEADERS[name]
        return header, BY_HEADER[header].size
    kind, of_class, number, size, *experimenter = name.split("_")
    if kind != "oxm":
        raise KeyError(name)
    return (int(of_class, 16), int(number), int(experimenter[0], 16) if experimenter else 0), int(size)


def encode_field(one: MatchField) -> bytes:
    """Return the TLV of a field."""
    (of_class, number, experimenter), size = header_of(one.name)
    body = experimenter.to_bytes(_EXPERIMENTER_LEN, "big") if of_class == EXPERIMENTER else b""
    body += one.value.to_bytes(size, "big")
    if one.mask is not None:
        body += one.mask.to_bytes(size, "big")
    return _TLV_HEAD.pack(of_class, number << 1 | (one.mask is not None), len(body)) + body


def encode_match(match: Match) -> bytes:
    """Return an ``ofp_match`` of 1.3 and later, with its padding.

    OXM's numbers are in an order in which each field follows its prerequisites, which 1.3.5 §7.2.3.8 demands.
    """
    fields = b"".join(map(encode_field, sorted(match, key=lambda one: _encoding_order(one.name))))
    length = _MATCH_HEAD.size + len(fields)
    return _MATCH_HEAD.pack(_OXM_MATCH, length) + fields + bytes(-length % 8)


def _encoding_order(name: str) -> tuple[bool, int, int]:
    of_class, number, _ = header_of(name)[0]
    return name not in FIELDS, -of_class, number
