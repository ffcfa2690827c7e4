"""How answers, and the differences among them, are spread over hosts.

A controller may draw a value once for each host, as FAUCET does with its timeouts. Then a hundred answers about one
host are a single draw, and a test that takes them for a hundred calls chance a difference. So they are counted by the
hosts that PACKET_INs come from and go to, in buckets by hash: what holds for hosts holds for sets of them.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence

PLACES = ("eth_src", "eth_dst")
_BUCKETS = 128
_SPREAD = 0x9E37_79B1
"""Gives addresses that are neighbours different buckets (Knuth's multiplicative hash)."""
HOSTS_COST = len(PLACES) * (4 * _BUCKETS + 100)
"""Bytes of memory for a HostCounts."""


class HostCounts:
    """Numbers of answers, by the hosts that their PACKET_INs come from, and by those that they go to."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = tuple(array("I", bytes(4 * _BUCKETS)) for _ in PLACES)

    def add(self, fields: Mapping[str, int]) -> None:
        """Count an answer by the fields of its PACKET_IN's frame."""
        for name, counts in zip(PLACES, self._counts, strict=True):
            counts[(fields.get(name, 0) * _SPREAD >> 15) % _BUCKETS] += 1

    def merge(self, other: "HostCounts") -> None:
        """Add another one."""
        for mine, theirs in zip(self._counts, other._counts, strict=True):
            for place, count in enumerate(theirs):
                mine[place] += count

    def copy(self) -> "HostCounts":
        """Return a copy for another thread."""
        made = HostCounts()
        made._counts = tuple(counts[:] for counts in self._counts)
        return made

    def by(self, name: str) -> Sequence[int]:
        """Return the numbers by bucket, for one of PLACES."""
        return self._counts[PLACES.index(name)]


def repetition(differing: Sequence[int], answers: Sequence[int]) -> float:
    """Return how many answers about the same host say the same as one: the design effect of a survey in clusters, which
    is how much more the clusters' numbers vary than those of independent answers (Rao and Scott 1992). It is 1 if that
    cannot be known: if all answers differ or none, or if all are about one host."""
    count, of = sum(differing), sum(answers)
    hosts = sum(map(bool, answers))
    if hosts < 2 or not 0 < count < of:
        return 1.0
    rate = count / of
    found = sum((one - rate * all_) ** 2 for one, all_ in zip(differing, answers, strict=True))
    return max(1.0, found * hosts / (hosts - 1) / (of * rate * (1 - rate)))


def share_about_hosts(differing: Sequence[Sequence[int]], answers: Sequence[int]) -> float:
    """Return which part of the answers differs, of those about the hosts of which any does."""
    if not differing:
        return 0.0
    counts: list[int] = [sum(ones) for ones in zip(*differing, strict=True)]
    about = sum(all_ for one, all_ in zip(counts, answers, strict=True) if one)
    return min(1.0, sum(counts) / max(about, 1))


def differing_hosts(differing: Iterable[Sequence[int]], answers: Sequence[int], share: float) -> tuple[int, int]:
    """Return how many hosts differ, and of how many. One of whose answers only a part differs counts as that part.
    ``share`` is which part of all answers differs in the time that is judged; the rest is the distribution."""
    counts = [sum(ones) for ones in zip(*differing, strict=True)]
    of, count = sum(answers), sum(counts)
    hosts = sum(map(bool, answers))
    if not count:
        return 0, hosts
    more = share * of / count
    return round(sum(min(1.0, one / all_ * more) for one, all_ in zip(counts, answers, strict=True) if all_)), hosts
