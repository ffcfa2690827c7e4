"""What becomes of a thread's queues, over socket pairs that play the kernel's part."""

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
from natmirror.linux.queue_keeper import QueueKeeper
from natmirror.reasons import DropReason
from tests.helpers.loop import Stage, new_loop
from tests.helpers.nfqueue import BATCH, NUMBER, VERDICT, answer, messages, queued


class Bypass:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def release(self) -> None:
        self.told.append("release")

    def move(self, queue_fd: int) -> None:
        self.told.append(queue_fd)


@pytest.fixture
def loop(kernels: list[socket.socket], stage: Stage) -> Iterator[Loop]:
    loop = new_loop(stage, Queue(NUMBER))
    yield loop
    loop.close()
    loop.queues[0].queue.close()


def respond(loop: Loop, kernel: socket.socket, error: int) -> None:
    """The kernel answers, and the loop reads that."""
    answer(kernel, error)
    loop.run(0.0)
    loop.run(0.0)


def test_a_queue_that_works_is_asked_once_a_second(loop: Loop, kernels: list[socket.socket]) -> None:
    keeper = QueueKeeper(loop, None, 100.0)
    for second in range(1, 10):
        assert keeper.next_at == 100.0 + second
        keeper.check(100.0 + second)
        respond(loop, kernels[0], ENOENT)
    assert keeper.trouble is None
    assert len(kernels) == 1


def test_nothing_is_asked_while_packets_have_no_verdict_yet(
    loop: Loop, kernels: list[socket.socket], stage: Stage
) -> None:
    """Else the kernel would let go of them, and take them for lost."""
    keeper = QueueKeeper(loop, None, 100.0)
    kernels[0].send(queued(1, b"E" + bytes(27)))
    stage.wake_write.send(b"?")
    assert loop.run(time.monotonic() + 5) is LoopEvent.WAKE
    keeper.check(101.0)
    assert keeper.next_at == 101.0
    assert not loop.has_punted
    assert loop.run(time.monotonic() + 5) is LoopEvent.PUNT
    assert loop.has_punted
    loop.decide(Decision(Drop(DropReason.INTERNAL_ERROR), []))
    assert not loop.has_punted
    stage.wake_read.recv(1)
    assert loop.run(0.0) is LoopEvent.TIMER
    keeper.check(101.1)
    assert [sent[:2] for sent in messages(kernels[0])] == [(VERDICT, 1), (BATCH, 1)]


def test_losses_are_counted_and_told(loop: Loop, kernels: list[socket.socket], caplog: Any) -> None:
    keeper = QueueKeeper(loop, None, 100.0)
    keeper.check(101.0)
    respond(loop, kernels[0], 0)
    keeper.check(102.0)
    assert keeper.trouble is not None
    assert loop.queues[0].queue.counters[QueueCounter.CHECKS_WITH_LOST_VERDICTS] == 1
    respond(loop, kernels[0], ENOENT)
    keeper.check(103.0)
    assert keeper.trouble is None
    assert len(caplog.records) == 2


def test_a_queue_that_is_not_ours_is_bound_again(loop: Loop, kernels: list[socket.socket]) -> None:
    loop.queues[0] = BoundQueue(loop.queues[0].queue, True)
    bypass: Any = Bypass()
    keeper = QueueKeeper(loop, bypass, 100.0)
    keeper.check(101.0)
    respond(loop, kernels[0], ENODEV)
    keeper.check(102.0)
    assert bypass.told == ["release", loop.queues[0].queue.fd], "its process shares the new socket"
    assert len(kernels) == 2
    assert keeper.trouble is not None
    keeper.check(103.0)
    respond(loop, kernels[1], ENOENT)
    keeper.check(104.0)
    assert keeper.trouble is None
    assert loop.queues[0].queue.counters[QueueCounter.REBINDS] == 1


def test_a_queue_that_has_failed_is_told_until_it_works(loop: Loop, kernels: list[socket.socket]) -> None:
    keeper = QueueKeeper(loop, None, 100.0)
    loop.queues[0].queue.drop(1)
    kernels[0].close()
    loop.run(0.0)
    keeper.check(101.0)
    keeper.check(102.0)
    assert keeper.trouble == f"queue {NUMBER}: its socket fails: EPIPE"
    respond(loop, kernels[1], ENOENT)
    keeper.check(103.0)
    assert keeper.trouble is None


def test_what_cannot_be_bound_is_tried_again_each_second_and_told_once(
    loop: Loop, kernels: list[socket.socket], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def refuse(queue: Queue) -> Queue:
        raise HostError("another program has it")

    loop.queues[0].queue.close()
    keeper = QueueKeeper(loop, None, 100.0)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(Queue, "bind_again", refuse)
        for second in range(1, 6):
            keeper.check(100.0 + second)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert keeper.trouble == f"queue {NUMBER}: another program has it"
    keeper.check(106.0)
    assert len(kernels) == 2


def test_a_queue_that_cannot_even_be_probed_does_not_keep_the_others_from_it(
    loop: Loop, kernels: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(now: float) -> None:
        raise MemoryError

    keeper = QueueKeeper(loop, None, 100.0)
    asked: list[float] = []
    first, second = loop.queues[0], BoundQueue(loop.queues[0].queue, False)
    monkeypatch.setattr(loop, "queues", [first, second])
    keeper._healths.append(keeper._healths[0])
    calls = iter([fail, asked.append])
    monkeypatch.setattr(first.queue, "probe", lambda now: next(calls)(now))
    keeper.check(101.0)
    assert asked == [101.0]
    assert keeper.trouble is not None
    assert "MemoryError" in keeper.trouble
