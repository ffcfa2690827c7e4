"""Which backend of a pool a new connection goes to.

Maglev (Eisenbud et al.: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4) gives every
host that has the same rules the same answer, with no state at all; weights as multiples of turns. Round-robin spreads
evenly, but only the host that chose knows what it chose.
"""

from array import array
from collections.abc import Collection
from functools import lru_cache
from math import gcd
from types import SimpleNamespace
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
    """Chooses a backend for a new connection. The C gear repeats it from the same table, as _plan.c says."""

    table: "array[int]"
    """Places in the pool's backends, in the order of the rules."""

    def pick(self, client: Endpoint, avoid: Collection[Backend]) -> Backend:
        """The backend for ``client``, none of ``avoid`` unless all are to be avoided."""


class Maglev:
    """Consistent hashing by a lookup table, over the client's address, or address and port."""

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        by_name = sorted(range(len(pool.backends)), key=lambda place: pool.backends[place].name)
        named = tuple((pool.backends[place].name, pool.backends[place].weight) for place in by_name)
        self.table = array("i", (by_name[index] for index in _lookup_table(named)))
        self._with_port = pool.hash == "address-port"

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend:
        """The table's entry for the client; where that is to be avoided, the next entry that is not."""
        slot = client_hash(client, with_port=self._with_port) % TABLE_SIZE
        first = self._backends[self.table[slot]]
        if first not in avoid or all(backend in avoid for backend in self._backends):
            return first
        while self._backends[self.table[slot]] in avoid:
            slot = (slot + 1) % TABLE_SIZE
        return self._backends[self.table[slot]]


class Turns(Protocol):
    """Who remembers whose turn it is."""

    turn: int
    """The place in a round-robin's table that is next."""


class RoundRobin:
    """Each in its turn; weights by stride scheduling (Waldspurger, Weihl: "Stride Scheduling", 1995), so that a heavy
    backend's turns do not bunch."""

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self.table = _turns(tuple(backend.weight for backend in pool.backends))
        self.turns: Turns = SimpleNamespace(turn=0)
        """Others may keep it."""

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend:
        """The next in turn, whoever the client is; those that are to be avoided lose their turn."""
        order = [*self.table[self.turns.turn :], *self.table[: self.turns.turn]] if avoid else []
        skipped = next((step for step, place in enumerate(order) if self._backends[place] not in avoid), 0)
        turn = (self.turns.turn + skipped) % len(self.table)
        self.turns.turn = (turn + 1) % len(self.table)
        return self._backends[self.table[turn]]


def _turns(weights: tuple[int, ...]) -> "array[int]":
    """A whole round: the n-th turn of a backend comes at (n + 1/2) / weight of it."""
    shortened = [weight // gcd(*weights) for weight in weights]
    at = sorted(((2 * turn + 1) / weight, place) for place, weight in enumerate(shortened) for turn in range(weight))
    return array("i", (place for _, place in at))


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
