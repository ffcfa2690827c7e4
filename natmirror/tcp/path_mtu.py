"""The segment size of a leg, which its path and its mirror limit (RFC 9293 §3.7.1, RFC 1191).

Theory. A router that cannot forward a segment reports the MTU of the next link to the segment's sender. Any host can
forge such a report. So a report narrows a leg step by step, after RFC 5927 §7.2 and with a check as in RFC 4821:

1. It has to quote a number in flight. On the wire a leg's numbers are secret (initial_numbers.py): its client does not
   know them, and can only guess.
2. It narrows the leg only once the retransmission timer expires and the quoted segment is the first one that the mirror
   has not acknowledged: that segment was lost too. An acknowledgement refutes the report.
3. It narrows this leg alone. New legs to the mirror begin narrow once legs of two clients have been narrowed
   (mirror/narrow_paths.py).
4. After NARROW_TIMEOUT the leg tries its full segment size again. So a false report ends by itself, and on a path that
   is still narrow the next report follows.

Deviation from RFC 5927 §7.2, which believes a report about the first large segment at once: here each leg waits for the
timer once, 0.2 s or more, until step 3 spares the legs after it. Production waits for none of them.

No report makes segments smaller than 512 bytes, an MTU of 552: the default of Linux's route/min_pmtu. Every IPv4 host
has to accept datagrams of 576 bytes (RFC 791 §3.1), so links of real paths are hardly narrower. A report of the
smallest MTU that RFC 791 allows, 68 bytes, is most likely forged, and would leave 28 bytes of data in each packet.
"""

from dataclasses import dataclass

from natmirror.fastpath import NEVER, LegRow

MTU, HEADERS_LEN = 1500, 40  # bytes: Ethernet's MTU; IPv4 and TCP headers without options
MSS = MTU - HEADERS_LEN
"""The segment size that we offer to a mirror, and the most data that we send in one segment, in bytes."""

NARROW_TIMEOUT = 600.0
"""Seconds after which larger segments are tried again on a path that routers reported as narrow (RFC 1191 §6.3)."""

_MIN_MSS = 48  # no mirror can make us use less; the default of Linux's tcp_min_snd_mss
_MIN_PATH_MTU = 552  # a router's smaller value counts as this one


@dataclass(frozen=True, slots=True)
class Path:
    """The path to a mirror, as far as it is known when a leg begins."""

    mtu: int = MTU
    """The MTU of this host's route, in bytes."""
    narrow_mtu: int = MTU
    """The MTU that routers have reported, in bytes, as confirmed by two clients' legs."""
    narrow_until: float = NEVER
    """The time until which ``narrow_mtu`` holds."""


def path_mss(mtu: int) -> int:
    """Return the most data in a segment on a path with this MTU, in bytes."""
    return max(mtu, _MIN_PATH_MTU) - HEADERS_LEN


def limit_mss(offered: int, mtu: int) -> int:
    """Return the most data in a segment to a mirror that offers ``offered`` bytes, on a path with this MTU."""
    return max(min(offered, MSS, path_mss(mtu)), _MIN_MSS)


def set_segment_size(row: LegRow, offered: int, path: Path) -> None:
    """Set the segment size of a leg that begins, to a mirror that offers ``offered`` bytes."""
    row.full_mss = limit_mss(offered, path.mtu)
    row.mss = min(row.full_mss, limit_mss(offered, path.narrow_mtu))
    row.widen_at = path.narrow_until if row.mss < row.full_mss else NEVER


def narrow(row: LegRow, mss: int, now: float) -> None:
    """Reduce the segment size to ``mss`` bytes, for NARROW_TIMEOUT."""
    row.mss = mss
    row.widen_at = now + NARROW_TIMEOUT


def widen(row: LegRow) -> None:
    """Restore the full segment size."""
    row.mss = row.full_mss
    row.widen_at = NEVER
