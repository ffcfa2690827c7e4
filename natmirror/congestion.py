"""The congestion window of a leg: slow start and congestion avoidance (RFC 5681), recovery by NewReno (RFC 6582) or,
where the mirror tells what it holds, by that (RFC 6675)."""

from natmirror import seq

_INITIAL_SEGMENTS = 10  # RFC 6928
_DUPLICATE_ACKS = 3  # RFC 5681 §3.2
_SLOW_START_SEGMENTS = 2  # RFC 3465 §2.3: what one acknowledgement may open; receivers acknowledge every other segment
_LIMITED_TRANSMIT_ACKS = 2  # RFC 3042 §2
_MAX_WINDOW = 1 << 30  # the largest a receive window can be (RFC 7323 §2.3)


class Congestion:
    """How much may be in flight, ``window`` in bytes; told what happens, it says when to retransmit."""

    def __init__(self) -> None:
        self.mss = 0
        self._window = 0
        self._sack = False
        self._threshold = _MAX_WINDOW
        self._acked = 0  # since the window last grew in congestion avoidance
        self._duplicates = 0
        self._recover: int | None = None  # while recovering: the highest number sent when the loss was seen
        self._timeout_recover: int | None = None  # duplicates up to here follow a timeout, not another loss

    def start(self, mss: int, *, sack: bool) -> None:
        """The connection is up, with segments of at most ``mss`` bytes, and selective acknowledgements or not."""
        self.mss = mss
        self._sack = sack
        self._window = _INITIAL_SEGMENTS * mss

    @property
    def window(self) -> int:
        """Bytes that may be in the network."""
        if self._sack or self._recover is not None:
            return self._window
        return self._window + min(self._duplicates, _LIMITED_TRANSMIT_ACKS) * self.mss

    @property
    def recovering(self) -> bool:
        """Whether losses are being mended since duplicate acknowledgements told of them."""
        return self._recover is not None

    def new_ack(self, acked: int, ack: int, flight: int) -> bool:
        """``acked`` bytes more are acknowledged, up to number ``ack``, of ``flight`` that were under way; whether to
        retransmit the first segment after them."""
        self._duplicates = 0
        if self._recover is not None:
            if not seq.lt(ack, self._recover):
                left = flight - acked
                self._window = self._threshold if self._sack else min(self._threshold, max(left, self.mss) + self.mss)
                self._recover = None
                return False
            if self._sack:
                return False
            # RFC 6582 §3.2, step 3: a partial acknowledgement; the window is deflated by what arrived
            self._window = max(self._window - acked + (self.mss if acked >= self.mss else 0), self.mss)
            return True
        if self._timeout_recover is not None and not seq.lt(ack, self._timeout_recover):
            self._timeout_recover = None
        self._grow(acked, flight)
        return False

    def duplicate_ack(self, in_flight: int, highest: int, *, lost: bool = False) -> bool:
        """One more acknowledgement without progress, ``highest`` being one past the last number sent, ``lost`` what the
        scoreboard says of the first segment; whether to retransmit that one."""
        if self._recover is not None:
            if not self._sack:
                self._window += self.mss
            return False
        self._duplicates += 1
        if self._timeout_recover is not None or not (lost or self._duplicates >= _DUPLICATE_ACKS):
            return False
        self._threshold = max(in_flight // 2, 2 * self.mss)
        self._window = self._threshold + (0 if self._sack else _DUPLICATE_ACKS * self.mss)
        self._recover = highest
        return True

    def timeout(self, in_flight: int, highest: int) -> None:
        """The retransmission timer ran out (RFC 5681 §3.1, equation 4; RFC 6582 §4)."""
        if self._timeout_recover is None:
            self._threshold = max(in_flight // 2, 2 * self.mss)
        self._window = self.mss
        self._duplicates = 0
        self._recover = None
        self._timeout_recover = highest

    def idle(self) -> None:
        """Nothing was sent for longer than a retransmission timeout: the path is to be tried anew (RFC 5681 §4.1)."""
        self._window = min(self._window, _INITIAL_SEGMENTS * self.mss)

    def _grow(self, acked: int, flight: int) -> None:
        if self._window < self._threshold:
            if 2 * flight >= self._window:  # only what is used may grow (RFC 7661 §4.1; the bound is Linux's)
                self._window += min(acked, _SLOW_START_SEGMENTS * self.mss)  # RFC 5681 §3.1, equation 2
        elif flight + self.mss >= self._window:
            self._acked += acked
            if self._acked >= self._window:
                self._acked -= self._window
                self._window += self.mss  # a segment for each window acknowledged
        self._window = min(self._window, _MAX_WINDOW)
