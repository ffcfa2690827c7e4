"""Splits the properties of which messages of 1.4 and 1.5 consist (1.4.1 §7.2, "Properties")."""

from struct import Struct

from natmirror.openflow.bodies.elements import MalformedBody

_HEAD = Struct("!HH")
Properties = tuple[tuple[int, bytes], ...]
"""The type and the bytes of each property."""


def split_properties(raw: bytes) -> Properties:
    """Return consecutive properties, each without its header and its padding."""
    found: list[tuple[int, bytes]] = []
    at, end = 0, len(raw)
    while at < end:
        kind, length = _HEAD.unpack_from(raw, at)
        if length < _HEAD.size or at + length > end:
            raise MalformedBody(f"a property has {length} bytes")
        found.append((kind, raw[at + _HEAD.size : at + length]))
        at += length + 7 & ~7
    return tuple(found)
