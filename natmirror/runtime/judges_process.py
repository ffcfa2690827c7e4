"""The process of the judges (natmirror/judging), as natmirror sees it: started, asked, and started again when it ends.

Decoding and comparing takes a millisecond for each PACKET_IN. In a thread it would hold Python's interpreter lock, so
that packets wait; the process is behind the packet threads, and without rights. There is one for all packet threads,
because it has to share what they leave of the processors, and each sends it statements on a stream of its own, so that
they need no lock. It runs while a master has ``verdict: on``, and its memory is on the account: natmirror takes a
quarter of ``mirror-memory`` for it.
"""

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

from natmirror import unprivileged
from natmirror.errors import HostError
from natmirror.fastpath import Memory
from natmirror.fastpath.constants import CLIENT_SHARE
from natmirror.findings import Findings, OwnCode
from natmirror.judging.frames import FrameReader, encode
from natmirror.net.endpoint import endpoint_of, show
from natmirror.openflow.comparison.shown import ComparisonEntry
from natmirror.rules import Rules
from natmirror.runtime.chores import ChoreFailure
from natmirror.runtime.mailbox import Waker
from natmirror.runtime.verdicts import Key, compared
from natmirror.runtime.worker import Worker
from natmirror.threads import NamedThread, yield_to_packets

log = logging.getLogger("natmirror")

_NAME = "the judges' process"
_STARTS_AGAIN = "natmirror starts it again, so try again later"
_PROGRAM = [sys.executable, "-m", "natmirror.judging"]
_FRACTION = 4  # of mirror-memory, and of a client's part: judges can be done without, and copies cannot
_MAX_ANSWER_LEN = 64 << 20
_READ_LEN = 256 << 10
_MAX_BODY_LEN = 65_000  # bytes; a message has 65,535 at most
# Seconds
_ANSWER_TIMEOUT = 5.0
_BEAT_TIMEOUT = 30.0
_JOIN_TIMEOUT = 5.0
_PAUSES = (0.5, 60.0)  # before it is started again: after a first failure, and at most
_LONG_LIFE = 300.0  # after which a failure counts as the first one
_TOLD_FOR = 600.0  # in which an end is a finding


class JudgeFault(Exception):
    """An internal error in a judge; its text is the traceback."""


class JudgesProcess:
    """The judges of the connections of ``workers``, from open() on. ``memory`` is the budget of mirroring."""

    def __init__(self, workers: Sequence[Worker], memory: Memory, findings: Findings, rules: Rules) -> None:
        self._workers = workers
        self._memory = memory
        self._findings = findings
        self._rules = rules
        self._taken = 0  # bytes of the budget
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()  # of the connection
        self._is_connected = threading.Event()
        self._questions: dict[int, Future[Any]] = {}
        self._numbers = count(1)
        self._sums: Mapping[Key, ComparisonEntry] = {}
        self._failure: tuple[str, float] | None = None
        self._ended: tuple[str, float] | None = None
        self._waker = Waker()
        self._stops = False
        self._thread = NamedThread(self._run, "judges")

    def open(self, held: ExitStack) -> None:
        """Start the process soon, if a master has a verdict; ``held`` gets the function that ends it. HostError where
        the host refuses."""
        held.callback(self._close)
        try:
            self._waker.open()
            self._thread.start()
        except (OSError, RuntimeError) as error:
            raise HostError(f"cannot start {_NAME}: {error}") from None

    def _close(self) -> None:
        self._stops = True
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT)
        self._waker.close()

    def follow(self, rules: Rules) -> None:
        """Follow other rules, which the engines have applied; from any thread."""
        self._rules = rules
        self._waker.wake()

    @property
    def pid(self) -> int | None:
        """Return the id of the process; None while it does not run."""
        process = self._process
        return None if process is None else process.pid

    def failures(self) -> list[ChoreFailure]:
        """Return why the process does not run, as values for JSON, if it does not; from any thread."""
        if (failure := self._failure) is None:
            return []
        return [{"name": _NAME, "error": failure[0], "failing_seconds": round(time.monotonic() - failure[1], 3)}]

    # Questions, from any thread

    def ask(self, what: str, **arguments: Any) -> Any:
        """Return the process's answer. TimeoutError where it does not answer soon, or does not run."""
        number, answer = next(self._numbers), Future[Any]()
        self._questions[number] = answer
        try:
            self._is_connected.wait(_ANSWER_TIMEOUT)  # it may just begin
            if not self._send({"id": number, "ask": what, "arguments": arguments}):
                why = "" if self._failure is None else f" ({self._failure[0]})"
                raise TimeoutError(f"{_NAME} does not run{why}: {_STARTS_AGAIN}")
            try:
                return answer.result(_ANSWER_TIMEOUT)
            except TimeoutError as error:
                raise TimeoutError(str(error) or f"{_NAME} has not answered within {_ANSWER_TIMEOUT:g} s") from None
        finally:
            self._questions.pop(number, None)

    def sums(self, service: str, mirror: str) -> ComparisonEntry | None:
        """Return the sums of the comparison with a master, as old as the latest beat; None for none."""
        return self._sums.get((service, mirror))

    def _send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; return False if there is no process."""
        with self._lock:
            if self._connection is None:
                return False
            try:
                self._connection.sendall(encode(message))
            except OSError:  # it has ended
                return False
            return True

    # In the thread

    def _run(self) -> None:
        yield_to_packets()
        pause, begins_at = _PAUSES[0], 0.0
        while not self._stops:
            now = time.monotonic()
            try:
                self._tell(now)
                if not compared(self._rules) or now < begins_at:
                    self._waker.wait(begins_at - now if now < begins_at else _TOLD_FOR)
                    continue
                why = self._run_once()
            except Exception as error:  # e.g. no descriptors, no processes, no memory
                why = (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)
            if why is None:
                self._sums = {}
                continue
            lived, now = time.monotonic() - now, time.monotonic()
            pause = _PAUSES[0] if lived > _LONG_LIFE else pause
            self._note_failure(why, now)
            begins_at, pause = now + pause, min(2 * pause, _PAUSES[1])

    def _note_failure(self, why: str, now: float) -> None:
        if self._failure is None or self._failure[0] != why:
            log.warning("%s: %s; starting it again", _NAME, why)
        self._failure = why, now if self._failure is None else self._failure[1]
        if self._sums:
            self._ended = why, now
            self._sums = {}

    def _tell(self, now: float) -> None:
        """Report an end of the process, for a while: what it had found is lost."""
        if self._ended is not None and now - self._ended[1] >= _TOLD_FOR:
            self._ended = None
        found = [] if self._ended is None else [OwnCode.VERDICTS_LOST.found(error=self._ended[0])]
        self._findings.replace("judges", found)

    def _run_once(self) -> str | None:
        """Start the process, and converse until it ends; return why it has ended, or None if it is not needed."""
        with ExitStack() as held:
            held.callback(self._take_memory, 0)
            self._take_memory(self._rules.mirror_memory // _FRACTION)
            ours, theirs = (held.enter_context(one) for one in socket.socketpair())
            pairs = [socket.socketpair() for _ in self._workers]
            for one in (end for pair in pairs for end in pair):
                held.enter_context(one)
            keep = [theirs.fileno(), *(inner.fileno() for _, inner in pairs)]
            command = [*_PROGRAM, str(self._taken), *map(str, keep)]
            self._process = process = unprivileged.start(
                command, os.environ, keep=keep, errors=None, is_ours=True, has_session=False
            )
            held.callback(self._end_process, ours, process)
            for one in (theirs, *(inner for _, inner in pairs)):
                one.close()
            ours.settimeout(_ANSWER_TIMEOUT)
            with self._lock:
                self._connection = ours
            self._send_rules()
            self._is_connected.set()
            for worker, (outer, _) in zip(self._workers, pairs, strict=True):
                worker.judge(socket.socket(fileno=outer.detach()))
            return self._converse(ours, process)

    def _take_memory(self, wanted: int) -> None:
        """Take bytes of the budget for the process, or give them back. HostError where copies hold too much."""
        if wanted > self._taken and not self._memory.take(wanted - self._taken):
            raise HostError("copies hold so much of mirror-memory that there is no quarter of it for judges")
        if wanted < self._taken:
            self._memory.give(self._taken - wanted)
        self._taken = wanted

    def _send_rules(self) -> None:
        limits = [self._taken, self._taken // CLIENT_SHARE]
        masters = [[*key, show(endpoint_of(mirror))] for key, mirror in compared(self._rules).items()]
        self._send({"id": 0, "limits": limits, "compared": masters})

    def _converse(self, connection: socket.socket, process: "subprocess.Popen[bytes]") -> str | None:
        frames, beat_at, rules = FrameReader(_MAX_ANSWER_LEN), time.monotonic(), self._rules
        while not self._stops:
            now = time.monotonic()
            self._tell(now)
            if now - beat_at > _BEAT_TIMEOUT:
                return f"it has been silent for {_BEAT_TIMEOUT:g} s"
            ends: list[Any] = [connection, self._waker.fd]
            readable, _, _ = select.select(ends, [], [], _BEAT_TIMEOUT - (now - beat_at))
            if self._waker.fd in readable:
                self._waker.drain()
                if rules is not self._rules:
                    rules = self._rules
                    if not compared(rules):
                        return None
                    with suppress(HostError):  # it keeps what it has
                        self._take_memory(rules.mirror_memory // _FRACTION)
                    self._send_rules()
            if connection in readable:
                try:
                    data = connection.recv(_READ_LEN)
                    if not data:
                        return f"it has ended, {unprivileged.end(process)}"
                    for message in frames.push(data):
                        self._take(message)
                        if "beat" in message:
                            beat_at = time.monotonic()
                except (ValueError, TypeError, LookupError, InvalidStateError) as error:
                    return f"it has sent what natmirror does not understand: {error}"
                except ConnectionError:
                    return f"it has ended, {unprivileged.end(process)}"
        return None

    def _take(self, message: dict[str, Any]) -> None:
        """Take a message of the process, which has no rights, and may say anything."""
        if answer := self._questions.get(message["id"]):
            if "error" in message:
                answer.set_exception(JudgeFault(message["error"]))
            else:
                answer.set_result(message["answer"])
        elif "beat" in message:
            self._sums = {(service, mirror): sums for service, mirror, sums in message["beat"]}
            if self._failure is not None:
                log.info("%s: runs again", _NAME)
                self._failure = None
        elif "statistics" in message:
            thread, session, question, shown = message["statistics"]
            bodies = None if shown is None else tuple(b64decode(body) for body in shown)
            if any(len(body) > _MAX_BODY_LEN for body in bodies or ()):
                raise ValueError("statistics that fit no message")
            self._workers[thread].engine.take_statistics(session, question, bodies)
        elif "fault" in message:
            thread, client, text = message["fault"]
            self._workers[thread].engine.judge_failed(client, JudgeFault(text))

    def _end_process(self, connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        """End the process, wait for its end, and have packet threads forget it."""
        self._is_connected.clear()
        with self._lock:
            self._connection = None
        for worker in self._workers:
            worker.judge(None)
        for answer in list(self._questions.values()):
            with suppress(InvalidStateError):  # it has its answer
                answer.set_exception(TimeoutError(f"{_NAME} has ended: {_STARTS_AGAIN}"))
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # the process ends when it reads that
        self._process = None
        unprivileged.end(process)
