"""The process of the judges: started, fed, asked, killed, and ended."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natmirror.fastpath import Memory
from natmirror.findings import Findings
from natmirror.net.build import finish
from natmirror.net.packet import Segment
from natmirror.openflow.comparison.results import AnswerResult
from natmirror.openflow.comparison.statements import StatementKind
from natmirror.openflow.messages import Type
from natmirror.openflow.tables.statistics import Bodies
from natmirror.rules import Rules, parse_rules
from natmirror.runtime import judges_process
from natmirror.runtime.judges_process import JudgesProcess
from natmirror.runtime.statement_pipe import StatementPipe
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.comparison import frame, packet_in, packet_out
from tests.helpers.flow_tables import output
from tests.helpers.openflow_sessions import OF, Master, introduced, request
from tests.helpers.support import segment

ON = OF.replace("protocol: openflow", "protocol: openflow, verdict: on, warm-up: 0s")
FLOW_STATISTICS = b"\0\1\0\0" + bytes(4) + bytes((0xFF, 0, 0, 0)) + b"\xff" * 8 + bytes(20) + b"\0\1\0\4" + bytes(4)
MODEL = {"master": ["openflow", "master", "10.20.0.13:6653", None, "", False], "moment": 0.0}


class _Worker:
    """A packet thread with a switch and its master, which does at once what it is asked, in the test's thread."""

    def __init__(self, rules: str) -> None:
        self.real = engine(rules)
        self.real.statements.close()
        self.real.judge_until = lambda now: None  # type: ignore[method-assign]  # they are in the process
        self.pipe = StatementPipe(self.real.statements)
        self.streams: list[socket.socket | None] = []
        self.engine = SimpleNamespace(take_statistics=self._take_statistics, judge_failed=self._failed)
        self._posted: list[Callable[[], Any]] = []
        self.failures: list[str] = []
        self.packets: list[Segment] = []
        """Packets to the master, because of what the process has answered."""

    def judge(self, stream: socket.socket | None) -> None:
        self._posted.append(lambda: self._judge(stream))

    def _judge(self, stream: socket.socket | None) -> None:
        self.streams.append(stream)
        self.pipe.connect(stream)
        self.real.judge(self.real.flow_ids(), time.monotonic())

    def _take_statistics(self, session: int, question: int, bodies: Bodies | None) -> None:
        self._posted.append(lambda: self.real.take_statistics(session, question, bodies, time.monotonic()))

    def _failed(self, client: str, error: Exception) -> None:
        self.failures.append(f"{client} {error}")

    def run(self) -> None:
        """Do what is posted, and send what waits."""
        while self._posted:
            for send in self._posted.pop(0)() or ():
                self.packets += [segment(one) for one in finish(send.packet, send.segment_len)]
        if self.pipe.next_at <= time.monotonic():
            self.pipe.send(time.monotonic())


class _World:
    """A process of the judges with one packet thread."""

    def __init__(self, rules: str, memory: Memory) -> None:
        self.worker, self.memory, self.findings = _Worker(rules), memory, Findings()
        self.held = ExitStack()
        self.judges = JudgesProcess([cast(Any, self.worker)], memory, self.findings, self.rules(rules))

    @staticmethod
    def rules(text: str) -> Rules:
        return parse_rules("mirror-memory: 64MiB\n" + text)

    def open(self) -> None:
        self.judges.open(self.held)

    def wait(self, until: Callable[[], Any], what: str) -> Any:
        """Wait until something is true, while the packet thread works; return it."""
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            self.worker.run()
            if found := until():
                return found
            time.sleep(0.01)
        raise AssertionError(f"waited in vain for {what}")

    def running(self, not_pid: int | None = None) -> int:
        """Wait for a process that the packet thread is connected with, and return its id."""
        pid: int = self.wait(
            lambda: self.judges.pid if self.judges.pid != not_pid and self.worker.real.statements.is_open else None,
            "the process",
        )
        return pid

    def connection(self) -> tuple[ClientConnection, Master]:
        """Return a switch and its master, which answers a PACKET_IN as production's controller does."""
        connection, master = introduced(self.worker.real)
        connection.now = time.monotonic()
        connection.from_client("PA", packet_in(frame()).raw)
        master.take()
        answer = packet_out(frame(), output(1)).raw
        connection.from_backend("PA", answer)
        master.say(answer)
        return connection, master

    def look(self) -> Any:
        self.worker.run()
        return self.judges.ask("look", **MODEL)


@pytest.fixture
def world() -> Iterator[_World]:
    made = _World(ON, Memory(64 << 20))
    made.open()
    yield made
    made.held.close()
    made.worker.run()
    assert made.memory.used == 0
    assert made.judges.pid is None


def test_it_has_no_rights_and_ends_with_natmirror(world: _World) -> None:
    pid = world.running()
    assert world.memory.used == 16 << 20, "a quarter of mirror-memory"
    world.look()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    state = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert all(state[name] == ["0" * 16] for name in ("CapPrm", "CapEff", "CapAmb"))
    assert state["NoNewPrivs"] == ["1"]
    if os.geteuid() == 0:
        assert "0" not in state["Uid"] + state["Gid"]
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE, "packet threads take the processor from it at once"
    assert os.getsid(pid) == os.getsid(0), "which the kernel compares inside a session only"
    world.held.close()
    assert not Path(f"/proc/{pid}").exists()


def test_it_judges_what_a_packet_thread_says(world: _World) -> None:
    world.running()
    world.connection()

    def equal() -> int:
        sums = world.judges.sums("openflow", "master")
        return 0 if sums is None else sums["answers"][AnswerResult.EQUAL]

    world.wait(equal, "an answer")
    look = world.look()
    assert look["verdict"] == "too-little"
    assert world.worker.failures == []


def test_it_answers_a_masters_statistics(world: _World) -> None:
    world.running()
    connection, master = world.connection()
    master.say(request(Type.MULTIPART_REQUEST, 80, FLOW_STATISTICS))
    assert (Type.MULTIPART_REPLY, 80) not in [one[:2] for one in master.messages()]

    def reply() -> bool:
        connection.to_mirror += world.worker.packets
        world.worker.packets.clear()
        master.take()
        return (Type.MULTIPART_REPLY, 80) in [one[:2] for one in master.messages()]

    world.wait(reply, "the reply")


def test_a_killed_process_is_started_again_and_what_was_lost_is_said(world: _World) -> None:
    pid = world.running()
    connection, _ = world.connection()
    world.wait(lambda: world.judges.sums("openflow", "master"), "sums")
    os.kill(pid, signal.SIGKILL)
    world.running(not_pid=pid)
    [found] = world.findings.all()
    assert found.code.value == "verdicts-lost"
    assert "by signal 9" in str(found)
    connection.from_client("PA", packet_in(frame(2)).raw)
    world.wait(lambda: world.judges.sums("openflow", "master"), "sums again")
    assert world.judges.failures() == []
    assert not world.worker.real.faults.counts


def test_a_process_that_does_not_answer_is_named(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = world.running()
    world.look()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(judges_process, "_ANSWER_TIMEOUT", 0.2)
    with pytest.raises(TimeoutError, match=r"the judges' process has not answered within 0\.2 s"):
        world.look()
    monkeypatch.undo()
    Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(TimeoutError, match="the judges' process has ended: natmirror starts it again"):
        world.look()
    world.running(not_pid=pid)


def test_without_a_verdict_there_is_no_process(world: _World) -> None:
    world.running()
    world.judges.follow(world.rules(OF))
    world.wait(lambda: world.judges.pid is None and not world.memory.used, "the end")
    assert not world.worker.real.statements.is_open
    assert world.judges.failures() == []
    world.judges.follow(world.rules(ON))
    world.running()


def test_other_memory_of_the_rules_is_followed(world: _World) -> None:
    world.running()
    world.judges.follow(parse_rules("mirror-memory: 32MiB\n" + ON))
    world.wait(lambda: world.memory.used == 8 << 20, "the smaller part")
    world.look()


def test_without_room_for_it_no_process_runs_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges_process, "_PAUSES", (0.05, 0.05))
    world = _World(ON, Memory(64 << 20))
    assert world.memory.take(60 << 20)
    world.open()
    [failure] = world.wait(world.judges.failures, "the failure")
    assert "there is no quarter of it for judges" in failure["error"]
    with pytest.raises(TimeoutError):
        world.look()
    world.memory.give(60 << 20)
    world.running()
    world.wait(lambda: not world.judges.failures(), "it to run")
    world.held.close()


def test_a_packet_thread_that_begins_again_gets_another_process(world: _World) -> None:
    pid = world.running()
    world.worker.real.statements.close()
    world.running(not_pid=pid)


def test_an_internal_error_in_a_judge_comes_back_and_ends_nothing_else(world: _World) -> None:
    pid = world.running()
    world.connection()
    world.worker.real.statements.add(StatementKind.JOINED, 1, time.monotonic(), b"{}", 99)
    [failure] = world.wait(lambda: world.worker.failures, "the fault")
    assert failure.startswith("10.10.0.11:40001 Traceback")
    assert "IndexError" in failure
    assert world.running() == pid


def test_a_process_that_talks_nonsense_is_ended(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = world.running()
    monkeypatch.setattr(judges_process, "_MAX_ANSWER_LEN", 0)
    monkeypatch.setattr(judges_process, "_PAUSES", (0.05, 0.05))
    os.kill(pid, signal.SIGKILL)
    [failure] = world.wait(
        lambda: [one for one in world.judges.failures() if "does not understand" in one["error"]], "the failure"
    )
    assert failure["name"] == "the judges' process"
