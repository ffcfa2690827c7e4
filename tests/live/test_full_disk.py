"""A disk that is full while natmirror writes to it: production goes on, and nothing is lost that has room in memory."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natmirror.lab.controllers.programs import OsKen
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE, Lab
from natmirror.replay.capture import Capture
from tests.live.scene import PORT, Scene

pytestmark = pytest.mark.live

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
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "natmirror-test", str(path)], check=True)
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
    return {found["code"] for found in status["findings"] if found["code"].startswith(("orders", "switches"))}


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

        wait_for(is_named, "the full disk to be named", 20.0)
        filler.unlink()
        balancer.wait_for_status(lambda status: not codes(status), "the recording to go on")
        balancer.wait_for_status(
            lambda status: len(list(Capture(disk / "orders.pcap"))) == orders(status), "all orders to be recorded"
        )
        scene.close()
        assert sorted(path.name for path in disk.iterdir()) == ["known.json", "orders.pcap"]
