"""Checks of the test's own sockets: controllers that answer, hang, refuse, or send endlessly."""

import asyncio
import errno
import gc
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from natmirror.backends.probes import PROBES, Outcome
from natmirror.lab.process import wait_for
from natmirror.openflow import messages
from natmirror.openflow.messages import V10, V13, V14, V15, Type
from natmirror.rules import Backend, CheckKind, Health
from natmirror.unprivileged import start
from tests.helpers.controllers import HOST, Controller, Talk, hang_until_closed, speaks


def check(backend: Backend, kind: CheckKind, *command: str, timeout: float = 0.3) -> tuple[bool | None, str]:
    """Make one check and close it; return whether it passed, and why."""
    ok, reason, _ = outcome_of(backend, kind, *command, timeout=timeout)
    return ok, reason


def outcome_of(backend: Backend, kind: CheckKind, *command: str, timeout: float = 0.3) -> Outcome:
    """Make one check and close it."""
    settings = Health(kind, timeout=timeout, command=command)

    async def run() -> Outcome:
        probe = PROBES[kind](backend, settings)
        try:
            outcome = await probe.outcome()
            if outcome.ok:
                with suppress(OSError):
                    async with asyncio.timeout(5):
                        await probe.close()
            return outcome
        finally:
            probe.abort()

    return asyncio.run(run())


# tcp


def test_tcp_passes_for_a_listening_program_which_never_sees_the_connection(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    controller = controllers(hang_until_closed)
    for _ in range(3):
        assert check(controller.backend(), CheckKind.TCP) == (True, "it accepts connections")
    with socket.create_connection((HOST, controller.port)):
        wait_for(lambda: controller.accepted > 0, "the test's own connection")
    assert controller.accepted == 1


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.OPENFLOW])
def test_a_port_without_a_listener_fails(controllers: Callable[[Talk | None], Controller], kind: CheckKind) -> None:
    controller = controllers(None)
    controller.close()
    assert outcome_of(controller.backend(), kind) == Outcome(False, "connection refused", is_silence=False)


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.OPENFLOW])
def test_a_full_accept_queue_fails(kind: CheckKind) -> None:
    with socket.create_server((HOST, 0), backlog=0) as listener:
        waiting = [socket.create_connection(listener.getsockname())]
        backend = Backend("c1", IPv4Address(HOST), listener.getsockname()[1])
        assert outcome_of(backend, kind, timeout=0.2) == Outcome(False, "no answer within 200 ms", is_silence=True)
        for sock in waiting:
            sock.close()


# OpenFlow


@pytest.mark.parametrize("version", [V10, V13, V14, V15])
def test_openflow_passes_for_a_controller_that_answers_and_learns_of_no_switch(
    controllers: Callable[[Talk | None], Controller], version: int
) -> None:
    received: list[messages.Message] = []
    controller = controllers(speaks(version, said=received))
    assert check(controller.backend(), CheckKind.OPENFLOW) == (True, "it answers an ECHO_REQUEST")
    wait_for(lambda: received[-1].kind is None, "the end of the connection")
    kinds = [message.kind for message in received]
    assert kinds in (
        [Type.HELLO, Type.ECHO_REQUEST, Type.ECHO_REPLY, None],
        [Type.HELLO, Type.ECHO_REQUEST, None],  # the reply came after our FIN
    )
    assert {message.version for message in received[1:]} == {version}
    assert [message.body for message in received if message.kind == Type.ECHO_REPLY] in ([], [b"are you there"])


def test_openflow_a_hello_may_come_in_pieces(controllers: Callable[[Talk | None], Controller]) -> None:
    def greeting(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = messages.hello(V13, 77)
        for piece in (hello[:5], hello[5:9], hello[9:]):
            sock.sendall(piece)
            time.sleep(0.01)  # so that they are not read in one piece

    assert outcome_of(controllers(speaks(V13, greeting=greeting)).backend(), CheckKind.OPENFLOW).ok


def sends(data: bytes) -> Talk:
    """Return a peer that sends ``data`` and reads on."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(data)
        hang_until_closed(sock)

    return talk


HELLO = messages.hello(V13, 77)
OTHER = "it speaks no OpenFlow version that natmirror supports"


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (hang_until_closed, "no HELLO within 300 ms"),
        (sends(HELLO), "no ECHO_REPLY within 300 ms"),
        (sends(HELLO[:7]), "no HELLO within 300 ms"),
        (sends(HELLO + messages.build(V13, Type.ERROR, 5, b"\0\0\0\0no")), "it has refused our HELLO"),
        (lambda sock: None, "it closed the connection before its HELLO"),
        (lambda sock: sock.recv(4096) and None, "it closed the connection before its HELLO"),
        (lambda sock: sock.recv(4096) and sock.sendall(HELLO), "it closed the connection before its ECHO_REPLY"),
        (sends(b"220 mail.example.org ESMTP\r\n"), "it speaks no OpenFlow"),
        (sends(b"\x15\x03\x03\0\x02\x02\x46"), "it speaks no OpenFlow"),
        (sends(b"\x16\x03\x03\0\x02\x02\x46"), "it speaks TLS"),
        (sends(HELLO + b"\x04\x07\0\x03\0\0\0\0" + HELLO), "it speaks no OpenFlow"),
        (sends(messages.build(V13, Type.ECHO_REPLY, 2)), "it speaks no OpenFlow"),
        (sends(HELLO + messages.build(V13, Type.ECHO_REPLY, 3)), "no ECHO_REPLY within 300 ms"),
        (sends(b"\x03\0\0\x10\0\0\0\0\0\x01\0\x08\0\0\0\x08"), OTHER),
    ],
)
def test_openflow_fails_without_the_right_answer(
    controllers: Callable[[Talk | None], Controller], talk: Talk, reason: str
) -> None:
    assert check(controllers(talk).backend(), CheckKind.OPENFLOW) == (False, reason)


def test_openflow_fails_if_only_the_kernel_accepts_connections(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    wedged = controllers(None)
    assert outcome_of(wedged.backend(), CheckKind.TCP).ok
    no_hello = Outcome(False, "no HELLO within 300 ms", is_silence=False)
    assert outcome_of(wedged.backend(), CheckKind.OPENFLOW) == no_hello, "its kernel has accepted the connection"


def test_openflow_fails_for_a_controller_that_sends_endlessly(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    def send_endlessly(sock: socket.socket) -> None:
        sock.sendall(messages.hello(V13, 1))
        while True:
            sock.sendall(messages.build(V13, Type.FEATURES_REQUEST, 2) * 1000)

    assert check(controllers(send_endlessly).backend(), CheckKind.OPENFLOW, timeout=5.0) == (
        False,
        "it speaks no OpenFlow",
    )


# exec

NOWHERE = Backend("c7", IPv4Address("192.0.2.7"), 6653)


def shell(script: str, **options: Any) -> tuple[bool | None, str]:
    return check(NOWHERE, CheckKind.EXEC, "/bin/sh", "-c", script, **options)


def test_exec_passes_with_exit_code_0_only() -> None:
    assert shell("exit 0") == (True, "exit code 0")
    assert shell("exit 1") == (False, "exit code 1")
    assert shell("kill -9 $$") == (False, "ended by signal 9")


def test_exec_a_command_gets_its_backend_and_no_descriptors_of_ours() -> None:
    about = 'test "$NATMIRROR_BACKEND $NATMIRROR_ADDRESS $NATMIRROR_PORT" = "c7 192.0.2.7 6653" && test -n "$PATH"'
    assert shell(about)[0]
    with socket.socket() as ours:
        os.set_inheritable(ours.fileno(), True)
        assert shell(f"test ! -e /proc/self/fd/{ours.fileno()}")[0]
    assert shell("test $(readlink /proc/self/fd/0 /proc/self/fd/2 | sort -u) = /dev/null", timeout=2.0)[0]


def test_exec_a_command_has_no_capabilities_and_cannot_get_any() -> None:
    """As root the test shows it; as another user it has none to lose."""

    def own() -> list[str]:
        return [line for line in Path("/proc/thread-self/status").read_text().splitlines() if line.startswith("Cap")]

    before = own()
    for name in ("CapPrm", "CapEff", "CapAmb", *(["CapInh", "CapBnd"] if os.geteuid() == 0 else [])):
        assert shell(f"grep -Eq '^{name}:[[:space:]]*0+$' /proc/self/status")[0], name
    assert shell("grep -Eq '^NoNewPrivs:[[:space:]]*1$' /proc/self/status")[0]
    assert own() == before, "the thread that checks keeps its own"


def test_exec_a_command_cannot_go_before_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process itself has no such limit, its children's shows nothing: so the call is looked at, too."""
    limit, calls = resource.prlimit, list[tuple[int, int, tuple[int, int]]]()

    def note(pid: int, which: int, limits: tuple[int, int]) -> None:
        calls.append((pid, which, limits))
        limit(pid, which, limits)

    monkeypatch.setattr("natmirror.unprivileged.resource.prlimit", note)
    process = start(["/bin/sleep", "60"], {})
    found = limit(process.pid, resource.RLIMIT_RTPRIO)
    process.kill()
    process.wait()
    assert calls == [(process.pid, resource.RLIMIT_RTPRIO, (0, 0))]
    assert found == (0, 0)


def test_exec_a_command_that_hangs_is_killed() -> None:
    began_at = time.monotonic()
    assert shell("sleep 60", timeout=0.2) == (False, "no exit of /bin/sh within 200 ms")
    assert time.monotonic() - began_at < 2


@pytest.mark.parametrize(("after", "ok"), [("wait", False), ("exit 0", True)])
def test_exec_the_children_of_a_command_are_killed_with_it(tmp_path: Path, after: str, ok: bool) -> None:
    file = tmp_path / "pid"
    assert shell(f"sleep 60 & echo $! > {file}; {after}")[0] is ok
    child = Path(f"/proc/{int(file.read_text())}/stat")
    wait_for(lambda: not child.exists() or ") Z " in child.read_text(), "the child's end")


@pytest.mark.parametrize(
    ("command", "reason"), [("/nowhere/check", "no such file or directory"), ("/etc/passwd", "permission denied")]
)
def test_exec_a_command_that_cannot_be_run_is_inconclusive(command: str, reason: str) -> None:
    assert check(NOWHERE, CheckKind.EXEC, command) == (None, f"cannot run {command}: {reason}")


# Problems of this host


def test_a_lack_of_descriptors_is_inconclusive(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("natmirror.backends.probes.Probe._connect", none_left)
    for kind in (CheckKind.TCP, CheckKind.OPENFLOW):
        assert check(controllers(None).backend(), kind) == (None, "too many open files")

    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("natmirror.unprivileged.subprocess.Popen", no_more)
    assert shell("exit 0") == (None, "resource temporarily unavailable")


def test_a_late_timeout_is_inconclusive(controllers: Callable[[Talk | None], Controller]) -> None:
    settings = Health(CheckKind.OPENFLOW, timeout=0.1)

    async def run() -> Outcome:
        probe = PROBES[CheckKind.OPENFLOW](controllers(None).backend(), settings)
        try:
            asked = asyncio.ensure_future(probe.outcome())
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # blocks the whole thread
            return await asked
        finally:
            probe.abort()

    assert asyncio.run(run()) == Outcome(None, "this host was too busy to check it")


def test_checks_leave_no_reference_cycles(controllers: Callable[[Talk | None], Controller]) -> None:
    """A running natmirror does not collect garbage of the oldest generation."""
    silent, closed, well = controllers(None), controllers(None), controllers(speaks(V13))
    closed.close()

    async def one(kind: CheckKind, backend: Backend, *command: str) -> None:
        probe = PROBES[kind](backend, Health(kind, timeout=0.05, command=command))
        outcome = await probe.outcome()
        if outcome.ok:
            await probe.close()
        probe.abort()

    async def run() -> int:
        for turn in range(3):
            if turn == 1:
                gc.collect()
                gc.disable()
            for backend in (silent, closed, well):
                await one(CheckKind.TCP, backend.backend())
                await one(CheckKind.OPENFLOW, backend.backend())
            await one(CheckKind.EXEC, NOWHERE, "/bin/true")
            await one(CheckKind.EXEC, NOWHERE, "/nowhere")
            await one(CheckKind.EXEC, NOWHERE, "/bin/sleep", "60")
        return gc.collect()

    try:
        assert asyncio.run(run()) == 0
    finally:
        gc.enable()


def test_an_answered_syn_that_this_thread_had_no_core_to_see_is_inconclusive(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_seen(*_: object) -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", not_seen)
    busy = Outcome(None, "this host was too busy to check it")
    with socket.create_server((HOST, 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        silent = Backend("c2", IPv4Address(HOST), full.getsockname()[1])
        for kind in (CheckKind.TCP, CheckKind.OPENFLOW):
            there, closed = controllers(None), controllers(None)
            closed.close()
            assert outcome_of(there.backend(), kind, timeout=0.1) == busy
            refused = Outcome(False, "connection refused", is_silence=False)
            assert outcome_of(closed.backend(), kind, timeout=0.1) == refused
            assert outcome_of(silent, kind, timeout=0.1) == Outcome(False, "no answer within 100 ms", is_silence=True)


def test_a_refusal_whose_error_was_read_at_the_timeout_is_no_acceptance(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_too_late(_: object, sock: socket.socket, *__: object) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        poll.poll()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # clears it
        await asyncio.sleep(5)

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", read_too_late)
    closed = controllers(None)
    closed.close()
    failed = Outcome(False, "transport endpoint is not connected", is_silence=False)
    assert outcome_of(closed.backend(), CheckKind.TCP, timeout=0.1) == failed
