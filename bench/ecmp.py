"""Models of routers with routes of equal cost: each chooses the host of a connection.

``host_of()`` takes the router's own hash of a connection, 32 bits. It is unrelated to Maglev's hash.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

HASH_BITS = 32


class Router(Protocol):
    """A method to spread connections over hosts."""

    def host_of(self, connection: int) -> int:
        """Return the host of the connection with this hash."""

    def change(self, hosts: Sequence[int]) -> None:
        """Set the hosts that announce the service from now on."""


class Modulo:
    """The hash modulo the number of hosts, in their order: a change of that number moves nearly all connections."""

    def __init__(self, hosts: Sequence[int]) -> None:
        self.change(hosts)

    def change(self, hosts: Sequence[int]) -> None:
        """Set the hosts that announce the service from now on."""
        self._hosts = sorted(hosts)

    def host_of(self, connection: int) -> int:
        """Return the host of the connection with this hash."""
        return self._hosts[connection % len(self._hosts)]


class Threshold:
    """Equal regions of the hash's range, one for each host in their order (RFC 2992), as Linux spreads connections over
    multipath routes.

    A host that comes or goes shifts the borders of the regions: between a quarter and half of all connections move.
    """

    def __init__(self, hosts: Sequence[int]) -> None:
        self.change(hosts)

    def change(self, hosts: Sequence[int]) -> None:
        """Set the hosts that announce the service from now on."""
        self._hosts = sorted(hosts)

    def host_of(self, connection: int) -> int:
        """Return the host of the connection with this hash."""
        return self._hosts[connection * len(self._hosts) >> HASH_BITS]


class Resilient:
    """Buckets with a host each: only the buckets of a host that leaves move, and a host that comes gets its part of all
    buckets (Linux: ``ip nexthop … type resilient`` with ``idle_timer 0``; switches call it resilient hashing)."""

    BUCKETS = 4096

    def __init__(self, hosts: Sequence[int]) -> None:
        self._buckets = [sorted(hosts)[place % len(hosts)] for place in range(self.BUCKETS)]

    def change(self, hosts: Sequence[int]) -> None:
        """Set the hosts that announce the service from now on."""
        owned = Counter(dict.fromkeys(hosts, 0))
        owned.update(host for host in self._buckets if host in owned)
        orphans = [place for place, host in enumerate(self._buckets) if host not in owned]
        self._assign(orphans, owned)
        fair = self.BUCKETS // len(hosts)
        excess = {host: owned[host] - fair - 1 for host in hosts}
        surplus = []
        for place in self._scattered():
            if excess[self._buckets[place]] > 0:
                excess[self._buckets[place]] -= 1
                owned[self._buckets[place]] -= 1
                surplus.append(place)
        self._assign(surplus, owned)

    def host_of(self, connection: int) -> int:
        """Return the host of the connection with this hash."""
        return self._buckets[connection % self.BUCKETS]

    def _assign(self, places: Iterable[int], owned: Counter[int]) -> None:
        """Give each of these buckets to the host that has the fewest."""
        for place in places:
            poorest = min(owned, key=lambda host: (owned[host], host))
            self._buckets[place] = poorest
            owned[poorest] += 1

    def _scattered(self) -> Iterable[int]:
        """Return all places, with neighbours far apart, so that a host loses buckets evenly over all of its own."""
        return (place * 1597 % self.BUCKETS for place in range(self.BUCKETS))


ROUTERS: dict[str, type[Modulo] | type[Threshold] | type[Resilient]] = {
    "modulo": Modulo,
    "threshold": Threshold,
    "resilient": Resilient,
}
