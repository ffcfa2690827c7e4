"""The loop of the judges' process: packet threads' statements come in, judges work, natmirror gets answers.

Everything waits here but the packet threads. A judge works in small steps, so that natmirror's questions wait for
milliseconds. If judges are behind, the streams are not read; then the packet threads leave messages out, and say so.
"""

import os
import select
import socket
import time
import traceback
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from natmirror.judging.frames import FrameReader, encode
from natmirror.judging.reports import Reports
from natmirror.openflow.comparison.judge_memory import JudgeMemory
from natmirror.openflow.comparison.judge_set import JudgeSet
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.tables.statistics import Bodies

GRACE = 0.25
"""Seconds that a statement is under way at most, unless its stream is full. No judge concludes before from silence."""
_BEAT_INTERVAL = 1.0
_SLICE = 0.005  # seconds of work between two looks at the streams
_MAX_READ_LEN = 256 << 10
_MAX_QUESTION_LEN = 1 << 20
_MAX_TEXT_LEN = 16 << 10  # of an internal error
_SEND_TIMEOUT = 30.0  # seconds, after which natmirror starts another process


class _Stream:
    """The statements of one packet thread, and their judges."""

    def __init__(self, connection: socket.socket, judges: JudgeSet, comparisons: Comparisons) -> None:
        self.connection = connection
        self.judges = judges
        self.comparisons = comparisons
        self.known_until = -inf
        """All statements until then have been read."""
        self.has_work = False

    def read(self, now: float) -> None:
        """Read what has come; if that is all, all is known until shortly before ``now``."""
        data = self.connection.recv(_MAX_READ_LEN)
        if not data:
            _end()
        self.judges.push([data])
        if len(data) < _MAX_READ_LEN:
            self.known_until = now - GRACE

    def work(self, until: float) -> None:
        """Let judges work for a while. After each step whatever waits for the processor gets it: the scheduler gives
        a turn to each process that waits, however little it may have, and ends the turn at its next tick only, after
        1 to 10 ms (sched(7), "SCHED_IDLE"; the kernel's CONFIG_HZ)."""
        self.has_work = True
        while self.has_work and time.monotonic() < until:
            self.has_work = self.judges.step(self.known_until)
            os.sched_yield()


class JudgingLoop:
    """Judges the connections of the packet threads behind ``streams``, for natmirror behind ``connection``."""

    def __init__(self, connection: socket.socket, streams: Sequence[socket.socket]) -> None:
        self._connection = connection
        self._connection.settimeout(_SEND_TIMEOUT)
        self._frames = FrameReader(_MAX_QUESTION_LEN)
        self._memory = JudgeMemory(0, 0)
        self._compared: set[tuple[str, str, str]] = set()
        self._streams: list[_Stream] = []
        for thread, one in enumerate(streams):
            comparisons = Comparisons(self._memory)
            judges = JudgeSet(
                self._memory, comparisons, partial(self._send_statistics, thread), partial(self._send_fault, thread)
            )
            self._streams.append(_Stream(one, judges, comparisons))
        self._reports = Reports([one.comparisons for one in self._streams])
        self._beat_at = -inf

    def run(self) -> None:
        """Judge until natmirror ends: then the process ends."""
        self._take_frames()  # the limits come first
        while True:
            self._run_once()

    def _run_once(self) -> None:
        now = time.monotonic()
        waits = 0.0 if any(one.has_work for one in self._streams) else max(0.0, self._due_at() - now)
        read = [one for one in self._streams if not one.judges.is_full]
        readable, _, _ = select.select([self._connection, *(one.connection for one in read)], [], [], waits)
        now = time.monotonic()
        if self._connection in readable:
            self._take_frames()
        for one in read:
            if one.connection in readable:
                one.read(now)
            else:
                one.known_until = now - GRACE
        for one in self._streams:
            one.work(time.monotonic() + _SLICE)
        if now >= self._beat_at:
            self._beat_at = now + _BEAT_INTERVAL
            self._beat()

    def _due_at(self) -> float:
        due = (one.judges.next_due() for one in self._streams)
        return min(self._beat_at, min((at + GRACE for at in due if at is not None), default=inf))

    # What natmirror asks and gets

    def _take_frames(self) -> None:
        data = self._connection.recv(_MAX_READ_LEN)
        if not data:
            _end()
        for message in self._frames.push(data):
            if "limits" in message:
                self._memory.limit, self._memory.client_limit = message["limits"]
                self._compared = {(service, mirror, address) for service, mirror, address in message["compared"]}
            else:
                self._send({"id": message["id"], **self._answer(message)})

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": self._reports.answer(question["ask"], question["arguments"])}
        except Exception as error:  # it costs this answer only
            return {"error": _text(error)}

    def _beat(self) -> None:
        for one in self._streams:
            one.judges.prune(self._compared)
        self._send({"id": 0, "beat": list(self._reports.sums())})

    def _send_statistics(self, thread: int, session: int, question: int, bodies: Bodies | None) -> None:
        shown = None if bodies is None else [b64encode(body).decode() for body in bodies]
        self._send({"id": 0, "statistics": [thread, session, question, shown]})

    def _send_fault(self, thread: int, client: str, error: Exception) -> None:
        self._send({"id": 0, "fault": [thread, client, _text(error)]})

    def _send(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # natmirror has ended, which the next read shows
            self._connection.sendall(encode(message))


def _text(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-_MAX_TEXT_LEN:]


def _end() -> None:
    """End the process: natmirror has ended, or one of its packet threads begins again."""
    os._exit(0)
