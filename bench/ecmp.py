"""How a router with several equal routes chooses the next hop for a connection, and what a change of them moves.

Each is made of its hosts and told of changes; ``host_of()`` takes the router's hash of a connection, 32 bits that the
router alone knows: it has nothing to do with Maglev's.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

HASH_BITS = 32


class Router(Protocol):
    """Which host gets a connection."""

    def host_of(self, connection: int) -> int:
        """The host for a connection with this hash."""

    def change(self, hosts: Sequence[int]) -> None:
        """From now on these hosts announce the service."""


class Modulo:
    """The hash modulo the number of hosts, in their order: a change of the number moves nearly everybody."""

    def __init__(self, hosts: Sequence[int]) -> None:
        self.change(hosts)

    def change(self, hosts: Sequence[int]) -> None:
        """From now on these hosts announce the service."""
        self._hosts = sorted(hosts)

    def host_of(self, connection: int) -> int:
        """The host for a connection with this hash."""
        return self._hosts[connection % len(self._hosts)]


class Threshold:
    """Equal regions of the hash's range, one for each host in their order (RFC 2992): what Linux does with routes of
    several hops.

    A host that comes or goes shifts its neighbours' borders: between a quarter and half of all move.
    """

    def __init__(self, hosts: Sequence[int]) -> None:
        self.change(hosts)

    def change(self, hosts: Sequence[int]) -> None:
        """From now on these hosts announce the service."""
        self._hosts = sorted(hosts)

    def host_of(self, connection: int) -> int:
        """The host for a connection with this hash."""
        return self._hosts[connection * len(self._hosts) >> HASH_BITS]


class Resilient:
    """Buckets that remember their host: one that leaves gives away its own, one that comes takes its part of the rest
    (Linux: ``ip nexthop … type resilient`` with ``idle_timer 0``; switches call it resilient hashing)."""

    BUCKETS = 4096

    def __init__(self, hosts: Sequence[int]) -> None:
        self._buckets = [sorted(hosts)[place % len(hosts)] for place in range(self.BUCKETS)]

    def change(self, hosts: Sequence[int]) -> None:
        """From now on these hosts announce the service."""
        owned = Counter(dict.fromkeys(hosts, 0))
        owned.update(host for host in self._buckets if host in owned)
        orphans = [place for place, host in enumerate(self._buckets) if host not in owned]
        self._hand(orphans, owned)
        fair = self.BUCKETS // len(hosts)
        excess = {host: owned[host] - fair - 1 for host in hosts}
        surplus = []
        for place in self._scattered():
            if excess[self._buckets[place]] > 0:
                excess[self._buckets[place]] -= 1
                owned[self._buckets[place]] -= 1
                surplus.append(place)
        self._hand(surplus, owned)

    def host_of(self, connection: int) -> int:
        """The host for a connection with this hash."""
        return self._buckets[connection % self.BUCKETS]

    def _hand(self, places: Iterable[int], owned: Counter[int]) -> None:
        """Buckets go to whoever has fewest."""
        for place in places:
            poorest = min(owned, key=lambda host: (owned[host], host))
            self._buckets[place] = poorest
            owned[poorest] += 1

    def _scattered(self) -> Iterable[int]:
        """All places, neighbours far from each other: whoever gives does not give a piece of its own."""
        return (place * 1597 % self.BUCKETS for place in range(self.BUCKETS))


ROUTERS: dict[str, type[Modulo] | type[Threshold] | type[Resilient]] = {
    "modulo": Modulo,
    "threshold": Threshold,
    "resilient": Resilient,
}
