"""A worker, with a loop that is none."""

import os
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event
from types import SimpleNamespace

import pytest

from natmirror.actions import Decision, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.errors import HostError
from natmirror.fastpath import Memory
from natmirror.lab.process import wait_for
from natmirror.linux.loop import LoopEvent, Punted
from natmirror.linux.nfqueue import Packet
from natmirror.mirror.faults import Work
from natmirror.mirror.timers import TimerKind
from natmirror.net.checksum import Checksum
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import parse_rules
from natmirror.rules.shards import ALL
from natmirror.runtime.mailbox import settle
from natmirror.runtime.runner import thread_count
from natmirror.runtime.worker import Worker
from tests.helpers.listener import Listener
from tests.helpers.support import RULES


class Loop:
    """Waits for mail; then raises ``then``."""

    def __init__(self, wake_fd: int, then: Exception | None = None) -> None:
        self.wake_fd = wake_fd
        self.then = then
        self.has_punted = False
        self.decided: list[Decision] = []

    def run(self, until: float) -> LoopEvent:
        if self.then is not None:
            raise self.then
        select.select([self.wake_fd], [], [])
        return LoopEvent.WAKE

    def decide(self, decision: Decision) -> None:
        self.has_punted = False
        self.decided.append(decision)

    def send(self, sends: list[object]) -> None:
        assert sends == []

    def flush(self) -> None:
        pass


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def worker(listener: Listener) -> Iterator[Worker]:
    rules = parse_rules(RULES)
    one = Worker(rules, ALL, Engine(rules, key=bytes(16), memory=Memory(1 << 20)), listener)
    one._waker.open()
    yield one
    one.stop()
    one._waker.close()


class PuntingLoop(Loop):
    """Begins with a packet for Python."""

    def __init__(self, wake_fd: int, packet: Packet) -> None:
        super().__init__(wake_fd)
        self.packet = packet
        self.has_punted = True

    def run(self, until: float) -> LoopEvent:
        return LoopEvent.PUNT if self.has_punted else super().run(until)

    def punted(self) -> Punted:
        return Punted(self.packet, 1.0)


def begin(worker: Worker, then: Exception | None = None) -> None:
    worker._loop = Loop(worker._waker.fd, then)  # type: ignore[assignment]
    worker.start([worker])


def test_what_is_asked_is_answered_by_the_thread_and_after_it_by_whoever_asks(worker: Worker) -> None:
    begin(worker)
    assert worker.engine.snapshot()["flows"] == 0
    assert worker.engine.flows() == []
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda: 1 / 0)
    worker.stop()
    assert worker.engine.snapshot()["flows"] == 0
    assert worker.failure is None


def test_a_failure_ends_the_thread_and_is_kept(worker: Worker, listener: Listener) -> None:
    begin(worker, HostError("a queue fails"))
    assert listener.ended.wait(10.0)
    worker.stop()
    assert isinstance(worker.failure, HostError)


def test_mail_for_one_that_is_over_does_no_harm(worker: Worker) -> None:
    begin(worker)
    worker.stop()
    worker._waker.close()
    worker.post(lambda: pytest.fail("nobody is there"))


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (3, 2), (7, 4), (64, 16), (100, 16)])
def test_there_are_as_many_threads_as_cores_rounded_down(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    rules = parse_rules(RULES)
    assert thread_count(rules) == count
    assert thread_count(replace(rules, threads=8)) == 8


def test_one_who_waits_for_a_thread_that_fails_does_not_wait_for_ever(worker: Worker, listener: Listener) -> None:
    def fail() -> None:
        asked.wait(10)
        raise SystemExit("not to be survived")

    asked = Event()
    begin(worker)
    worker.post(fail)
    with ThreadPoolExecutor(1) as somebody:
        answer = somebody.submit(worker.engine.prune)
        wait_for(lambda: len(worker._mailbox) == 1, "the question")
        asked.set()
        assert answer.result(10) == []
    assert listener.ended.is_set()
    assert isinstance(worker.failure, SystemExit)


def test_mail_that_raises_costs_neither_the_thread_nor_other_mail(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise HostError("a mistake")

    begin(worker)
    worker.post(fail)
    done = Event()
    worker.post(done.set)
    assert done.wait(10.0)
    worker.stop()
    assert worker.failure is None
    assert worker.internal_errors == 1
    assert "a mistake" in caplog.text


@pytest.mark.parametrize("failing", ["replication.report_bindings", "_report_events", "_engine.handle_timer"])
def test_a_chore_of_the_thread_that_raises_costs_no_other(
    worker: Worker, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    *path, name = failing.split(".")
    monkeypatch.setattr(getattr(worker, path[0]) if path else worker, name, fail)
    worker._engine._timers.set((TimerKind.WINDOW_UPDATE, None), 0.0)
    begin(worker)
    before = worker.rounds
    done = Event()
    worker.post(done.set)
    assert done.wait(10.0)
    wait_for(lambda: worker.rounds > before, "a round")
    assert worker.failure is None


def test_the_loop_may_fail_now_and_then(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("natmirror.runtime.worker.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    begin(worker, HostError("now and then"))
    wait_for(lambda: worker.internal_errors > 30, "many errors, each some seconds after the one before")
    worker._loop.then = None  # type: ignore[attr-defined]
    worker.stop()
    assert worker.failure is None


@pytest.mark.parametrize("failing", ["_engine.shard_of", "_engine.decide", "_loop.punted"])
def test_a_packet_that_nobody_can_decide_gets_a_verdict_and_costs_no_thread(
    worker: Worker, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    loop = PuntingLoop(worker._waker.fd, Packet(1, Hook.PREROUTING, bytes(20), Checksum.VALID, False))
    worker._loop = loop  # type: ignore[assignment]
    place, name = failing.split(".")
    monkeypatch.setattr(getattr(worker, place), name, fail)
    worker.start([worker])
    wait_for(lambda: len(loop.decided) == 1, "a verdict")
    worker.stop()
    assert worker.failure is None
    assert worker.internal_errors == 1


def test_a_packet_of_a_hook_that_no_rule_of_ours_has_costs_no_thread(worker: Worker) -> None:
    loop = PuntingLoop(worker._waker.fd, Packet(1, 1, bytes(20), Checksum.VALID, False))
    worker._loop = loop  # type: ignore[assignment]
    worker.start([worker])
    wait_for(lambda: len(loop.decided) == 1, "a verdict")
    worker.stop()
    assert worker.failure is None


def test_a_thread_that_has_failed_answers_all_the_same(worker: Worker, listener: Listener) -> None:
    begin(worker, HostError("a queue fails"))
    assert listener.ended.wait(10.0)
    assert worker.ask(lambda: 1) == 1
    assert worker.request(lambda: 2).result(10.0) == 2
    assert worker.request(lambda: 3).result(10.0) == 3


def test_a_question_that_was_answered_meanwhile_is_not_answered_twice(
    worker: Worker, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    begin(worker, HostError("a queue fails"))
    assert listener.ended.wait(10.0)
    worker.stop()
    caplog.clear()
    answer = worker.request(lambda: 1)
    worker.post(partial(settle, answer, lambda: 2))
    assert worker.request(lambda: 3).result(10.0) == 3
    assert answer.result() == 1
    assert not caplog.records


def test_bindings_that_cannot_be_told_are_told_anew(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    told: list[tuple[list[BindingChange], bool]] = []
    adapter = EngineAdapter(worker._engine, lambda actions: None, lambda *change: told.append(change))
    monkeypatch.setattr(worker._engine.bindings, "take_changes", fail)
    with pytest.raises(ZeroDivisionError):
        adapter.report_bindings(1e9)
    assert told == [([], True)]


def test_a_slice_that_fails_does_not_end_what_is_done_bit_by_bit(worker: Worker) -> None:
    def do(ids: list[int]) -> list[Send]:
        seen.append(len(ids))
        raise ZeroDivisionError

    seen: list[int] = []
    begin(worker)
    worker.post(lambda: worker.engine._in_slices(list(range(500)), do))
    wait_for(lambda: sum(seen) == 500, "all slices")
    worker.stop()


def test_what_failed_in_mirroring_is_logged_with_its_traceback(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise ZeroDivisionError("a mistake")
    except ZeroDivisionError as error:
        worker._engine.faults.note(Work.COPY, "10.10.0.11:40001", error)
    begin(worker)
    worker.engine.resume_mirroring()
    worker.stop()
    assert "internal error in copies for client 10.10.0.11:40001" in caplog.text
    assert "ZeroDivisionError: a mistake" in caplog.text
