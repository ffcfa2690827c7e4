"""natmirror as a service: notifications to systemd, beats for its watchdog, and the confinement of the unit."""

import itertools
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from natmirror.engine.engine import Engine
from natmirror.fastpath import NEVER, Memory
from natmirror.linux.iptables import Firewall
from natmirror.linux.loop import LoopEvent
from natmirror.linux.memory_limit import most_memory
from natmirror.linux.systemd import (
    Heartbeat,
    Notifier,
    WatchdogFeeder,
    is_journal,
    is_service,
    state_directory,
    take_variables,
)
from natmirror.replication.synchroniser import MAX_WAITING_LEN as MAX_OPS_LEN
from natmirror.rules import parse_rules
from natmirror.rules.shards import ALL
from natmirror.runtime import worker as worker_module
from natmirror.runtime.logs import Logs
from natmirror.runtime.order_recorder import MAX_WAITING_LEN as MAX_ORDERS_LEN
from natmirror.runtime.runner import Runner
from natmirror.runtime.worker import Worker
from tests.helpers.listener import Listener
from tests.helpers.support import RULES
from tests.helpers.unitfile import UNIT, settings

MAX_EXPOSURE = 2.0
needs_systemd_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


class ManagerSocket:
    """The service manager's socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0"))
        self.socket.setblocking(False)

    def received(self) -> list[str]:
        """Return the datagrams since the last call."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ManagerSocket]:
    manager = ManagerSocket(str(tmp_path / "notify") if request.param == "path" else f"@natmirror-test-{os.getpid()}")
    yield manager
    manager.socket.close()


def test_each_notification_is_a_datagram(manager: ManagerSocket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    notifier.ready()
    notifier.status("3 flows, 3 legs")
    notifier.beat()
    notifier.stopping()
    assert manager.received() == ["READY=1", "STATUS=3 flows, 3 legs", "WATCHDOG=1", "STOPPING=1"]


def test_variables_for_this_process_are_taken_out_of_what_its_children_inherit() -> None:
    ours = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "9", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    ours |= {"FDSTORE": "1", "MEMORY_PRESSURE_WATCH": "/sys/fs/cgroup/memory.pressure"}
    environment = {"PATH": "/bin", **ours, "INVOCATION_ID": "7"}
    assert take_variables(environment) == ours
    assert environment == {"PATH": "/bin", "INVOCATION_ID": "7"}
    assert take_variables(environment) == {}


def test_a_service_manager_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        monkeypatch.setattr(os, "isatty", lambda descriptor, is_terminal=is_terminal: is_terminal)
        assert is_service({"NOTIFY_SOCKET": "/run/systemd/notify"})
        assert is_service({"INVOCATION_ID": "7"}) is not is_terminal
        assert not is_service({"PATH": "/bin"})


def test_the_journal_is_recognised_by_the_identity_of_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        name = f"{found.st_dev}:{found.st_ino}"
        assert is_journal({"JOURNAL_STREAM": name}, stream.fileno())
        assert not is_journal({"JOURNAL_STREAM": f"{name}1"}, stream.fileno())
        assert not is_journal({}, stream.fileno())
    assert not is_journal({"JOURNAL_STREAM": name}, 1 << 20)


def test_the_state_directory_is_the_first_of_the_units() -> None:
    assert state_directory({"STATE_DIRECTORY": "/var/lib/natmirror:/var/lib/other"}) == Path("/var/lib/natmirror")
    assert state_directory({}) is state_directory({"STATE_DIRECTORY": "relative"}) is None


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_a_missing_service_manager_is_no_error(environment: dict[str, str]) -> None:
    Notifier(environment).ready()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 2.5),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
        ({"WATCHDOG_USEC": "10000000", "NOTIFY_SOCKET": ""}, None),
    ],
)
def test_the_watchdog_counts_only_if_it_is_meant_for_this_process(
    environment: dict[str, str], interval: float | None
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "@natmirror-absent", **environment}).watchdog_interval == interval


def test_the_watchdog_gets_a_beat_only_if_all_threads_run() -> None:
    beats: list[str] = []
    heartbeat = Heartbeat(lambda: beats.append("beat"), 2)
    seen = [(heartbeat.check(counts), len(beats)) for counts in ([0, 0], [1, 0], [2, 0], [2, 1], [2, 1], [3, 2])]
    assert seen == [([], 1), ([1], 1), ([1], 1), ([], 2), ([0, 1], 2), ([], 3)]


class Loop:
    """Advances a manual clock to the time until which it may run; raises after ``rounds`` calls."""

    def __init__(self, rounds: int) -> None:
        self.now = 1000.0
        self.rounds = rounds
        self.rests: list[float] = []

    def go_first(self, share: float) -> None:
        """This thread is of the usual class."""

    def go_first_no_more(self) -> None:
        """So it is at the end."""

    def run(self, until: float) -> LoopEvent:
        if len(self.rests) == self.rounds:
            raise SystemExit("enough")  # no other exception ends the thread at once
        self.rests.append(max(0.0, until - self.now))
        self.now = max(self.now, until)
        return LoopEvent.TIMER

    def send(self, sends: list[object]) -> None:
        assert sends == []

    def flush(self) -> None:
        pass


def a_worker(pulse_interval: float) -> Worker:
    rules = parse_rules(RULES)
    engine = Engine(rules, key=bytes(16), memory=Memory(1 << 20))
    return Worker(rules, ALL, engine, Listener(), pulse_interval=pulse_interval)


@pytest.mark.parametrize(("pulse_interval", "rests"), [(1.0, [0.0, 1.0, 1.0, 1.0]), (NEVER, [0.0, NEVER])])
def test_an_idle_thread_completes_rounds_at_the_pulse_interval_only(
    monkeypatch: pytest.MonkeyPatch, pulse_interval: float, rests: list[float]
) -> None:
    loop = Loop(len(rests))
    monkeypatch.setattr(worker_module, "time", SimpleNamespace(monotonic=lambda: loop.now))
    worker = a_worker(pulse_interval)
    worker._loop = loop  # type: ignore[assignment]
    worker._run()
    assert loop.rests == rests
    assert worker.rounds == len(rests)


@pytest.fixture
def run(manager: ManagerSocket, tmp_path: Path) -> Callable[[dict[str, str]], Runner]:
    def make(more: dict[str, str]) -> Runner:
        notifier = Notifier({"NOTIFY_SOCKET": manager.name, **more})
        rules = parse_rules(f"threads: 2\n{RULES}")
        return Runner(
            rules,
            Firewall("nft"),
            notifier,
            Logs(),
            None,
            overrides=None,
            keep_rules=True,
            api_path=tmp_path / "api.sock",
        )

    return make


def test_a_thread_that_does_not_run_ends_the_beats(
    manager: ManagerSocket, run: Callable[[dict[str, str]], Runner]
) -> None:
    runner = run({"WATCHDOG_USEC": "10000000"})
    feeder = runner._feeder
    assert feeder is not None
    feeder.check()
    assert manager.received() == ["WATCHDOG=1"]
    for passing in (2, 1):
        for worker in runner._workers[:passing]:
            worker.rounds += 1
        feeder.check()
        assert manager.received() == (["WATCHDOG=1"] if passing == 2 else [])


def test_a_beat_opens_no_descriptor(manager: ManagerSocket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        notifier.beat()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert manager.received() == ["WATCHDOG=1"]


def test_a_beat_does_not_wait_for_a_manager_that_does_not_read(manager: ManagerSocket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    for _ in range(10_000):
        notifier.beat()
    assert 0 < len(manager.received()) < 10_000


def test_beats_do_not_depend_on_files_programs_or_the_main_thread(manager: ManagerSocket) -> None:
    rounds = itertools.count()
    feeder = WatchdogFeeder(Heartbeat(Notifier({"NOTIFY_SOCKET": manager.name}).beat, 1), lambda: [next(rounds)], 0.01)
    feeder.start()
    manager.socket.settimeout(5.0)
    assert [manager.socket.recv(4096) for _ in range(5)] == [b"WATCHDOG=1"] * 5
    feeder.stop()


def test_a_check_that_fails_does_not_end_the_beats(manager: ManagerSocket, caplog: pytest.LogCaptureFixture) -> None:
    counts = itertools.count()

    def rounds() -> list[int]:
        if (count := next(counts)) == 1:
            raise MemoryError
        return [count]

    feeder = WatchdogFeeder(Heartbeat(Notifier({"NOTIFY_SOCKET": manager.name}).beat, 1), rounds, 0.01)
    feeder.start()
    manager.socket.settimeout(5.0)
    assert [manager.socket.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    feeder.stop()
    assert "watchdog: internal error in a check of the threads" in caplog.text


def test_threads_are_checked_only_if_there_is_a_watchdog(run: Callable[[dict[str, str]], Runner]) -> None:
    assert run({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "9"})._feeder is None
    assert run({})._feeder is None
    assert run({"WATCHDOG_USEC": "9"})._feeder is not None


def test_the_status_is_one_line(manager: ManagerSocket, run: Callable[[dict[str, str]], Runner]) -> None:
    """Also of a run that has not started."""
    run({})._send_status()
    assert manager.received() == ["STATUS=0 flows, 0 legs, not-fit: host-not-fit"]


# The unit


def test_the_unit_restarts_natmirror_and_keeps_the_iptables_rules() -> None:
    assert settings("Type") == ["notify"]
    assert settings("Restart") == ["on-failure"]
    assert settings("ExecStart")[-2:] == ["--on-stop", "keep"]
    assert settings("User") == settings("Group") == ["natmirror"]
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert settings(name) == ["CAP_NET_ADMIN", "CAP_NET_RAW"]


def test_the_units_memory_limit_is_above_what_the_defaults_can_take() -> None:
    """docs/running.md has the sum; tests/mirror/test_client_memory.py compares a flow's part with what it takes."""
    [limit] = settings("MemoryMax")
    most = most_memory(parse_rules(RULES))
    assert limit.endswith("G")
    assert 1.1 * most <= int(limit[:-1]) << 30 <= 1.3 * most
    assert MAX_ORDERS_LEN + MAX_OPS_LEN < 128 << 20, "half of what the program itself may take"


@needs_systemd_analyze
def test_systemd_rates_the_unit_as_well_confined() -> None:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "--offline=true", "security", str(UNIT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert float(verdict.partition("natmirror.service: ")[2].split()[0]) <= MAX_EXPOSURE, done.stdout


@needs_systemd_analyze
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace(settings("ExecStart")[0], "/bin/true")
    )  # verify checks that the program exists
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count(UNIT.name)) == (0, 0), done.stderr
