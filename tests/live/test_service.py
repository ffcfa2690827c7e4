"""natmirror as systemd starts it: a user with two capabilities, confined by the unit; and its notifications."""

import os
import re
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import PATIENCE, wait_for
from tests.helpers.processes import status_of, still, thread_of, wedged
from tests.live.scene import RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

USER = 61_653
WATCHDOG_SECONDS = 1.0
CONNECTIONS = 8
WATCHED = """
  - name: watched
    address: 10.10.0.1
    port: 7000
    mirrors:
      - {name: master, address: 10.20.0.13, port: 6653}
"""
STALLED = "thread 1 has not run since the last watchdog beat"
CAPABILITIES = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW


class Manager:
    """Plays systemd: starts natmirror and receives its notifications."""

    def __init__(self, scene: Scene, iptables: str) -> None:
        self.scene = scene
        self.iptables = iptables
        self.directory = scene.file("service")
        self.directory.mkdir()
        os.chown(self.directory, USER, USER)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.directory / "notify"))
        (self.directory / "notify").chmod(0o666)
        self.told: list[str] = []

    def start(self) -> LoadBalancer:
        rules = self.directory / "rules.yaml"
        known = f"threads: 2\nknown-switches: {self.directory}/switches.json\n"
        rules.write_text(known + RULES.read_text() + WATCHED)
        confine = ["unshare", "--mount", sys.executable, "-m", "tests.live.apps.confine", str(USER)]
        balancer = LoadBalancer(
            self.scene.lab,
            rules,
            on_stop=None,  # under a service manager the rules are kept
            iptables=self.iptables,
            api=self.directory / "api.sock",
            through=[*confine, str(self.directory)],
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self.directory / "notify"),
                "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
            },
        )
        self.scene.balancers.append(balancer)
        return balancer

    def hear(self, wanted: str, timeout: float = PATIENCE) -> bool:
        """Return whether a notification arrives in time."""
        self.socket.settimeout(timeout)
        try:
            while True:
                self.told.append(self.socket.recv(4096).decode())
                if re.fullmatch(wanted, self.told[-1]):
                    return True
        except TimeoutError:
            return False

    def forget(self) -> None:
        """Return the notifications so far."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass


def children(balancer: LoadBalancer) -> dict[int, bytes]:
    """Return the command of each of natmirror's own processes."""
    files = Path(f"/proc/{balancer.program.pid}/task").glob("*/children")
    found = {}
    for pid in (int(word) for file in files for word in file.read_text().split()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def priority_limit(pid: int) -> int:
    """Return the highest real-time priority that a process may give itself."""
    [line] = re.findall(r"Max realtime priority +\d+ +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    return int(line)


@pytest.fixture
def manager(scene: Scene, iptables: str) -> Iterator[Manager]:
    manager = Manager(scene, iptables)
    yield manager
    manager.socket.close()


def test_a_life_as_a_service(scene: Scene, manager: Manager, iptables: str) -> None:
    """One thread hangs, systemd kills natmirror and starts it again."""
    scene.record("c1", "c2", "m")
    balancer = manager.start()
    assert manager.hear("READY=1")
    assert manager.told == ["READY=1"]
    assert len(scene.traces()["queues"].splitlines()) == 4  # type: ignore[attr-defined]
    assert any("NATMIRROR-PRE" in line for line in scene.traces()["rules"])  # type: ignore[attr-defined]
    state = status_of(balancer.program.pid)
    assert state["Uid"].split() == [str(USER)] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(state[kind], 16) == CAPABILITIES, kind
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2" if shutil.which("systemd-analyze") else "0")
    assert stat.S_IMODE(balancer.api.stat().st_mode) == 0o660
    balancer.status()
    own: dict[int, bytes] = {}

    def are_three() -> bool:
        nonlocal own
        own = children(balancer)
        return len(own) == 3

    # Two let the watched service's packets pass where natmirror does not; one is the API's. Other programs run for a
    # moment beside them.
    wait_for(are_three, "three processes")
    for child, command in own.items():
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
        has_rights = b"natmirror.api" not in command
        assert [int(status_of(child)[kind], 16) for kind in ("CapPrm", "CapEff", "CapAmb")] == 3 * [
            CAPABILITIES * has_rights
        ]
        assert priority_limit(child) == (priority_limit(balancer.program.pid) if has_rights else 0)
    packet_thread = thread_of(balancer.program.pid, "packets-1")
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=CONNECTIONS, until=until, started=started, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) == CONNECTIONS, "all connections")
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: not status["failing_chores"], "all chores: two capabilities suffice")
    balancer.wait_for_status(
        lambda status: status["machine"]["kernel_translation_off_because"] is None, "translation in the kernel"
    )
    for _ in range(4):
        assert manager.hear("WATCHDOG=1")
    assert any(line.startswith("STATUS=0 flows, 0 legs, ") for line in manager.told)

    with wedged(packet_thread):
        logged = balancer.program.text.count(STALLED)
        # The first one may be about a wait for a core just before.
        wait_for(lambda: balancer.program.text.count(STALLED) > logged + 1, "the thread to be found stalled")
        manager.forget()
        assert not manager.hear("WATCHDOG=1", 2 * WATCHDOG_SECONDS), "the main thread alone is no life"
    assert manager.hear("WATCHDOG=1")
    # faulthandler reads the stacks of threads without any lock, so to show those of threads that run may itself fail.
    with still(balancer.program.pid):
        balancer.program.send_signal(signal.SIGABRT)
        wait_for(lambda: status_of(balancer.program.pid)["State"].startswith("Z"), "the main thread's end")
    wait_for(lambda: not balancer.program.running(), "the end")
    assert "in _pass_packets" in balancer.program.text
    assert re.findall("Fatal Python error: (.*)", balancer.program.text) == ["Aborted"]
    assert balancer.program.popen.returncode == -signal.SIGABRT
    assert any("NFQUEUE" in line for line in scene.traces()["rules"])  # type: ignore[attr-defined]

    manager.forget()
    again = manager.start()
    assert manager.hear("READY=1")
    again.wait_for_status(lambda status: status["counters"].get("flows_picked_up", 0) == CONNECTIONS, "them again")
    assert_all_well(scene.run_client(connections=5, requests=5, seed=7), 5)
    until.touch()
    scene.finish(client)
    assert_all_well(records, CONNECTIONS)
    manager.forget()  # on a slow machine, watchdog messages may have filled the socket, and STOPPING=1 would not fit
    assert again.stop() == 0
    assert manager.hear("STOPPING=1")
    assert (manager.directory / "switches.json").exists()
    traces = scene.traces()
    assert any("NFQUEUE" in line for line in traces["rules"])  # type: ignore[attr-defined]
    assert not traces["table"]
    scene.lab.run("lb", [sys.executable, "-m", "natmirror", "cleanup"])
