"""A worker, with a loop that has no queues."""

import os
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natmirror.actions import Decision, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.errors import HostError
from natmirror.fastpath import Memory
from natmirror.lab.process import wait_for
from natmirror.linux.cores import first_share, thread_count
from natmirror.linux.loop import LoopEvent, Punted
from natmirror.linux.nfqueue import Packet
from natmirror.mirror.faults import Work
from natmirror.mirror.timers import TimerKind
from natmirror.net.checksum import Checksum
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import parse_rules
from natmirror.rules.shards import ALL
from natmirror.runtime.mailbox import settle
from natmirror.runtime.selection import Selection
from natmirror.runtime.worker import Worker
from tests.helpers.listener import Listener
from tests.helpers.support import RULES, SERVICE, at, packet


class Loop:
    """Waits until the worker is woken; raises ``then`` if there is one."""

    def __init__(self, wake_fd: int, then: Exception | None = None) -> None:
        self.wake_fd = wake_fd
        self.then = then
        self.has_punted = False
        self.decided: list[Decision] = []
        self.shares: list[float] = []
        """Those of a core for which the thread goes first, one after the other."""

    def go_first(self, share: float) -> None:
        self.shares.append(share)

    def go_first_no_more(self) -> None:
        self.shares.append(0.0)

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
    """Punts a packet first."""

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


def test_a_request_that_is_given_up_is_not_done_later(worker: Worker) -> None:
    begin(worker)
    may_continue, done = Event(), list[int]()
    worker.post(lambda: wait_for(may_continue.is_set, "the test"))
    with pytest.raises(TimeoutError):
        worker.ask(lambda: done.append(7), 0.01)
    may_continue.set()
    assert worker.ask(lambda: 1) == 1
    assert done == []
    worker.stop()


def test_a_request_between_two_deadlines_has_the_thread_look_at_no_deadline(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(worker)
    worker.ask(lambda: None)
    looks = list[float]()
    monkeypatch.setattr(worker, "_do_what_is_due", lambda: looks.append(0.0))
    rounds = worker.rounds
    assert worker.ask(lambda: 1) == 1
    wait_for(lambda: worker.rounds > rounds, "the end of the round")
    assert looks == []


def test_an_answer_costs_the_thread_more_than_the_answer_itself(worker: Worker) -> None:
    begin(worker)
    worker.engine.snapshot()
    before = worker.answering_seconds
    for _ in range(10):
        worker.engine.snapshot()
    assert worker.answering_seconds - before > 10 * 0.00015


def test_the_thread_answers_requests_and_after_its_end_the_caller_does(worker: Worker) -> None:
    begin(worker)
    assert worker.engine.snapshot()["flows"] == 0
    assert [flow for part in worker.engine.flows(Selection({}, of_legs=False)) for flow in part] == []
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda: 1 / 0)
    worker.stop()
    assert worker.engine.snapshot()["flows"] == 0
    assert worker.failure is None


def test_a_thread_goes_first_until_it_has_passed_the_last_packet(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(worker)
    loop, seen = cast(Any, worker._loop), list[list[float]]()
    worker.ask(lambda: seen.append(list(loop.shares)))

    def close() -> list[Send]:
        seen.append(list(loop.shares))
        return []

    monkeypatch.setattr(worker._engine, "close", close)
    worker.stop()
    assert seen == [[first_share(1)], [first_share(1), 0.0]]


def test_repeated_errors_end_the_thread_and_the_last_one_is_kept(worker: Worker, listener: Listener) -> None:
    begin(worker, HostError("a queue fails"))
    assert listener.ended.wait(10.0)
    worker.stop()
    assert isinstance(worker.failure, HostError)


def test_a_request_to_a_thread_that_has_ended_does_no_harm(worker: Worker) -> None:
    begin(worker)
    worker.stop()
    worker._waker.close()
    worker.post(lambda: pytest.fail("the thread has ended"))


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (3, 2), (7, 4), (64, 16), (100, 16)])
def test_there_are_as_many_threads_as_cores_rounded_down(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    rules = parse_rules(RULES)
    assert thread_count(rules) == count
    assert thread_count(replace(rules, threads=8)) == 8


def test_a_caller_does_not_wait_for_ever_for_a_thread_that_fails(worker: Worker, listener: Listener) -> None:
    def fail() -> None:
        asked.wait(10)
        raise SystemExit("not to be survived")

    asked = Event()
    begin(worker)
    worker.post(fail)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(worker.engine.prune)
        wait_for(lambda: len(worker._mailbox) == 1, "the question")
        asked.set()
        assert answer.result(10) == []
    assert listener.ended.is_set()
    assert isinstance(worker.failure, SystemExit)


def test_a_request_that_raises_affects_neither_the_thread_nor_other_requests(
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
def test_work_of_a_round_that_raises_does_not_prevent_other_work(
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


def test_occasional_errors_do_not_end_the_thread(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("natmirror.runtime.worker.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    begin(worker, HostError("now and then"))
    wait_for(lambda: worker.internal_errors > 30, "many errors, each some seconds after the one before")
    worker._loop.then = None  # type: ignore[attr-defined]
    worker.stop()
    assert worker.failure is None


@pytest.mark.parametrize("failing", ["_engine.shard_of", "_engine.decide", "_loop.punted"])
def test_a_packet_whose_decision_raises_is_dropped_and_the_thread_goes_on(
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


def test_a_packet_from_an_unknown_hook_is_dropped_and_the_thread_goes_on(worker: Worker) -> None:
    loop = PuntingLoop(worker._waker.fd, Packet(1, 1, bytes(20), Checksum.VALID, False))
    worker._loop = loop  # type: ignore[assignment]
    worker.start([worker])
    wait_for(lambda: len(loop.decided) == 1, "a verdict")
    worker.stop()
    assert worker.failure is None


def test_requests_to_a_thread_that_has_failed_are_answered(worker: Worker, listener: Listener) -> None:
    begin(worker, HostError("a queue fails"))
    assert listener.ended.wait(10.0)
    assert worker.ask(lambda: 1) == 1
    assert worker.request(lambda: 2).result(10.0) == 2
    assert worker.request(lambda: 3).result(10.0) == 3


def test_a_request_to_a_thread_that_is_about_to_end_is_answered(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:  # the thread has read its mailbox for the last time
        ended.set()
        assert may_end.wait(10.0)

    def is_alive() -> bool:
        answer = was_alive()
        if len(worker._mailbox):
            may_end.set()
        return answer

    ended, may_end = Event(), Event()
    was_alive = worker._thread.is_alive
    monkeypatch.setattr(worker._listener, "on_end", end)
    monkeypatch.setattr(worker._thread, "is_alive", is_alive)
    begin(worker, HostError("a queue fails"))
    assert ended.wait(10.0)
    assert worker.ask(lambda: 1) == 1


def test_a_request_that_is_answered_already_is_not_answered_again(
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


def test_after_an_error_in_a_report_all_bindings_are_reported_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    reports: list[tuple[list[BindingChange], bool]] = []
    adapter = EngineAdapter(worker._engine, lambda actions: None, lambda *report: reports.append(report))
    monkeypatch.setattr(worker._engine.bindings, "take_changes", fail)
    with pytest.raises(ZeroDivisionError):
        adapter.report_bindings(1e9)
    assert reports == [([], True)]


def test_a_slice_that_raises_does_not_prevent_the_next_slices(worker: Worker) -> None:
    def do(ids: list[int]) -> list[Send]:
        seen.append(len(ids))
        raise ZeroDivisionError

    seen: list[int] = []
    begin(worker)
    worker.post(lambda: worker.engine._in_slices(list(range(500)), do))
    wait_for(lambda: sum(seen) == 500, "all slices")
    worker.stop()


def test_an_internal_error_in_mirroring_is_logged_with_its_traceback(
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


def test_a_client_over_its_limit_is_reported_once_a_minute(worker: Worker, listener: Listener) -> None:
    engine = worker._engine

    def exceed(now: float) -> None:
        for number in range(2000):
            raw = packet(at("10.10.0.66", 1024 + number), SERVICE, "S", 1, 0, b"x")
            engine.receive(raw, Hook.PREROUTING, now, Checksum.VALID)

    worker._report_refusals(1000.0)
    assert listener.refusals == []
    exceed(1000.0)
    worker._report_refusals(1000.0)
    assert [(one.address, one.most) for one in listener.refusals] == [(bytes((10, 10, 0, 66)), 1500)]
    assert worker._refusals_at == 1060.0
    exceed(1001.0)
    worker._report_refusals(1060.0)
    assert len(listener.refusals) == 2
