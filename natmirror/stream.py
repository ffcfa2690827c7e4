"""The client's byte stream out of its packets: in order and exactly once, whatever order and repetition they came
in."""

from bisect import bisect_left, insort

from natmirror import seq
from natmirror.memory import Memory


class Reassembler:
    """Puts segments of one direction back in order (RFC 9293 §3.10.7.4, as a receiver would).

    Only bytes that production's receiver takes come out: those before ``limit``, the right edge of its window. A byte
    past it, as a probe of a closed window carries, waits until the window has moved.
    """

    def __init__(self, next_seq: int, max_waiting: int, memory: Memory) -> None:
        self.next = next_seq
        """The sequence number of the first byte not yet given out."""
        self.waiting_bytes = 0
        self._max_waiting = max_waiting
        self._memory = memory
        self._given = 0  # bytes of the stream before ``next``
        self._waiting: list[tuple[int, bytes]] = []  # (place in the stream, data), sorted, none overlapping

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

    def clear(self) -> None:
        """Nobody wants the stream any more: let go what waits."""
        self._memory.give(self.waiting_bytes)
        self._waiting.clear()
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
        if self.waiting_bytes + count > self._max_waiting or not self._memory.take(count):
            return
        for piece in fresh:
            insort(self._waiting, piece)
        self.waiting_bytes += count

    def _take(self, limit: int) -> bytes:
        out = bytearray()
        while self._waiting:
            start, data = self._waiting[0]
            skip = self._given - start
            if skip < 0:
                break
            if skip >= len(data):
                del self._waiting[0]
                self.waiting_bytes -= len(data)
                self._memory.give(len(data))
                continue
            fits = seq.diff(limit, self.next)
            chunk = data[skip : skip + max(fits, 0)]
            if not chunk:
                break
            out += chunk
            self._advance(len(chunk))
        return bytes(out)

    def _advance(self, count: int) -> None:
        self.next = seq.add(self.next, count)
        self._given += count
