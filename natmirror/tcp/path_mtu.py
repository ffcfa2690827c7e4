"""The segment size of a leg, which its path and its mirror limit (RFC 9293 §3.7.1, RFC 1191)."""

MTU, HEADERS_LEN = 1500, 40  # bytes: Ethernet's MTU; IPv4 and TCP headers without options
MSS = MTU - HEADERS_LEN
"""The segment size that we offer to a mirror, and the most data that we send in one segment, in bytes."""

_MIN_MSS = 48  # no mirror can make us use less; the default of Linux's tcp_min_snd_mss
_MIN_PATH_MTU = 552  # a router's smaller value counts as this one; the default of Linux's route/min_pmtu


def path_mss(mtu: int) -> int:
    """Return the most data in a segment on a path with this MTU, in bytes."""
    return max(mtu, _MIN_PATH_MTU) - HEADERS_LEN


def limit_mss(offered: int, mtu: int) -> int:
    """Return the most data in a segment to a mirror that offers ``offered`` bytes, on a path with this MTU."""
    return max(min(offered, MSS, path_mss(mtu)), _MIN_MSS)
