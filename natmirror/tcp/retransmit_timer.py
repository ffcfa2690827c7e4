"""The retransmission timer of a leg (RFC 6298). It takes one round-trip sample at a time, and applies Karn's rule.

Theory. A retransmission is due at ``row.rto_at``, in absolute seconds, or NEVER while nothing is outstanding;
``row.rto`` is the interval in seconds. A sample begins when new data is sent and none is under way, and is dropped when
anything is sent again. The numbers lie in the leg's row, to which the C gear applies the same rules.
"""

from natmirror.fastpath import NEVER, RTO_GRANULARITY, RTO_INITIAL, RTO_MAX, RTO_MIN, LegRow
from natmirror.fastpath.leg_flags import has_measured, is_sampling, set_measured, set_sampling
from natmirror.net import seq


def reset(row: LegRow) -> None:
    """Set the initial interval, because nothing has been measured yet (§2.1)."""
    row.rto = RTO_INITIAL


def smoothed(row: LegRow) -> float | None:
    """Return the smoothed round-trip time in seconds (SRTT); None before the first sample."""
    return row.srtt if has_measured(row) else None


def start(row: LegRow, now: float, end: int) -> None:
    """Start the timer and a sample, unless they are running: new data up to number ``end`` is sent (§5.1)."""
    if not is_sampling(row):
        set_sampling(row, True)
        row.sample_end, row.sample_at = end, now
    if row.rto_at == NEVER:
        row.rto_at = now + row.rto


def restart(row: LegRow, now: float) -> None:
    """Restart the timer: data was acknowledged or sent again, and more is outstanding (§5.3)."""
    row.rto_at = now + row.rto


def stop(row: LegRow) -> None:
    """Stop the timer: nothing is outstanding (§5.2)."""
    row.rto_at = NEVER


def acknowledged(row: LegRow, ack: int, now: float) -> float | None:
    """Finish the sample, if new data up to ``ack`` acknowledges it (§2.2, §2.3), and return the round trip in seconds,
    or None. Undo the back-off.

    Deviation from §5.7, which undoes it only after a new sample: on a lossy path that may take minutes.
    """
    round_trip = None
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
    return round_trip


def forget_sample(row: LegRow) -> None:
    """Drop the sample: data is sent again, which makes an acknowledgement ambiguous (Karn; §3)."""
    set_sampling(row, False)


def back_off(row: LegRow, now: float) -> None:
    """Double the interval, because the timer has expired (§5.5)."""
    set_sampling(row, False)
    row.rto = min(row.rto * 2, RTO_MAX)
    row.rto_at = now + row.rto
