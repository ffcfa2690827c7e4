"""Points in time beside durations: the API shows both, and natmirror itself counts on a clock without a date.

The process that serves the API adds the times, so that they cost the threads which pass packets nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Moment:
    """The time that stands beside a duration: ``seconds`` ago, or ahead. It is null if the duration is null, and
    with ``is_null_at_zero`` also if it is 0."""

    name: str
    sentence: str
    is_ahead: bool = False
    is_null_at_zero: bool = False


MOMENTS = {
    "age_seconds": Moment("at", "When it passed, in UTC (RFC 3339)."),
    "avoided_seconds": Moment("avoided_until", "Until when that is, in UTC (RFC 3339).", is_ahead=True),
    "begins_in_seconds": Moment("begins_at", "That time, in UTC (RFC 3339); null as above.", is_ahead=True),
    "failed_seconds": Moment("failed_at", "That time, in UTC (RFC 3339)."),
    "failing_seconds": Moment("failing_since", "Since when it has failed or hung, in UTC (RFC 3339)."),
    "idle_seconds": Moment("last_packet_at", "When the last packet passed, in UTC (RFC 3339); null as above."),
    "lag_seconds": Moment(
        "lag_since",
        "Since when the oldest of what waits has waited, in UTC (RFC 3339); null if nothing waits.",
        is_null_at_zero=True,
    ),
    "last_change_seconds": Moment("last_change_at", "That time, in UTC (RFC 3339); null as above."),
    "on_again_seconds": Moment("on_again_at", "That time, in UTC (RFC 3339).", is_ahead=True),
    "state_seconds": Moment("state_since", "Since when it has been so, in UTC (RFC 3339); null as above."),
}
"""The moments beside durations, by the duration's field."""


def show(at: float) -> str:
    """Return a time in seconds since 1970 as text, in UTC (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def with_moments(value: Any, now: float) -> Any:
    """Return a value for JSON with the moments beside its durations. ``now`` is the time of the value, in seconds since
    1970."""
    if isinstance(value, list):
        return [with_moments(one, now) for one in value]
    if not isinstance(value, dict):
        return value
    shown: dict[str, Any] = {}
    for name, one in value.items():
        shown[name] = with_moments(one, now) if isinstance(one, list | dict) else one
        if (moment := MOMENTS.get(name)) is not None:
            shown[moment.name] = _moment(moment, one, now)
    return shown


def _moment(moment: Moment, seconds: float | None, now: float) -> str | None:
    if seconds is None or (moment.is_null_at_zero and not seconds):
        return None
    return show(now + seconds if moment.is_ahead else now - seconds)
