"""Packet threads that wait for a core, and a natmirror that stands still, by planted files. A manual clock."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.findings import Findings
from natmirror.runtime.core_watch import CoreWatch

PACKETS = 71


class Host:
    """A natmirror with one packet thread."""

    def __init__(self, threads: Path) -> None:
        self._threads = threads
        workers: Any = [SimpleNamespace(native_id=PACKETS)]
        self.watch = CoreWatch(workers, Findings(), threads)
        self.now = 100.0
        self._spent = {os.getpid(): [0.0, 0.0], PACKETS: [7.0, 9.0]}
        self.after(0.0)

    def after(self, seconds: float, ran: float = 0.0, waited: float = 0.0, main_waited: float = 0.0) -> list[str]:
        """Let time pass, in which the packet thread ran and waited; return what is found."""
        self.now += seconds
        for thread, more in ((PACKETS, (ran, waited)), (os.getpid(), (0.0, main_waited))):
            spent = self._spent[thread] = [old + new for old, new in zip(self._spent[thread], more, strict=True)]
            (self._threads / str(thread)).mkdir(exist_ok=True)
            numbers = " ".join(str(int(one * 1e9)) for one in spent)
            (self._threads / str(thread) / "schedstat").write_text(f"{numbers} 12\n")
        return [str(one) for one in self.watch.look(self.now)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_thread_that_waits_for_its_core(host: Host) -> None:
    found = [host.after(1.0, 0.03, 0.5) for _ in range(5)]
    assert found[:3] == [[]] * 3
    assert found[3][0].startswith(
        "cpu-scarce: packet thread 0 has waited 2.0 of the last 4 s for a core, and run for 120"
    )
    for _ in range(4):
        host.after(1.0, 0.03, 0.01)
    assert host.after(1.0, 0.03, 0.01) == []


def test_a_thread_that_shares_its_core_or_wants_little_is_not_starved(host: Host) -> None:
    assert [host.after(1.0, 0.3, 0.7) for _ in range(6)] == [[]] * 6
    assert [host.after(1.0, 0.001, 0.1) for _ in range(6)] == [[]] * 6


def test_a_program_that_was_stopped_is_told_of_for_a_minute(host: Host) -> None:
    host.after(1.0)
    [told] = host.after(12.0)
    assert told.startswith("stood-still: natmirror has stood still for 12 s within the last minute")
    assert all(host.after(1.0) for _ in range(59))
    assert host.after(1.0) == []


def test_who_waits_for_a_core_does_not_stand_still(host: Host) -> None:
    for _ in range(3):
        host.after(1.0, 0.03, 0.9)
    assert host.after(9.0, 0.1, 8.8, main_waited=8.0)[0].startswith("cpu-scarce")


def test_a_thread_that_has_ended_or_is_not_counted_says_nothing(host: Host, tmp_path: Path) -> None:
    (tmp_path / str(PACKETS) / "schedstat").unlink()
    workers: Any = [SimpleNamespace(native_id=PACKETS), SimpleNamespace(native_id=None)]
    watch = CoreWatch(workers, Findings(), tmp_path)
    assert [watch.look(second) for second in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)] == [[]] * 6
