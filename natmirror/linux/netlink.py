"""Netlink messages and their attributes as bytes (netlink(7))."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

# linux/netlink.h
_REQUEST = 0x1
_KIND_MASK = 0x3FFF  # NLA_TYPE_MASK

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")


class Message(NamedTuple):
    """A message that the kernel has sent."""

    kind: int
    number: int
    """The sequence number: that of the request."""
    port: int
    """Of the socket whose request it is about: usually the process id, as this PID namespace shows it."""
    body: bytes


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """Return a netlink request of this type, with these flags besides, and this sequence number."""
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, number, 0) + body


def messages(received: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram."""
    while len(received) >= _HEADER.size:
        length, kind, _, number, port = _HEADER.unpack_from(received)
        yield Message(kind, number, port, received[_HEADER.size : length])
        received = received[_padded(max(length, _HEADER.size)) :]


def attribute(kind: int, value: bytes) -> bytes:
    """Return a netlink attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def attributes(body: bytes) -> dict[int, bytes]:
    """Return the values of netlink attributes by kind: of equal ones the first, because each kernel message that
    natmirror reads begins with what names its object."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        found.setdefault(kind & _KIND_MASK, body[at + _ATTRIBUTE.size : at + size])
        at += _padded(max(size, _ATTRIBUTE.size))
    return found


def _padded(length: int) -> int:
    return length + 3 & ~3
