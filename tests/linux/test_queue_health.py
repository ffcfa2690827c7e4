"""One queue's health, with a clock and answers from the test."""

from errno import ENODEV, ENOENT, EPERM

import pytest

from natmirror.linux.queue_health import ANSWER_TIMEOUT, QueueHealth

START = 100.0


def check(
    health: QueueHealth,
    after: float,
    *,
    answer: int | None = None,
    is_refused: bool = False,
    is_unanswered: bool = False,
) -> bool:
    """Check so many seconds after the start."""
    return health.check(answer=answer, is_refused=is_refused, is_unanswered=is_unanswered, now=START + after)


@pytest.fixture
def health() -> QueueHealth:
    return QueueHealth(7, START)


def test_a_queue_works_while_the_kernel_holds_no_decided_packets(health: QueueHealth) -> None:
    assert not any(check(health, after, answer=ENOENT) for after in range(10))
    assert health.problem is None


def test_lost_verdicts_are_a_problem_until_a_probe_finds_none(health: QueueHealth) -> None:
    assert not check(health, 1, answer=0), "the probe has released these packets"
    assert health.problem == "queue 7: the kernel did not get the verdicts of some packets"
    assert not check(health, 2)
    assert health.problem is not None
    assert not check(health, 3, answer=ENOENT)
    assert health.problem is None


@pytest.mark.parametrize(("answer", "name"), [(ENODEV, "ENODEV"), (EPERM, "EPERM")])
def test_a_queue_that_is_not_ours_is_bound_again_at_once(health: QueueHealth, answer: int, name: str) -> None:
    assert check(health, 1, answer=answer)
    assert health.problem == f"queue 7 is not bound to natmirror ({name})"


def test_a_queue_without_answers_is_bound_again_after_the_timeout(health: QueueHealth) -> None:
    assert [check(health, after, is_unanswered=True) for after in (1, 2, 3)] == [False, False, True]
    assert health.problem == "queue 7: the kernel has not answered for 3 s"
    health.bound_again(START + 3)
    assert health.problem is not None, "no answer says yet that it works"
    assert [check(health, after, is_unanswered=True) for after in (4, 5, 6)] == [False, False, True]


def test_an_answer_or_unread_packets_restart_the_timeout(health: QueueHealth) -> None:
    assert not any(
        check(health, after, answer=ENOENT if after % 3 == 0 else None, is_unanswered=True) for after in range(9)
    )
    assert not any(check(health, 9 + after) for after in range(10)), "the answer may wait behind packets"
    assert health.problem is None


def test_lasting_refusals_are_a_problem_but_the_queue_is_not_bound_again(health: QueueHealth) -> None:
    assert not any(check(health, after, is_refused=True) for after in range(int(ANSWER_TIMEOUT)))
    assert health.problem is None
    assert not check(health, 3, is_refused=True)
    assert health.problem == "queue 7: the kernel has refused verdicts for 3 s"
    assert not check(health, 4, answer=ENOENT)
    assert health.problem is None


def test_refusals_restart_the_answer_timeout(health: QueueHealth) -> None:
    assert not any(check(health, after, is_refused=True, is_unanswered=True) for after in range(10))
    assert not check(health, 10, is_unanswered=True)


def test_time_in_which_the_process_was_frozen_does_not_count(health: QueueHealth) -> None:
    assert [check(health, after, is_unanswered=True) for after in (1, 2)] == [False, False]
    assert not check(health, 60, is_unanswered=True)
    assert not check(health, 61, is_refused=True)
    assert not check(health, 120, is_refused=True)
    assert health.problem is None


def test_a_queue_that_cannot_be_bound_is_a_problem(health: QueueHealth) -> None:
    health.failed("another program has it", START + 1)
    assert health.problem == "queue 7: another program has it"
