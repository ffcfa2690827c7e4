"""Schedulers: each chooses the backend of a new connection.

Maglev (Eisenbud et al.: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4) gives every host
with the same rules the same answer, without state; a weight is a multiple of turns. Round-robin spreads connections
evenly, but only the host that made a choice knows it.
"""

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import gcd
from types import MappingProxyType, SimpleNamespace
from typing import Protocol

from natmirror import fastpath
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Backend, HashInput, Pool

TABLE_SIZE = 65537
"""The paper's smaller size: prime, and more than a hundred times the number of backends (§5.3)."""

_STEPS = 10  # a round-robin's table has one turn for each tenth of a share

_KEY_OFFSET = b"natmirror offset"
_KEY_SKIP = b"natmirror skip  "


Shares = Mapping[Backend, float]
"""Each backend's share, from 0 (closed) to 1. A backend without one is closed."""
Weights = Mapping[Backend, int]
"""The weights that commands have given to backends; the others have those of the rules."""
_NO_WEIGHTS: Weights = MappingProxyType({})


class Scheduler(Protocol):
    """Chooses the backend of a new connection among the open backends, i.e. those with a share above 0. The C gear
    chooses from the same table, by the rules in plan.c."""

    table: "array[int]"
    """Indexes into the pool's backends, which are in the order of the rules."""

    def set_shares(self, shares: Shares, weights: Weights = _NO_WEIGHTS) -> None:
        """Set each backend's share: the fraction, 0 to 1, of its normal part of new connections. The weights say how
        large that part is."""

    def peek(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the backend for a client, or None if none is open. Choose one of ``avoid`` only if every open backend
        is among them. No backend loses its turn by that."""

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return what peek() returns; that backend's turn is over."""


class Maglev:
    """Consistent hashing of the client's address, or of its address and port, by a lookup table.

    An entry of a closed backend goes to the backend of the next entry, and comes back when the closed one opens. The
    clients of other backends stay where they are.
    """

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self._full_table = _lookup_table(pool.backends)
        self._weights = _NO_WEIGHTS
        self._whole_table = self._full_table
        self.table = self._full_table
        self._open = fastpath.places_of(self.table, len(pool.backends))
        self._with_port = pool.hash is HashInput.ADDRESS_PORT

    @property
    def full_table(self) -> "array[int]":
        """The table of derive(), with every backend open."""
        return self._full_table

    def set_shares(self, shares: Shares, weights: Weights = _NO_WEIGHTS) -> None:
        """Set each backend's share: the fraction, 0 to 1, of its normal part of new connections.

        With other weights the table is as if the rules had them. That of derive() stays as it is: the rules alone say
        which connections are derived."""
        if weights != self._weights:
            weighted = [replace(one, weight=weights.get(one, one.weight)) for one in self._backends]
            self._weights, self._whole_table = weights, _lookup_table(weighted) if weights else self._full_table
        parts = [shares.get(backend, 0.0) for backend in self._backends]
        self.table = self._whole_table if min(parts) == 1.0 else fastpath.share_maglev(self._whole_table, parts)
        self._open = fastpath.places_of(self.table, len(self._backends))

    def slot_of(self, client: Endpoint) -> int:
        """Return the client's slot in the table."""
        return client_hash(client, with_port=self._with_port) % TABLE_SIZE

    def gives_slot_away(self, client: Endpoint) -> bool:
        """Return whether the client's derived backend has left the client's slot to another one, for its share."""
        slot = self.slot_of(client)
        return bool(self.table) and self.table[slot] != self._full_table[slot]

    def peek(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the backend in the client's slot, or in the next one whose backend is not to be avoided."""
        if not self.table:
            return None
        slot = self.slot_of(client)
        avoided = _indexes(self._backends, avoid)
        if not self._open <= avoided:
            while self.table[slot] in avoided:
                slot = (slot + 1) % TABLE_SIZE
        return self._backends[self.table[slot]]

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return what peek() returns: there are no turns."""
        return self.peek(client, avoid)

    def derive(self, client: Endpoint) -> Backend:
        """Return the backend that the rules alone give, whether or not it is open."""
        return self._backends[self._full_table[self.slot_of(client)]]


class RoundRobinPosition(Protocol):
    """A round-robin's position in its table."""

    next_entry: int
    """The index of the entry that is next in turn."""


class RoundRobin:
    """The backends in turn. Weights work by stride scheduling (Waldspurger, Weihl: "Stride Scheduling", 1995), which
    spreads a heavy backend's turns over the round."""

    def __init__(self, pool: Pool, position: RoundRobinPosition | None = None) -> None:
        """``position`` lies where the C gear reads it too; without one the scheduler keeps its own."""
        self._backends = pool.backends
        self.table = _one_round({index: backend.weight for index, backend in enumerate(pool.backends)})
        self._open = set(self.table)
        self._position: RoundRobinPosition = position or SimpleNamespace(next_entry=0)

    def set_shares(self, shares: Shares, weights: Weights = _NO_WEIGHTS) -> None:
        """Set each backend's share: the fraction, 0 to 1, of its normal part of new connections."""
        turns = {}
        for index, backend in enumerate(self._backends):
            if (share := shares.get(backend, 0.0)) > 0:
                turns[index] = max(1, round(_STEPS * share)) * weights.get(backend, backend.weight)
        self.table = _one_round(turns)
        self._open = set(turns)
        self._position.next_entry = 0

    def peek(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the backend that is next in turn, for any client."""
        return self._backends[self.table[self._entry(avoid)]] if self.table else None

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the backend that is next in turn, for any client; one that is to be avoided loses its turn."""
        if not self.table:
            return None
        entry = self._entry(avoid)
        self._position.next_entry = (entry + 1) % len(self.table)
        return self._backends[self.table[entry]]

    def _entry(self, avoid: Collection[Backend]) -> int:
        """Return the index of the entry that is next in turn; the table is not empty."""
        entry = self._position.next_entry
        avoided = _indexes(self._backends, avoid)
        if not self._open <= avoided:
            while self.table[entry] in avoided:
                entry = (entry + 1) % len(self.table)
        return entry


class Priority:
    """The first open backend in the order of the rules: a main one, then those that stand in for it."""

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self._open = list(range(len(pool.backends)))
        self.table = array("H", [0])

    def set_shares(self, shares: Shares, weights: Weights = _NO_WEIGHTS) -> None:
        """Set the backends' shares: the first backend with a share above 0 gets all new connections, whatever its
        weight."""
        self._open = [index for index, backend in enumerate(self._backends) if shares.get(backend)]
        self.table = array("H", self._open[:1])

    def peek(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the first open backend that is not to be avoided."""
        wanted = (index for index in self._open if self._backends[index] not in avoid)
        index = next(wanted, self._open[0] if self._open else None)
        return None if index is None else self._backends[index]

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return what peek() returns: there are no turns."""
        return self.peek(client, avoid)


class LeastConnections:
    """The backend with the fewest connections for its weight; among equal ones, the connections go round-robin."""

    def __init__(self, pool: Pool, connections_of: Callable[[Backend], int]) -> None:
        """``connections_of`` returns the number of a backend's connections now."""
        self._backends = pool.backends
        self._connections_of = connections_of
        self._next_entry = 0
        self._shares: Shares = dict.fromkeys(pool.backends, 1.0)
        self._weights = _NO_WEIGHTS
        self.table = array("H", range(len(pool.backends)))

    def set_shares(self, shares: Shares, weights: Weights = _NO_WEIGHTS) -> None:
        """Set each backend's share; its weight is multiplied by it."""
        self._shares, self._weights = shares, weights
        self.table = array("H", (index for index, backend in enumerate(self._backends) if shares.get(backend)))
        self._next_entry = 0

    def peek(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the backend with the fewest connections for its weight, and if possible none of ``avoid``."""
        start = self._next_entry
        order = [self._backends[index] for index in (*self.table[start:], *self.table[:start])]
        candidates = [backend for backend in order if backend not in avoid] or order
        if not candidates:
            return None
        return min(candidates, key=lambda one: (self._connections_of(one) + 1) / self._capacity(one))

    def _capacity(self, backend: Backend) -> float:
        return self._weights.get(backend, backend.weight) * self._shares[backend]

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return what peek() returns; equal backends after it in the order of the rules come next."""
        chosen = self.peek(client, avoid)
        if chosen is not None:
            self._next_entry = (self.table.index(self._backends.index(chosen)) + 1) % len(self.table)
        return chosen


def _indexes(backends: Sequence[Backend], some: Collection[Backend]) -> set[int]:
    """Return the indexes of some backends. A table may have thousands of entries: only its next ones may be looked at
    for one SYN."""
    return {index for index, backend in enumerate(backends) if backend in some} if some else set()


def _one_round(weights: Mapping[int, int]) -> "array[int]":
    """Return one round of a weighted round-robin: an index's n-th turn comes at (n + 1/2) / weight of the round."""
    divisor = gcd(*weights.values()) or 1
    turns = [
        ((2 * turn + 1) * divisor / weight, index)
        for index, weight in weights.items()
        for turn in range(weight // divisor)
    ]
    return array("H", (index for _, index in sorted(turns)))


def client_hash(client: Endpoint, *, with_port: bool) -> int:
    """Return the hash of a client, the same on all hosts: SipHash-2-4, with a fixed key, of its address bytes and,
    ``with_port``, of its port in network order."""
    address, port = client
    return fastpath.siphash(fastpath.CLIENT_KEY, address + port.to_bytes(2, "big") if with_port else address)


def _lookup_table(backends: Sequence[Backend]) -> "array[int]":
    """Return Maglev's table of indexes into ``backends``. The hashes of a backend's name give its preferences, and the
    names give the order in which backends take entries."""
    return fastpath.fill_maglev(
        TABLE_SIZE,
        [
            (
                fastpath.siphash(_KEY_OFFSET, backend.name.encode()) % TABLE_SIZE,
                fastpath.siphash(_KEY_SKIP, backend.name.encode()) % (TABLE_SIZE - 1) + 1,
                backend.weight,
                index,
            )
            for index, backend in sorted(enumerate(backends), key=lambda numbered: numbered[1].name)
        ],
    )
