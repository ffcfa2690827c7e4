"""The file of events: kept over restarts and crashes, bounded, and written again once a disk works again."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.events import Event, EventKind, EventRing, EventSeverity
from natmirror.events.event import encode
from natmirror.events.query import read_since
from natmirror.findings import OwnCode
from natmirror.runtime import event_file as module
from natmirror.runtime.append_file import AppendFile
from natmirror.runtime.event_file import EventFile, read_events
from tests.helpers.clock import Clock

STARTED, STOPPED, DOWN = EventKind.STARTED, EventKind.STOPPED, EventKind.BACKEND_DOWN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.jsonl"


class Run:
    """One run of natmirror, as far as its events go."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.ring = EventRing(lambda: clock.now)
        self.file = EventFile(path, self.ring)
        self.file.restore()

    def add(self, *kinds: EventKind, text: str = "") -> None:
        for kind in kinds:
            self.ring.add(kind, EventSeverity.INFO, text or kind, is_logged=False)

    def save(self) -> None:
        self.file._save()

    def die(self) -> None:
        """Close the files as the kernel does for a process that is killed."""
        if self.file._file is not None:
            self.file._file.close()


def kinds(path: Path) -> list[EventKind]:
    return [one.kind for one in read_events(path)]


def test_events_outlive_a_stop(path: Path, clock: Clock) -> None:
    first = Run(path, clock)
    first.add(STARTED, DOWN)
    first.save()
    first.add(STOPPED)
    first.file._finish()
    again = Run(path, clock)
    again.add(STARTED)
    again.save()
    assert kinds(path) == [STARTED, DOWN, STOPPED, STARTED]
    assert [one.kind for one in again.ring.all()] == kinds(path)
    numbers = [one.number for one in read_events(path)]
    assert numbers == sorted(set(numbers))


def test_a_start_that_finds_no_stop_tells_of_a_crash(path: Path, clock: Clock) -> None:
    first = Run(path, clock)
    first.add(STARTED, DOWN)
    first.save()
    first.die()
    again = Run(path, clock)
    again.add(STARTED)
    again.save()
    assert kinds(path) == [STARTED, DOWN, EventKind.CRASHED, STARTED]
    again.add(STOPPED)
    again.file._finish()
    Run(path, clock).save()
    assert kinds(path)[-1] is STOPPED


WRONG = (
    b"",
    b"\xff\xfe\x00",
    b"[]",
    b'"text"',
    b"[" * 60_000,
    b'{"number": 1e999}',
    b'{"number": 12',
    *(
        json.dumps({**Event(5, 0.0, DOWN, EventSeverity.INFO, "x").entry(), name: value}).encode()
        for name, value in (
            *(("number", one) for one in (float("inf"), 10**30, 10**18, 0, -1, None)),
            *(("time", one) for one in (5, "never", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")),
            *(("count", one) for one in (float("inf"), -1)),
            *(("kind", one) for one in ("unknown-kind", ["down"], None)),
        )
    ),
)


@pytest.mark.parametrize("line", WRONG, ids=range(len(WRONG)))
def test_a_line_that_is_no_event_costs_only_itself(path: Path, clock: Clock, line: bytes) -> None:
    first = Run(path, clock)
    first.add(STOPPED)
    first.file._finish()
    with path.open("ab") as file:
        file.write(line + b"\n")
    again = Run(path, clock)
    again.add(STARTED)
    again.save()
    assert kinds(path) == [STOPPED, STARTED]
    assert [read_since(str(one.entry()["number"])) for one in again.ring.all()]
    assert again.ring.all()[-1].number < 10**15


def test_a_pipe_is_not_waited_for_and_of_a_huge_file_only_the_end_is_read(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(HostError, match="expected a file, found something else"):
        read_events(path)
    assert Run(path, clock).ring.all() == []
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + encode(Event(7, 1.0, DOWN, EventSeverity.INFO, "down")))
    assert kinds(path) == [DOWN]


def test_one_natmirror_writes_the_file(path: Path, clock: Clock) -> None:
    first = Run(path, clock)
    first.add(STARTED)
    first.save()
    clock.now += 1.0
    second = Run(path, clock)  # in another network namespace
    second.add(STARTED)
    with pytest.raises(HostError, match="another program writes it, such as a second natmirror"):
        second.save()
    assert [one.kind for one in second.ring.all()] == [STARTED, STARTED]
    clock.now += 1.0
    first.add(STOPPED)
    first.file._finish()
    second.save()
    assert kinds(path) == [STARTED, STARTED, STOPPED]


def test_a_line_that_a_power_failure_has_cut_off_costs_only_itself(path: Path, clock: Clock) -> None:
    first = Run(path, clock)
    first.add(STOPPED, DOWN)
    first.file._finish()
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again = Run(path, clock)
    again.add(STARTED)
    again.save()
    assert kinds(path) == [STOPPED, STARTED]


def test_the_files_are_bounded(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEN", 2000)
    run = Run(path, clock)
    for number in range(100):
        clock.now += 600.0
        run.add(DOWN, text=f"number {number}")
        run.save()
    assert sorted(one.name for one in path.parent.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert all(one.stat().st_size < 2500 for one in path.parent.iterdir())
    texts = [one.text for one in read_events(path)]
    assert 10 < len(texts) < 30
    assert texts == [f"number {number}" for number in range(100 - len(texts), 100)]


def test_without_a_file_memory_keeps_the_events(clock: Clock) -> None:
    run = Run(None, clock)
    run.add(STARTED)
    run.save()
    run.file._finish()
    assert len(run.ring.all()) == 1


def test_a_file_that_cannot_be_read_is_logged_and_costs_nothing_else(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)
    run = Run(path, clock)
    assert f"events: {path}: Is a directory" in caplog.text
    run.add(STARTED)
    with pytest.raises(HostError, match="expected a file, found something else"):
        run.save()
    path.rmdir()
    run.save()
    assert kinds(path) == [STARTED]


def test_a_disk_that_hangs_is_named_and_the_events_are_written_later(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaw, begun = threading.Event(), threading.Event()
    append = AppendFile.append

    def hang(file: AppendFile, data: bytes) -> None:
        begun.set()
        assert thaw.wait(20.0)
        append(file, data)

    monkeypatch.setattr(AppendFile, "append", hang)
    monkeypatch.setattr("natmirror.runtime.chores._HUNG_AFTER", 0.0)
    run = Run(path, clock)
    run.add(STARTED)
    run.file.thread.start()
    assert begun.wait(5.0)
    run.add(STOPPED)
    [found] = run.file.findings()
    assert found.code is OwnCode.EVENTS_NOT_SAVED
    assert f"{path} (the disk does not answer)" in found.problem
    thaw.set()
    run.file.thread.end()
    assert run.file.thread.wait(time.monotonic() + 5.0) is None
    assert kinds(path) == [STARTED, STOPPED]
