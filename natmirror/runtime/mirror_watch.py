"""Tells by the counters when a mirror goes down or comes back, and what it loses.

Theory. A client's connection costs one leg, so a mirror that ends costs hundreds of them at once. One event tells of
all legs that fail together: it waits until a look finds no further ones. A mirror is down when it refuses legs and
acknowledges nothing, or when all of its legs have ended and the latest ones have failed. It is back when it has
acknowledged bytes since, or has an open leg. ``natmirror status`` shows both at once. Losses are the ledger's, so the
events, the log and ``natmirror status`` have the same numbers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from natmirror.engine.shown import Snapshot
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.mirror.shown import MirrorEntry, MirrorState
from natmirror.reasons import NOT_LOST, EndReason
from natmirror.runtime.cadence import Cadence

_REFUSALS = {
    EndReason.REFUSED: "see whether its program listens there",
    EndReason.UNREACHABLE: "look at this host's route to it, and for a firewall that rejects",
    EndReason.CONNECT_TIMEOUT: "see whether it runs, and has a route back to the clients' networks through this host",
    EndReason.RESUME_TIMEOUT: "see whether it reaches this host",
}
_FAILURES = {
    EndReason.MIRROR_RESET: "its own log says why it has ended the connections",
    EndReason.STALLED: "its program hangs, or packets are lost on the way to it",
}
MENDS = _REFUSALS | _FAILURES
"""The reasons of legs that fail because of their mirror, each with what the operator can do."""
_MAX_LOOKS = 2
"""After so many looks in a row that find failures, the event does not wait for further ones."""
_BEHIND_AFTER = 5.0
"""So many seconds a byte may wait for a mirror that keeps up; the alert NatmirrorMirrorLags has the same limit."""

_Key = tuple[str, str, str]


class MirrorView(NamedTuple):
    """A mirror's state."""

    state: MirrorState
    reason: EndReason | None
    """Why its legs fail; None while it is not down."""
    since: float
    """When the state began, in seconds of the watch's clock."""


@dataclass(slots=True)
class _Loss:
    """What a mirror loses for one reason, and when to tell it."""

    bytes: int = 0
    legs: int = 0
    """Both since the last event."""
    cadence: Cadence = field(default_factory=Cadence)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A mirror's counters at a look."""

    ended: Counter[EndReason] = field(default_factory=Counter)
    opened: int = 0
    acked: int = 0
    has_open: bool = False
    """Whether the mirror had accepted one of the open legs."""

    def failed(self, entry: MirrorEntry) -> Counter[EndReason]:
        """Return the legs that have failed since."""
        ended = Counter(entry["legs_ended"]) - self.ended
        return Counter({reason: count for reason, count in ended.items() if reason in MENDS})

    def has_acked(self, entry: MirrorEntry) -> bool:
        """Return whether the mirror has acknowledged bytes since."""
        return entry["acked_bytes"] > self.acked

    def has_accepted(self, entry: MirrorEntry) -> bool:
        """Return whether the mirror has an open leg now, and had none then."""
        return _has_open(entry) and not self.has_open

    def refuses(self, entry: MirrorEntry) -> bool:
        """Return whether the mirror has refused legs since, and taken nothing."""
        is_refused = any(reason in _REFUSALS for reason in self.failed(entry))
        return is_refused and not self.has_acked(entry) and not self.has_accepted(entry)

    def is_back(self, entry: MirrorEntry) -> bool:
        """Return whether a mirror that was down is not any more."""
        is_refused = any(reason in _REFUSALS for reason in self.failed(entry))
        return self.has_accepted(entry) or (self.has_acked(entry) and not is_refused)

    def has_lost_all(self, entry: MirrorEntry) -> bool:
        """Return whether all legs that were open then have ended, and all that have ended since have failed."""
        failed = sum(self.failed(entry).values())
        ended = sum(entry["legs_ended"].values()) - sum(self.ended.values())
        return 0 < failed == ended and entry["legs"] <= entry["legs_opened"] - self.opened


@dataclass(slots=True)
class _Mirror:
    """What the looks at a mirror have found, since ``began_at``."""

    began_at: float
    seen: _Seen = field(default_factory=_Seen)
    lost: Counter[EndReason] = field(default_factory=Counter)
    failed: Counter[EndReason] = field(default_factory=Counter)
    """Legs that have failed: since it was well, or since it is down."""
    looks: int = 0
    failing_at: float | None = None
    """When it was first seen to be down; None while it is not."""
    has_lost_all: bool = False
    """Whether all of its legs have ended since it was well: an open one is younger."""
    down_at: float | None = None
    reason: EndReason | None = None
    """Why it is down: why its legs failed that were seen last."""
    up_at: float | None = None
    """When it was first seen to answer since it was down last, or since the start."""
    losses: dict[EndReason, _Loss] = field(default_factory=dict)


class MirrorWatch:
    """Compares the counters with those of earlier looks, and adds events to ``ring``. Time is an argument, in seconds
    of any steady clock."""

    def __init__(self, ring: EventRing) -> None:
        self._ring = ring
        self._views: Mapping[_Key, tuple[MirrorView, _Seen]] = {}  # replaced at each look: other threads read it
        self._mirrors: dict[_Key, _Mirror] = {}

    def look(self, sums: Snapshot, now: float) -> None:
        """Look at the counters of all engines together."""
        for entry in sums["mirrors"]:
            mirror = self._mirrors.setdefault(_key(entry), _Mirror(now))
            self._follow(mirror, entry, now)
            ended = Counter(entry["legs_ended"])
            self._note_losses(mirror, entry, ended - mirror.seen.ended, now)
            mirror.seen = _Seen(ended, entry["legs_opened"], entry["acked_bytes"], _has_open(entry))
            if mirror.up_at is None and mirror.down_at is None and (mirror.seen.has_open or mirror.seen.acked):
                mirror.up_at = now
        self._views = {key: (_view(mirror), mirror.seen) for key, mirror in self._mirrors.items()}

    def view(self, entry: MirrorEntry, now: float) -> MirrorView:
        """Return a mirror's state: as the last look has found it, if its counters do not show more now; from any
        thread."""
        view, seen = self._views.get(_key(entry)) or (MirrorView(MirrorState.UNTRIED, None, now), _Seen())
        if view.state is not MirrorState.DOWN and (seen.refuses(entry) or seen.has_lost_all(entry)):
            return MirrorView(MirrorState.DOWN, _most_common(seen.failed(entry)), now)
        if view.state is not MirrorState.UP and seen.is_back(entry):
            return MirrorView(MirrorState.UP, None, now)
        if view.state is MirrorState.UP and entry["lag_seconds"] > _BEHIND_AFTER:
            return MirrorView(MirrorState.BEHIND, None, now - entry["lag_seconds"] + _BEHIND_AFTER)
        return view

    def _follow(self, mirror: _Mirror, entry: MirrorEntry, now: float) -> None:
        """Follow whether a mirror is up."""
        seen, failed = mirror.seen, mirror.seen.failed(entry)
        is_back = seen.is_back(entry)
        mirror.failed += failed
        if mirror.down_at is None:
            mirror.has_lost_all |= seen.has_lost_all(entry)
            if mirror.failing_at is None and (seen.refuses(entry) or mirror.has_lost_all):
                mirror.failing_at = now
            mirror.looks = mirror.looks + 1 if failed else 0
            if mirror.failing_at is None and not failed:
                mirror.failed.clear()
            if mirror.failing_at is None or (failed and mirror.looks < _MAX_LOOKS):
                return
            self._tell_down(mirror, entry, mirror.failing_at)
            is_back = _has_open(entry) and mirror.has_lost_all
        if is_back:
            self._tell_up(mirror, entry, now)
        elif failed:
            mirror.reason = _most_common(failed)

    def _tell_down(self, mirror: _Mirror, entry: MirrorEntry, since: float) -> None:
        reason = _most_common(mirror.failed)
        count = sum(mirror.failed.values())
        mirror.down_at, mirror.up_at, mirror.reason = since, None, reason
        mirror.failed.clear()
        self._ring.add(
            EventKind.MIRROR_DOWN,
            EventSeverity.WARNING,
            f"mirror {entry['name']} of {entry['service']} ({entry['address']}) is down: {_legs(count)} failed"
            f" ({reason}); {MENDS[reason]}",
            service=entry["service"],
            mirror=entry["name"],
            code=reason,
            count=count,
        )

    def _tell_up(self, mirror: _Mirror, entry: MirrorEntry, now: float) -> None:
        assert mirror.down_at is not None, "it was down"
        count = sum(mirror.failed.values())
        uncopied = sum(entry["connections_not_copied"].values())
        rest = f"; {uncopied} open connections are not copied to it: see natmirror status" if uncopied else ""
        self._ring.add(
            EventKind.MIRROR_UP,
            EventSeverity.INFO,
            f"mirror {entry['name']} of {entry['service']} ({entry['address']}) is back after"
            f" {now - mirror.down_at:.0f} s, in which {_legs(count)} failed{rest}",
            service=entry["service"],
            mirror=entry["name"],
            count=count,
        )
        mirror.down_at, mirror.up_at = None, now
        mirror.failing_at, mirror.has_lost_all, mirror.looks = None, False, 0
        mirror.failed.clear()

    def _note_losses(self, mirror: _Mirror, entry: MirrorEntry, ended: Counter[EndReason], now: float) -> None:
        """Count what the mirror has lost since the last look, and tell what is due."""
        for reason, count in entry["lost_bytes"].items():
            if reason in NOT_LOST or count <= mirror.lost[reason]:
                continue
            loss = mirror.losses.setdefault(reason, _Loss())
            loss.cadence.note(now, is_first=not loss.bytes)
            loss.bytes += count - mirror.lost[reason]
            mirror.lost[reason] = count
        for reason, loss in mirror.losses.items():
            loss.legs += ended[reason]
            if loss.bytes and loss.cadence.is_due(now):
                self._tell_loss(entry, reason, loss)

    def _tell_loss(self, entry: MirrorEntry, reason: EndReason, loss: _Loss) -> None:
        total = sum(count for one, count in entry["lost_bytes"].items() if one not in NOT_LOST)
        ends = f"{_legs(loss.legs)} ended" if loss.legs else "for legs that have ended before"
        self._ring.add(
            EventKind.COPIES_LOST,
            EventSeverity.WARNING,
            f"mirror {entry['name']} of {entry['service']} has lost {loss.bytes} bytes ({reason}, {ends}); in total"
            f" {total} bytes since the start",
            service=entry["service"],
            mirror=entry["name"],
            code=reason,
            count=loss.legs,
        )
        loss.bytes = loss.legs = 0
        loss.cadence.note_told()


def _key(entry: MirrorEntry) -> _Key:
    return entry["service"], entry["name"], entry["address"]


def _view(mirror: _Mirror) -> MirrorView:
    if mirror.down_at is not None:
        return MirrorView(MirrorState.DOWN, mirror.reason, mirror.down_at)
    if mirror.failing_at is not None:
        return MirrorView(MirrorState.DOWN, _most_common(mirror.failed), mirror.failing_at)
    if mirror.up_at is not None:
        return MirrorView(MirrorState.UP, None, mirror.up_at)
    return MirrorView(MirrorState.UNTRIED, None, mirror.began_at)


def _most_common(failed: Counter[EndReason]) -> EndReason:
    """Return the reason for which most legs have failed; some have."""
    [(reason, _)] = failed.most_common(1)
    return reason


def _has_open(entry: MirrorEntry) -> bool:
    """Return whether the mirror has accepted one of the open legs."""
    return entry["legs"] > entry["legs_unanswered"]


def _legs(count: int) -> str:
    return f"{count} leg{'' if count == 1 else 's'}"
