"""The API's process: its rights, its end, and clients that give up."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from natmirror import unprivileged
from natmirror.api import frames
from natmirror.api.client import ask, ask_list, send_command
from natmirror.errors import HostError
from natmirror.lab.process import wait_for
from natmirror.rules import parse_rules
from natmirror.runtime import api_process
from natmirror.runtime.allowance import Allowance
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.api_process import ApiProcess
from tests.helpers.status import status_document
from tests.helpers.support import RULES

FLOWS = 20_000
SLICE = 200
COMMAND = {"service": "s", "backend": "b"}
PARTS = [[([0, 1], {"n": 1})], [], [([0, 2], {"n": 2})]]


class GivenAllowance(Allowance):
    """Lets answers wait while ``is_spent``."""

    def __init__(self) -> None:
        super().__init__([])
        self.is_spent = False
        self.asked = 0

    def pause(self, now: float) -> float:
        self.asked += 1
        return 0.01 if self.is_spent else super().pause(now)


class World:
    """A natmirror with a list of flows, and a thread that obeys commands when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.allowance = GivenAllowance()
        self.status: dict[str, Any] = {"pid": os.getpid()}
        self.made = 0
        self.commands: list[Future[Any]] = []
        self.arguments: list[dict[str, Any]] = []
        self.addresses = ApiAddresses(parse_rules(RULES))
        self.api = ApiProcess(
            path,
            self.addresses,
            {"status": lambda _: self.status},
            {"flows": self._flows, "ended": lambda _: iter([]), "decisions": lambda _: iter(PARTS)},
            {"drain": self._command, "reload": self._refuse},
            self.allowance,
            lambda: "too busy",
        )

    def _flows(self, _: dict[str, Any]) -> Iterator[list[Any]]:
        for first in range(0, FLOWS, SLICE):
            self.made += 1
            yield [([number], {"number": number, "text": "x" * 500}) for number in range(first, first + SLICE)]

    def _command(self, arguments: dict[str, Any]) -> "Future[Any]":
        self.arguments.append(arguments)
        self.commands.append(Future())
        return self.commands[-1]

    def _refuse(self, arguments: dict[str, Any]) -> "Future[Any]":
        raise HostError("not now")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "api.sock")
    world.api.open()
    yield world
    world.api.close()
    assert not world.path.exists()


@contextmanager
def client(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(world.path)), timeout=20.0) as one:
        yield one


def pid_of(world: World) -> int:
    wait_for(lambda: world.api.pid is not None, "the process")
    assert world.api.pid is not None
    return world.api.pid


def test_the_process_has_no_rights_and_ends_with_natmirror(world: World) -> None:
    assert ask("status", world.path) == {"pid": os.getpid()}
    pid = pid_of(world)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    state = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert all(state[name] == ["0" * 16] for name in ("CapPrm", "CapEff", "CapAmb"))
    assert state["NoNewPrivs"] == ["1"]
    assert "0" not in state["Uid"] + state["Gid"] or os.geteuid() != 0
    if os.geteuid() == 0:
        assert (state["CapBnd"], state["Groups"]) == (["0" * 16], [])
    world.api.close()
    assert not Path(f"/proc/{pid}").exists()
    world.api.close()


def test_lists_are_asked_for_in_parts(world: World) -> None:
    assert ask_list("decisions", world.path) == [{"n": 1}, {"n": 2}]
    assert ask_list("ended", world.path) == []
    flows = ask_list("flows", world.path)
    assert [flow["number"] for flow in flows] == list(range(FLOWS))


def test_a_list_begins_with_a_short_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the client that wants few rows; then others, of which each message costs as much as its rows."""
    encode, lengths = frames.encode, list[int]()

    def note(message: dict[str, Any]) -> bytes:
        lengths.append(len(message["answer"]))
        return encode(message)

    monkeypatch.setattr(frames, "encode", note)
    monkeypatch.setattr("natmirror.runtime.api_process._LAST_TURN_AT", 60.0)  # a busy machine shortens no part
    assert len(ask_list("flows", world.path)) == FLOWS
    assert lengths == [2 * SLICE, *[16 * SLICE] * 6, 2 * SLICE]


def test_a_part_is_short_where_each_turn_has_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that others wait for keeps none of them waiting so long that it is given up."""
    encode, lengths = frames.encode, list[int]()
    pauses = cycle((0.3, 0.0))

    def note(message: dict[str, Any]) -> bytes:
        lengths.append(len(message["answer"]))
        return encode(message)

    monkeypatch.setattr(frames, "encode", note)
    monkeypatch.setattr(world.allowance, "pause", lambda _: next(pauses))
    assert len(ask_list("flows", world.path, limit=5 * SLICE)) == 5 * SLICE
    assert lengths[0] == 2 * SLICE
    assert max(lengths) <= 4 * SLICE


def test_what_makes_answers_is_nicer_than_packets(world: World) -> None:
    ask_list("ended", world.path)
    ask("status", world.path)
    nicer = min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + 10)
    threads = {path.parent.name: path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    ours = {name: os.getpriority(os.PRIO_PROCESS, int(number)) for number, name in threads.items() if "nm-api" in name}
    assert ours == dict.fromkeys(("nm-api", "nm-api-lists", "nm-api-status"), nicer)
    assert os.getpriority(os.PRIO_PROCESS, pid_of(world)) == nicer
    share = Path(f"/proc/{pid_of(world)}/autogroup")
    assert not share.exists() or share.read_text().endswith(" nice 10\n")


def test_a_client_that_does_not_read_has_few_parts_made(world: World) -> None:
    with client(world) as one, one.stream("GET", "http://n/v1/flows") as answer:
        assert answer.status_code == 200
        time.sleep(0.3)  # in which far more would be made
        assert world.made < 50
        assert ask("status", world.path)["pid"]


@pytest.mark.parametrize("target", ["/v1/status", "/v1/flows"])
def test_answers_wait_while_the_packet_threads_have_no_time_left_for_them(world: World, target: str) -> None:
    ask("status", world.path)
    world.allowance.is_spent = True
    with ThreadPoolExecutor(1) as pool, client(world) as one:
        answer = pool.submit(one.get, f"http://n{target}")
        before = world.allowance.asked
        wait_for(lambda: world.allowance.asked > before + 3, "the allowance to be asked")
        assert not answer.done()
        assert world.made == 0
        world.allowance.is_spent = False
        assert answer.result(10.0).status_code == 200


def test_a_client_that_gives_up_leaves_the_line(world: World) -> None:
    ask("status", world.path)
    world.allowance.is_spent = True
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as impatient:
            impatient.connect(str(world.path))
            before = world.allowance.asked
            impatient.sendall(b"GET /v1/flows HTTP/1.1\r\nHost: n\r\n\r\n")
            wait_for(lambda: world.allowance.asked > before + 3, "its answer to wait")  # noqa: B023
    wait_for(lambda: world.allowance.asked == _later(world), "the line to be empty")
    assert world.made == 0


def _later(world: World) -> int:
    """Return how often the allowance was asked in a moment."""
    time.sleep(0.05)
    return world.allowance.asked


def test_the_metrics_do_not_wait_for_the_allowance(world: World) -> None:
    ask("status", world.path)
    world.allowance.is_spent = True
    world.status = status_document()
    before = world.allowance.asked
    with client(world) as one:
        assert one.get("http://n/metrics").status_code == 200
    assert world.allowance.asked == before


def test_commands_do_not_wait_for_the_allowance(world: World) -> None:
    world.allowance.is_spent = True
    with pytest.raises(HostError, match="not now"):
        send_command("reload", {}, world.path)
    assert world.allowance.asked == 0


def test_a_dead_process_is_started_again_and_waiting_clients_are_answered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        ask("status", world.path)
        pid = pid_of(world)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: world.api.pid not in (None, pid), "another process")  # noqa: B023
        assert ask("status", world.path)["pid"]
    wait_for(lambda: not world.api.failures(), "its first beat")
    assert "the API's process: it has ended, by signal 9; starting it again" in caplog.text


def test_a_process_that_cannot_be_started_is_a_failing_chore(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    pid = pid_of(world)
    with monkeypatch.context() as patched:
        patched.setattr("natmirror.unprivileged.start", none_left)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "Resource temporarily" in str(world.api.failures()), "the failure")
    assert ask("status", world.path)["pid"]
    assert world.api.failures() == []


def test_a_frozen_process_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_process, "_BEAT_TIMEOUT", 0.05)
    monkeypatch.setattr(unprivileged, "_END_TIMEOUT", 0.05)
    with subprocess.Popen(["sleep", "60"]) as frozen:
        frozen.send_signal(signal.SIGSTOP)
        assert _why_ended(world, b"") == "it has been silent for 0.05 s"
        assert unprivileged.end(frozen) == "by signal 9"


def test_a_client_that_gives_up_withdraws_its_command(world: World) -> None:
    ask("status", world.path)
    with socket.socket(socket.AF_UNIX) as impatient:
        impatient.connect(str(world.path))
        head = b"POST /v1/backends/s/b/drain HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\n"
        impatient.sendall(head + b"Content-Length: 2\r\n\r\n{}")
        wait_for(lambda: bool(world.commands), "the command")
        assert not world.commands[0].cancelled()
    wait_for(lambda: world.commands[0].cancelled(), "the withdrawal")


def test_a_command_has_its_answer_or_the_reason_for_none(world: World) -> None:
    def obey() -> None:
        wait_for(lambda: bool(world.commands), "the command")
        world.commands[0].set_result({"done": 1})

    thread = threading.Thread(target=obey)
    thread.start()
    assert send_command("drain", {"service": "a b/c", "backend": "b", "deadline": 2}, world.path) == {"done": 1}
    thread.join()
    assert world.arguments == [{"service": "a b/c", "backend": "b", "deadline": 2}]
    with pytest.raises(HostError, match="not now"):
        send_command("reload", {}, world.path)


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 60_000, b'{"a":' * 10_000, b"\xff", b"nonsense"])
def test_a_malformed_body_is_refused(world: World, body: bytes) -> None:
    with client(world) as one:
        answer = one.post("http://n/v1/reload", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body is no JSON object; send a JSON object with these members")
    assert world.commands == []


def test_hundreds_of_idle_clients_delay_no_other(world: World) -> None:
    ask("status", world.path)
    idle = []
    for _ in range(300):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].settimeout(5.0)
        idle[-1].connect(str(world.path))
    assert ask("status", world.path)["pid"], "long before these clients have been idle for too long"
    for one in idle:
        one.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\xff\xff\xff\xff", "it has sent a message of 4294967295 bytes"),
        (b"\x00\x00\x00\x02[]", "it has sent a message without a number"),
        (b"\x00\x00\xc3\x50" + b"[" * 50_000, "it has sent a message that is nested too deeply"),
        (frames.encode({"id": "x"}), "it has sent a message without a number"),
        (
            b"".join(frames.encode({"id": n, "command": "drain", "arguments": {}}) for n in range(5000)),
            "it has asked too much",
        ),
        (
            frames.encode({"id": 7, "more": True}) + frames.encode({"id": 8, "get": ["x"]}),
            "it has been silent for 0.5 s",
        ),
    ],
)
def test_a_process_that_talks_nonsense_is_ended(
    world: World, said: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a client had taken it over."""
    monkeypatch.setattr(api_process, "_BEAT_TIMEOUT", 0.5)
    assert _why_ended(world, said) == why


def _why_ended(world: World, said: bytes) -> str:
    """Return why natmirror ends the conversation with a process that says this, and no more."""

    async def run() -> str:
        ours, theirs = socket.socketpair()
        with theirs, ThreadPoolExecutor(1) as threads:
            writing = asyncio.create_task(asyncio.to_thread(_send_all, theirs, said))
            streams = await asyncio.open_connection(sock=ours)
            makers = api_process._Makers(threads, threads, Allowance([]), lambda: "too busy")
            one = api_process._Conversation(*streams, {}, {}, world.api.commands, makers)
            why = await one.run(lambda: None)
            one.close()
            await writing
        return why

    return asyncio.run(run())


def _send_all(end: socket.socket, said: bytes) -> None:
    with suppress(OSError):
        end.sendall(said)


def test_a_removed_socket_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_process, "CHECK_INTERVAL", 0.05)
    ask("status", world.path)
    first = pid_of(world)
    world.path.unlink()
    wait_for(world.path.exists, "the socket")
    assert ask("status", world.path) == {"pid": os.getpid()}
    assert pid_of(world) != first
    wait_for(lambda: not world.api.failures(), "a beat")


def test_a_reload_to_another_address_waits_for_the_answers_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_process, "CHECK_INTERVAL", 0.01)
    ask("status", world.path)
    first = pid_of(world)
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(send_command("drain", COMMAND, world.path)))
    thread.start()
    wait_for(lambda: bool(world.commands), "the command")
    world.addresses.follow(parse_rules("metrics: 127.0.0.7:9653\n" + RULES))
    wait_for(lambda: world.addresses.descriptors()[0] >= 0, "the address")
    world.commands[0].set_result({"done": 1})
    thread.join()
    assert done == [{"done": 1}]
    wait_for(lambda: world.api.pid not in (None, first), "the process with the address")


def test_what_is_sent_is_json_after_its_length() -> None:
    assert json.loads(frames.encode({"id": 1})[4:]) == {"id": 1}


def test_a_command_that_is_withdrawn_before_natmirror_reads_it_is_not_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when natmirror was stopped by SIGSTOP: a client gave up meanwhile."""
    monkeypatch.setattr(api_process, "_BEAT_TIMEOUT", 0.2)
    command = {"id": 1, "command": "drain", "arguments": {"service": "s", "backend": "b"}}
    _why_ended(world, frames.encode(command) + frames.encode({"id": 1, "withdraw": True}))
    assert world.commands == []
