"""The deadline of a leg, and the reason of its end then: the timeouts of leg_states.ENDS.

Theory. One timeout at a time limits a leg, the first that applies: on the time for which its client is throttled, on
the mirror's answer to the SYN, on the wait of bytes without progress, on idle time. Once the client's connection has
ended, ``linger`` limits the leg too, counted from the last progress. While a leg from another host waits for its
mirror's first answer, the limit on that wait replaces the others.
"""

from natmirror.fastpath import NEVER
from natmirror.reasons import EndReason
from natmirror.tcp.leg_numbers import LegNumbers
from natmirror.tcp.leg_states import LegState

_LINGERS = 12  # a leg whose client has gone ends after this multiple of its linger, whatever its progress


def deadline(leg: LegNumbers) -> tuple[float, EndReason]:
    """Return the time at which the leg ends, or NEVER if no timeout applies, and the reason of that end."""
    settings, row = leg.settings, leg.row
    if leg.client_waits and row.buffered:
        bound = (max(row.progress_at, row.written_at) + settings.throttle_limit, EndReason.THROTTLE_LIMIT)
    elif leg.state is LegState.SYN_SENT:
        bound = (row.progress_at + settings.connect_timeout, EndReason.CONNECT_TIMEOUT)
    elif leg.sender.has_outstanding:
        # Deviation: a window that stays closed counts as well, even if the mirror answers probes (RFC 9293 §3.8.6.1
        # lets a sender wait for ever), because the bytes that wait take memory that other legs need.
        bound = (row.progress_at + settings.stall_timeout, EndReason.STALLED)
    elif settings.idle_timeout is not None:
        bound = (row.heard_at + settings.idle_timeout, EndReason.IDLE_TIMEOUT)
    else:
        bound = (NEVER, EndReason.IDLE_TIMEOUT)
    gone_at = leg.client_gone_at
    if gone_at is not None:
        progress = max(gone_at, row.progress_at)
        until = min(progress + settings.linger, gone_at + _LINGERS * settings.linger)
        bound = min(bound, (until, EndReason.CLOSED if _has_everything(leg) else EndReason.LINGER_TIMEOUT))
    if leg.resumption is None or not leg.resumption.awaits_answer:
        return bound
    answer = (leg.resumption.asking_since + settings.connect_timeout, EndReason.RESUME_TIMEOUT)
    return answer if gone_at is None else min(answer, bound)


def next_due(leg: LegNumbers) -> float:
    """Return the time at which the leg's deadline or one of its timers is due, or NEVER."""
    row = leg.row
    due = min(row.rto_at, row.ack_at, row.more_at, row.widen_at, leg.sender.probe_at, deadline(leg)[0])
    return due if leg.resumption is None else min(due, leg.resumption.probe_at)


def _has_everything(leg: LegNumbers) -> bool:
    """Return whether the stream has ended and the mirror has acknowledged all its bytes."""
    ending = leg.sender.is_finishing or leg.is_resetting
    return ending and not leg.row.buffered and leg.state is not LegState.SYN_SENT
