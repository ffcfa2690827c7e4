"""Checks against sockets of the test's own: what each makes of controllers that live, hang, refuse and babble."""

import asyncio
import errno
import gc
import os
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
from tests.helpers.controllers import HOST, Controller, Talk, hang_until_closed, speaks


def check(backend: Backend, kind: CheckKind, *command: str, timeout: float = 0.3) -> Outcome:
    """One check from its beginning to its end."""
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


def test_tcp_a_program_that_listens_is_well_and_never_hears_of_it(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    controller = controllers(hang_until_closed)
    for _ in range(3):
        assert check(controller.backend(), CheckKind.TCP) == (True, "it accepts connections")
    with socket.create_connection((HOST, controller.port)):
        wait_for(lambda: controller.accepted > 0, "the test's own connection")
    assert controller.accepted == 1


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.OPENFLOW])
def test_a_port_where_nobody_listens_refuses(controllers: Callable[[Talk | None], Controller], kind: CheckKind) -> None:
    controller = controllers(None)
    controller.close()
    assert check(controller.backend(), kind) == (False, "connection refused")


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.OPENFLOW])
def test_a_full_queue_does_not_answer(kind: CheckKind) -> None:
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
    assert check(controller.backend(), CheckKind.OPENFLOW) == (True, "it answers an ECHO_REQUEST")
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

    assert check(controllers(speaks(V13, greeting=greeting)).backend(), CheckKind.OPENFLOW).ok


def says(data: bytes) -> Talk:
    """A peer that says that, and listens."""

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
        (says(HELLO), "no ECHO_REPLY within 300 ms"),
        (says(HELLO[:7]), "no HELLO within 300 ms"),
        (says(HELLO + messages.build(V13, Type.ERROR, 5, b"\0\0\0\0no")), "it has refused our HELLO"),
        (lambda sock: None, "it closed the connection before its HELLO"),
        (lambda sock: sock.recv(4096) and None, "it closed the connection before its HELLO"),
        (lambda sock: sock.recv(4096) and sock.sendall(HELLO), "it closed the connection before its ECHO_REPLY"),
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
    assert check(controllers(talk).backend(), CheckKind.OPENFLOW) == (False, reason)


def test_openflow_a_kernel_that_takes_connections_is_not_enough(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    wedged = controllers(None)
    assert check(wedged.backend(), CheckKind.TCP).ok
    assert check(wedged.backend(), CheckKind.OPENFLOW) == (False, "no HELLO within 300 ms")


def test_openflow_who_babbles_without_end_is_not_listened_to(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    def babble(sock: socket.socket) -> None:
        sock.sendall(messages.hello(V13, 1))
        while True:
            sock.sendall(messages.build(V13, Type.FEATURES_REQUEST, 2) * 1000)

    assert check(controllers(babble).backend(), CheckKind.OPENFLOW, timeout=5.0) == (False, "it speaks no OpenFlow")


# exec

NOWHERE = Backend("c7", IPv4Address("192.0.2.7"), 6653)


def shell(script: str, **options: Any) -> Outcome:
    return check(NOWHERE, CheckKind.EXEC, "/bin/sh", "-c", script, **options)


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
    assert shell("sleep 60", timeout=0.2) == (False, "no exit of /bin/sh within 200 ms")
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
    assert check(NOWHERE, CheckKind.EXEC, command) == (None, f"cannot run {command}: {said}")


# Ourselves


def test_want_of_descriptors_is_no_fault_of_a_backend(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("natmirror.backends.probes.Probe._connect", none_left)
    for kind in (CheckKind.TCP, CheckKind.OPENFLOW):
        assert check(controllers(None).backend(), kind) == (None, "too many open files")

    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("natmirror.backends.probes.subprocess.Popen", no_more)
    assert shell("exit 0") == (None, "resource temporarily unavailable")


def test_who_is_late_himself_judges_nobody(controllers: Callable[[Talk | None], Controller]) -> None:
    settings = Health(CheckKind.OPENFLOW, timeout=0.1)

    async def run() -> Outcome:
        probe = PROBES[CheckKind.OPENFLOW](controllers(None).backend(), settings)
        try:
            asked = asyncio.ensure_future(probe.outcome())
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # the whole thread is held up
            return await asked
        finally:
            probe.abort()

    assert asyncio.run(run()) == (None, "this host was too busy to check it")


def test_checks_leave_no_circles_behind(controllers: Callable[[Talk | None], Controller]) -> None:
    """Old garbage is not looked for in a running natmirror."""
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
