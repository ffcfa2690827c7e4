"""Other programs change what natmirror has put into the kernel, undo its repairs, or hold the lock that it needs.
tests/live/faults has the changes that natmirror repairs, and what they cost."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from natmirror.api.client import send_command
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.live.descriptors import full, limited
from tests.live.faults.kernel_faults import DEVICE_FAULTS
from tests.live.scene import ROOT, RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

CONNECTIONS = 20
WITHIN = 15.0  # seconds; natmirror's pauses grow with the time that its work takes, so on a busy machine too
FLUSH = "iptables-nft -t raw -F NATMIRROR-PRE"


def kept(balancer: LoadBalancer, name: str) -> dict[str, Any]:
    return next(dict(one) for one in balancer.status()["machine"]["kept"] if one["name"] == name)


def repaired(balancer: LoadBalancer, name: str) -> int:
    return int(kept(balancer, name)["repairs"])


def codes(status: dict[str, Any]) -> set[str]:
    return {one["code"] for one in status["findings"]}


def plant(scene: Scene, balancer: LoadBalancer, name: str, change: str) -> None:
    """Change something of natmirror's by a shell command, and wait until natmirror has repaired it, perhaps in two
    steps."""
    before = repaired(balancer, name)
    scene.lab.run("lb", ["sh", "-c", change])

    def is_repaired() -> bool:
        entry = kept(balancer, name)
        return bool(entry["repairs"] > before and entry["in_place"])

    wait_for(is_repaired, f"{name} to be repaired", WITHIN)


def test_no_copy_loses_a_byte_when_the_tun_device_is_changed_or_deleted(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    until = scene.file("until")
    client, records = scene.client(connections=CONNECTIONS, until=until, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) >= CONNECTIONS, "all connections")
    for fault in DEVICE_FAULTS[1::2]:  # down, and deleted
        plant(scene, balancer, fault.repairs, fault.plant)
    balancer.wait_for_status(lambda status: codes(status) == {"tun-repaired"}, "nothing else to be wrong")
    for path in balancer.api.parent.glob("api.sock*"):
        path.unlink()
    wait_for(lambda: command(scene, "health", "--api", str(balancer.api)).returncode == 0, "its health again", WITHIN)
    wait_for(balancer.api.exists, "the API again", WITHIN)
    assert balancer.status()["flows"]
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, CONNECTIONS)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: not status["mirrors"][0]["legs"], "the legs to end")
    assert scene.at_master() == sent


def test_a_flush_of_conntrack_costs_no_connection_and_no_copy(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    scene.lab.run("lb", ["iptables", "-I", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"])
    until = scene.file("until")
    client, records = scene.client(connections=CONNECTIONS, until=until, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) >= CONNECTIONS, "all connections")

    def tracked() -> int:
        return int(scene.lab.run("lb", ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]))

    assert tracked() >= CONNECTIONS
    for _ in range(3):
        scene.lab.run("lb", [sys.executable, "-c", "from pyroute2 import NFCTSocket; NFCTSocket().flush()"])
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, CONNECTIONS)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: not status["mirrors"][0]["legs"], "the legs to end")
    assert scene.at_master() == sent


def test_a_war_is_slowed_down_and_cleanup_ends_it(scene: Scene) -> None:
    rules = scene.rules(RULES.read_text())
    balancer = scene.balance(rules, iptables="nft")
    name = "iptables-nft table raw"

    for _ in range(5):
        plant(scene, balancer, name, FLUSH)
    scene.lab.run("lb", FLUSH.split())

    wait_for(lambda: codes(balancer.status()) >= {"contested", "rules-not-repaired"}, "it to say so", WITHIN)
    assert "DEGRADED: iptables-nft (pid " in balancer.program.text
    assert repaired(balancer, name) == 5
    health = command(scene, "health", "--api", str(balancer.api))
    assert health.returncode == 4, health.stdout
    done = command(scene, "cleanup", "--force", "--api", str(balancer.api))
    assert done.returncode == 0, done.stderr
    assert scene.traces()["rules"] == []
    balancer.wait_for_status(lambda status: codes(status) == {"rules-removed"}, "it to say so, and nothing else")
    rules.write_text(rules.read_text().replace("10.20.0.12", "10.20.0.14"))
    with pytest.raises(HostError, match="restart natmirror"):
        send_command("reload", {}, balancer.api)
    assert scene.traces()["rules"] == []


def test_rules_are_kept_without_descriptors_and_unreadable_ones_are_a_finding(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(iptables="nft")
    pid, name = balancer.program.popen.pid, "iptables-nft table raw"
    until = scene.file("until")
    client, records = scene.client(connections=CONNECTIONS, until=until, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) >= CONNECTIONS, "all connections")
    with limited(pid, full(pid)):
        plant(scene, balancer, name, FLUSH)
    balancer.wait_for_status(lambda status: status["uptime_seconds"] > 9, "traffic that was regular for a while")
    program = str(Path(shutil.which("iptables-nft-save") or "").resolve())
    inside = ["nsenter", "-t", str(pid), "-m"]
    subprocess.run([*inside, "mount", "--bind", "/bin/false", program], check=True)
    scene.lab.run("lb", FLUSH.split())

    def wait_for_finding(code: str, seconds: float) -> None:
        wait_for(lambda: code in codes(balancer.status()), code, seconds)

    wait_for_finding("rules-unreadable", WITHIN)
    wait_for_finding("rules-unknown", WITHIN)
    assert command(scene, "health", "--api", str(balancer.api)).returncode == 5
    plant(scene, balancer, name, " ".join([*inside, "umount", program]))
    until.touch()
    scene.finish(client)
    lost = sum(line["error"] is not None for line in records.lines())
    longest = max((length for line in records.lines() for _, length in line["waits"]), default=0.0)
    print(f"{lost} of {CONNECTIONS} connections lost, longest wait {longest:.2f} s")
    assert command(scene, "health", "--api", str(balancer.api)).returncode == 0
    scene.clients.clear()  # connections may have been lost, and bytes of their copies


def test_a_stop_while_another_program_holds_the_lock_says_what_it_has_left(scene: Scene) -> None:
    lock = scene.file("xtables.lock")
    lock.touch()
    balancer = scene.balance(iptables="legacy", env={**os.environ, "XTABLES_LOCKFILE": str(lock)})
    with lock.open() as held:
        subprocess.run(["flock", "-n", str(held.fileno())], pass_fds=[held.fileno()], check=True)
        balancer.program.send_signal(signal.SIGTERM)
        wait_for(lambda: not balancer.program.running(), "the end, though the lock is still held")
    last = balancer.program.text.splitlines()[-1]
    assert balancer.program.popen.returncode == 1
    assert f"fuser -v {lock}" in last
    assert "these chains stay: NATMIRROR-PRE," in last
    assert last.endswith("with: natmirror cleanup")
    assert command(scene, "cleanup").returncode == 0


def command(scene: Scene, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run one of natmirror's commands on the load-balancer host."""
    argv = ["ip", "netns", "exec", scene.lab.ns("lb"), sys.executable, "-m", "natmirror", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30.0, check=False, cwd=ROOT)
