"""One queue's health, by a clock and answers that the test makes up."""

from errno import ENODEV, ENOENT, EPERM

import pytest

from natmirror.linux.queue_health import PATIENCE, QueueHealth

START = 100.0


def check(
    health: QueueHealth,
    after: float,
    *,
    answer: int | None = None,
    is_refused: bool = False,
    is_unanswered: bool = False,
) -> bool:
    """Look so many seconds after the start."""
    return health.check(answer=answer, is_refused=is_refused, is_unanswered=is_unanswered, now=START + after)


@pytest.fixture
def health() -> QueueHealth:
    return QueueHealth(7, START)


def test_a_queue_of_which_the_kernel_holds_nothing_that_was_decided_on_works(health: QueueHealth) -> None:
    assert not any(check(health, after, answer=ENOENT) for after in range(10))
    assert health.trouble is None


def test_lost_verdicts_are_told_until_there_are_none(health: QueueHealth) -> None:
    assert not check(health, 1, answer=0), "the kernel has let go of them"
    assert health.trouble == "queue 7: the kernel did not get the verdicts of some packets"
    assert not check(health, 2)
    assert health.trouble is not None
    assert not check(health, 3, answer=ENOENT)
    assert health.trouble is None


@pytest.mark.parametrize(("answer", "name"), [(ENODEV, "ENODEV"), (EPERM, "EPERM")])
def test_a_queue_that_is_not_ours_is_bound_again_at_once(health: QueueHealth, answer: int, name: str) -> None:
    assert check(health, 1, answer=answer)
    assert health.trouble == f"queue 7 is not bound to natmirror ({name})"


def test_silence_has_to_last(health: QueueHealth) -> None:
    assert [check(health, after, is_unanswered=True) for after in (1, 2, 3)] == [False, False, True]
    assert health.trouble == "queue 7: the kernel has not answered for 3 s"
    health.bound_again(START + 3)
    assert health.trouble is not None, "nothing says yet that it works"
    assert [check(health, after, is_unanswered=True) for after in (4, 5, 6)] == [False, False, True]


def test_an_answer_or_unread_packets_end_the_silence(health: QueueHealth) -> None:
    assert not any(
        check(health, after, answer=ENOENT if after % 3 == 0 else None, is_unanswered=True) for after in range(9)
    )
    assert not any(check(health, 9 + after) for after in range(10)), "the answer may wait behind packets"
    assert health.trouble is None


def test_refusals_are_told_when_they_last_but_nothing_is_bound(health: QueueHealth) -> None:
    assert not any(check(health, after, is_refused=True) for after in range(int(PATIENCE)))
    assert health.trouble is None
    assert not check(health, 3, is_refused=True)
    assert health.trouble == "queue 7: the kernel has refused verdicts for 3 s"
    assert not check(health, 4, answer=ENOENT)
    assert health.trouble is None


def test_refusals_are_no_silence(health: QueueHealth) -> None:
    assert not any(check(health, after, is_refused=True, is_unanswered=True) for after in range(10))
    assert not check(health, 10, is_unanswered=True)


def test_a_process_that_was_frozen_blames_nobody(health: QueueHealth) -> None:
    assert [check(health, after, is_unanswered=True) for after in (1, 2)] == [False, False]
    assert not check(health, 60, is_unanswered=True)
    assert not check(health, 61, is_refused=True)
    assert not check(health, 120, is_refused=True)
    assert health.trouble is None


def test_a_queue_that_cannot_be_bound_is_told(health: QueueHealth) -> None:
    health.failed("another program has it", START + 1)
    assert health.trouble == "queue 7: another program has it"
