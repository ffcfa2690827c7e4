"""Checks of backends, in a thread of its own: none of them touches a packet, an engine or its queues.

What a check costs is Python's lock for some hundred microseconds. Its connections are this host's own: they meet none
of our hooks but those where a mirror's packets are told from others, and what comes from a backend passes there.
"""

import asyncio
import errno
import logging
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from natmirror.backends.health import BackendHealth
from natmirror.errors import HostError
from natmirror.openflow.framer import Broken
from natmirror.openflow.handshake import Handshake
from natmirror.rules import Backend, Health, Rules

log = logging.getLogger("natmirror")

_STOP_TIMEOUT = 0.9
_REAP_TIMEOUT = 0.05  # what was killed ends at once, unless it hangs in the kernel
_MAX_LATE = 0.1  # a timeout that is told later than this was ours: this host is too busy to judge others
_MAX_SIGNS = 1024
_PIECE_LEN = 1 << 16
_MAX_FAREWELLS = 16  # pieces that are read after the end
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_OUR_FAULTS = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.EAGAIN, errno.EADDRNOTAVAIL),  # no process more, no port more
}
_WORDS = {
    "tls": "it speaks TLS",
    "not-openflow": "it speaks no OpenFlow",
    "of-version": "it speaks no OpenFlow version that is known here",
    "of-length": "it speaks no OpenFlow",
    "of-refused": "it has refused our HELLO",
}

Changed = Callable[[str, Backend, bool, str], None]
"""Called with the service's name, the backend, whether it is up, and why."""


class Outcome(NamedTuple):
    """What a check has come to; ``ok`` is None where it says nothing about the backend."""

    ok: bool | None
    reason: str


class Failed(Exception):
    """The check has failed; its text says why."""


class Unclear(Exception):
    """The check could not be made; its text says why."""


class Probe:
    """One check of one backend: outcome(), then leave(), and abandon() in any case."""

    def __init__(self, backend: Backend, settings: Health) -> None:
        self.awaited = "answer"
        """What is waited for."""
        self._backend = backend
        self._settings = settings
        self._sock: socket.socket | None = None

    async def outcome(self) -> Outcome:
        """Make the check, within its timeout."""
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return Outcome(True, await self._ask())
        except TimeoutError:
            if time.monotonic() - began_at > self._settings.timeout + _MAX_LATE:
                return Outcome(None, "this host was too busy")
            return Outcome(False, f"no {self.awaited} within {self._settings.timeout * 1000:g} ms")
        except OSError as error:
            ours = error.errno in _OUR_FAULTS
            return Outcome(None if ours else False, os.strerror(error.errno).lower() if error.errno else str(error))
        except Broken as broken:
            return Outcome(False, _WORDS[broken.reason])
        except Failed as failed:
            return Outcome(False, str(failed))
        except Unclear as unclear:
            return Outcome(None, str(unclear))

    async def leave(self) -> None:
        """Part as friends after a check that was passed, which may take a while; OSError where that fails."""

    def abandon(self) -> None:
        """Let go of everything, at once."""
        if self._sock is not None:
            self._sock.close()

    async def _ask(self) -> str:
        """Why it is well; it raises where it is not."""
        raise NotImplementedError

    def _open(self) -> socket.socket:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        return self._sock

    async def _connect(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_connect(sock, (str(self._backend.address), self._backend.port))


class TcpProbe(Probe):
    """The backend's kernel answers a SYN. It gets a RST in place of the third packet, so that the program never hears
    of it: without TCP_QUICKACK the kernel would wait for some data to send it with."""

    async def _ask(self) -> str:
        sock = self._open()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await self._connect(sock)
        sock.close()
        return "it takes connections"


class OpenFlowProbe(Probe):
    """The backend's program says HELLO and answers an ECHO_REQUEST."""

    async def _ask(self) -> str:
        sock, greeting = self._open(), Handshake()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._connect(sock)
        try:
            await self._greet(sock, greeting)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Failed(f"it hung up before its {greeting.awaited}") from None
        return "it answers an ECHO_REQUEST"

    async def _greet(self, sock: socket.socket, greeting: Handshake) -> None:
        loop, answer = asyncio.get_running_loop(), greeting.begin()
        while not greeting.is_answered:
            self.awaited = greeting.awaited
            await loop.sock_sendall(sock, answer)
            data = await loop.sock_recv(sock, _PIECE_LEN)
            if not data:
                raise EOFError
            answer = greeting.receive(data)

    async def leave(self) -> None:
        """Hang up and wait until the controller has too: a RST for what it still says would be an error to it."""
        if self._sock is None:
            return
        self._sock.shutdown(socket.SHUT_WR)
        for _ in range(_MAX_FAREWELLS):
            if not await asyncio.get_running_loop().sock_recv(self._sock, _PIECE_LEN):
                return


class ExecProbe(Probe):
    """A command ends with 0. What it has started in its process group ends with it."""

    def __init__(self, backend: Backend, settings: Health) -> None:
        super().__init__(backend, settings)
        self.awaited = f"end of {settings.command[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    async def _ask(self) -> str:
        command, backend = self._settings.command, self._backend
        about = {
            "NATMIRROR_BACKEND": backend.name,
            "NATMIRROR_ADDRESS": str(backend.address),
            "NATMIRROR_PORT": str(backend.port),
        }
        nothing = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                command,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env={**os.environ, **about},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OUR_FAULTS:
                raise
            words = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            raise Unclear(f"cannot run {command[0]}: {words}") from None
        await _ended(self._process.pid)
        code = self._end(self._process)
        if code == 0:
            return "exit code 0"
        raise Failed(f"exit code {code}" if code is None or code > 0 else f"ended by signal {-code}")

    def abandon(self) -> None:
        """Kill it, and whatever it has started."""
        if self._process is not None and self._process.returncode is None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> int | None:
        """Before it is waited for, nobody else can have its number."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_TIMEOUT)
        return process.returncode


async def _ended(pid: int) -> None:
    """Wait for the end of a child, and leave it to be waited for."""
    loop = asyncio.get_running_loop()
    fd, ended = os.pidfd_open(pid), asyncio.Event()
    try:
        loop.add_reader(fd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


PROBES: dict[str, type[Probe]] = {"tcp": TcpProbe, "openflow": OpenFlowProbe, "exec": ExecProbe}


@dataclass(slots=True, eq=False)
class _Watched:
    """A backend that is checked."""

    service: str
    backend: Backend
    settings: Health
    health: BackendHealth
    seconds: float | None = None
    """That its last check took."""
    unclear: str = ""
    """Why a check has last said nothing about it: told once."""
    is_hastened: asyncio.Event = field(default_factory=asyncio.Event)
    """Its next check may be due earlier than it was."""


class Monitor:
    """The checks of all backends of pools with ``health``, from start() to stop().

    ``changed`` is called in the monitor's thread; what it raises is logged. Until then all backends are up.
    """

    def __init__(self, rules: Rules, changed: Changed) -> None:
        self._changed = changed
        self._lock = threading.Lock()  # for what status() reads; packets' threads never wait for it
        self._signs: deque[tuple[_Watched, float]] = deque(maxlen=_MAX_SIGNS)
        self._is_told = False
        self._thread: threading.Thread | None = None
        self._tasks: dict[_Watched, asyncio.Task[None]] = {}
        self._watched = _to_watch(rules, {})

    def start(self) -> None:
        """Begin to check, where there is something to check and it has not begun; from one thread. HostError where the
        host has no descriptor or thread left."""
        if not self._watched or self._thread is not None:
            return
        try:
            self._loop = asyncio.new_event_loop()
            self._checks = self._loop.create_task(self._check_all())
            thread = threading.Thread(target=self._run, name="health", daemon=True)
            thread.start()
        except (OSError, RuntimeError) as error:
            raise HostError(f"cannot start the health checks: {error}") from None
        self._thread = thread

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on. Backends with the name and place of before are as healthy as they were. It is
        for start() to begin, where there was nothing to check."""
        with self._lock:
            self._watched = _to_watch(rules, self._watched)
        if self._thread is not None:
            with suppress(RuntimeError):  # it is over
                self._loop.call_soon_threadsafe(self._take_up)

    def stop(self) -> None:
        """End all checks and their programs, within a second; nothing is told any more."""
        if self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # its loop has just closed
                self._loop.call_soon_threadsafe(self._checks.cancel)
            self._thread.join(_STOP_TIMEOUT)

    def status(self) -> list[dict[str, Any]]:
        """What is known of each backend, in the order of the rules; from any thread."""
        with self._lock:
            now = time.monotonic()
            return [self._plain(watched, now) for watched in self._watched.values()]

    def syn_failed(self, service: str, backend: str) -> None:
        """A client's SYN was refused, or not answered; from any thread, without waiting. Backends that are not checked
        may come."""
        watched = self._watched.get((service, backend))
        if watched is None or self._thread is None:
            return
        self._signs.append((watched, time.monotonic()))
        if not self._is_told:
            self._is_told = True
            with suppress(RuntimeError):  # it is over
                self._loop.call_soon_threadsafe(self._heed_signs)

    # In the thread

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._checks)
        self._loop.close()

    async def _check_all(self) -> None:
        self._take_up()
        try:
            await asyncio.get_running_loop().create_future()  # until stop()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _take_up(self) -> None:
        """Check what is to be checked, and nothing else."""
        wanted = set(self._watched.values())
        for watched in self._tasks.keys() - wanted:
            self._tasks.pop(watched).cancel()
        for watched in wanted - self._tasks.keys():
            self._tasks[watched] = self._loop.create_task(self._watch(watched))

    async def _watch(self, watched: _Watched) -> None:
        while True:
            while (left := watched.health.next_check() - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await watched.is_hastened.wait()
                watched.is_hastened.clear()
            try:
                await self._check(watched)
            except Exception:
                log.exception("health of %s: a check went wrong", watched.backend.name)
                self._enter(watched, Outcome(None, "internal error"))

    async def _check(self, watched: _Watched) -> None:
        probe = PROBES[watched.settings.check](watched.backend, watched.settings)
        try:
            began_at = time.monotonic()
            outcome = await probe.outcome()
            watched.seconds = time.monotonic() - began_at
            self._enter(watched, outcome)
            if outcome.ok:
                with suppress(OSError):  # a timeout too
                    until = min(began_at + watched.settings.timeout, watched.health.next_check())
                    async with asyncio.timeout_at(until):
                        await probe.leave()
        finally:
            probe.abandon()

    def _enter(self, watched: _Watched, outcome: Outcome) -> None:
        now, health = time.monotonic(), watched.health
        with self._lock:
            if outcome.ok is None:
                health.unclear(now)
                if outcome.reason != watched.unclear:
                    watched.unclear = outcome.reason
                    log.warning(
                        "health of %s/%s: %s, which counts for nothing; it stays %s",
                        *(watched.service, watched.backend.name, outcome.reason, "up" if health.is_up else "down"),
                    )
                return
            has_changed = health.result(outcome.ok, outcome.reason, now)
        if has_changed:
            self._tell(watched)

    def _heed_signs(self) -> None:
        self._is_told = False
        while self._signs:
            watched, at = self._signs.popleft()
            with self._lock:
                watched.health.syn_failed(at)
            watched.is_hastened.set()

    def _tell(self, watched: _Watched) -> None:
        health = watched.health
        try:
            self._changed(watched.service, watched.backend, health.is_up, health.reason)
        except Exception:
            log.exception("health of %s: nobody could be told", watched.backend.name)

    def _plain(self, watched: _Watched, now: float) -> dict[str, Any]:
        health = watched.health
        return {
            "service": watched.service,
            "backend": watched.backend.name,
            "check": watched.settings.check,
            "state": "up" if health.is_up else "down",
            "since_seconds": round(max(0.0, now - health.since_at), 3),
            "reason": health.reason,
            "checks": health.checks,
            "failures": health.failures,
            "unclear": health.unclear_checks,
            "failed_syns": health.failed_syns,
            "last_ms": None if watched.seconds is None else round(watched.seconds * 1000, 3),
        }


def _to_watch(rules: Rules, before: dict[tuple[str, str], _Watched]) -> dict[tuple[str, str], _Watched]:
    """The backends to be checked, by their names; what is known of those that were is kept."""
    found: dict[tuple[str, str], _Watched] = {}
    now = time.monotonic()
    for service in rules.services:
        settings = None if service.pool is None else service.pool.health
        if service.pool is None or settings is None:
            continue
        for backend in service.pool.backends:
            key = service.name, backend.name
            old = before.get(key)
            if old is None or (old.backend.address, old.backend.port) != (backend.address, backend.port):
                found[key] = _Watched(service.name, backend, settings, BackendHealth(settings, now, random.random))
            elif old.settings == settings:  # weights and limits are nothing to a check
                found[key] = old
            else:
                old.health.change(settings, now)
                found[key] = _Watched(service.name, backend, settings, old.health, old.seconds)
    return found
