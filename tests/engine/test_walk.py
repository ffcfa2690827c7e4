"""Packets take the walks that ARCHITECTURE.md lists."""

import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import natmirror
from natmirror.actions import Hook, LegEnded, Order
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import Refusals
from natmirror.linux import nfqueue
from natmirror.linux.loop import Loop
from natmirror.linux.nfqueue import Queue
from natmirror.mirror.faults import WorkChanged
from natmirror.net import seq
from natmirror.rules import parse_rules
from natmirror.rules.shards import ALL
from natmirror.runtime.worker import Worker
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.layers import row
from tests.helpers.loop import Stage, new_loop
from tests.helpers.nfqueue import NUMBER, Bound, queued
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, packet

PACKAGE = Path(natmirror.__file__).parent
DOCUMENT = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
KINDS = ("A client's data", "A reply", "A mirror's acknowledgement")
FIRST = 2  # the offset of the tests' data, after the SYN and one byte


def walks() -> list[tuple[str, list[str]]]:
    """Return the walks of the document, in its order: the kind of packet, and its stations ``file:function``."""
    section = DOCUMENT.split("## The walk of a packet\n", 1)[1].split("\n## ", 1)[0]
    items = re.findall(r"^- \*\*(.*?)\*\*: (.*?)(?=^- |\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return [(kind, re.findall(r"`([\w/.]+\.(?:c|py):[\w.]+)`", text)) for kind, text in items]


IN_C, IN_PYTHON = walks()[:3], walks()[3:]


@pytest.mark.parametrize(("kind", "stations"), walks())
def test_a_walk_has_at_most_six_stations_and_all_exist(kind: str, stations: list[str]) -> None:
    assert 5 <= len(stations) <= 6, kind
    for station in stations:
        file, function = station.split(":")
        text = (PACKAGE / file).read_text(encoding="utf-8")
        name = function.rpartition(".")[2]
        defined = rf"^ *def {name}\(" if file.endswith(".py") else rf"^(?!static)[\w *]+\b{name}\([^)]*\)\s*\{{"
        assert re.search(defined, text, flags=re.MULTILINE), station


def test_the_document_lists_the_walks_through_both_gears() -> None:
    assert [kind for kind, _ in IN_C] == [kind for kind, _ in IN_PYTHON] == list(KINDS)
    assert all(station.split(":")[0].endswith(".c") for _, stations in IN_C for station in stations)
    assert all(station.split(":")[0].endswith(".py") for _, stations in IN_PYTHON for station in stations)


class Listener:
    """A WorkerListener that ignores all reports."""

    def on_ended(self, ended: list[LegEnded]) -> None: ...
    def on_orders(self, orders: list[Order]) -> None: ...
    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None: ...
    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None: ...
    def on_work_changed(self, thread: int, change: WorkChanged) -> None: ...
    def on_over_limit(self, thread: int, refusals: Refusals) -> None: ...
    def on_end(self) -> None: ...


class Walk:
    """The functions of natmirror that one round of a worker calls, each with its caller."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.calls: set[tuple[str, str]] = set()
        self._stack: list[str | None] = []

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            name = self._name(frame)
            caller = next((one for one in reversed(self._stack) if one is not None), None)
            if name is not None:
                self.entered.append(name)
                if caller is not None:
                    self.calls.add((caller, name))
            self._stack.append(name)
        elif event == "return" and self._stack:
            self._stack.pop()

    @staticmethod
    def _name(frame: FrameType) -> str | None:
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(PACKAGE):
            return None
        return f"{path.relative_to(PACKAGE).as_posix()}:{frame.f_code.co_qualname}"


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop with a gear of its own, whose queue is a socket."""
    Bound.kernels = []
    monkeypatch.setattr(nfqueue, "NetfilterQueue", Bound)
    monkeypatch.setattr(Queue, "_configure", lambda *arguments: None)
    stage = Stage()
    loop = new_loop(stage, Queue(NUMBER))
    yield loop
    loop.close()
    loop.queues[0].queue.close()
    stage.close()
    for kernel in Bound.kernels:
        kernel.close()


@pytest.fixture
def connection() -> ClientConnection:
    """Return a mirrored connection with its leg in the Python gear, on the worker's clock."""
    connection = ClientConnection(engine(RULES, fast=False))
    connection.now = time.monotonic()
    connection.connect()
    connection.connect_mirror()
    connection.from_client("PA", b"x")
    return connection


def of_kind(connection: ClientConnection, kind: str) -> tuple[bytes, Hook]:
    """Return a packet of a kind, and its hook."""
    assert isinstance(connection.engine, RelativeEngine)
    assert connection.backend is not None
    at, ack = seq.add(ISS, FIRST), seq.add(IRS, 1)
    if kind == "A client's data":
        return packet(CLIENT, SERVICE, "PA", at, ack, b"hello"), Hook.PREROUTING
    if kind == "A reply":
        return packet(connection.backend, CLIENT, "PA", ack, at, b"welcome"), Hook.FORWARD
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, 1), at)
    return connection.engine.on_the_wire(raw), Hook.PREROUTING


@pytest.mark.parametrize(("kind", "stations"), IN_PYTHON)
def test_a_packet_walks_through_python_as_the_document_says(
    kind: str, stations: list[str], connection: ClientConnection, loop: Loop
) -> None:
    worker = Worker(parse_rules(RULES), ALL, connection.engine, Listener())
    worker._loop = loop
    [kernel] = Bound.kernels
    assert isinstance(kernel, socket.socket)
    raw, hook = of_kind(connection, kind)
    kernel.send(queued(1, raw + b"\0", hook=hook))  # C punts a packet with padding
    walk = Walk()
    sys.setprofile(walk.profile)
    try:
        worker._run_once()
    finally:
        sys.setprofile(None)
    at_stations = [name for name in dict.fromkeys(walk.entered) if name in stations]
    assert at_stations == stations
    upwards = {(caller, name) for caller, name in walk.calls if rank(name) < rank(caller)}
    assert not upwards, "a call goes back up"


def rank(station: str) -> int:
    return row(station.split(":")[0].split("/")[0].removesuffix(".py"))
