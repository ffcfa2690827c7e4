"""Which backend of a pool a new connection goes to.

Maglev (Eisenbud et al.: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4) gives every
host that has the same rules the same answer, with no state at all; weights as multiples of turns. Round-robin spreads
evenly, but only the host that chose knows what it chose.
"""

from array import array
from collections.abc import Collection
from functools import lru_cache
from typing import Protocol

from natmirror.packet import Endpoint
from natmirror.rules import Backend, Pool
from natmirror.siphash import siphash

TABLE_SIZE = 65537
"""The paper's smaller table: prime, and over a hundred times the number of backends (§5.3)."""

_KEY_CLIENT = b"natmirror client"
_KEY_OFFSET = b"natmirror offset"
_KEY_SKIP = b"natmirror skip  "


class Scheduler(Protocol):
    """Chooses a backend for a new connection."""

    def pick(self, client: Endpoint, avoid: Collection[Backend]) -> Backend:
        """The backend for ``client``, none of ``avoid`` unless all are to be avoided."""


class Maglev:
    """Consistent hashing by a lookup table, over the client's address, or address and port."""

    def __init__(self, pool: Pool) -> None:
        self._backends = sorted(pool.backends, key=lambda backend: backend.name)
        self._table = _lookup_table(tuple((backend.name, backend.weight) for backend in self._backends))
        self._with_port = pool.hash == "address-port"

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend:
        """The table's entry for the client; where that is to be avoided, the next entry that is not."""
        slot = client_hash(client, with_port=self._with_port) % TABLE_SIZE
        first = self._backends[self._table[slot]]
        if first not in avoid or all(backend in avoid for backend in self._backends):
            return first
        while self._backends[self._table[slot]] in avoid:
            slot = (slot + 1) % TABLE_SIZE
        return self._backends[self._table[slot]]


class RoundRobin:
    """Each in its turn; weights by the smooth method, so that a heavy backend's turns do not bunch.

    Each pick gives every candidate its weight in credit and takes the sum of the weights from the richest.
    """

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self._credit = dict.fromkeys(pool.backends, 0)

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend:
        """The next in turn, whoever the client is."""
        candidates = [backend for backend in self._backends if backend not in avoid] or list(self._backends)
        for backend in candidates:
            self._credit[backend] += backend.weight
        chosen = max(candidates, key=lambda backend: self._credit[backend])
        self._credit[chosen] -= sum(backend.weight for backend in candidates)
        return chosen


def client_hash(client: Endpoint, *, with_port: bool) -> int:
    """The published hash of a client: SipHash-2-4 under a fixed key over its address bytes, and port in network
    order."""
    address, port = client
    return siphash(_KEY_CLIENT, address + port.to_bytes(2, "big") if with_port else address)


@lru_cache(maxsize=64)
def _lookup_table(backends: tuple[tuple[str, int], ...]) -> "array[int]":
    """The paper's pseudocode 1, for (name, weight) in order of names: each in turn takes its next preferred free slot.

    A backend takes a turn whenever its share, weight by largest weight, has added up to one.
    """
    offsets = [siphash(_KEY_OFFSET, name.encode()) % TABLE_SIZE for name, _ in backends]
    skips = [siphash(_KEY_SKIP, name.encode()) % (TABLE_SIZE - 1) + 1 for name, _ in backends]
    largest = max(weight for _, weight in backends)
    shares = [0] * len(backends)
    table = array("i", [-1]) * TABLE_SIZE
    filled = 0
    while True:
        for index, (_, weight) in enumerate(backends):
            shares[index] += weight
            if shares[index] < largest:
                continue
            shares[index] -= largest
            slot = offsets[index]
            while table[slot] >= 0:
                slot = (slot + skips[index]) % TABLE_SIZE
            table[slot] = index
            offsets[index] = (slot + skips[index]) % TABLE_SIZE
            filled += 1
            if filled == TABLE_SIZE:
                return table
