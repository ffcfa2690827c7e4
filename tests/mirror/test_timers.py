"""Deadlines by key."""

from hypothesis import given
from hypothesis import strategies as st

from natmirror.mirror.timers import TimerKind, Timers


def test_keys_are_due_in_the_order_of_their_deadlines() -> None:
    timers = Timers()
    for key, when in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        timers.set((TimerKind.WRITE_REST, key), when)
    assert timers.next() == 1.0
    assert [key for _, key in timers.due(2.0)] == ["a", "b"]
    assert timers.next() == 3.0


def test_a_deadline_can_be_moved_and_cancelled() -> None:
    timers = Timers()
    timers.set((TimerKind.WRITE_REST, "a"), 1.0)
    timers.set((TimerKind.WRITE_REST, "a"), 5.0)
    assert timers.next() == 5.0
    assert list(timers.due(4.0)) == []
    timers.set((TimerKind.WRITE_REST, "a"), None)
    assert timers.next() is None


def test_a_key_that_is_set_while_others_are_due_is_seen() -> None:
    timers = Timers()
    timers.set((TimerKind.WRITE_REST, "a"), 1.0)
    seen = []
    for key in timers.due(2.0):
        seen.append(key)
        if len(seen) < 3:
            timers.set(key, 1.5)
    assert len(seen) == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 50))), max_size=300))
def test_timers_behave_like_a_dictionary(steps: list[tuple[int, int | None]]) -> None:
    timers, model = Timers(), dict[int, int]()
    for key, when in steps:
        timers.set((TimerKind.WRITE_REST, key), when)
        if when is None:
            model.pop(key, None)
        else:
            model[key] = when
        assert timers.next() == min(model.values(), default=None)
    assert sorted(key for _, key in timers.due(100.0)) == sorted(model)
