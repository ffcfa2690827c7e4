"""Sums by time: what was compared since a moment, in a bounded number of periods."""

from itertools import pairwise

from natmirror.openflow.comparison.periods import LEVELS, Period, Periods, add_since
from natmirror.openflow.comparison.results import AnswerResult

DAY = 86_400


def filled(until: float, step: float) -> Periods:
    """Return periods with one answer each ``step`` seconds."""
    periods, now = Periods(), 0.0
    while now < until:
        periods.at(now).results[AnswerResult.EQUAL] += 1
        now += step
    return periods


def since(periods: Periods, moment: float) -> Period:
    window = Period(moment, moment)
    add_since(window, periods)
    return window


def test_the_whole_time_has_all_answers() -> None:
    assert since(filled(7200, 5), 0.0).results[AnswerResult.EQUAL] == 1440


def test_nothing_is_counted_from_before_the_moment() -> None:
    periods = filled(1000, 1)
    found = since(periods, 985.0)
    assert found.results[AnswerResult.EQUAL] == 10
    assert found.begins_at == 989.0, "the period from 980 on has ended there"
    assert since(periods, 2000.0).results[AnswerResult.EQUAL] == 0
    assert since(periods, 2000.0).begins_at == 2000.0


def test_an_early_moment_is_met_within_a_part_of_the_time_since() -> None:
    periods = filled(20_000, 5)
    for moment in (100.0, 5000.0, 16_000.0, 19_000.0, 19_900.0):
        found = since(periods, moment)
        assert found.results[AnswerResult.EQUAL] == (20_000 - found.begins_at) // 5 - (found.begins_at > moment)
        assert 0 <= found.begins_at - moment <= max(10, (20_000 - moment) / 5)


def test_the_number_of_periods_is_bounded_and_covers_a_day() -> None:
    periods = filled(3 * DAY, 10)
    kept = [*periods]
    assert len(kept) <= sum(most for _, most in LEVELS)
    assert kept == sorted(kept, key=lambda one: one.begins_at)
    assert kept[0].begins_at <= 2 * DAY
    assert all(one.ends_at <= other.begins_at for one, other in pairwise(kept))


def test_times_without_reports_need_no_memory() -> None:
    periods = Periods()
    for now in (0.0, 3600.0, 10 * 3600.0):
        periods.at(now).walked += 1
    assert len([*periods]) == 3
    assert since(periods, 3600.0).walked == 2


def test_a_signature_that_becomes_part_of_another_keeps_its_counts() -> None:
    periods = Periods()
    for now in (0.0, 100.0):
        periods.at(now).differences[1] += 2
        periods.at(now).differences[2] += 3
    periods.renumber(1, 2)
    assert since(periods, 0.0).differences == {2: 10}
    assert since(periods, 50.0).differences == {2: 5}
