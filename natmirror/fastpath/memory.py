"""The state that all engines of a process share: the memory budget of legs, and each backend's open connections."""

from weakref import WeakValueDictionary

from natmirror._ffi import ffi, lib
from natmirror.fastpath.rows import Array, Budget
from natmirror.net.endpoint import Endpoint


class Memory:
    """The budget of bytes that all legs together may buffer for their mirrors. Any thread may take and give."""

    def __init__(self, limit: int) -> None:
        self.budget: Budget = ffi.new("nm_budget *", {"limit": limit})

    @property
    def limit(self) -> int:
        """Bytes that may be taken. After the limit was lowered, ``used`` may exceed it until bytes are given back."""
        return self.budget.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self.budget.limit = limit

    @property
    def used(self) -> int:
        """Bytes taken."""
        return self.budget.used

    def take(self, count: int) -> bool:
        """Take ``count`` bytes; return False if fewer are left."""
        return bool(lib.nm_budget_take(self.budget, count))

    def give(self, count: int) -> None:
        """Give ``count`` bytes back."""
        lib.nm_budget_give(self.budget, count)


class ConnectionCounts:
    """The number of open connections that each backend has in all engines that share this.

    Engines are reloaded one after the other, never at once.
    """

    def __init__(self) -> None:
        self._counts: WeakValueDictionary[tuple[Endpoint, Endpoint], Array[int]] = WeakValueDictionary()

    def of(self, service: Endpoint, backend: Endpoint) -> Array[int]:
        """Return a backend's count, a ``uint32_t *`` for put_backend(). It lives as long as a caller keeps it."""
        return self._counts.setdefault((service, backend), ffi.new("uint32_t *"))
