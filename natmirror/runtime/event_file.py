"""The file of events: it keeps them over a restart and over a crash, one JSON object a line.

A thread of its own appends new events each second, or when the ring asks for it, so that a disk that is full or does
not answer delays nothing else: the ring has them until it works again. A file that has grown to MAX_LEN becomes FILE.1.
``natmirror events`` reads both where no natmirror answers.
"""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError
from natmirror.events.event import Event, decode, encode, show_time
from natmirror.events.kinds import EventKind, EventSeverity
from natmirror.events.query import MAX_EVENTS
from natmirror.events.ring import EventRing
from natmirror.findings import Finding, OwnCode
from natmirror.runtime.append_file import AppendFile, is_being_written, older_names, open_at_once
from natmirror.runtime.chores import HANGS, NEVER, Chore, ChoreThread

log = logging.getLogger("natmirror")

FILE_NAME = "events.jsonl"
"""The name of the file in the state directory of a service."""
MAX_LEN = 2 << 20
"""Bytes of the file from which on the next one begins."""
_KEPT = 1
_INTERVAL = 1.0  # seconds
_EVENTS_AT_ONCE = 256
_MAX_LINE_LEN = 64 << 10
_MAX_READ_LEN = 2 * MAX_LEN


def read_events(path: Path) -> list[Event]:
    """Return the latest events in a file and its older one, the oldest first; none where there is no file. Leave out
    lines that are no events. HostError where the files cannot be read."""
    found: dict[int, Event] = {}
    for one in (*reversed(older_names(path, _KEPT)), path):
        try:
            found |= {event.number: event for event in _events_of(one)}
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError(f"{one}: {error.strerror or error}") from None
    return [found[number] for number in sorted(found)][-MAX_EVENTS:]


def _events_of(path: Path) -> Iterator[Event]:
    """Yield the events in the last part of a file. It may be another program's, so no pipe and no device is read."""
    with open_at_once(path) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise HostError(f"{path}: expected a file, found something else")
        file.seek(max(about.st_size - _MAX_READ_LEN, 0))
        while line := file.readline(_MAX_LINE_LEN):
            with suppress(ValueError):
                yield decode(line)


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 1, 0))
        return file.read() in (b"\n", b"")


class EventFile:
    """The file that keeps the events of ``ring``; with ``path=None`` memory alone keeps them."""

    def __init__(self, path: Path | None, ring: EventRing) -> None:
        self._path = path
        self._ring = ring
        self._file: AppendFile | None = None
        self._saved = 0  # the number of the last event in the file
        self._error: str | None = None
        chores = [
            Chore("events", _INTERVAL, self._save),
            Chore("events", NEVER, self._finish, NEVER, at_end=True),
        ]
        self.thread = ChoreThread("events", chores)
        if path is not None:
            ring.keep_now = lambda: self.thread.request(self._write)

    def restore(self) -> None:
        """Give the ring the events of earlier runs, before its first one of this run; add one if the last run did not
        stop. Log why the file cannot be read, if it cannot."""
        if self._path is None:
            return
        try:
            before = read_events(self._path)
        except HostError as error:
            log.warning("events: %s", error)
            return
        self._ring.restore(before)
        self._saved = before[-1].number if before else 0
        runs = [one for one in before if one.kind in (EventKind.STARTED, EventKind.STOPPED)]
        if runs and runs[-1].kind is EventKind.STARTED and not self._is_anothers():
            self._ring.add(
                EventKind.CRASHED,
                EventSeverity.ERROR,
                f"the natmirror that started at {show_time(runs[-1].at)} did not stop: it crashed, was killed, or its"
                f" host failed, at {show_time(before[-1].at)} or later",
            )

    def _is_anothers(self) -> bool:
        """Return whether another natmirror writes the file, as in another network namespace."""
        with suppress(OSError):
            return self._path is not None and is_being_written(self._path)
        return False

    def findings(self) -> list[Finding]:
        """Return what is wrong with the file; from any thread."""
        errors = {failure["error"] for failure in self.thread.failures()}
        error = "the disk does not answer" if HANGS in errors else next(iter(errors), None)
        if error is None or self._path is None:
            return []
        return [OwnCode.EVENTS_NOT_SAVED.found(path=self._path, error=error.removeprefix(f"{self._path}: "))]

    # In the thread

    def _save(self) -> None:
        self._ring.join_repeated()
        self._write()

    def _finish(self) -> None:
        self._ring.join_repeated(at_end=True)
        self._write()
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        """Append the events that the file lacks. HostError where that fails."""
        if self._path is None:
            return
        new = self._ring.after(self._saved)
        for start in range(0, len(new), _EVENTS_AT_ONCE):
            some = new[start : start + _EVENTS_AT_ONCE]
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = AppendFile(self._path, MAX_LEN, _KEPT)
                if not _ends_with_a_line(self._path):  # a failure of the machine has cut off the end
                    self._file.append(b"\n")
            self._file.append(b"".join(map(encode, some)))
            self._saved = some[-1].number
