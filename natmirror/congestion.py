"""The congestion window of a leg: slow start and congestion avoidance (RFC 5681), recovery by NewReno (RFC 6582)."""

from natmirror import seq

_INITIAL_SEGMENTS = 10  # RFC 6928
_DUPLICATE_ACKS = 3  # RFC 5681 §3.2
_MAX_WINDOW = 1 << 30  # the largest a receive window can be (RFC 7323 §2.3)


class Congestion:
    """How much may be in flight, ``window`` in bytes; told what happens, it says when to retransmit."""

    def __init__(self) -> None:
        self.mss = 0
        self.window = 0
        self._threshold = _MAX_WINDOW
        self._duplicates = 0
        self._recover: int | None = None  # while recovering: the highest number sent when the loss was seen
        self._timeout_recover: int | None = None  # duplicates up to here follow a timeout, not another loss

    def start(self, mss: int) -> None:
        """The connection is up, with segments of at most ``mss`` bytes."""
        self.mss = mss
        self.window = _INITIAL_SEGMENTS * mss

    def new_ack(self, acked: int, ack: int, in_flight: int) -> bool:
        """``acked`` bytes more are acknowledged, up to number ``ack``; whether to retransmit the first segment after
        them."""
        self._duplicates = 0
        if self._recover is not None:
            if seq.lt(ack, self._recover):
                # RFC 6582 §3.2, step 3: a partial acknowledgement; the window is deflated by what arrived
                self.window = max(self.window - acked + (self.mss if acked >= self.mss else 0), self.mss)
                return True
            self.window = min(self._threshold, max(in_flight, self.mss) + self.mss)
            self._recover = None
            return False
        if self._timeout_recover is not None and not seq.lt(ack, self._timeout_recover):
            self._timeout_recover = None
        if self.window < self._threshold:
            self.window += min(acked, self.mss)  # RFC 5681 §3.1, equation 2
        else:
            self.window += max(self.mss * self.mss // self.window, 1)  # equation 3
        self.window = min(self.window, _MAX_WINDOW)
        return False

    def duplicate_ack(self, in_flight: int, highest: int) -> bool:
        """One more duplicate acknowledgement, ``highest`` being one past the last number sent; whether to
        retransmit."""
        if self._recover is not None:
            self.window += self.mss
            return False
        self._duplicates += 1
        if self._duplicates != _DUPLICATE_ACKS or self._timeout_recover is not None:
            return False
        self._threshold = max(in_flight // 2, 2 * self.mss)
        self.window = self._threshold + _DUPLICATE_ACKS * self.mss
        self._recover = highest
        return True

    def timeout(self, in_flight: int, highest: int) -> None:
        """The retransmission timer ran out (RFC 5681 §3.1, equation 4; RFC 6582 §4)."""
        if self._timeout_recover is None:
            self._threshold = max(in_flight // 2, 2 * self.mss)
        self.window = self.mss
        self._duplicates = 0
        self._recover = None
        self._timeout_recover = highest
