"""The retransmission timer of a leg (RFC 6298), with one round-trip sample under way at a time and Karn's rule.

Its numbers lie in the leg's row, where the C gear keeps the same rules.
"""

from natmirror.fastpath import NEVER, RTO_GRANULARITY, RTO_INITIAL, RTO_MAX, RTO_MIN, LegRow
from natmirror.fastpath.leg_flags import has_measured, is_sampling, set_measured, set_sampling
from natmirror.net import seq


class RetransmitTimer:
    """When to retransmit: ``row.rto_at`` in absolute seconds, NEVER while nothing is outstanding; ``row.rto`` is the
    interval. The object itself holds nothing."""

    __slots__ = ("row",)

    def __init__(self, row: LegRow) -> None:
        self.row = row

    def reset(self) -> None:
        """Nothing was measured yet (§2.1)."""
        self.row.rto = RTO_INITIAL

    @property
    def smoothed(self) -> float | None:
        """Smoothed round-trip time in seconds (SRTT); None before the first sample."""
        return self.row.srtt if has_measured(self.row) else None

    def start(self, now: float, end: int) -> None:
        """New data up to number ``end`` is sent (§5.1)."""
        row = self.row
        if not is_sampling(row):
            set_sampling(row, True)
            row.sample_end, row.sample_at = end, now
        if row.rto_at == NEVER:
            row.rto_at = now + row.rto

    def restart(self, now: float) -> None:
        """Something was acknowledged, or sent again, and more is outstanding (§5.3)."""
        self.row.rto_at = now + self.row.rto

    def stop(self) -> None:
        """Nothing is outstanding (§5.2)."""
        self.row.rto_at = NEVER

    def acknowledged(self, ack: int, now: float) -> None:
        """New data up to ``ack`` has arrived: a sample that it ends is taken (§2.2, §2.3), and back-off is undone.

        Deviation from §5.7, which waits for a sample first: on a lossy path one may be minutes away.
        """
        row = self.row
        if is_sampling(row) and seq.le(row.sample_end, ack):
            round_trip = now - row.sample_at
            set_sampling(row, False)
            if not has_measured(row):
                set_measured(row)
                row.srtt, row.rttvar = round_trip, round_trip / 2
            else:
                row.rttvar += (abs(row.srtt - round_trip) - row.rttvar) / 4
                row.srtt += (round_trip - row.srtt) / 8
        row.rto = RTO_INITIAL
        if has_measured(row):
            row.rto = min(max(row.srtt + max(RTO_GRANULARITY, 4 * row.rttvar), RTO_MIN), RTO_MAX)

    def forget_sample(self) -> None:
        """What the sample was for is sent again: its acknowledgement would be ambiguous (Karn; §3)."""
        set_sampling(self.row, False)

    def back_off(self, now: float) -> None:
        """The timer has run out (§5.5)."""
        self.forget_sample()
        self.row.rto = min(self.row.rto * 2, RTO_MAX)
        self.row.rto_at = now + self.row.rto
