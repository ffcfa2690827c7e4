"""Production that went on and has stopped, as opposed to production that pauses. A manual clock."""

import pytest

from natmirror.runtime.progress_watch import ProgressWatch


@pytest.mark.parametrize(("pause", "silence"), [(2.0, 4.0), (15.0, 30.0)])
def test_production_has_stopped_after_a_longer_silence_than_usual(pause: float, silence: float) -> None:
    watch = ProgressWatch()
    for number in range(6):
        assert watch.stopped_at is None
        watch.look(number, number * pause)
    last = 5 * pause
    watch.look(5, last + silence - 0.1)
    assert watch.stopped_at is None
    watch.look(5, last + silence)
    assert watch.stopped_at == last
    watch.look(6, last + silence + 1.0)
    assert watch.stopped_at is None


def test_one_interruption_is_no_measure() -> None:
    watch = ProgressWatch()
    times = [0.0, 2.0, 4.0, 20.0, 22.0, 24.0]
    for number, now in enumerate(times):
        watch.look(number, now)
    watch.look(5, 29.0)
    assert watch.stopped_at == 24.0


def test_where_hardly_anything_passed_silence_says_nothing() -> None:
    watch = ProgressWatch()
    for number in range(3):
        watch.look(number, float(number))
    watch.look(2, 1000.0)
    assert watch.stopped_at is None


def test_silence_counts_only_while_there_is_a_look() -> None:
    watch = ProgressWatch()
    for number in range(7):
        watch.look(number, 2.0 * number)
    watch.look(6, 14.0)
    assert watch.stopped_at is None, "no look for however long"


def test_outages_are_no_usual_pauses() -> None:
    watch, now = ProgressWatch(), 0.0
    for number in range(12):
        now += 1.0
        watch.look(number, now)
        if number in (4, 7, 9):
            for _ in range(8):
                now += 1.0
                watch.look(number, now, has_failed=True)
    watch.look(11, now + 2.0)
    assert watch.stopped_at is None
    watch.look(11, now + 3.0)
    assert watch.stopped_at == now
