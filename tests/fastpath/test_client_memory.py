"""What waits is given up before a living leg is, a bounded number of waiters in one call."""

from natmirror.fastpath.client_memory import ClientMemory
from natmirror.fastpath.gear import Gear
from natmirror.fastpath.memory import Memory

_LIMIT = 1 << 20
_PIECE = 100


class Piece:
    """A piece of data that waits."""

    def __init__(self, memory: ClientMemory, holder: int) -> None:
        self._memory = memory
        self._holder = holder
        self.is_kept = memory.take_waiting(self, holder, _PIECE)

    def give_up(self) -> None:
        """Give the bytes back."""
        self._memory.give(self._holder, _PIECE)
        self.is_kept = False


def full_memory() -> tuple[ClientMemory, int, list[Piece]]:
    """Return a memory, the number of a client that has used up its part, and 100 pieces of it that wait."""
    memory = Gear(16, Memory(_LIMIT), bytes(16)).memory
    holder = memory.holder_of(b"\x0a\x0a\x00\x0b")
    pieces = [Piece(memory, holder) for _ in range(100)]
    assert memory.take(holder, memory.client_limit - 100 * _PIECE)
    return memory, holder, pieces


def test_a_leg_takes_what_the_last_waiter_of_one_call_has_given_back() -> None:
    memory, holder, pieces = full_memory()
    assert memory.take_urgently(holder, 64 * _PIECE)
    assert sum(piece.is_kept for piece in pieces) == 36


def test_one_call_gives_up_a_bounded_number_of_waiters() -> None:
    memory, holder, pieces = full_memory()
    assert not memory.take_urgently(holder, 65 * _PIECE)
    assert sum(piece.is_kept for piece in pieces) == 36
    assert memory.take_urgently(holder, 65 * _PIECE), "the next packet"
