"""Finds what production has stopped by, where no packet comes that would show it: something that another program has
attached to an interface since production last passed, or a qdisc that drops packets since then.

natmirror does not judge what an XDP program or a filter does. But one that is there since production has stopped, and
was not before, very likely stops it.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from natmirror.findings import Finding, HostCode
from natmirror.linux.traffic_control import Traffic

_REMEMBERED = 16
_MIN_LOST = 3  # packets: one may be lost
_FASTER = 2
"""A qdisc that drops packets all the time is to blame if it drops so many times as many since production stopped."""
# Seconds
_UNSURE = 1.0
"""Production may have stopped so long before natmirror last saw it pass: that is how often natmirror looks."""
_PATIENCE = 30.0
"""So long after the start it may be that no client has come yet."""

_NEVER = float("-inf")

_All = Mapping[str, Traffic]
"""What the kernel says of each interface."""


@dataclass(frozen=True, slots=True)
class Passing:
    """Whether production passes: when it was last seen to, if it has stopped since; and whether it ever was."""

    stopped_at: float | None = None
    has_passed: bool = False


class AttachmentWatch:
    """Compares the interfaces with what they were while production passed. Time is an argument, in seconds of any
    steady clock; ``since``: when natmirror was started."""

    def __init__(self, since: float = _NEVER) -> None:
        self._since = since
        self._seen: deque[tuple[float, _All]] = deque(maxlen=_REMEMBERED)

    def look(self, traffic: _All, passing: Passing, now: float, silent: Collection[str] = ()) -> list[Finding]:
        """Return what may stop production, or may be why the backends and mirrors ``silent`` answer nothing."""
        if passing.stopped_at is None:
            self._seen.append((now, traffic))
            if silent:
                return list(in_front(traffic, f"answers of {' and '.join(sorted(silent))}"))
            return [] if passing.has_passed or now - self._since < _PATIENCE else list(in_front(traffic))
        until = passing.stopped_at - _UNSURE
        before = [(at, then) for at, then in self._seen if at <= until] or list(self._seen)[:1]
        if not before:
            return list(in_front(traffic))
        (first_at, first), (last_at, last) = before[0], before[-1]
        found = list(_new(traffic, last))
        for link, now_there in traffic.items():
            for kind, lost in now_there.lost.items():
                fresh = lost - _lost(last, link, kind)
                earlier = _lost(last, link, kind) - _lost(first, link, kind)
                is_usual = fresh * (last_at - first_at) <= _FASTER * earlier * (now - last_at)
                held = now_there.held.get(kind, 0)
                if fresh + held >= _MIN_LOST and not (is_usual and earlier):
                    found.append(HostCode.QDISC_DROPS.found(interface=link, kind=kind, lost=fresh, held=held))
        return found or list(in_front(traffic))


def in_front(traffic: _All, missing: str = "production pass") -> Iterator[Finding]:
    """Yield a finding for each interface whose packets something gets before natmirror or after it. ``missing`` is what
    natmirror does not see."""
    for link, there in traffic.items():
        for one in [one for one in there.attached if one.may_drop][:1]:
            yield HostCode.FILTER_IN_FRONT.found(interface=link, what=one.what, removal=one.removal, missing=missing)


def _new(now: _All, before: _All) -> Iterator[Finding]:
    for link, there in now.items():
        if link in before and (new := [one for one in there.attached if one not in before[link].attached]):
            what = " and ".join(dict.fromkeys(one.what for one in new))
            removal = "; ".join(dict.fromkeys(one.removal for one in new))
            yield HostCode.PRODUCTION_STOPPED.found(interface=link, what=what, removal=removal)


def _lost(traffic: _All, link: str, kind: str) -> int:
    return traffic[link].lost.get(kind, 0) if link in traffic else 0
