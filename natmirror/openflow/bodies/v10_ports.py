"""Port numbers of OpenFlow 1.0, which have 16 bits, as numbers of later versions."""

_FIRST_RESERVED = 0xFF00  # 1.0.0 §5.2.1: the ports above are reserved ones
_RESERVED_BITS = 0xFFFF_0000


def widen_port(port: int) -> int:
    """Return the 32-bit number of a port of 1.0."""
    return port | _RESERVED_BITS if port >= _FIRST_RESERVED else port


def narrow_port(port: int) -> int:
    """Return the 16-bit number of a port in 1.0."""
    return port & 0xFFFF
