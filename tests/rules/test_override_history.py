"""Overrides on two hosts: the latest command holds on both, in whatever order the entries come."""

import json
from itertools import permutations
from typing import Any

import pytest

from natmirror.rules import OverrideKind, Overrides, parse_rules
from natmirror.rules.override_history import OverrideHistory
from tests.helpers.overrides import override
from tests.helpers.support import RULES

BASE = parse_rules(RULES)
DRAIN = override(BASE, OverrideKind.DRAIN, "c1", at=10.0)


class Host:
    """A host whose operator gives commands; the test carries its entries to others."""

    def __init__(self) -> None:
        self.history, self.value = OverrideHistory(), Overrides()

    def weigh(self, weight: int | None, now: float) -> list[Any]:
        key = (OverrideKind.WEIGHT, "openflow", "c1")
        at = self.history.next_at(self.value, key, now)
        after = self.value.without(key)
        if weight is not None:
            after = after.including(override(BASE, OverrideKind.WEIGHT, "c1", at=at, weight=weight))
        entries = self.history.note(self.value, after, now)
        self.value = after
        return list(map(json.dumps, entries))

    def take(self, entries: list[Any]) -> None:
        self.value = self.value.changed_by(self.history.later(self.value, map(json.loads, entries)))

    @property
    def weights(self) -> list[int | None]:
        return [one.weight for one in self.value]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_command_holds_in_whatever_order_entries_come(order: tuple[int, ...]) -> None:
    one, other, third = Host(), Host(), Host()
    entries = [one.weigh(3, 100.0), other.weigh(5, 101.0), one.weigh(None, 102.0)]
    for index in order:
        for host in (one, other, third):
            host.take(entries[index])
    assert (one.weights, other.weights, third.weights) == ([], [], [])


def test_a_command_holds_on_its_own_host_whatever_the_other_ones_clock_says() -> None:
    fast, slow = Host(), Host()
    slow.take(fast.weigh(3, 5000.0))
    fast.take(slow.weigh(7, 100.0))
    assert (fast.weights, slow.weights) == ([7], [7])
    fast.take(slow.weigh(None, 100.0))
    slow.take(fast.weigh(2, 100.0))
    assert (fast.weights, slow.weights) == ([2], [2])


def test_an_earlier_entry_of_another_host_is_answered_with_the_later_one() -> None:
    one, other = Host(), Host()
    early, late = one.weigh(3, 100.0), other.weigh(5, 101.0)
    assert one.history.earlier(one.value, map(json.loads, late)) == []
    assert other.history.earlier(other.value, map(json.loads, early)) == list(map(json.loads, late))
    end = other.weigh(None, 102.0)
    assert other.history.earlier(other.value, map(json.loads, [*early, *late, "{}"])) == list(map(json.loads, end))


def test_a_host_that_starts_later_learns_what_holds_and_what_has_ended() -> None:
    one, later = Host(), Host()
    later.value = later.value.including(override(BASE, OverrideKind.WEIGHT, "c1", at=50.0, weight=9, kept=True))
    one.weigh(3, 100.0)
    one.value = one.value.including(DRAIN)
    one.weigh(None, 101.0)
    later.take(list(map(json.dumps, one.history.entries(one.value))))
    assert list(later.value) == [DRAIN]


@pytest.mark.parametrize(
    "entry",
    [
        *({}, {"ended": True}, {**DRAIN.plain(), "at": "x"}, {**DRAIN.plain(), "kind": "x"}),
        *({**DRAIN.plain(), "ended": True, "at": at} for at in (float("nan"), float("inf"), None)),
    ],
)
def test_malformed_entries_change_nothing(entry: dict[str, Any]) -> None:
    host = Host()
    assert host.history.later(host.value, [entry]) == {}
    assert host.history.entries(host.value) == []
