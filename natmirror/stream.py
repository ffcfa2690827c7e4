"""The client's byte stream out of its packets: in order and exactly once, whatever order and repetition they came
in."""

from bisect import insort

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
        self._waiting: list[tuple[int, int, bytes]] = []  # (distance from _origin, sequence number, data), sorted
        self._origin = next_seq

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
                self.next = seq.add(self.next, len(out))
                if len(out) < len(fresh):
                    self._store(self.next, fresh[len(out) :])
        return out + self._take(limit) if self._waiting else out

    def clear(self) -> None:
        """Nobody wants the stream any more: let go what waits."""
        self._memory.give(self.waiting_bytes)
        self._waiting.clear()
        self.waiting_bytes = 0

    def _store(self, at: int, data: bytes) -> None:
        if self.waiting_bytes + len(data) > self._max_waiting or not self._memory.take(len(data)):
            return
        if not self._waiting:
            self._origin = self.next
        insort(self._waiting, (seq.diff(at, self._origin), at, data))
        self.waiting_bytes += len(data)

    def _take(self, limit: int) -> bytes:
        out = bytearray()
        while self._waiting:
            _, at, data = self._waiting[0]
            skip = seq.diff(self.next, at)
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
            self.next = seq.add(self.next, len(chunk))
        return bytes(out)
