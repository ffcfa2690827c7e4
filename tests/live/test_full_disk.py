"""A disk that is full or frozen while natmirror writes to it: production goes on, and nothing is lost that has room in
memory."""

import contextlib
import io
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natmirror.api.client import send_command
from natmirror.errors import HostError
from natmirror.events import EventKind
from natmirror.ha import exit_codes, keepalived_hooks
from natmirror.lab.controllers.programs import OsKen
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.pair_host import PairHost
from natmirror.lab.process import wait_for, wait_listen
from natmirror.lab.topology import SERVICE, Lab
from natmirror.replay.capture import Capture
from natmirror.runtime.event_file import read_events
from tests.live.core_waits import CoreWaits
from tests.live.manager import Manager
from tests.live.scene import PORT, Scene

pytestmark = pytest.mark.live

ECHO_PORT = 7000
E1 = {"service": "echo", "backend": "e1"}
WATCHDOG_TIMEOUT = 3.0  # seconds
SLOWEST = 0.5  # seconds, besides what the programs wait for a core

RULES = """
switches: [10.10.0.0/24]
known-switches: {disk}/known.json
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends: [{{name: c1, address: 10.20.0.11}}]
    mirrors:
      - {{name: master, address: 10.20.0.13, protocol: openflow, record: {disk}/orders.pcap}}
  - name: echo
    address: 10.10.0.100
    port: 7000
    pool:
      backends: [{{name: e1, address: 10.20.0.11}}]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB: what waits for it has to fit, however many orders a slow machine makes of that."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "natmirror-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk with a file; return the file."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return path


def orders(status: dict[str, Any]) -> int:
    return sum(status["mirrors"][0]["sessions"]["orders"].values())


def codes(status: dict[str, Any]) -> set[str]:
    named = ("orders", "switches", "overrides", "events")
    return {found["code"] for found in status["findings"] if found["code"].startswith(named)}


def test_orders_wait_for_a_full_disk_and_are_recorded_once_it_has_room(disk: Path) -> None:
    with Lab() as lab:
        scene = Scene(lab)
        backend, master = OsKen(lab, "c1", "1.3"), OsKen(lab, "m", "1.3")
        balancer = scene.balance(scene.rules(RULES.format(disk=disk)))
        filler = fill(disk)
        switch = OpenVSwitch(lab, 1)
        switch.connect(f"tcp:{SERVICE}:{PORT}")
        backend.wait_until_known(1)
        master.wait_until_known(1)

        def is_named() -> bool:
            assert switch.ping(), "production goes on, and the master gives orders"
            switch.forget_flows()
            return codes(balancer.status()) == {"orders-not-recorded"}

        wait_for(is_named, "the full disk to be named")
        filler.unlink()
        balancer.wait_for_status(lambda status: not codes(status), "the recording to go on")
        balancer.wait_for_status(
            lambda status: len(list(Capture(disk / "orders.pcap"))) == orders(status), "all orders to be recorded"
        )
        scene.close()
        assert sorted(path.name for path in disk.iterdir()) == ["known.json", "orders.pcap"]


PAIR = """
ha:
  switch-side: {{interface: sw0, addresses: [10.10.0.100/24], vrrp-id: 51}}
  pool-side: {{interface: pl0, addresses: [10.20.0.100/24], vrrp-id: 52}}
  hosts:
    - {{name: lb1, switch-side: 10.10.0.1, pool-side: 10.20.0.1, priority: 110}}
    - {{name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}}
"""


def test_full_disks_keep_a_pair_from_nothing_but_their_files(disk: Path) -> None:
    """The addresses stay, also when they move for another reason, and all is written once there is room."""
    with Lab(pair=True) as lab:
        scene = Scene(lab)
        backend, master = OsKen(lab, "c1", "1.3"), OsKen(lab, "m", "1.3")
        hosts = {}
        for name in ("lb1", "lb2"):
            (disk / name).mkdir()
            rules = scene.rules(f"{RULES}{PAIR}".format(disk=disk / name))
            hosts[name] = PairHost(lab, name, rules, state_directory=disk / name)
        hosts["lb1"].wait_for_role("master")
        hosts["lb2"].wait_for_role("backup")
        filler = fill(disk)
        switch = OpenVSwitch(lab, 1)
        switch.connect(f"tcp:{SERVICE}:{PORT}")
        for controller in (backend, master):
            controller.wait_until_known(1)

        def orders_wait(name: str) -> bool:
            switch.ping()  # its first packets go to the controllers, which give orders
            switch.forget_flows()
            with contextlib.redirect_stdout(io.StringIO()):
                assert keepalived_hooks.health(str(hosts[name].api)) == exit_codes.FIT
            return codes(hosts[name].balancer.status()) >= {
                *("orders-not-recorded", "overrides-not-saved", "events-not-saved")
            }

        def command(name: str) -> None:
            """Give commands that make events, and one that wants to be kept."""
            for weight in range(2, 12):
                for order, more in (("drain", {}), ("undrain", {}), ("weight", {"weight": weight})):
                    send_command(order, {**E1, **more}, hosts[name].api)
            with pytest.raises(
                HostError, match=r"has weight 20 for new .* the file does not say so yet: .* No space left"
            ):
                send_command("weight", {**E1, "weight": 20, "persist": True}, hosts[name].api)

        command("lb1")
        wait_for(lambda: orders_wait("lb1"), "the full disk to be named")
        assert hosts["lb1"].has_addresses()
        wait_for(switch.ping, "production to pass")
        hosts["lb1"].crash()
        hosts["lb2"].wait_for_role("master")
        wait_for(switch.ping, "production to pass the other host")
        switch.disconnect()  # a new connection has a session, and so orders
        switch.connect(f"tcp:{SERVICE}:{PORT}")
        command("lb2")
        wait_for(lambda: orders_wait("lb2"), "the full disk to be named there too", 30.0)
        filler.unlink()
        hosts["lb2"].balancer.wait_for_status(lambda status: not codes(status), "the files to be written")
        assert len(list(Capture(disk / "lb2" / "orders.pcap"))) > 0
        kinds = [one.kind for one in read_events(disk / "lb2" / "events.jsonl")]
        assert kinds.count(EventKind.BACKEND_DRAINED) == 10, "those that waited for the disk, too"
        [kept] = json.loads((disk / "lb2" / "overrides.json").read_text())["overrides"]
        assert (kept["kind"], kept["weight"]) == ("weight", 20)
        hosts["lb2"].stop()
        scene.close()


@pytest.fixture
def freezing_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that fsfreeze(8) can freeze: programs that write to it wait until it is thawed."""
    image, path = tmp_path / "image", tmp_path / "frozen-disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=False).returncode:
        pytest.skip("needs a loop device")
    yield path
    subprocess.run(["fsfreeze", "-u", str(path)], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["umount", str(path)], check=True)


def test_a_frozen_disk_delays_neither_production_nor_the_watchdog_and_works_again_once_thawed(
    freezing_disk: Path,
) -> None:
    disk = freezing_disk
    with Lab() as lab:
        scene = Scene(lab)
        manager = Manager(scene.file("notify"))
        backend, master = OsKen(lab, "c1", "1.3"), OsKen(lab, "m", "1.3")
        recorder = scene.app("c1", "recorder", ECHO_PORT, scene.file("echo.jsonl"))
        wait_listen(lab.ns("c1"), ECHO_PORT)
        balancer = scene.balance(scene.rules(RULES.format(disk=disk)), env=manager.environment(WATCHDOG_TIMEOUT))
        calls = scene.file("calls.jsonl")
        caller = scene.app("s1", "caller", SERVICE, ECHO_PORT, calls, "10.10.0.11")
        switch = OpenVSwitch(lab, 1)
        switch.connect(f"tcp:{SERVICE}:{PORT}")
        backend.wait_until_known(1)
        master.wait_until_known(1)
        subprocess.run(["fsfreeze", "-f", str(disk)], check=True)
        frozen_at, waits = time.monotonic(), CoreWaits(balancer.program, caller, recorder)
        try:
            assert switch.ping(), "production goes on, and the master gives orders"
            longest = manager.longest_wait(2 * WATCHDOG_TIMEOUT)
            longest_allowed = WATCHDOG_TIMEOUT / 3 + waits.seconds()
            balancer.wait_for_status(
                lambda status: "orders-not-recorded" in codes(status), "the frozen disk to be named", 20.0
            )
            texts = [one["problem"] for one in balancer.status()["findings"]]
            assert any("the disk does not answer" in text for text in texts), texts
        finally:
            frozen_for = time.monotonic() - frozen_at
            subprocess.run(["fsfreeze", "-u", str(disk)], check=True)
        balancer.wait_for_status(lambda status: not codes(status), "the recording to go on")
        balancer.wait_for_status(
            lambda status: len(list(Capture(disk / "orders.pcap"))) == orders(status), "all orders to be recorded"
        )
        lines = [json.loads(line) for line in calls.read_text().splitlines() if line.endswith("}")]
        slowest_allowed = min(SLOWEST + waits.seconds(), frozen_for / 2)
        scene.close()
        manager.socket.close()
        slowest = max(one["took"] for one in lines if one["began"] >= frozen_at)
        print(
            f"frozen for {frozen_for:.1f} s: slowest answer {slowest:.3f} s of {slowest_allowed:.2f} s,"
            f" longest wait for a beat {longest:.2f} s of {longest_allowed:.2f} s"
        )
        assert [one for one in lines if one["error"]] == []
        assert slowest < slowest_allowed, "none has waited until it was thawed"
        assert longest < longest_allowed
