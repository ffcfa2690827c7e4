"""The client's byte stream out of its packets: in order and exactly once, whatever order and repetition they came
in."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from natmirror.fastpath import FlowRow, Memory
from natmirror.net import seq
from natmirror.reasons import EndReason

_PIECE_COST = 128  # bytes that Python's own bookkeeping takes for a piece that waits
_MAX_PIECE_LEN = 64 << 10
"""Bytes up to which pieces that touch are merged, so that a byte more costs no copy of all that waits."""
_MAX_OUT_LEN = 256 << 10
"""Bytes after which no further piece is given in one call: a gap that is filled may let a whole window out."""
MAX_RUNS = 256
"""Pieces that wait with a gap between any two. Each gap is a loss of its own within one window."""
_NONE: Any = ()  # in place of two empty lists a flow: most never have anything that waits


class Reassembler:
    """Puts segments of one direction back in order (RFC 9293 §3.10.7.4, as a receiver would).

    Only bytes that production's receiver takes come out: those before ``limit``, the right edge of its window. A byte
    past it, as a probe of a closed window carries, waits until the window has moved. Where much comes out at once, some
    of it does: while ready_len() is not 0, push() without data gives the next of it.
    """

    __slots__ = (
        *("_given", "_max_waiting", "_memory", "_pieces", "_row", "_runs", "_side", "_starts"),
        *("left_out", "waiting_bytes"),
    )

    def __init__(self, row: FlowRow, side: str, next_seq: int | None, max_waiting: int, memory: Memory) -> None:
        """Of a flow's row, and a side of it (``orig``, ``reply``), whose ``next`` the C gear moves as well while
        nothing waits. Where ``next_seq`` is not known yet, place() comes first."""
        self._row = row
        self._side = side
        getattr(row, side).next = next_seq or 0
        self.waiting_bytes = 0
        self.left_out: EndReason | None = None
        """Why something that had come ahead of its turn was left out since the last hole, if something was."""
        self._max_waiting = max_waiting
        self._memory = memory
        self._given = -1 if next_seq is None else 0  # bytes of the stream before ``next``
        self._starts: list[int] = _NONE  # the pieces' places in the stream, in order
        self._pieces: list[bytearray] = _NONE  # none overlap
        self._runs = 0  # how many there are of pieces that touch

    def push(self, at: int, data: bytes, limit: int) -> bytes:
        """Take ``data`` whose first byte is number ``at``; return the bytes that are in order now.

        What overlaps bytes taken before is cut: the first copy counts, as with most receivers. A segment that begins
        past ``limit`` is left out: its receiver refuses it. One ahead of its turn that finds ``max_waiting`` bytes
        waiting already, no memory, or MAX_RUNS gaps before it, is left out too: the client sends it again, or the
        caller finds a hole.
        """
        ahead = seq.diff(at, self.next)
        out = b""
        if data and seq.le(at, limit) and ahead + len(data) > 0:
            if ahead > 0 or self.ready_len(limit):
                self._store(at, data)
            else:
                fresh = data[-ahead:] if ahead else data
                out = fresh[: max(seq.diff(limit, self.next), 0)]
                self._advance(len(out))
                if len(out) < len(fresh):
                    self._store(self.next, fresh[len(out) :])
        return out + self._take(limit) if self._pieces else out

    @property
    def next(self) -> int:
        """The sequence number of the first byte not yet given out."""
        return int(getattr(self._row, self._side).next)

    @property
    def blocked(self) -> bool:
        """Whether the next byte is here, and waits for ``limit`` alone."""
        return bool(self._starts) and self._starts[0] <= self._given

    def ready_len(self, limit: int) -> int:
        """Return how many bytes are in order and have not been given out yet."""
        ready = 0
        room = seq.diff(limit, self.next)
        for start, data in zip(self._starts, self._pieces, strict=True):
            if start > self._given + ready or ready >= room:
                break
            ready = max(start + len(data) - self._given, ready)
        return max(min(ready, room), 0)

    @property
    def is_placed(self) -> bool:
        """Whether it is known where the stream begins."""
        return self._given >= 0

    def place(self, at: int) -> None:
        """Begin the stream with number ``at``."""
        self._given = 0
        getattr(self._row, self._side).next = at

    def restart(self, at: int, limit: int) -> bytes:
        """Go on with number ``at``, whatever is missing before it; return the bytes that are in order now."""
        self._advance(seq.diff(at, self.next))
        self.left_out = None
        return self._take(limit)

    def clear(self) -> None:
        """Free all that waits: no reader is left."""
        self._memory.give(self.waiting_bytes + _PIECE_COST * len(self._pieces))
        self._starts = self._pieces = _NONE
        self._runs = self.waiting_bytes = 0

    def _store(self, at: int, data: bytes) -> None:
        """Keep those of the bytes that are not kept already."""
        start = self._given + seq.diff(at, self.next)
        end = start + len(data)
        first, last = self._touching(start, end)
        fresh = list(self._fresh(start, end, data, first, last))
        count = sum(len(piece) for _, piece in fresh)
        if not fresh or self.waiting_bytes + count > self._max_waiting:
            return
        runs = self._runs + 1 - self._runs_in(first, last)
        if runs > MAX_RUNS:
            self.left_out = self.left_out or EndReason.TOO_MANY_GAPS
            if start > self._starts[-1]:
                return
            self._drop_last_run()
            runs = self._runs + 1
        if not self._memory.take(count + _PIECE_COST * len(fresh)):
            self.left_out = EndReason.MEMORY_FULL
            return
        pieces = [*zip(self._starts[first:last], self._pieces[first:last], strict=True), *fresh]
        pieces.sort(key=lambda piece: piece[0])
        merged = _merged(pieces)
        self._memory.give(_PIECE_COST * (len(pieces) - len(merged)))
        if not self._starts:
            self._starts, self._pieces = [], []
        self._starts[first:last] = [place for place, _ in merged]
        self._pieces[first:last] = [piece for _, piece in merged]
        self._runs = runs
        self.waiting_bytes += count

    def _touching(self, start: int, end: int) -> tuple[int, int]:
        """Return the pieces that overlap or touch a part of the stream: the place of the first, one past that of the
        last."""
        first = bisect_left(self._starts, start)
        if first and self._starts[first - 1] + len(self._pieces[first - 1]) >= start:
            first -= 1
        return first, bisect_left(self._starts, end + 1)

    def _fresh(self, start: int, end: int, data: bytes, first: int, last: int) -> Iterator[tuple[int, bytearray]]:
        """Give the parts of ``data`` that are not kept yet, each with its place in the stream."""
        at = start
        for index in range(first, last):
            after = self._starts[index]
            if at < after:
                yield at, bytearray(data[at - start : after - start])
            at = max(at, after + len(self._pieces[index]))
        if at < end:
            yield at, bytearray(data[at - start :])

    def _runs_in(self, first: int, last: int) -> int:
        """Return to how many runs some pieces that follow on each other belong."""
        gaps = sum(self._has_gap_before(index) for index in range(first + 1, last))
        return 1 + gaps if first < last else 0

    def _has_gap_before(self, index: int) -> bool:
        return self._starts[index] > self._starts[index - 1] + len(self._pieces[index - 1])

    def _drop_last_run(self) -> None:
        """Let go the run that is furthest ahead."""
        index = len(self._starts) - 1
        while index and not self._has_gap_before(index):
            index -= 1
        self._forget(index, len(self._starts))
        self._runs -= 1

    def _forget(self, first: int, last: int) -> None:
        """Let go pieces that follow on each other."""
        if first == last:
            return
        freed = sum(map(len, self._pieces[first:last]))
        self._memory.give(freed + _PIECE_COST * (last - first))
        self.waiting_bytes -= freed
        del self._starts[first:last], self._pieces[first:last]
        if not self._starts:
            self._starts = self._pieces = _NONE

    def _take(self, limit: int) -> bytes:
        out = bytearray()
        done = 0
        for start, data in zip(self._starts, self._pieces, strict=True):
            skip = min(self._given - start, len(data))
            if skip < 0 or len(out) >= _MAX_OUT_LEN:
                break
            chunk = data[skip : skip + max(seq.diff(limit, self.next), 0)]
            out += chunk
            self._advance(len(chunk))
            if skip + len(chunk) < len(data):
                break
            done += 1
        goes_on = done < len(self._starts) and done > 0 and not self._has_gap_before(done)
        self._runs -= self._runs_in(0, done) - goes_on
        self._forget(0, done)
        return bytes(out)

    def _advance(self, count: int) -> None:
        getattr(self._row, self._side).next = seq.add(self.next, count)
        self._given += count


def _merged(pieces: Iterable[tuple[int, bytearray]]) -> list[tuple[int, bytearray]]:
    """Return pieces that are in order and do not overlap with small ones that touch joined."""
    merged: list[tuple[int, bytearray]] = []
    for start, piece in pieces:
        if merged:
            place, before = merged[-1]
            if place + len(before) == start and len(before) + len(piece) <= _MAX_PIECE_LEN:
                before += piece
                continue
        merged.append((start, piece))
    return merged
