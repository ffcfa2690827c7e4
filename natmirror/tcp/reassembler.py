"""Puts a stream's bytes in order, each exactly once, however its packets are reordered or repeated."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from natmirror.fastpath import ClientMemory, FlowRow, HeldBytes
from natmirror.net import seq
from natmirror.reasons import EndReason

_PIECE_COST = 128  # bytes that Python's own bookkeeping takes for a waiting piece
_MAX_PIECE_LEN = 64 << 10
"""The size in bytes up to which adjacent pieces are merged. Without it one more byte would copy all waiting bytes."""
_MAX_TAKEN_LEN = 262_144  # bytes that one call returns, and a piece more: packets wait meanwhile
MAX_RUNS = 256
"""Limit on runs of waiting bytes, with gaps between them. Each gap is a separate loss in one window."""
_NONE: Any = ()  # instead of two empty lists for each flow, because in most flows no bytes ever wait


class Reassembler:
    """Puts one direction's segments back in order, as a receiver would (RFC 9293 §3.10.7.4).

    It returns only bytes that production's receiver accepts: those before ``limit``, the right edge of its window. A
    byte past it, such as a probe of a closed window carries, waits until the window has moved. One call returns a
    bounded number of bytes: while ready_len() is not 0, push() without data returns more.

    ``held`` has the latest of the returned bytes, as far as their receiver has not acknowledged them; clear() drops
    them. With them, a second version of a byte is noticed: which one the receiver takes is unknown here.
    """

    __slots__ = (
        *("_given", "_left_out_from", "_max_waiting", "_memory", "_half", "_pieces", "_row", "_runs", "_seen_to"),
        *("_starts", "contradiction", "held", "left_out", "waiting_bytes"),
    )

    def __init__(
        self,
        row: FlowRow,
        side: str,
        next_seq: int | None,
        max_waiting: int,
        memory: ClientMemory,
        held: HeldBytes | None = None,
    ) -> None:
        """``side`` is the half of the flow's row, ``orig`` or ``reply``. The C gear moves its ``next`` too while no
        bytes wait. If ``next_seq`` is None, call place() first."""
        self.held = held
        self.contradiction: EndReason | None = None
        """Why it is unknown which version of a byte was taken: two were seen, or one was left out and another one came
        later; None if it is known. Only with ``held``."""
        self._left_out_from: int | None = None  # the offset in the stream of the first byte that was left out
        self._row = row
        self._half = getattr(row, side)
        self._half.next = next_seq or 0
        self.waiting_bytes = 0
        self.left_out: EndReason | None = None
        """The reason why an out-of-order segment was left out since the last hole, or None."""
        self._max_waiting = max_waiting
        self._memory = memory
        self._given = -1 if next_seq is None else 0  # bytes of the stream before ``next``; -1 if its start is not known
        self._starts: list[int] = _NONE  # the offset of each piece in the stream, in order
        self._pieces: list[bytearray] = _NONE  # they do not overlap
        self._runs = 0  # a run: adjacent pieces without a gap between them
        self._seen_to = 0  # the offset of the end of the out-of-order bytes that have come, also of those left out

    def push(self, at: int, data: bytes, limit: int) -> bytes:
        """Take ``data`` whose first byte has number ``at``; return the bytes that are in order now.

        If bytes overlap, the first version counts; if they differ and ``held`` is there, ``contradiction`` is set and
        nothing returned. An out-of-order segment is left out if ``max_waiting`` bytes wait already, memory is full, or
        there are MAX_RUNS gaps: the caller finds a hole, or (``held``) a contradiction where it is sent again.
        """
        ahead = seq.diff(at, self.next)
        out = b""
        if data and self.held is not None and self._contradicts(self.held, ahead, data):
            self.contradiction = EndReason.AMBIGUOUS
            return b""
        if data and ahead + len(data) > 0:
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
        """The sequence number of the first byte not yet returned."""
        number: int = self._half.next
        return number

    @property
    def is_blocked(self) -> bool:
        """Whether the next byte is here and waits only for ``limit``."""
        return bool(self._starts) and self._starts[0] <= self._given

    def ready_len(self, limit: int) -> int:
        """Return how many bytes are in order and not yet returned."""
        ready = 0
        room = seq.diff(limit, self.next)
        for start, data in zip(self._starts, self._pieces, strict=True):
            if start > self._given + ready or ready >= room:
                break
            ready = max(start + len(data) - self._given, ready)
        return max(min(ready, room), 0)

    @property
    def has_gap(self) -> bool:
        """Whether bytes wait for earlier ones, or were left out: C takes none then."""
        return self.waiting_bytes > 0 or self._left_out_from is not None

    def gap_end(self, limit: int) -> int:
        """Return the number up to which no byte from ``next`` on has come; ``limit`` at most."""
        come = [*self._starts[:1], *([] if self._left_out_from is None else [self._left_out_from])]
        ahead = min([seq.diff(limit, self.next), *(start - self._given for start in come)])
        return seq.add(self.next, max(ahead, 0))

    @property
    def is_placed(self) -> bool:
        """Whether the stream's start is known."""
        return self._given >= 0

    def place(self, at: int) -> None:
        """Set the stream's start to number ``at``, and forget all that came before."""
        self.clear()
        self._given = self._seen_to = 0
        self.left_out = None
        self._half.next = at

    def restart(self, at: int, limit: int) -> bytes:
        """Skip to number ``at``, past missing bytes; return the bytes that are in order now. If there may be other
        versions of them, among the bytes that were left out, ``contradiction`` is set and nothing returned."""
        ahead = seq.diff(at, self.next)
        if self._seen_to <= self._given + ahead:
            self._left_out_from = None
        self._advance(ahead)
        self.left_out = None
        return self._take(limit) if self.contradiction is None else b""

    def start_anew(self, at: int) -> None:
        """Drop all waiting and held bytes. Continue at number ``at``, the end of what the tracker has seen, or past all
        bytes that have come: the receiver may have one that came ahead of a gap, and another version may follow."""
        ahead = max(seq.diff(at, self.next), self._seen_to - self._given, 0)
        self.clear()
        self._advance(ahead)

    def clear(self) -> None:
        """Free all waiting and held bytes: the stream has no reader any more."""
        if self.held is not None:
            self.held.clear()
        self._clear_pieces()

    def give_up(self) -> None:
        """Free all waiting bytes, whose versions are forgotten then: a living leg needs the memory."""
        first = self._starts[0] if self._starts else None
        earlier, contradiction = self._left_out_from, self.contradiction
        self._clear_pieces()
        self._left_out_from, self.contradiction = earlier, contradiction
        if first is not None:
            self._note_left_out(first)
        self.left_out = EndReason.MEMORY_FULL

    def _clear_pieces(self) -> None:
        if self._pieces:
            self._give(self.waiting_bytes + _PIECE_COST * len(self._pieces))
        self._starts = self._pieces = _NONE
        self._runs = self.waiting_bytes = 0
        self.contradiction = self._left_out_from = None

    def _give(self, count: int) -> None:
        self._memory.give_waiting(self, self._row.held.holder, count)

    def _store(self, at: int, data: bytes) -> None:
        """Keep the bytes that do not wait already."""
        start = self._given + seq.diff(at, self.next)
        end = start + len(data)
        self._seen_to = max(self._seen_to, end)
        first, last = self._adjacent(start, end)
        new = list(self._new_parts(start, end, data, first, last))
        count = sum(len(piece) for _, piece in new)
        if not new:
            return
        if self.waiting_bytes + count > self._max_waiting:
            self._note_left_out(start)
            return
        runs = self._runs + 1 - self._runs_in(first, last)
        if runs > MAX_RUNS:
            self.left_out = self.left_out or EndReason.TOO_MANY_GAPS
            if start > self._starts[-1]:
                self._note_left_out(start)
                return
            self._drop_last_run()
            runs = self._runs + 1
        if not self._memory.take_waiting(self, self._row.held.holder, count + _PIECE_COST * len(new)):
            self.left_out = EndReason.MEMORY_FULL
            self._note_left_out(start)
            return
        pieces = [*zip(self._starts[first:last], self._pieces[first:last], strict=True), *new]
        pieces.sort(key=lambda piece: piece[0])
        merged = _merged(pieces)
        self._give(_PIECE_COST * (len(pieces) - len(merged)))
        if not self._starts:
            self._starts, self._pieces = [], []
        self._starts[first:last] = [offset for offset, _ in merged]
        self._pieces[first:last] = [piece for _, piece in merged]
        self._runs = runs
        self.waiting_bytes += count

    def _contradicts(self, held: HeldBytes, ahead: int, data: bytes) -> bool:
        """Return whether data, which begins ``ahead`` bytes past ``next``, differs from another version of a byte."""
        behind = len(held) + ahead  # where the data begins, from the first held byte on
        skip = max(-behind, 0)
        count = min(len(data) - skip, len(held) - max(behind, 0))
        if count > 0 and held.copy(max(behind, 0), count) != data[skip : skip + count]:
            return True
        if not self._pieces:
            return False
        start, end = self._given + ahead, self._given + ahead + len(data)
        for index in range(*self._adjacent(start, end)):
            piece_at, piece = self._starts[index], self._pieces[index]
            first, last = max(start, piece_at), min(end, piece_at + len(piece))
            if first < last and piece[first - piece_at : last - piece_at] != data[first - start : last - start]:
                return True
        return False

    def _note_left_out(self, start: int) -> None:
        """Note that bytes from this offset on were left out: another version of them may come later."""
        if self.held is not None:
            self._left_out_from = start if self._left_out_from is None else min(start, self._left_out_from)

    def _adjacent(self, start: int, end: int) -> tuple[int, int]:
        """Return the pieces that overlap or adjoin a part of the stream: the index of the first, and one past that of
        the last."""
        first = bisect_left(self._starts, start)
        if first and self._starts[first - 1] + len(self._pieces[first - 1]) >= start:
            first -= 1
        return first, bisect_left(self._starts, end + 1)

    def _new_parts(self, start: int, end: int, data: bytes, first: int, last: int) -> Iterator[tuple[int, bytearray]]:
        """Yield the parts of ``data`` that do not wait already, each with its offset in the stream."""
        at = start
        for index in range(first, last):
            after = self._starts[index]
            if at < after:
                yield at, bytearray(data[at - start : after - start])
            at = max(at, after + len(self._pieces[index]))
        if at < end:
            yield at, bytearray(data[at - start :])

    def _runs_in(self, first: int, last: int) -> int:
        """Return the number of runs among consecutive pieces."""
        gaps = sum(self._has_gap_before(index) for index in range(first + 1, last))
        return 1 + gaps if first < last else 0

    def _has_gap_before(self, index: int) -> bool:
        return self._starts[index] > self._starts[index - 1] + len(self._pieces[index - 1])

    def _drop_last_run(self) -> None:
        """Forget the last run of the stream."""
        index = len(self._starts) - 1
        while index and not self._has_gap_before(index):
            index -= 1
        self._note_left_out(self._starts[index])
        self._forget(index, len(self._starts))
        self._runs -= 1

    def _forget(self, first: int, last: int) -> None:
        """Forget consecutive pieces."""
        if first == last:
            return
        freed = sum(map(len, self._pieces[first:last]))
        self._give(freed + _PIECE_COST * (last - first))
        self.waiting_bytes -= freed
        del self._starts[first:last], self._pieces[first:last]
        if not self._starts:
            self._starts = self._pieces = _NONE

    def _take(self, limit: int) -> bytes:
        out = bytearray()
        done = 0
        for start, data in zip(self._starts, self._pieces, strict=True):
            skip = min(self._given - start, len(data))
            if skip < 0 or len(out) >= _MAX_TAKEN_LEN:
                break
            chunk = data[skip : skip + max(seq.diff(limit, self.next), 0)]
            out += chunk
            self._advance(len(chunk))
            if skip + len(chunk) < len(data):
                break
            done += 1
        is_continued = done < len(self._starts) and done > 0 and not self._has_gap_before(done)
        self._runs -= self._runs_in(0, done) - is_continued
        self._forget(0, done)
        return bytes(out)

    def _advance(self, count: int) -> None:
        self._half.next = seq.add(self.next, count)
        self._given += count
        if self._left_out_from is not None and self._left_out_from < self._given:
            self.contradiction = self.left_out or EndReason.HOLE


def _merged(pieces: Iterable[tuple[int, bytearray]]) -> list[tuple[int, bytearray]]:
    """Return the pieces, which are in order and do not overlap, with small adjacent ones merged."""
    merged: list[tuple[int, bytearray]] = []
    for start, piece in pieces:
        if merged:
            offset, before = merged[-1]
            if offset + len(before) == start and len(before) + len(piece) <= _MAX_PIECE_LEN:
                before += piece
                continue
        merged.append((start, piece))
    return merged
