"""The retransmission timer of a leg (RFC 6298), with one round-trip sample under way at a time and Karn's rule."""

from natmirror import seq

_INITIAL = 1.0
_MIN = 0.2  # Deviation from RFC 6298 §2.4 (one second): as in Linux, a mirror is near
_GRANULARITY = 0.001


class RetransmitTimer:
    """When to retransmit: ``due_at`` in absolute seconds, None while nothing is outstanding."""

    MAX = 60.0
    """Upper bound of the interval in seconds (RFC 6298 §2.5)."""

    def __init__(self) -> None:
        self.due_at: float | None = None
        self.interval = _INITIAL
        self.smoothed: float | None = None
        """Smoothed round-trip time in seconds (SRTT)."""
        self._variation = 0.0
        self._sample: tuple[int, float] | None = None  # the number whose acknowledgement ends it, when it was sent

    def start(self, now: float, end: int) -> None:
        """New data up to number ``end`` is sent (§5.1)."""
        if self._sample is None:
            self._sample = (end, now)
        if self.due_at is None:
            self.due_at = now + self.interval

    def restart(self, now: float) -> None:
        """Something was acknowledged, or sent again, and more is outstanding (§5.3)."""
        self.due_at = now + self.interval

    def stop(self) -> None:
        """Nothing is outstanding (§5.2)."""
        self.due_at = None

    def acknowledged(self, ack: int, now: float) -> None:
        """New data up to ``ack`` has arrived: a sample that it ends is taken (§2.2, §2.3), and back-off is undone.

        Deviation from §5.7, which waits for a sample first: on a lossy path one may be minutes away.
        """
        if self._sample is None or seq.lt(ack, self._sample[0]):
            self.interval = self._measured()
            return
        round_trip = now - self._sample[1]
        self._sample = None
        if self.smoothed is None:
            self.smoothed, self._variation = round_trip, round_trip / 2
        else:
            self._variation += (abs(self.smoothed - round_trip) - self._variation) / 4
            self.smoothed += (round_trip - self.smoothed) / 8
        self.interval = self._measured()

    def _measured(self) -> float:
        """The interval by what was measured (§2.3, §2.4)."""
        if self.smoothed is None:
            return _INITIAL
        return min(max(self.smoothed + max(_GRANULARITY, 4 * self._variation), _MIN), self.MAX)

    def forget_sample(self) -> None:
        """What the sample was for is sent again: its acknowledgement would be ambiguous (Karn; §3)."""
        self._sample = None

    def back_off(self, now: float) -> None:
        """The timer has run out (§5.5)."""
        self.forget_sample()
        self.interval = min(self.interval * 2, self.MAX)
        self.due_at = now + self.interval
