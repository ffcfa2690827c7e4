"""Which backend of a pool a new connection goes to.

Maglev (Eisenbud et al.: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4) gives every
host that has the same rules the same answer, with no state at all; weights as multiples of turns. Round-robin spreads
evenly, but only the host that chose knows what it chose.
"""

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from math import gcd
from types import SimpleNamespace
from typing import Protocol

from natmirror import fastpath
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Backend, HashInput, Pool

TABLE_SIZE = 65537
"""The paper's smaller table: prime, and over a hundred times the number of backends (§5.3)."""

_STEPS = 10  # in which a round-robin's share grows

_KEY_OFFSET = b"natmirror offset"
_KEY_SKIP = b"natmirror skip  "


Shares = Mapping[Backend, float]
"""From 0, closed, to 1; a backend that is left out is closed."""


class Scheduler(Protocol):
    """Chooses a backend for a new connection, among those that are open for some. What the C gear repeats, it repeats
    from the same table, as plan.c says."""

    table: "array[int]"
    """Places in the pool's backends, in the order of the rules."""

    def open_for(self, shares: Shares) -> None:
        """How much of what is usually its part each backend takes of the new connections from now on."""

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """The backend for ``client``, none of ``avoid`` unless all are to be avoided; None where none is open."""


class Maglev:
    """Consistent hashing by a lookup table, over the client's address, or address and port.

    A backend that is closed gives its entries to those that follow, and takes them back: clients of others do not move.
    """

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self._whole = _lookup_table(pool.backends)
        self.table = self._whole
        self._with_port = pool.hash is HashInput.ADDRESS_PORT

    @property
    def whole(self) -> "array[int]":
        """The table that derive() goes by."""
        return self._whole

    def open_for(self, shares: Shares) -> None:
        """How much of what is usually its part each backend takes of the new connections from now on."""
        parts = [shares.get(backend, 0.0) for backend in self._backends]
        self.table = self._whole if min(parts) == 1.0 else fastpath.share_maglev(self._whole, parts)

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """The table's entry for the client; where that is to be avoided, the next entry that is not."""
        if not self.table:
            return None
        slot = client_hash(client, with_port=self._with_port) % TABLE_SIZE
        first = self._backends[self.table[slot]]
        if first not in avoid or all(self._backends[place] in avoid for place in set(self.table)):
            return first
        while self._backends[self.table[slot]] in avoid:
            slot = (slot + 1) % TABLE_SIZE
        return self._backends[self.table[slot]]

    def derive(self, client: Endpoint) -> Backend:
        """Return the backend that the rules alone give, whichever are open."""
        return self._backends[self._whole[client_hash(client, with_port=self._with_port) % TABLE_SIZE]]


class Turns(Protocol):
    """Who remembers whose turn it is."""

    turn: int
    """The place in a round-robin's table that is next."""


class RoundRobin:
    """Each in its turn; weights by stride scheduling (Waldspurger, Weihl: "Stride Scheduling", 1995), so that a heavy
    backend's turns do not bunch."""

    def __init__(self, pool: Pool, turns: Turns | None = None) -> None:
        """``turns`` keeps whose turn it is, where the C gear reads it too."""
        self._backends = pool.backends
        self.table = _turns({place: backend.weight for place, backend in enumerate(pool.backends)})
        self.turns: Turns = turns or SimpleNamespace(turn=0)

    def open_for(self, shares: Shares) -> None:
        """How much of what is usually its part each backend takes of the new connections from now on."""
        weights = {}
        for place, backend in enumerate(self._backends):
            if (share := shares.get(backend, 0.0)) > 0:
                weights[place] = max(1, round(_STEPS * share)) * backend.weight
        self.table = _turns(weights)
        self.turns.turn = 0

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """Return the next in turn, for any client; those that are to be avoided lose their turn."""
        if not self.table:
            return None
        order = [*self.table[self.turns.turn :], *self.table[: self.turns.turn]] if avoid else []
        skipped = next((step for step, place in enumerate(order) if self._backends[place] not in avoid), 0)
        turn = (self.turns.turn + skipped) % len(self.table)
        self.turns.turn = (turn + 1) % len(self.table)
        return self._backends[self.table[turn]]


class Priority:
    """The first that is open, in the order of the rules: a master, and who stands in for it."""

    def __init__(self, pool: Pool) -> None:
        self._backends = pool.backends
        self._open = list(range(len(pool.backends)))
        self.table = array("H", [0])

    def open_for(self, shares: Shares) -> None:
        """Whose share is not 0 takes all new connections, when it is its turn."""
        self._open = [place for place, backend in enumerate(self._backends) if shares.get(backend)]
        self.table = array("H", self._open[:1])

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """The first that is open and not to be avoided."""
        wanted = (place for place in self._open if self._backends[place] not in avoid)
        place = next(wanted, self._open[0] if self._open else None)
        return None if place is None else self._backends[place]


class LeastConnections:
    """Who has the fewest connections for its weight; of those that are even, each in its turn."""

    def __init__(self, pool: Pool, load: Callable[[Backend], int]) -> None:
        """``load`` tells how many connections a backend has."""
        self._backends = pool.backends
        self._load = load
        self._turn = 0
        self._shares: Shares = dict.fromkeys(pool.backends, 1.0)
        self.table = array("H", range(len(pool.backends)))

    def open_for(self, shares: Shares) -> None:
        """How much of its weight each backend has for the new connections from now on."""
        self._shares = shares
        self.table = array("H", (place for place, backend in enumerate(self._backends) if shares.get(backend)))
        self._turn = 0

    def pick(self, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend | None:
        """The one with the fewest connections for its weight."""
        order = [self._backends[place] for place in (*self.table[self._turn :], *self.table[: self._turn])]
        candidates = [backend for backend in order if backend not in avoid] or order
        if not candidates:
            return None
        chosen = min(candidates, key=lambda one: (self._load(one) + 1) / (one.weight * self._shares[one]))
        self._turn = (self.table.index(self._backends.index(chosen)) + 1) % len(self.table)
        return chosen


def _turns(weights: Mapping[int, int]) -> "array[int]":
    """A whole round of places with weights: the n-th turn of one comes at (n + 1/2) / weight of it."""
    divisor = gcd(*weights.values()) or 1
    turns = [
        ((2 * turn + 1) * divisor / weight, place)
        for place, weight in weights.items()
        for turn in range(weight // divisor)
    ]
    return array("H", (place for _, place in sorted(turns)))


def client_hash(client: Endpoint, *, with_port: bool) -> int:
    """The published hash of a client: SipHash-2-4 under a fixed key over its address bytes, and port in network
    order."""
    address, port = client
    return fastpath.siphash(fastpath.CLIENT_KEY, address + port.to_bytes(2, "big") if with_port else address)


def _lookup_table(backends: Sequence[Backend]) -> "array[int]":
    """Places in ``backends``. Names, in their order and by their hashes, say who takes what."""
    return fastpath.fill_maglev(
        TABLE_SIZE,
        [
            (
                fastpath.siphash(_KEY_OFFSET, backend.name.encode()) % TABLE_SIZE,
                fastpath.siphash(_KEY_SKIP, backend.name.encode()) % (TABLE_SIZE - 1) + 1,
                backend.weight,
                place,
            )
            for place, backend in sorted(enumerate(backends), key=lambda numbered: numbered[1].name)
        ],
    )
