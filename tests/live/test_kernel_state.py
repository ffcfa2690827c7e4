"""Other programs change what natmirror has put into the kernel, while traffic runs: it is repaired within 5 s."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from natmirror.api.client import send_command
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.live.scene import ROOT, RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

CONNECTIONS = 20
WITHIN = 5.0  # seconds
DEVICE = "natmirror0"


class Traffic:
    """Connections that send a request every 50 ms, until end()."""

    def __init__(self, scene: Scene, balancer: LoadBalancer) -> None:
        self.scene = scene
        self.until = scene.file(f"until{len(scene.clients)}")
        seed = 7 + len(scene.clients)
        self.client, self.records = scene.client(connections=CONNECTIONS, until=self.until, size=200, seed=seed)
        balancer.wait_for_status(lambda status: len(status["flows"]) >= CONNECTIONS, "all connections")

    def end(self) -> int:
        """End the connections; return how many of them were lost."""
        self.until.touch()
        self.scene.finish(self.client)
        return sum(line["error"] is not None for line in self.records.lines())

    def longest_wait(self) -> float:
        """Return the longest wait of a connection for an answer, in seconds."""
        return max((length for line in self.records.lines() for _, length in line["waits"]), default=0.0)


def repaired(balancer: LoadBalancer, name: str) -> int:
    return next(int(one["repairs"]) for one in balancer.status()["machine"]["kept"] if one["name"] == name)


def plant(scene: Scene, balancer: LoadBalancer, name: str, change: Callable[[], object]) -> float:
    """Change something of natmirror's; return how long natmirror takes to repair it, in seconds."""
    before, began_at = repaired(balancer, name), time.monotonic()
    change()
    wait_for(lambda: repaired(balancer, name) > before, f"{name} to be repaired", WITHIN)
    took = time.monotonic() - began_at
    [entry] = [one for one in balancer.status()["machine"]["kept"] if one["name"] == name]
    assert entry["in_place"], entry
    print(f"{entry['difference']} (changed by {entry['changed_by']}): repaired after {took:.2f} s", end="")
    return took


def test_copies_go_on_when_the_tun_device_is_changed_or_deleted(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    traffic = Traffic(scene, balancer)
    for words in (
        ["ip", "address", "flush", "dev", DEVICE],
        ["ip", "link", "set", DEVICE, "down"],
        ["sysctl", "-qw", f"net.ipv4.conf.{DEVICE}.rp_filter=1", f"net.ipv4.conf.{DEVICE}.accept_local=0"],
        ["ip", "link", "delete", DEVICE],
    ):
        plant(scene, balancer, "TUN device", lambda words=words: scene.lab.run("lb", words))  # type: ignore[misc]
        print()
    assert [one["code"] for one in balancer.status()["findings"]] == ["tun-repaired"]
    for path in balancer.api.parent.glob("api.sock*"):
        path.unlink()
    wait_for(lambda: command(scene, "health", "--api", str(balancer.api)).returncode == 0, "its health again", WITHIN)
    wait_for(balancer.api.exists, "the API again", WITHIN)
    assert balancer.status()["flows"]
    assert traffic.end() == 0
    sent = assert_all_well(traffic.records, CONNECTIONS)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: not status["mirrors"][0]["legs"], "the legs to end")
    assert scene.at_master() == sent, "no copy has lost a byte"


def test_rules_that_others_change_are_repaired(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    scene.lab.run("lb", ["iptables-nft", "-t", "nat", "-A", "PREROUTING", "-s", "192.0.2.1", "-j", "ACCEPT"])
    balancer = scene.balance(iptables=iptables)
    other = "legacy" if iptables == "nft" else "nft"
    saved = scene.lab.run("lb", [f"iptables-{iptables}-save"])
    older = "".join(
        line for line in saved.splitlines(keepends=True) if not ("-A NATMIRROR-" in line and "10.20.0.12" in line)
    )
    only_raw = "".join(saved[saved.index("*raw") :].partition("COMMIT\n")[:2])

    def restore(backend: str, text: str, *options: str) -> Callable[[], object]:
        file = scene.file(f"{backend}.rules")
        file.write_text(text)
        return run(f"iptables-{backend}-restore", *options, str(file))

    def run(*words: str) -> Callable[[], object]:
        return lambda: scene.lab.run("lb", words)

    faults = [
        (f"iptables-{iptables} table raw", run(f"iptables-{iptables}", "-t", "raw", "-F", "NATMIRROR-PRE")),
        (f"iptables-{iptables} table mangle", restore(iptables, older)),
        (
            f"iptables-{iptables} table mangle",
            run(f"iptables-{iptables}", "-t", "mangle", "-I", "FORWARD", "-j", "ACCEPT"),
        ),
        (f"iptables-{other}", restore(other, only_raw, "--noflush")),
        ("nftables table natmirror", run("nft", "delete", "table", "ip", "natmirror")),
    ]
    for name, change in faults:
        traffic = Traffic(scene, balancer)
        took = plant(scene, balancer, name, change)
        lost = traffic.end()
        print(f", {lost} of {CONNECTIONS} connections lost, longest wait {traffic.longest_wait():.2f} s")
        assert took < WITHIN
        assert_all_well(scene.run_client(connections=5, requests=5, seed=len(scene.clients)), 5)
    kept = {one["name"]: one for one in balancer.status()["machine"]["kept"]}
    if iptables == "nft":
        assert kept["iptables-nft table raw"]["changed_by"].startswith("iptables-")
    assert kept["nftables table natmirror"]["changed_by"].startswith("nft (pid ")
    assert "NATMIRROR" not in scene.lab.run("lb", [f"iptables-{other}-save"])
    moved = scene.lab.run("lb", [f"iptables-{iptables}", "-t", "mangle", "-S", "FORWARD"]).splitlines()
    assert [line.split()[-1] for line in moved[1:]] == ["NATMIRROR-FWD", "NATMIRROR-FWD-ICMP", "ACCEPT"]
    scene.lab.run("lb", ["iptables-nft", "-t", "nat", "-F"])
    scene.clients.clear()  # connections were lost, and so were bytes of their copies


def test_a_war_is_slowed_down_and_cleanup_ends_it(scene: Scene) -> None:
    rules = scene.rules(RULES.read_text())
    balancer = scene.balance(rules, iptables="nft")
    name = "iptables-nft table raw"

    def flush() -> None:
        scene.lab.run("lb", ["iptables-nft", "-t", "raw", "-F", "NATMIRROR-PRE"])

    for _ in range(5):
        plant(scene, balancer, name, flush)
        print()
    flush()

    def findings() -> set[str]:
        return {one["code"] for one in balancer.status()["findings"]}

    wait_for(lambda: findings() >= {"contested", "rules-not-repaired"}, "it to say so", WITHIN)
    assert "DEGRADED: iptables-nft (pid " in balancer.program.text
    assert repaired(balancer, name) == 5
    health = command(scene, "health", "--api", str(balancer.api))
    assert health.returncode == 4, health.stdout
    done = command(scene, "cleanup", "--force", "--api", str(balancer.api))
    assert done.returncode == 0, done.stderr
    assert scene.traces()["rules"] == []
    assert findings() == {"rules-removed"}
    rules.write_text(rules.read_text().replace("10.20.0.12", "10.20.0.14"))
    with pytest.raises(HostError, match="restart natmirror"):
        send_command("reload", {}, balancer.api)
    assert scene.traces()["rules"] == []


def test_rules_are_kept_without_descriptors_and_unreadable_ones_are_a_finding(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(iptables="nft")
    pid, name = balancer.program.popen.pid, "iptables-nft table raw"
    traffic = Traffic(scene, balancer)

    def flush() -> None:
        scene.lab.run("lb", ["iptables-nft", "-t", "raw", "-F", "NATMIRROR-PRE"])

    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), before[1]))
    plant(scene, balancer, name, flush)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    balancer.wait_for_status(lambda status: status["uptime_seconds"] > 9, "traffic that was regular for a while")
    program = str(Path(shutil.which("iptables-nft-save") or "").resolve())
    inside = ["nsenter", "-t", str(pid), "-m"]
    subprocess.run([*inside, "mount", "--bind", "/bin/false", program], check=True)
    flush()

    def wait_for_finding(code: str, seconds: float) -> None:
        wait_for(lambda: code in {one["code"] for one in balancer.status()["findings"]}, code, seconds)

    wait_for_finding("rules-unreadable", WITHIN)
    wait_for_finding("rules-unknown", 2 * WITHIN)
    assert command(scene, "health", "--api", str(balancer.api)).returncode == 5
    plant(scene, balancer, name, lambda: subprocess.run([*inside, "umount", program], check=True))
    print(f", {traffic.end()} of {CONNECTIONS} connections lost, longest wait {traffic.longest_wait():.2f} s")
    assert command(scene, "health", "--api", str(balancer.api)).returncode == 0
    scene.clients.clear()  # connections may have been lost, and bytes of their copies


def test_a_stop_while_another_program_holds_the_lock_says_what_it_has_left(scene: Scene) -> None:
    lock = scene.file("xtables.lock")
    lock.touch()
    balancer = scene.balance(iptables="legacy", env={**os.environ, "XTABLES_LOCKFILE": str(lock)})
    with lock.open() as held:
        subprocess.run(["flock", "-n", str(held.fileno())], pass_fds=[held.fileno()], check=True)
        began_at = time.monotonic()
        balancer.program.send_signal(signal.SIGTERM)
        wait_for(lambda: not balancer.program.running(), "the end", 20.0)
        took = time.monotonic() - began_at
    last = balancer.program.text.splitlines()[-1]
    assert balancer.program.popen.returncode == 1
    assert took < 15.0
    assert f"fuser -v {lock}" in last
    assert "these chains stay: NATMIRROR-PRE," in last
    assert last.endswith("with: natmirror cleanup")
    assert command(scene, "cleanup").returncode == 0


def command(scene: Scene, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run one of natmirror's commands on the load-balancer host."""
    argv = ["ip", "netns", "exec", scene.lab.ns("lb"), sys.executable, "-m", "natmirror", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30.0, check=False, cwd=ROOT)
