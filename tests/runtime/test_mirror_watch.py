"""Mirrors that go down and come back, and their losses, as events; with a manual clock."""

from typing import Any

import pytest

from natmirror.events import Event, EventKind, EventRing
from natmirror.mirror.shown import MirrorState
from natmirror.reasons import EndReason
from natmirror.runtime.mirror_watch import MirrorWatch

REFUSED, RESET, STALLED = EndReason.REFUSED, EndReason.MIRROR_RESET, EndReason.STALLED
LOOK = 2.0


class Mirror:
    """A mirror's counters, and the watch that looks at them."""

    def __init__(self) -> None:
        self.ring = EventRing(lambda: self.now)
        self.watch = MirrorWatch(self.ring)
        self.now = 1000.0
        self.entry: dict[str, Any] = {
            **{"service": "web", "name": "m1", "address": "10.20.0.13:80", "legs": 0, "legs_opened": 0},
            "legs_unanswered": 0,
            **{"legs_ended": {}, "acked_bytes": 0, "lost_bytes": {}, "connections_not_copied": {}},
            "lag_seconds": 0.0,
        }

    def look(self) -> list[Event]:
        """Look; return the new events."""
        before = len(self.ring.all())
        sums: Any = {"mirrors": [self.entry]}
        self.watch.look(sums, self.now)
        self.now += LOOK
        return self.ring.all()[before:]

    def open(self, count: int, acked: int = 0) -> None:
        """Open legs that the mirror accepts."""
        self.entry["legs"] += count
        self.entry["legs_opened"] += count
        self.entry["acked_bytes"] += acked

    def end(self, count: int, reason: EndReason, lost: int = 0) -> None:
        """End open legs."""
        ended = self.entry["legs_ended"]
        self.entry["legs"] -= count
        self.entry["legs_ended"] = {**ended, reason: ended.get(reason, 0) + count}
        self.lose(reason, lost)

    def refuse(self, count: int, lost: int = 0) -> None:
        """Refuse new legs."""
        self.entry["legs"] += count
        self.entry["legs_opened"] += count
        self.end(count, REFUSED, lost)

    def lose(self, reason: EndReason, lost: int) -> None:
        before = self.entry["lost_bytes"]
        if lost:
            self.entry["lost_bytes"] = {**before, reason: before.get(reason, 0) + lost}


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


def kinds(events: list[Event]) -> list[EventKind]:
    return [one.kind for one in events]


def test_many_legs_that_fail_together_are_one_event(mirror: Mirror) -> None:
    mirror.open(300, 10_000)
    assert mirror.look() == []
    mirror.end(170, RESET)  # a look may come in the middle
    assert mirror.look() == []
    mirror.end(130, RESET)
    [down] = mirror.look()
    assert (down.kind, down.service, down.mirror, down.code, down.count) == (
        *(EventKind.MIRROR_DOWN, "web", "m1", "mirror-reset", 300),
    )
    assert down.text == (
        "mirror m1 of web (10.20.0.13:80) is down: 300 legs failed (mirror-reset); its own log says why it has ended"
        " the connections"
    )
    assert mirror.look() == []
    mirror.open(5)
    [up] = mirror.look()
    assert (up.kind, up.count) == (EventKind.MIRROR_UP, 0)
    assert "is back after 4 s" in up.text


def test_a_closed_port_is_one_event_and_the_legs_that_fail_later_are_counted(mirror: Mirror) -> None:
    mirror.refuse(200)
    assert mirror.look() == [], "more may fail with them"
    mirror.refuse(100)
    [down] = mirror.look()
    assert (down.kind, down.code, down.count) == (EventKind.MIRROR_DOWN, "refused", 300)
    for _ in range(50):
        mirror.refuse(7)
        assert mirror.look() == []
    mirror.entry["connections_not_copied"] = {REFUSED: 3}
    mirror.open(1)
    mirror.end(1, EndReason.CLOSED)
    mirror.entry["acked_bytes"] += 20  # a leg that is over before the look
    [up] = mirror.look()
    assert (up.kind, up.count) == (EventKind.MIRROR_UP, 350)
    assert "350 legs failed; 3 open connections are not copied" in up.text


@pytest.mark.parametrize("reason", [RESET, STALLED])
def test_a_leg_that_fails_beside_others_that_go_on_is_no_end_of_the_mirror(mirror: Mirror, reason: EndReason) -> None:
    mirror.open(300)
    mirror.look()
    mirror.end(1, reason)
    assert mirror.look() + mirror.look() == []


def test_a_refusal_beside_legs_that_are_served_is_no_end_of_the_mirror(mirror: Mirror) -> None:
    mirror.open(3, 100)
    mirror.look()
    for _ in range(5):
        mirror.refuse(1)
        mirror.entry["acked_bytes"] += 100
        assert mirror.look() == []


def test_legs_that_end_as_they_should_are_no_event(mirror: Mirror) -> None:
    mirror.open(2, 10)
    mirror.look()
    mirror.end(2, EndReason.CLOSED)
    assert mirror.look() + mirror.look() == []


def test_a_mirror_that_is_restarted_between_two_looks_is_told_as_down_and_back(mirror: Mirror) -> None:
    mirror.open(2, 10)
    mirror.look()
    mirror.end(2, RESET)
    mirror.open(1)
    found = mirror.look() + mirror.look()
    assert kinds(found) == [EventKind.MIRROR_DOWN, EventKind.MIRROR_UP]


def test_losses_are_told_at_once_then_over_longer_and_longer_times_with_the_total_of_status(mirror: Mirror) -> None:
    mirror.open(1)
    mirror.look()
    mirror.end(1, EndReason.BUFFER_FULL, 20)
    [lost] = mirror.look()
    assert (lost.kind, lost.code, lost.count) == (EventKind.COPIES_LOST, "buffer-full", 1)
    assert "has lost 20 bytes (buffer-full, 1 leg ended); in total 20 bytes" in lost.text
    told = 0
    for _ in range(6000):
        mirror.lose(EndReason.BUFFER_FULL, 1)
        told += len(mirror.look())
    assert told == 6, "after 10, 60 and 600 s, then each hour"
    last = mirror.ring.all()[-1]
    assert last.count == 0
    assert "for legs that have ended before" in last.text
    mirror.now += 1000.0
    mirror.lose(EndReason.BUFFER_FULL, 1)
    assert kinds(mirror.look()) == [EventKind.COPIES_LOST], "a new loss"


@pytest.mark.parametrize("reason", [EndReason.NOT_SAMPLED, EndReason.STOPPED])
def test_what_the_rules_leave_out_is_no_loss(mirror: Mirror, reason: EndReason) -> None:
    mirror.lose(reason, 5000)
    assert mirror.look() == []


# The state


def state(mirror: Mirror) -> tuple[MirrorState, EndReason | None, float]:
    """Return what the status shows of the mirror."""
    view = mirror.watch.view(mirror.entry, mirror.now)  # type: ignore[arg-type]
    return view.state, view.reason, mirror.now - view.since


def test_a_mirror_is_untried_until_it_has_accepted_a_leg(mirror: Mirror) -> None:
    assert state(mirror) == (MirrorState.UNTRIED, None, 0.0)
    mirror.look()
    mirror.look()
    assert state(mirror) == (MirrorState.UNTRIED, None, 2 * LOOK)
    mirror.open(1)
    assert state(mirror) == (MirrorState.UP, None, 0.0), "before any look"
    mirror.look()
    assert state(mirror) == (MirrorState.UP, None, LOOK)


def test_a_mirror_is_down_from_its_legs_failure_to_its_next_leg(mirror: Mirror) -> None:
    mirror.open(3, 1000)
    mirror.look()
    mirror.end(2, RESET)
    assert state(mirror) == (MirrorState.UP, None, LOOK), "one leg goes on"
    mirror.end(1, RESET)
    assert state(mirror) == (MirrorState.DOWN, RESET, 0.0), "before any look"
    mirror.look()
    assert state(mirror) == (MirrorState.DOWN, RESET, LOOK)
    mirror.look()
    assert state(mirror) == (MirrorState.DOWN, RESET, 2 * LOOK)
    mirror.refuse(2)
    mirror.look()
    assert state(mirror) == (MirrorState.DOWN, REFUSED, 3 * LOOK), "why it fails now"
    mirror.open(1)
    assert state(mirror) == (MirrorState.UP, None, 0.0)
    mirror.look()
    mirror.look()
    assert state(mirror) == (MirrorState.UP, None, 2 * LOOK)


def test_a_mirror_that_has_refused_each_leg_is_down(mirror: Mirror) -> None:
    mirror.refuse(2)
    assert state(mirror) == (MirrorState.DOWN, REFUSED, 0.0)
    mirror.look()
    mirror.look()
    assert state(mirror) == (MirrorState.DOWN, REFUSED, 2 * LOOK)


def test_a_leg_whose_syn_is_unanswered_says_nothing_of_its_mirror(mirror: Mirror) -> None:
    mirror.open(1)
    mirror.entry["legs_unanswered"] = 1
    mirror.look()
    assert state(mirror)[0] == MirrorState.UNTRIED
    mirror.entry["legs_unanswered"] = 0
    mirror.look()
    assert state(mirror)[0] == MirrorState.UP


def test_a_mirror_is_behind_after_five_seconds(mirror: Mirror) -> None:
    mirror.open(1, 1000)
    mirror.look()
    mirror.entry["lag_seconds"] = 5.0
    assert state(mirror)[0] == MirrorState.UP
    mirror.entry["lag_seconds"] = 7.5
    assert state(mirror) == (MirrorState.BEHIND, None, 2.5)
