"""The client's byte stream out of its packets: in order and exactly once, whatever order and repetition they came
in."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

from natmirror import seq
from natmirror.fastpath import Memory

_PIECE_COST = 128  # bytes that Python's own bookkeeping takes for a piece that waits


class Reassembler:
    """Puts segments of one direction back in order (RFC 9293 §3.10.7.4, as a receiver would).

    Only bytes that production's receiver takes come out: those before ``limit``, the right edge of its window. A byte
    past it, as a probe of a closed window carries, waits until the window has moved.
    """

    __slots__ = ("_given", "_max_waiting", "_memory", "_row", "_side", "_waiting", "starved", "waiting_bytes")

    def __init__(self, row: Any, side: str, next_seq: int | None, max_waiting: int, memory: Memory) -> None:
        """Of a flow's row, and a side of it (``orig``, ``reply``), whose ``next`` the C gear moves as well while
        nothing waits. Where ``next_seq`` is not known yet, place() comes first."""
        self._row = row
        self._side = side
        getattr(row, side).next = next_seq or 0
        self.waiting_bytes = 0
        self.starved = False
        """Something was left out because there was no memory for it."""
        self._max_waiting = max_waiting
        self._memory = memory
        self._given = -1 if next_seq is None else 0  # bytes of the stream before ``next``
        self._waiting: Sequence[tuple[int, bytes]] = ()  # (place in the stream, data), sorted, none overlapping

    def push(self, at: int, data: bytes, limit: int) -> bytes:
        """Take ``data`` whose first byte is number ``at``; gives the bytes that are in order now.

        What overlaps bytes taken before is cut: the first copy counts, as with most receivers. A segment that begins
        past ``limit`` is left out: its receiver refuses it. One ahead of its turn that finds ``max_waiting`` bytes
        waiting already, or no memory, is left out too: the client will send it again, or the hole will be told.
        """
        ahead = seq.diff(at, self.next)
        out = b""
        if data and seq.le(at, limit) and ahead + len(data) > 0:
            if ahead > 0:
                self._store(at, data)
            else:
                fresh = data[-ahead:] if ahead else data
                out = fresh[: max(seq.diff(limit, self.next), 0)]
                self._advance(len(out))
                if len(out) < len(fresh):
                    self._store(self.next, fresh[len(out) :])
        return out + self._take(limit) if self._waiting else out

    @property
    def next(self) -> int:
        """The sequence number of the first byte not yet given out."""
        return int(getattr(self._row, self._side).next)

    @property
    def blocked(self) -> bool:
        """Whether the next byte is here, and waits for ``limit`` alone."""
        return bool(self._waiting) and self._waiting[0][0] <= self._given

    @property
    def is_placed(self) -> bool:
        """Whether it is known where the stream begins."""
        return self._given >= 0

    def place(self, at: int) -> None:
        """The stream begins with number ``at``."""
        self._given = 0
        getattr(self._row, self._side).next = at

    def restart(self, at: int, limit: int) -> bytes:
        """Go on with number ``at``, whatever is missing before it; gives the bytes that are in order now."""
        self._advance(seq.diff(at, self.next))
        self.starved = False
        return self._take(limit)

    def clear(self) -> None:
        """Nobody wants the stream any more: let go what waits."""
        self._memory.give(self.waiting_bytes + _PIECE_COST * len(self._waiting))
        self._waiting = ()
        self.waiting_bytes = 0

    def _store(self, at: int, data: bytes) -> None:
        """Keep what is not kept already."""
        start = self._given + seq.diff(at, self.next)
        end = start + len(data)
        index = bisect_left(self._waiting, (start,))
        if index:
            before, kept = self._waiting[index - 1]
            start = max(start, before + len(kept))
        fresh = []
        while start < end:
            after, kept = self._waiting[index] if index < len(self._waiting) else (end, b"")
            if start < after:
                fresh.append((start, data[start - end :][: after - start]))
            start = max(start, after + len(kept))
            index += 1
        count = sum(len(piece) for _, piece in fresh)
        if self.waiting_bytes + count > self._max_waiting:
            return
        if not self._memory.take(count + _PIECE_COST * len(fresh)):
            self.starved = True
            return
        waiting = [*self._waiting]
        for piece in fresh:
            insort(waiting, piece)
        self._waiting = waiting
        self.waiting_bytes += count

    def _take(self, limit: int) -> bytes:
        out = bytearray()
        done = 0
        for start, data in self._waiting:
            skip = min(self._given - start, len(data))
            if skip < 0:
                break
            chunk = data[skip:][: max(seq.diff(limit, self.next), 0)]
            out += chunk
            self._advance(len(chunk))
            if skip + len(chunk) < len(data):
                break
            done += 1
        freed = sum(len(data) for _, data in self._waiting[:done])
        self._waiting = self._waiting[done:] or ()
        self.waiting_bytes -= freed
        self._memory.give(freed + _PIECE_COST * done)
        return bytes(out)

    def _advance(self, count: int) -> None:
        getattr(self._row, self._side).next = seq.add(self.next, count)
        self._given += count
