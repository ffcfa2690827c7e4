"""What engines share: the memory for bytes that legs hold, and the counts of connections by backend."""

from typing import Any
from weakref import WeakValueDictionary

from natmirror._ffi import ffi, lib
from natmirror.net.packet import Endpoint


class Memory:
    """What all legs together hold back for their mirrors: bytes taken, of a ``limit``. Any thread may take and give."""

    def __init__(self, limit: int) -> None:
        self.budget = ffi.new("nm_budget *", {"limit": limit})

    @property
    def limit(self) -> int:
        """Bytes that may be taken; what is over a limit that has been lowered stays until it is given back."""
        return int(self.budget.limit)

    @limit.setter
    def limit(self, limit: int) -> None:
        self.budget.limit = limit

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self.budget.used)

    def take(self, count: int) -> bool:
        """Take ``count`` bytes, if they are there."""
        return bool(lib.nm_budget_take(self.budget, count))

    def give(self, count: int) -> None:
        """Give ``count`` bytes back."""
        lib.nm_budget_give(self.budget, count)


class ConnectionCounts:
    """How many connections each backend has in all engines that share this, whose reloads come one after the other."""

    def __init__(self) -> None:
        self._counts: WeakValueDictionary[tuple[Endpoint, Endpoint], Any] = WeakValueDictionary()

    def of(self, service: Endpoint, backend: Endpoint) -> Any:
        """A backend's count, ``uint32_t *``, for put_backend(): it goes when nobody has it any more."""
        return self._counts.setdefault((service, backend), ffi.new("uint32_t *"))
