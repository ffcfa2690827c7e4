"""A natmirror that gets hardly any processor time, or none for a while, says so."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from natmirror.lab.process import wait_for
from tests.helpers.processes import thread_of
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PERIOD = 100_000  # microseconds
_SHARE = 0.03
_STOPPED_FOR = 4.5  # seconds
FOUND, ENDED = "cpu-scarce: packet thread 0 has waited", "cpu-scarce: no longer so"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with a small share of a core's time."""
    path = (_V1 if _V1.is_dir() else _V2) / f"natmirror-test-{os.getpid()}"
    quota = int(_PERIOD * _SHARE)
    try:
        path.mkdir()
        if path.parent == _V1:
            (path / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (path / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (path / "cpu.max").write_text(f"{quota} {_PERIOD}")
    except OSError as error:
        pytest.skip(f"no control group with a quota: {error}")
    yield path
    for pid in (path / "cgroup.procs").read_text().split():
        _move(path.parent, int(pid))
    with suppress(OSError):  # of a process that has not ended yet
        path.rmdir()


def _move(group: Path, pid: int) -> None:
    with suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid))


def _codes(scene: Scene) -> set[str]:
    return {one["code"] for one in scene.balancers[0].status()["findings"]}


def test_a_packet_thread_that_hardly_gets_a_core_is_a_finding(scene: Scene, group: Path) -> None:
    scene.record("c1", "c2", "m")
    # A thread that may go before other programs gets its core, and some kernels take it into no group without such time
    balancer = scene.balance(through=["setpriv", "--bounding-set=-sys_nice"])
    client, _ = scene.client(connections=8, requests=10_000, pause=0.05, seed=1)
    balancer.wait_for_status(lambda status: status["mirrors"][0]["acked_bytes"] > 1000, "copies")
    wait_for(lambda: "cpu-scarce" not in _codes(scene), "no finding: on a busy machine there may have been one")
    found, ended = (balancer.program.text.count(text) for text in (FOUND, ENDED))
    _move(group, balancer.program.pid)
    wait_for(lambda: balancer.program.text.count(FOUND) > found, "the finding", 60.0)
    _move(group.parent, balancer.program.pid)
    wait_for(lambda: balancer.program.text.count(ENDED) > ended, "its end", 60.0)
    client.end()
    scene.clients.clear()


def test_packet_threads_go_before_other_programs(scene: Scene) -> None:
    balancer = scene.balance()
    thread = thread_of(balancer.program.pid, "packets-0")

    def goes_first() -> bool:
        return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR

    wait_for(goes_first, "a thread without packets to go first")


def test_a_natmirror_that_was_stopped_says_how_long(scene: Scene) -> None:
    balancer = scene.balance()
    balancer.wait_for_status(lambda status: status["uptime_seconds"] > 2, "the first look at the threads")
    balancer.program.send_signal(signal.SIGSTOP)
    until = time.monotonic() + _STOPPED_FOR
    wait_for(lambda: time.monotonic() > until, "the end of its stop")
    balancer.program.send_signal(signal.SIGCONT)
    balancer.program.wait_for_text("stood-still: natmirror has stood still for ")
