"""How much data a segment of a leg may take, by its path and by its mirror (RFC 9293 §3.7.1, RFC 1191)."""

MTU, HEADERS_LEN = 1500, 40  # Ethernet's; IPv4 and TCP without options
MSS = MTU - HEADERS_LEN
"""What a mirror is offered, and the most that it is sent in one segment."""

_MIN_MSS = 48  # the smallest a peer may make us use: IPv4's minimum MTU of 68 (RFC 791) less TCP's largest header
_MIN_PATH_MTU = 552  # Linux's ip_forward_min_pmtu: smaller ones are not believed


def path_mss(mtu: int) -> int:
    """Return the most data in a segment on a path whose packets have at most ``mtu`` bytes."""
    return max(mtu, _MIN_PATH_MTU) - HEADERS_LEN


def limit_mss(offered: int, mtu: int) -> int:
    """Return the most data in a segment to a mirror that takes ``offered`` bytes, on a path of ``mtu``."""
    return max(min(offered, MSS, path_mss(mtu)), _MIN_MSS)
