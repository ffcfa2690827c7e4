"""The check of a thread's queues, over socket pairs that play the kernel's part."""

import logging
import socket
import time
from collections.abc import Iterator
from errno import ENODEV, ENOENT
from typing import Any

import pytest

from natmirror.actions import Decision, Drop
from natmirror.errors import HostError
from natmirror.linux.counters import QueueCounter
from natmirror.linux.loop import BoundQueue, Loop, LoopEvent
from natmirror.linux.nfqueue import Queue
from natmirror.linux.queue_monitor import QueueMonitor
from natmirror.reasons import DropReason
from tests.helpers.loop import Stage, new_loop
from tests.helpers.nfqueue import BATCH, NUMBER, VERDICT, answer, messages, queued


class Bypass:
    """Records the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def release(self) -> None:
        self.calls.append("release")

    def move(self, queue_fd: int) -> None:
        self.calls.append(queue_fd)


@pytest.fixture
def loop(kernels: list[socket.socket], stage: Stage) -> Iterator[Loop]:
    loop = new_loop(stage, Queue(NUMBER))
    yield loop
    loop.close()
    loop.queues[0].queue.close()


def respond(loop: Loop, kernel: socket.socket, error: int) -> None:
    """Send the kernel's answer, and have the loop read it."""
    answer(kernel, error)
    loop.run(0.0)
    loop.run(0.0)


def test_a_queue_that_works_is_probed_once_a_second(loop: Loop, kernels: list[socket.socket]) -> None:
    monitor = QueueMonitor(loop, None, 100.0)
    for second in range(1, 10):
        assert monitor.next_at == 100.0 + second
        monitor.check(100.0 + second)
        respond(loop, kernels[0], ENOENT)
    assert monitor.problem is None
    assert len(kernels) == 1


def test_no_queue_is_probed_while_packets_have_no_verdict(
    loop: Loop, kernels: list[socket.socket], stage: Stage
) -> None:
    """Otherwise the kernel would release these packets as if their verdicts were lost."""
    monitor = QueueMonitor(loop, None, 100.0)
    kernels[0].send(queued(1, b"E" + bytes(27)))
    stage.wake_write.send(b"?")
    assert loop.run(time.monotonic() + 5) is LoopEvent.WAKE
    monitor.check(101.0)
    assert monitor.next_at == 101.0
    assert not loop.has_punted
    assert loop.run(time.monotonic() + 5) is LoopEvent.PUNT
    assert loop.has_punted
    loop.decide(Decision(Drop(DropReason.INTERNAL_ERROR), []))
    assert not loop.has_punted
    stage.wake_read.recv(1)
    assert loop.run(0.0) is LoopEvent.TIMER
    monitor.check(101.1)
    assert [sent[:2] for sent in messages(kernels[0])] == [(VERDICT, 1), (BATCH, 1)]


def test_lost_verdicts_are_counted_and_logged(loop: Loop, kernels: list[socket.socket], caplog: Any) -> None:
    monitor = QueueMonitor(loop, None, 100.0)
    monitor.check(101.0)
    respond(loop, kernels[0], 0)
    monitor.check(102.0)
    assert monitor.problem is not None
    assert loop.queues[0].queue.counters[QueueCounter.CHECKS_WITH_LOST_VERDICTS] == 1
    respond(loop, kernels[0], ENOENT)
    monitor.check(103.0)
    assert monitor.problem is None
    assert len(caplog.records) == 2


def test_a_queue_that_is_not_ours_is_bound_again(loop: Loop, kernels: list[socket.socket]) -> None:
    loop.queues[0] = BoundQueue(loop.queues[0].queue, True)
    bypass: Any = Bypass()
    monitor = QueueMonitor(loop, bypass, 100.0)
    monitor.check(101.0)
    respond(loop, kernels[0], ENODEV)
    monitor.check(102.0)
    assert bypass.calls == ["release", loop.queues[0].queue.fd], "its process shares the new socket"
    assert len(kernels) == 2
    assert monitor.problem is not None
    monitor.check(103.0)
    respond(loop, kernels[1], ENOENT)
    monitor.check(104.0)
    assert monitor.problem is None
    assert loop.queues[0].queue.counters[QueueCounter.REBINDS] == 1


def test_a_failed_queue_is_a_problem_until_it_works_again(loop: Loop, kernels: list[socket.socket]) -> None:
    monitor = QueueMonitor(loop, None, 100.0)
    loop.queues[0].queue.drop(1)
    kernels[0].close()
    loop.run(0.0)
    monitor.check(101.0)
    monitor.check(102.0)
    assert monitor.problem == f"queue {NUMBER}: its socket fails: EPIPE"
    respond(loop, kernels[1], ENOENT)
    monitor.check(103.0)
    assert monitor.problem is None


def test_a_queue_that_cannot_be_bound_is_tried_again_each_second_and_logged_once(
    loop: Loop, kernels: list[socket.socket], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def refuse(queue: Queue) -> Queue:
        raise HostError("another program has it")

    loop.queues[0].queue.close()
    monitor = QueueMonitor(loop, None, 100.0)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(Queue, "bind_again", refuse)
        for second in range(1, 6):
            monitor.check(100.0 + second)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert monitor.problem == f"queue {NUMBER}: another program has it"
    monitor.check(106.0)
    assert len(kernels) == 2


def test_a_queue_whose_probe_raises_does_not_prevent_those_of_the_others(
    loop: Loop, kernels: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(now: float) -> None:
        raise MemoryError

    monitor = QueueMonitor(loop, None, 100.0)
    probed: list[float] = []
    first, second = loop.queues[0], BoundQueue(loop.queues[0].queue, False)
    monkeypatch.setattr(loop, "queues", [first, second])
    monitor._healths.append(monitor._healths[0])
    calls = iter([fail, probed.append])
    monkeypatch.setattr(first.queue, "probe", lambda now: next(calls)(now))
    monitor.check(101.0)
    assert probed == [101.0]
    assert monitor.problem is not None
    assert "MemoryError" in monitor.problem
