"""Checks against sockets of the test's own: what each makes of controllers that live, hang, refuse and babble."""

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from natmirror.backends.probes import PROBES, Monitor, Outcome
from natmirror.lab.process import wait_for
from natmirror.openflow import messages
from natmirror.openflow.framer import Framer
from natmirror.openflow.messages import V10, V13, V14, V15, Type
from natmirror.rules import Backend, Health, Rules, parse_rules

HOST = "127.0.0.1"
Talk = Callable[[socket.socket], None]


class Controller:
    """Listens, and has ``talk`` see to one connection after another."""

    def __init__(self, talk: Talk | None) -> None:
        self.accepted = 0
        self._talk = talk
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        if talk is not None:
            self._thread.start()

    def backend(self, name: str = "c1") -> Backend:
        return Backend(name, IPv4Address(HOST), self.port)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(5)

    def _serve(self) -> None:
        assert self._talk is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock, suppress(OSError):
                sock.settimeout(5)
                self._talk(sock)


@pytest.fixture
def controllers() -> Iterator[Callable[[Talk | None], Controller]]:
    started: list[Controller] = []

    def start(talk: Talk | None) -> Controller:
        started.append(Controller(talk))
        return started[-1]

    yield start
    for controller in started:
        controller.close()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test gives back its descriptors and its children."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    wait_for(lambda: set(os.listdir("/proc/self/fd")) <= before, "all descriptors to be closed")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def check(backend: Backend, kind: str, *command: str, timeout: float = 0.3) -> Outcome:
    """One check from its beginning to its end."""
    settings = Health(kind, timeout=timeout, command=command)

    async def run() -> Outcome:
        probe = PROBES[kind](backend, settings)
        try:
            outcome = await probe.outcome()
            if outcome.ok:
                with suppress(OSError):
                    async with asyncio.timeout(5):
                        await probe.leave()
            return outcome
        finally:
            probe.abandon()

    return asyncio.run(run())


def hang_until_closed(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def speaks(version: int, *, said: list[messages.Message] | None = None, greeting: Talk | None = None) -> Talk:
    """A controller of one version: HELLO, FEATURES_REQUEST and an ECHO_REQUEST of its own, then answers."""

    def talk(sock: socket.socket) -> None:
        (greeting or (lambda sock: sock.sendall(messages.hello(version, 77))))(sock)
        framer = Framer()
        while data := sock.recv(4096):
            for message in map(messages.parse, framer.push(data)):
                if said is not None:
                    said.append(message)
                if message.kind == Type.HELLO:
                    assert version in messages.offered(message)
                    framer.version = version
                    sock.sendall(messages.build(version, Type.FEATURES_REQUEST, 78))
                    sock.sendall(messages.build(version, Type.ECHO_REQUEST, 79, b"are you there"))
                elif message.kind == Type.ECHO_REQUEST:
                    sock.sendall(messages.build(version, Type.ECHO_REPLY, message.xid, message.body))
        if said is not None:
            said.append(messages.Message(version, None, 0, b""))  # it hung up, and not with a RST

    return talk


# tcp


def test_tcp_a_program_that_listens_is_well_and_never_hears_of_it(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    controller = controllers(hang_until_closed)
    for _ in range(3):
        assert check(controller.backend(), "tcp") == (True, "it takes connections")
    with socket.create_connection((HOST, controller.port)):
        wait_for(lambda: controller.accepted > 0, "the test's own connection")
    assert controller.accepted == 1


@pytest.mark.parametrize("kind", ["tcp", "openflow"])
def test_a_port_where_nobody_listens_refuses(controllers: Callable[[Talk | None], Controller], kind: str) -> None:
    controller = controllers(None)
    controller.close()
    assert check(controller.backend(), kind) == (False, "connection refused")


@pytest.mark.parametrize("kind", ["tcp", "openflow"])
def test_a_full_queue_does_not_answer(kind: str) -> None:
    with socket.create_server((HOST, 0), backlog=0) as listener:
        waiting = [socket.create_connection(listener.getsockname())]
        backend = Backend("c1", IPv4Address(HOST), listener.getsockname()[1])
        assert check(backend, kind, timeout=0.2) == (False, "no answer within 200 ms")
        for sock in waiting:
            sock.close()


# OpenFlow


@pytest.mark.parametrize("version", [V10, V13, V14, V15])
def test_openflow_a_controller_that_answers_is_well_and_knows_no_switch(
    controllers: Callable[[Talk | None], Controller], version: int
) -> None:
    said: list[messages.Message] = []
    controller = controllers(speaks(version, said=said))
    assert check(controller.backend(), "openflow") == (True, "it answers an ECHO_REQUEST")
    wait_for(lambda: said[-1].kind is None, "the end of the connection")
    kinds = [message.kind for message in said]
    assert kinds in (
        [Type.HELLO, Type.ECHO_REQUEST, Type.ECHO_REPLY, None],
        [Type.HELLO, Type.ECHO_REQUEST, None],  # its own question came after our answer
    )
    assert {message.version for message in said[1:]} == {version}
    assert [message.body for message in said if message.kind == Type.ECHO_REPLY] in ([], [b"are you there"])


def test_openflow_a_hello_may_come_in_pieces(controllers: Callable[[Talk | None], Controller]) -> None:
    def greeting(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = messages.hello(V13, 77)
        for piece in (hello[:5], hello[5:9], hello[9:]):
            sock.sendall(piece)
            time.sleep(0.01)  # so that they are not read as one

    assert check(controllers(speaks(V13, greeting=greeting)).backend(), "openflow").ok


def says(data: bytes) -> Talk:
    """Somebody who says that, and listens."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(data)
        hang_until_closed(sock)

    return talk


HELLO = messages.hello(V13, 77)
OTHER = "it speaks no OpenFlow version that is known here"


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (hang_until_closed, "no HELLO within 300 ms"),
        (says(HELLO), "no ECHO_REPLY within 300 ms"),
        (says(HELLO[:7]), "no HELLO within 300 ms"),
        (says(HELLO + messages.build(V13, Type.ERROR, 5, b"\0\0\0\0no")), "it has refused our HELLO"),
        (lambda sock: None, "it hung up before its HELLO"),
        (lambda sock: sock.recv(4096) and None, "it hung up before its HELLO"),
        (lambda sock: sock.recv(4096) and sock.sendall(HELLO), "it hung up before its ECHO_REPLY"),
        (says(b"220 mail.example.org ESMTP\r\n"), "it speaks no OpenFlow"),
        (says(b"\x15\x03\x03\0\x02\x02\x46"), "it speaks no OpenFlow"),
        (says(b"\x16\x03\x03\0\x02\x02\x46"), "it speaks TLS"),
        (says(HELLO + b"\x04\x07\0\x03\0\0\0\0" + HELLO), "it speaks no OpenFlow"),
        (says(messages.build(V13, Type.ECHO_REPLY, 2)), "it speaks no OpenFlow"),
        (says(HELLO + messages.build(V13, Type.ECHO_REPLY, 3)), "no ECHO_REPLY within 300 ms"),
        (says(b"\x03\0\0\x10\0\0\0\0\0\x01\0\x08\0\0\0\x08"), OTHER),
    ],
)
def test_openflow_whoever_does_not_answer_is_not_well(
    controllers: Callable[[Talk | None], Controller], talk: Talk, reason: str
) -> None:
    assert check(controllers(talk).backend(), "openflow") == (False, reason)


def test_openflow_a_kernel_that_takes_connections_is_not_enough(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    wedged = controllers(None)
    assert check(wedged.backend(), "tcp").ok
    assert check(wedged.backend(), "openflow") == (False, "no HELLO within 300 ms")


def test_openflow_who_babbles_without_end_is_not_listened_to(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    def babble(sock: socket.socket) -> None:
        sock.sendall(messages.hello(V13, 1))
        while True:
            sock.sendall(messages.build(V13, Type.FEATURES_REQUEST, 2) * 1000)

    assert check(controllers(babble).backend(), "openflow", timeout=5.0) == (False, "it speaks no OpenFlow")


# exec

NOWHERE = Backend("c7", IPv4Address("192.0.2.7"), 6653)


def shell(script: str, **options: Any) -> Outcome:
    return check(NOWHERE, "exec", "/bin/sh", "-c", script, **options)


def test_exec_the_exit_code_tells() -> None:
    assert shell("exit 0") == (True, "exit code 0")
    assert shell("exit 1") == (False, "exit code 1")
    assert shell("kill -9 $$") == (False, "ended by signal 9")


def test_exec_a_command_is_told_whom_it_checks_and_nothing_of_ours() -> None:
    about = 'test "$NATMIRROR_BACKEND $NATMIRROR_ADDRESS $NATMIRROR_PORT" = "c7 192.0.2.7 6653" && test -n "$PATH"'
    assert shell(about).ok
    with socket.socket() as ours:
        os.set_inheritable(ours.fileno(), True)
        assert shell(f"test ! -e /proc/self/fd/{ours.fileno()}").ok
    assert shell("test $(readlink /proc/self/fd/0 /proc/self/fd/2 | sort -u) = /dev/null", timeout=2.0).ok


def test_exec_who_hangs_is_killed() -> None:
    began_at = time.monotonic()
    assert shell("sleep 60", timeout=0.2) == (False, "no end of /bin/sh within 200 ms")
    assert time.monotonic() - began_at < 2


@pytest.mark.parametrize(("after", "ok"), [("wait", False), ("exit 0", True)])
def test_exec_the_children_of_a_command_end_with_it(tmp_path: Path, after: str, ok: bool) -> None:
    file = tmp_path / "pid"
    assert shell(f"sleep 60 & echo $! > {file}; {after}").ok is ok
    child = Path(f"/proc/{int(file.read_text())}/stat")
    wait_for(lambda: not child.exists() or ") Z " in child.read_text(), "the child's end")


@pytest.mark.parametrize(
    ("command", "said"), [("/nowhere/check", "no such file or directory"), ("/etc/passwd", "permission denied")]
)
def test_exec_a_command_that_cannot_be_run_says_so(command: str, said: str) -> None:
    assert check(NOWHERE, "exec", command) == (None, f"cannot run {command}: {said}")


def test_exec_a_command_that_is_missing_here_takes_nobody_down(caplog: pytest.LogCaptureFixture) -> None:
    with Watch(rules(f"{{check: exec, command: [/nowhere/check], {FAST}}}", c1=1)) as watch:
        wait_for(lambda: watch.monitor.status()[0]["unclear"] >= 4, "checks", 5.0)
        assert (watch.states(), watch.told) == ({"c1": "up"}, [])
    told = (
        "health of of/c1: cannot run /nowhere/check: no such file or directory, which counts for nothing; it stays up"
    )
    assert caplog.messages.count(told) == 1


# Ourselves


def test_want_of_descriptors_is_no_fault_of_a_backend(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("natmirror.backends.probes.Probe._connect", none_left)
    for kind in ("tcp", "openflow"):
        assert check(controllers(None).backend(), kind) == (None, "too many open files")

    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("natmirror.backends.probes.subprocess.Popen", no_more)
    assert shell("exit 0") == (None, "resource temporarily unavailable")


def test_who_is_late_himself_judges_nobody(controllers: Callable[[Talk | None], Controller]) -> None:
    settings = Health("openflow", timeout=0.1)

    async def run() -> Outcome:
        probe = PROBES["openflow"](controllers(None).backend(), settings)
        try:
            asked = asyncio.ensure_future(probe.outcome())
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # the whole thread is held up
            return await asked
        finally:
            probe.abandon()

    assert asyncio.run(run()) == (None, "this host was too busy")


def test_checks_leave_no_circles_behind(controllers: Callable[[Talk | None], Controller]) -> None:
    """Old garbage is not looked for in a running natmirror."""
    silent, closed, well = controllers(None), controllers(None), controllers(speaks(V13))
    closed.close()

    async def one(kind: str, backend: Backend, *command: str) -> None:
        probe = PROBES[kind](backend, Health(kind, timeout=0.05, command=command))
        outcome = await probe.outcome()
        if outcome.ok:
            await probe.leave()
        probe.abandon()

    async def run() -> int:
        for turn in range(3):
            if turn == 1:
                gc.collect()
                gc.disable()
            for backend in (silent, closed, well):
                await one("tcp", backend.backend())
                await one("openflow", backend.backend())
            await one("exec", NOWHERE, "/bin/true")
            await one("exec", NOWHERE, "/nowhere")
            await one("exec", NOWHERE, "/bin/sleep", "60")
        return gc.collect()

    try:
        assert asyncio.run(run()) == 0
    finally:
        gc.enable()


# The monitor


def rules(health: str, **ports: int) -> Rules:
    backends = ", ".join(f"{{name: {name}, address: {HOST}, port: {port}}}" for name, port in ports.items())
    return parse_rules(
        f"switches: [10.10.0.0/24]\nservices:\n  - {{name: of, address: 10.10.0.100, port: 6653, pool: {{health:"
        f" {health}, backends: [{backends}]}}}}\n  - {{name: other, address: 10.10.0.100, port: 1, pool: {{backends:"
        f" [{{name: c1, address: {HOST}}}]}}}}\n"
    )


FAST = "interval: 100ms, timeout: 100ms"


class Watch:
    """A monitor that runs, and what it tells."""

    def __init__(self, rules: Rules) -> None:
        self.told: list[tuple[str, str, bool, str]] = []
        self.threads: set[str] = set()
        self.monitor = Monitor(rules, self._changed)

    def __enter__(self) -> "Watch":
        self.monitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        began_at = time.monotonic()
        self.monitor.stop()
        assert time.monotonic() - began_at < 1
        assert "health" not in {thread.name for thread in threading.enumerate()}

    def wait_for(self, count: int) -> None:
        wait_for(lambda: len(self.told) >= count, f"{count} changes", 5.0)

    def states(self) -> dict[str, str]:
        return {entry["backend"]: entry["state"] for entry in self.monitor.status()}

    def _changed(self, service: str, backend: Backend, is_up: bool, reason: str) -> None:
        self.told.append((service, backend.name, is_up, reason))
        self.threads.add(threading.current_thread().name)
        raise RuntimeError("whoever is told may fail")


def test_a_monitor_tells_who_goes_down_and_comes_back(controllers: Callable[[Talk | None], Controller]) -> None:
    well, gone = controllers(speaks(V13)), controllers(None)
    gone.close()
    with Watch(rules(f"{{check: openflow, {FAST}}}", c1=well.port, c2=gone.port)) as watch:
        assert watch.states() == {"c1": "up", "c2": "up"}
        watch.wait_for(1)
        assert watch.told == [("of", "c2", False, "connection refused")]
        assert watch.states() == {"c1": "up", "c2": "down"}
        listener = socket.create_server((HOST, gone.port))
        thread = threading.Thread(target=lambda: [speaks(V10)(listener.accept()[0]) for _ in range(2)], daemon=True)
        thread.start()
        watch.wait_for(2)
        assert watch.told[1] == ("of", "c2", True, "it answers an ECHO_REQUEST")
        c1, c2 = watch.monitor.status()
        assert (c1["service"], c1["backend"], c1["check"], c1["state"]) == ("of", "c1", "openflow", "up")
        assert (c1["failures"], c1["failed_syns"], c1["unclear"]) == (0, 0, 0)
        assert c1["checks"] >= 4
        assert 0 < c1["last_ms"] < 100
        assert c2["failures"] >= 3
        assert 0 <= c2["since_seconds"] < c1["since_seconds"]
        assert c2["reason"] == "it answers an ECHO_REQUEST"
        thread.join(5)
        listener.close()
    assert watch.threads == {"health"}
    told = list(watch.told)
    watch.monitor.syn_failed("of", "c1")
    assert watch.told == told


def test_failed_syns_of_clients_have_a_backend_checked_at_once() -> None:
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s}", c1=1, c2=2)) as watch:
        for _ in range(10):
            watch.monitor.syn_failed("other", "c1")  # it is not checked
            watch.monitor.syn_failed("nobody", "c1")
        for _ in range(2):
            watch.monitor.syn_failed("of", "c2")
        watch.wait_for(1)
        assert watch.told == [("of", "c2", False, "connection refused")]
        c1, c2 = watch.monitor.status()
        assert (c1["failed_syns"], c1["checks"], c2["failed_syns"]) == (0, 0, 2)
        assert c2["checks"] in (1, 2), "two where the first sign was heeded before the second came"


def test_failed_syns_take_nobody_down_who_passes_his_checks(controllers: Callable[[Talk | None], Controller]) -> None:
    well = controllers(speaks(V13))
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s}", c1=well.port)) as watch:
        for _ in range(5):
            watch.monitor.syn_failed("of", "c1")
        wait_for(lambda: watch.monitor.status()[0]["checks"] > 0, "the check", 5.0)
        assert (watch.states(), watch.told) == ({"c1": "up"}, [])


def test_signs_may_come_from_many_threads() -> None:
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s, fall: 100}", c1=1)) as watch:

        def tell() -> None:
            for _ in range(100):
                watch.monitor.syn_failed("of", "c1")

        threads = [threading.Thread(target=tell) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: watch.monitor.status()[0]["failed_syns"] == 400, "all of them")
        watch.wait_for(1)
        assert [is_up for _, _, is_up, _ in watch.told] == [False]


def test_a_stop_kills_a_command_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.backends.probes.random.random", lambda: 0.0)  # the first check begins at once
    file = tmp_path / "pid"
    command = (
        f'[{sys.executable}, -c, \'import os, time; open("{file}", "w").write(str(os.getpid())); time.sleep(60)\']'
    )
    with Watch(rules(f"{{check: exec, interval: 5s, timeout: 5s, command: {command}}}", c1=1)):
        wait_for(lambda: file.exists() and bool(file.read_text()), "the command", 10.0)
        os.kill(int(file.read_text()), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGTERM)


def test_without_health_there_is_no_thread() -> None:
    text = "switches: [10.10.0.0/24]\nservices:\n  - {name: a, address: 10.10.0.100, port: 1, pool: {backends:"
    with Watch(parse_rules(text + " [{name: c1, address: 10.20.0.1}]}}")) as watch:
        assert "health" not in {thread.name for thread in threading.enumerate()}
        assert watch.monitor.status() == []
        watch.monitor.syn_failed("a", "c1")


def test_a_fault_of_ours_takes_nobody_down(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("natmirror.backends.probes.TcpProbe._ask", broken)
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=1)) as watch:
        wait_for(lambda: watch.monitor.status()[0]["unclear"] >= 4, "checks")
        assert watch.states() == {"c1": "up"}
    assert "a check went wrong" in caplog.text


def test_after_a_reload_what_is_named_is_checked_and_is_as_healthy_as_it_was(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    gone, well = controllers(None), controllers(speaks(V13))
    gone.close()
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=gone.port)) as watch:
        watch.wait_for(1)
        watch.monitor.reload(rules("{check: tcp, interval: 100ms, timeout: 50ms}", c1=gone.port, c2=well.port))
        assert watch.states() == {"c1": "down", "c2": "up"}
        wait_for(lambda: watch.monitor.status()[1]["checks"] > 2, "checks of who has come", 5.0)
        watch.monitor.reload(rules(f"{{check: tcp, {FAST}}}", c2=well.port))
        assert watch.states() == {"c2": "up"}
        assert [told[:3] for told in watch.told] == [("of", "c1", False)]


def test_reloads_that_are_nothing_to_a_check_do_not_keep_it_from_its_verdict(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    gone = controllers(None)
    gone.close()
    first = rules("{check: tcp, interval: 100ms, timeout: 100ms, fall: 4}", c1=gone.port)
    with Watch(first) as watch:
        for weight in range(2, 6):
            wait_for(lambda: bool(watch.told) or watch.monitor.status()[0]["checks"] >= weight - 1, "a check", 5.0)  # noqa: B023
            watch.monitor.reload(weighing(first, weight))
        watch.wait_for(1)
        assert watch.monitor.status()[0]["checks"] == 4


def weighing(rules: Rules, weight: int) -> Rules:
    service, *others = rules.services
    assert service.pool is not None
    backends = tuple(replace(backend, weight=weight) for backend in service.pool.backends)
    return replace(rules, services=(replace(service, pool=replace(service.pool, backends=backends)), *others))


def test_checks_begin_with_the_rules_that_want_some(controllers: Callable[[Talk | None], Controller]) -> None:
    pool = f"{{backends: [{{name: c1, address: {HOST}}}]}}"
    text = f"switches: [10.10.0.0/24]\nservices:\n  - {{name: of, address: 10.10.0.100, port: 1, pool: {pool}}}"
    with Watch(parse_rules(text)) as watch:
        assert watch.monitor.status() == []
        watch.monitor.reload(rules(f"{{check: openflow, {FAST}}}", c1=controllers(speaks(V13)).port))
        watch.monitor.start()
        wait_for(lambda: watch.monitor.status()[0]["checks"] > 0, "a check", 5.0)
