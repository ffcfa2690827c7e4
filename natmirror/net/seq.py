"""Arithmetic of TCP sequence numbers, modulo 2**32 (RFC 9293 §3.4)."""

MASK = 0xFFFF_FFFF
_HALF = 0x8000_0000


def add(seq: int, length: int) -> int:
    """Return the sequence number ``length`` after ``seq``; ``length`` may be negative."""
    return (seq + length) & MASK


def diff(a: int, b: int) -> int:
    """Return the distance from ``b`` to ``a``, from -2**31 to 2**31-1; negative if ``a`` lies before ``b``."""
    return ((a - b + _HALF) & MASK) - _HALF


def lt(a: int, b: int) -> bool:
    """Return whether ``a`` lies before ``b``."""
    return (a - b) & MASK >= _HALF


def le(a: int, b: int) -> bool:
    """Return whether ``a`` lies before ``b`` or equals it."""
    return (b - a) & MASK <= _HALF


def latest(a: int, b: int) -> int:
    """Return the later of the two."""
    return b if (a - b) & MASK >= _HALF else a
