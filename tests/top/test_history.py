"""Rates from the counters of successive answers."""

from natmirror.top.history import LENGTH, History
from tests.helpers.top import status_at


def test_a_rate_is_the_growth_of_a_counter_a_second() -> None:
    history = History()
    for second in (0, 1, 3):
        history.add(status_at(second), 1.0)
    assert history.rates("packets", "openflow") == [1000.0, 1000.0]
    assert history.latest("bits", "openflow") == 10_000_000.0
    assert history.latest("connections", "openflow") == 5.0
    assert history.latest("processor", "packets-0") == 0.25
    assert history.latest("packets", "other") is None


def test_missing_answers_are_a_gap() -> None:
    history = History()
    for second in (0, 1, 10, 11):
        history.add(status_at(second), 1.0)
    assert history.rates("packets", "openflow") == [1000.0, None, 1000.0, 1000.0]
    assert history.number == 4


def test_a_restart_begins_a_new_history() -> None:
    history = History()
    for second in (10, 11):
        history.add(status_at(second), 1.0)
    history.add(status_at(12, pid=6), 1.0)
    assert history.rates("packets", "openflow") == []
    assert history.number == 0


def test_an_answer_that_is_no_later_is_ignored_and_a_counter_that_falls_is_no_rate_below_zero() -> None:
    history = History()
    history.add(status_at(5), 1.0)
    history.add(status_at(5), 1.0)
    assert history.rates("packets", "openflow") == []
    less = status_at(6)
    less["services"][0]["client_packets"] = 0
    history.add(less, 1.0)
    assert history.rates("packets", "openflow") == [0.0]


def test_what_is_gone_is_forgotten_and_two_minutes_are_kept() -> None:
    history = History()
    for second in range(LENGTH + 50):
        history.add(status_at(second), 1.0)
    assert len(history.rates("packets", "openflow")) == LENGTH
    history.add(status_at(LENGTH + 50, services=[]), 1.0)
    assert history.rates("packets", "openflow") == []
