"""The file of events: kept over restarts and crashes, bounded, and written again once a disk works again."""

import threading
import time
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.events import EventKind, EventRing, EventSeverity
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
    first.save()  # and then it is killed
    again = Run(path, clock)
    again.add(STARTED)
    again.save()
    assert kinds(path) == [STARTED, DOWN, EventKind.CRASHED, STARTED]
    again.add(STOPPED)
    again.file._finish()
    Run(path, clock).save()
    assert kinds(path)[-1] is STOPPED


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
