"""The state machine of one backend's health, with the test's own clock and random numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.backends.health import ASSUMED, BackendHealth
from natmirror.rules import CheckKind, Health

PASSED, FAILED, SYN, INCONCLUSIVE = "passed", "failed", "syn", "inconclusive"


def fresh(*, rise: int = 2, fall: int = 3, chance: float = 0.0, now: float = 100.0) -> BackendHealth:
    return BackendHealth(Health(CheckKind.TCP, rise=rise, fall=fall), now, lambda: chance)


def enter(health: BackendHealth, event: str, now: float) -> bool:
    """Enter an event, and return whether it has changed the state."""
    if event == INCONCLUSIVE:
        health.inconclusive(now)
        return False
    if event == SYN:
        health.syn_failed(now)
        return False
    return health.result(event == PASSED, event, now)


def test_a_backend_is_assumed_to_be_up() -> None:
    health = fresh()
    assert (health.is_up, health.since_at, health.reason) == (True, 100.0, ASSUMED)
    assert (health.checks, health.failures, health.failed_syns) == (0, 0, 0)


def test_a_backend_falls_and_rises() -> None:
    health = fresh()
    assert [health.result(False, "connection refused", 101.0 + at) for at in range(3)] == [False, False, True]
    assert (health.is_up, health.since_at, health.reason) == (False, 103.0, "connection refused")
    assert [health.result(True, "well", 104.0), health.result(True, "well again", 105.0)] == [False, True]
    assert (health.is_up, health.since_at, health.reason) == (True, 105.0, "well again")
    assert (health.checks, health.failures) == (5, 3)


def test_a_result_that_confirms_the_state_resets_the_count() -> None:
    health = fresh()
    assert not any(enter(health, event, 101.0) for event in [FAILED, FAILED, PASSED] * 5)
    assert health.reason == ASSUMED
    for _ in range(3):
        enter(health, FAILED, 102.0)
    assert not any(enter(health, event, 103.0) for event in [PASSED, FAILED] * 5)
    assert not health.is_up


def test_failed_syns_count_but_only_a_check_takes_a_backend_down() -> None:
    health = fresh()
    for now in (100.1, 100.2, 100.3, 100.4):
        enter(health, SYN, now)
    assert health.is_up
    assert enter(health, FAILED, 100.5), "failed SYNs replace all checks but one"
    assert (health.checks, health.failures, health.failed_syns, health.reason) == (1, 1, 4, FAILED)
    again = fresh()
    assert not any(enter(again, event, 101.0) for event in [SYN, SYN, PASSED, FAILED, FAILED, SYN])
    assert enter(again, FAILED, 102.0)


def test_failed_syns_bring_the_next_check_forward_to_a_minimum_pause() -> None:
    health = fresh(chance=0.5)
    assert health.next_check() == 100.5
    enter(health, SYN, 100.1)
    assert health.next_check() == 100.1
    enter(health, PASSED, 100.2)
    enter(health, SYN, 100.25)
    assert health.next_check() == pytest.approx(100.3)
    for _ in range(3):
        enter(health, FAILED, 100.3)
    due = health.next_check()
    enter(health, SYN, 100.4)
    assert health.next_check() == due, "failed SYNs do not bring the checks of a down backend forward"


def test_an_inconclusive_check_does_not_count() -> None:
    health = fresh(fall=2)
    assert not any(enter(health, event, 101.0) for event in [FAILED, INCONCLUSIVE, INCONCLUSIVE])
    assert enter(health, FAILED, 102.0)
    assert (health.checks, health.failures, health.inconclusive_checks) == (2, 2, 2)


def test_first_checks_are_spread_over_an_interval() -> None:
    assert [fresh(chance=chance).next_check() for chance in (0.0, 0.25, 0.5)] == [100.0, 100.25, 100.5]


def test_checks_are_early_by_a_tenth_at_most_and_missed_ones_are_not_made_up_for() -> None:
    assert [enter(on_time := fresh(), PASSED, 100.2), on_time.next_check()] == [False, 101.0]
    early = fresh(chance=0.5)
    due = early.next_check()
    enter(early, PASSED, 100.6)
    assert early.next_check() == pytest.approx(due + 0.95)
    enter(early, INCONCLUSIVE, 500.0)
    assert early.next_check() == 500.0


events = st.lists(st.sampled_from([PASSED, FAILED, INCONCLUSIVE]), max_size=60)


@given(events, st.integers(1, 5), st.integers(1, 5))
def test_only_the_last_results_in_a_row_decide(sequence: list[str], rise: int, fall: int) -> None:
    health, is_up, results = fresh(rise=rise, fall=fall), True, []
    for now, event in enumerate(sequence, 101):
        has_changed = enter(health, event, now)
        if event != INCONCLUSIVE:
            results.append(event == PASSED)
        enough = fall if is_up else rise
        should_change = event != INCONCLUSIVE and results[-enough:] == [not is_up] * enough
        assert has_changed == should_change
        if has_changed:
            is_up = not is_up
            assert health.since_at == now
        assert health.is_up == is_up


@given(st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 5)), min_size=1, max_size=30))
def test_a_check_is_due_within_an_interval_and_not_before_the_last_one_has_ended(
    rounds: list[tuple[float, float]],
) -> None:
    chances = iter([0.0, *(chance for chance, _ in rounds)])
    health = BackendHealth(Health(CheckKind.TCP, interval=2.0), 0.0, lambda: next(chances))
    for _, took in rounds:
        due = health.next_check()
        health.result(True, "", due + took)
        assert max(due + took, due + 1.8) <= health.next_check() <= max(due + took, due + 2.0)
