"""The scoreboard of a mirror's selective acknowledgements (RFC 2018), for loss recovery (RFC 6675)."""

from collections.abc import Iterable

from natmirror.net import seq
from natmirror.net.ranges import Ranges

_DUPLICATES = 3  # DupThresh


class Scoreboard:
    """The ranges above ``snd_una`` that the mirror holds, and the number up to which the holes between them were sent
    again.

    Without selective acknowledgements it stays empty, and counts all unacknowledged bytes as in flight.
    """

    __slots__ = ("_held", "_lost_below", "_resent_to")

    def __init__(self, una: int) -> None:
        self._held = Ranges()
        self._lost_below: int | None = None
        self._resent_to = una  # HighRxt: every hole below it has been sent again

    def __bool__(self) -> bool:
        return bool(self._held)

    def take(self, blocks: Iterable[tuple[int, int]], una: int, highest: int, mss: int) -> bool:
        """Take the blocks of an acknowledgement, except those outside the unacknowledged range; return whether they
        report anything new."""
        self._held.cut(una)
        self._resent_to = seq.latest(self._resent_to, una)
        is_new = False
        for start, end in blocks:
            if seq.lt(una, start) and seq.le(end, highest):
                is_new |= self._held.add(start, end)
        self._lost_below = self._find_lost(mss)
        return is_new

    def forget(self) -> None:
        """Forget all blocks after a timeout, because the receiver may have discarded the data (RFC 2018 §8)."""
        self._held.clear()
        self._lost_below = None

    def forget_resent(self, una: int) -> None:
        """Note that no hole from ``una`` on has been sent again yet."""
        self._resent_to = una

    def note_resent(self, end: int) -> None:
        """Note that a hole has been sent again up to number ``end``."""
        self._resent_to = seq.latest(self._resent_to, end)

    def is_lost(self, at: int) -> bool:
        """Return whether an unacknowledged byte counts as lost (RFC 6675 §4, IsLost)."""
        return self._lost_below is not None and seq.lt(at, self._lost_below)

    def pipe(self, una: int, nxt: int) -> int:
        """Return the estimated number of bytes, from ``una`` to ``nxt``, in the network (RFC 6675 §4, SetPipe)."""
        total = 0
        at = una
        for start, end in (*self._held, (nxt, nxt)):
            if seq.le(nxt, start):
                start = nxt
            if seq.lt(at, start):
                total += self._in_network(at, start)
            at = seq.latest(at, end)
            if seq.le(nxt, at):
                break
        return total

    def next_hole(self, una: int, mss: int, *, likely: bool = False) -> tuple[int, int] | None:
        """Return the next lost bytes to send again, at most ``mss``: number and length (RFC 6675 §4, NextSeg, rule 1).

        ``likely``: any hole with a held range above it will do, because there is nothing better to send (rule 3).
        """
        at, end = self._held.gap(seq.latest(una, self._resent_to))
        if end is None or not (likely or self.is_lost(at)):
            return None
        return at, min(seq.diff(end, at), mss)

    def skip(self, at: int) -> tuple[int, int | None]:
        """Return the first number from ``at`` on that the mirror does not hold, and the length of that hole; None if no
        held range follows."""
        at, end = self._held.gap(at)
        return at, None if end is None else seq.diff(end, at)

    def _in_network(self, start: int, end: int) -> int:
        """Return the number of a hole's bytes in the network: those not lost, and those lost and sent again."""
        if self._lost_below is None or seq.le(self._lost_below, start):
            return seq.diff(end, start)
        return max(0, min(seq.diff(self._resent_to, start), seq.diff(end, start)))

    def _find_lost(self, mss: int) -> int | None:
        """Return the number below which all holes count as lost: three held ranges, or more than two held segments, lie
        above it."""
        held = 0
        for count, (start, end) in enumerate(reversed(self._held), 1):
            held += seq.diff(end, start)
            if count >= _DUPLICATES or held > (_DUPLICATES - 1) * mss:
                return start
        return None
