"""The memory that each client of one engine holds, and what waits and is given up before a living leg is.

Each client is known by a number, a row's ``holder``; NO_HOLDER stands for none.
"""

from typing import Protocol

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import CLIENT_SHARE, IPV4
from natmirror.fastpath.memory import Memory
from natmirror.fastpath.rows import GearRow, HoldersRow

_LARGE_FRACTION = 64  # clients of which 1/64 of the budget waits: at most 64
_MAX_GIVEN_UP = 64  # waiters in one call, because packets wait meanwhile


class Waiter(Protocol):
    """An object whose bytes wait for others, such as the pieces behind a gap."""

    def give_up(self) -> None:
        """Do without the waiting bytes: give them back, and note the reason."""


class ClientMemory:
    """The memory of one engine's clients, within the budget ``memory``."""

    def __init__(self, gear: GearRow, memory: Memory) -> None:
        self._gear = gear  # keeps the holders alive
        self._holders: HoldersRow = ffi.addressof(gear, "holders")
        self.budget = memory
        """The limit for all clients together."""
        self._waiting: dict[int, dict[Waiter, int]] = {}  # by holder: each waiter with its bytes, the newest last
        self._waiting_bytes: dict[int, int] = {}  # by holder
        self._large: set[int] = set()  # the holders of which most waits

    def holder_of(self, client: bytes) -> int:
        """Return the number of the client with this address."""
        return lib.nm_holder_of(self._holders, IPV4, client)

    def take(self, holder: int, count: int) -> bool:
        """Take ``count`` bytes; return False if the client or all clients together may not hold them."""
        return bool(lib.nm_holder_take(self._holders, holder, count))

    def give(self, holder: int, count: int) -> None:
        """Give ``count`` bytes back."""
        lib.nm_holder_give(self._holders, holder, count)

    @property
    def limit(self) -> int:
        """Bytes that all clients together may hold."""
        return self.budget.limit

    @property
    def used(self) -> int:
        """Bytes that they hold, in all threads."""
        return self.budget.used

    @property
    def client_limit(self) -> int:
        """Bytes that one client may hold."""
        return self.budget.limit // CLIENT_SHARE

    @property
    def most_used(self) -> int:
        """Bytes that the client which holds most has."""
        return lib.nm_holders_most(self._holders)

    # What waits

    def take_waiting(self, waiter: Waiter, holder: int, count: int) -> bool:
        """Take ``count`` bytes that the waiter can do without, as take()."""
        if not self.take(holder, count):
            return False
        waiters = self._waiting.setdefault(holder, {})
        waiters[waiter] = waiters.get(waiter, 0) + count
        self._note_waiting(holder, count)
        return True

    def give_waiting(self, waiter: Waiter, holder: int, count: int) -> None:
        """Give back ``count`` of the bytes that take_waiting() took."""
        self.give(holder, count)
        waiters = self._waiting.get(holder, {})
        had = waiters.get(waiter, 0)
        if had > count:
            waiters[waiter] = had - count
        else:
            waiters.pop(waiter, None)
        self._note_waiting(holder, -min(had, count))

    def _note_waiting(self, holder: int, more: int) -> None:
        self._waiting_bytes[holder] = total = self._waiting_bytes.get(holder, 0) + more
        if total * _LARGE_FRACTION >= self.budget.limit:
            self._large.add(holder)
        else:
            self._large.discard(holder)
        if not self._waiting.get(holder):
            self._waiting.pop(holder, None)
            self._large.discard(holder)
            del self._waiting_bytes[holder]

    def take_urgently(self, holder: int, count: int) -> bool:
        """Take ``count`` bytes for a living leg or session, for which what waits is given up."""
        return self.take(holder, count) or (self.make_room(holder, count) and self.take(holder, count))

    def make_room(self, holder: int, count: int) -> bool:
        """Give up what waits until a living leg of the client can take ``count`` bytes: what waits of this client if it
        holds its whole part, and otherwise of the client of which most waits. Return whether it can take them now."""
        for _ in range(_MAX_GIVEN_UP):
            if self._has_room(holder, count):
                return True
            victim = holder if self._own_part_is_full(holder, count) else self._victim()
            if victim not in self._waiting:
                return False
            waiter, held = self._waiting[victim].popitem()
            self._note_waiting(victim, -held)
            waiter.give_up()
        return self._has_room(holder, count)

    def _has_room(self, holder: int, count: int) -> bool:
        return not self._own_part_is_full(holder, count) and self.budget.used + count <= self.budget.limit

    def _own_part_is_full(self, holder: int, count: int) -> bool:
        return bool(holder) and self._holders.used[holder] + count > self.client_limit

    def _victim(self) -> int | None:
        """Return the client of which most waits; if no client stands out, the one that began to wait last."""
        if self._large:
            return max(self._large, key=self._waiting_bytes.__getitem__)
        return next(reversed(self._waiting), None)
