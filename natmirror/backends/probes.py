"""The probes: a probe is one check of one backend, which its kernel, its program or a command answers.

A probe's connection is this host's own: its packets are not queued to natmirror, unless the backend is a mirror too.
Then the rule for mirrors' packets queues the answers, and natmirror passes them as a backend's.
"""

import asyncio
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from natmirror import unprivileged
from natmirror.backends.host_view import Bind, bind_to_nothing
from natmirror.net.endpoint import Endpoint
from natmirror.openflow.framer import Broken
from natmirror.openflow.handshake import Handshake, HelloRefused
from natmirror.reasons import EndReason
from natmirror.rules import Backend, CheckKind, Health

_REAP_TIMEOUT = 0.05  # seconds; a killed process ends at once, unless it hangs in the kernel
MAX_LATE = 0.1
"""Seconds; a timeout that fires later than this shows that this host is too busy to judge others."""
_PIECE_LEN = 1 << 16
_MAX_LAST_PIECES = 16  # pieces that are read after our FIN
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_OUR_FAULTS = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.EAGAIN, errno.EADDRNOTAVAIL),  # no more processes, no more ports
}
_BEGUN = {0, errno.EINPROGRESS, errno.ECONNREFUSED}  # a program on this host may refuse at once
_NO_ROUTE = {
    *(errno.ENETUNREACH, errno.EHOSTUNREACH),
    *(errno.EINVAL, errno.EACCES),  # routes of the kinds blackhole and prohibit
}
_BROKEN_TEXTS = {
    EndReason.TLS: "it speaks TLS",
    EndReason.NOT_OPENFLOW: "it speaks no OpenFlow",
    EndReason.BAD_VERSION: "it speaks no OpenFlow version that natmirror supports",
    EndReason.BAD_LENGTH: "it speaks no OpenFlow",
}


class Outcome(NamedTuple):
    """The outcome of a check; ``ok`` is None where the check says nothing about the backend."""

    ok: bool | None
    reason: str
    is_silence: bool = False
    """Whether the check failed because not a single packet came back."""


class Failed(Exception):
    """The check has failed; the text says why."""


class Inconclusive(Exception):
    """The check could not be made; the text says why."""


def hide_from_program(sock: socket.socket) -> None:
    """Have a close right after the SYN-ACK answer it with a RST in place of the ACK, so that the peer's program never
    sees the connection: without TCP_QUICKACK our kernel delays the ACK, to send it with data."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class Probe:
    """One check of one backend: call outcome(), close() if it passed, and abort() in any case."""

    def __init__(self, backend: Backend, settings: Health, bind: Bind = bind_to_nothing) -> None:
        self.awaited = "answer"
        """The answer for which the probe waits; a timeout's reason names it."""
        self.source: Endpoint | None = None
        """This host's end of a connection that the backend has not accepted; None after it has, or without one."""
        self.has_no_route = False
        """Whether the check could not be made because this host has no route to the backend."""
        self._backend = backend
        self._settings = settings
        self._bind = bind
        self._sock: socket.socket | None = None

    async def outcome(self) -> Outcome:
        """Make the check, within its timeout."""
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return Outcome(True, await self._ask())
        except TimeoutError:
            answer = self._unseen_answer()
            if answer:
                return self._failed_with(OSError(answer, os.strerror(answer)))
            if answer == 0 or time.monotonic() - began_at > self._settings.timeout + MAX_LATE:
                return Outcome(None, "this host was too busy to check it")
            reason = f"no {self.awaited} within {self._settings.timeout * 1000:g} ms"
            return Outcome(False, reason, is_silence=self.source is not None)
        except OSError as error:
            return self._failed_with(error)
        except Broken as broken:
            return Outcome(False, _BROKEN_TEXTS[broken.reason])
        except HelloRefused:
            return Outcome(False, "it has refused our HELLO")
        except Failed as failed:
            return Outcome(False, str(failed))
        except Inconclusive as inconclusive:
            return Outcome(None, str(inconclusive))

    def _failed_with(self, error: OSError) -> Outcome:
        ours = error.errno in _OUR_FAULTS
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        is_silence = error.errno in _NO_ROUTE and self.source is not None
        return Outcome(None if ours else False, reason, is_silence)

    def _unseen_answer(self) -> int | None:
        """Return what has become of the SYN while this thread had no core to see it: 0 if the backend has accepted the
        connection, else the errno with which it failed; None if nothing has."""
        if self._sock is None or self.source is None:
            return None
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        if not poll.poll(0):
            return None
        if error := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return error
        try:
            self._sock.getpeername()
        except OSError:  # it has failed, and asyncio's callback has read, and so cleared, the error
            return errno.ENOTCONN
        return 0

    async def close(self) -> None:
        """Close the connection with a FIN after a passed check, which may take a while; OSError where that fails."""

    def abort(self) -> None:
        """Close and end everything at once."""
        if self._sock is not None:
            self._sock.close()

    async def _ask(self) -> str:
        """Make the check, and return why it passed; raise Failed or Unclear if it did not."""
        raise NotImplementedError

    def _open(self) -> socket.socket:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._bind(self._sock)
        return self._sock

    async def _connect(self, sock: socket.socket) -> None:
        """Connect to the backend. Inconclusive where this host sends nothing: only its own state can refuse at once."""
        to = str(self._backend.address), self._backend.port
        if (error := sock.connect_ex(to)) not in _BEGUN:
            self.has_no_route = error in _NO_ROUTE
            raise Inconclusive(f"this host cannot send to it: {os.strerror(error).lower()}")
        address, port = sock.getsockname()
        self.source = IPv4Address(address).packed, port
        await asyncio.get_running_loop().sock_connect(sock, to)
        self.source = None


class TcpProbe(Probe):
    """The check that the backend's kernel answers a SYN."""

    async def _ask(self) -> str:
        sock = self._open()
        hide_from_program(sock)
        await self._connect(sock)
        sock.close()
        return "it accepts connections"


class OpenFlowProbe(Probe):
    """The check that the backend's program sends a HELLO and answers an ECHO_REQUEST."""

    async def _ask(self) -> str:
        sock, handshake = self._open(), Handshake()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._connect(sock)
        try:
            await self._shake_hands(sock, handshake)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Failed(f"it closed the connection before its {handshake.awaited}") from None
        return "it answers an ECHO_REQUEST"

    async def _shake_hands(self, sock: socket.socket, handshake: Handshake) -> None:
        loop, answer = asyncio.get_running_loop(), handshake.begin()
        while not handshake.is_answered:
            self.awaited = handshake.awaited
            await loop.sock_sendall(sock, answer)
            data = await loop.sock_recv(sock, _PIECE_LEN)
            if not data:
                raise EOFError
            answer = handshake.receive(data)

    async def close(self) -> None:
        """Send a FIN, and read until the controller has closed too: it would log a RST as an error."""
        if self._sock is None:
            return
        self._sock.shutdown(socket.SHUT_WR)
        for _ in range(_MAX_LAST_PIECES):
            if not await asyncio.get_running_loop().sock_recv(self._sock, _PIECE_LEN):
                return


class ExecProbe(Probe):
    """The check that a command ends with exit code 0. It runs as natmirror's user, without natmirror's capabilities.
    The processes of its group are killed with it."""

    def __init__(self, backend: Backend, settings: Health, bind: Bind = bind_to_nothing) -> None:
        super().__init__(backend, settings, bind)
        self.awaited = f"exit of {settings.command[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    async def _ask(self) -> str:
        command, backend = self._settings.command, self._backend
        about = {
            "NATMIRROR_BACKEND": backend.name,
            "NATMIRROR_ADDRESS": str(backend.address),
            "NATMIRROR_PORT": str(backend.port),
        }
        try:
            self._process = unprivileged.start(command, {**os.environ, **about})
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OUR_FAULTS:
                raise
            words = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            raise Inconclusive(f"cannot run {command[0]}: {words}") from None
        await _ended(self._process.pid)
        code = self._end(self._process)
        if code == 0:
            return "exit code 0"
        raise Failed(f"exit code {code}" if code is None or code > 0 else f"ended by signal {-code}")

    def abort(self) -> None:
        """Kill the command and the processes of its group."""
        if self._process is not None and self._process.returncode is None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> int | None:
        """Kill the process group and reap the command. Until it is reaped, no other process can get its id."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_TIMEOUT)
        return process.returncode


async def _ended(pid: int) -> None:
    """Wait until a child process ends, without reaping it."""
    loop = asyncio.get_running_loop()
    fd, ended = os.pidfd_open(pid), asyncio.Event()
    try:
        loop.add_reader(fd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


PROBES: dict[CheckKind, type[Probe]] = {
    CheckKind.TCP: TcpProbe,
    CheckKind.OPENFLOW: OpenFlowProbe,
    CheckKind.EXEC: ExecProbe,
}
