"""Arithmetic of TCP sequence numbers, modulo 2**32 (RFC 9293 §3.4)."""

MASK = 0xFFFF_FFFF
_HALF = 0x8000_0000


def add(seq: int, length: int) -> int:
    """The sequence number ``length`` (may be negative) after ``seq``."""
    return (seq + length) & MASK


def diff(a: int, b: int) -> int:
    """How far ``a`` lies after ``b``: negative when it lies before it, -2**31 .. 2**31-1."""
    return ((a - b + _HALF) & MASK) - _HALF


def lt(a: int, b: int) -> bool:
    """Whether ``a`` lies before ``b``."""
    return diff(a, b) < 0


def le(a: int, b: int) -> bool:
    """Whether ``a`` lies before ``b`` or is equal to it."""
    return diff(a, b) <= 0


def latest(a: int, b: int) -> int:
    """The later of the two."""
    return b if lt(a, b) else a
