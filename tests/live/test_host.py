"""A host without free resources, a frozen disk, programs that hang, a log that is not read: production goes on."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for
from natmirror.linux.descriptors import RESERVED
from tests.live.core_waits import CoreWaits
from tests.live.manager import Manager
from tests.live.scene import ROOT, RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

CONNECTIONS = 4
CHAINS = ("NATMIRROR-PRE", "NATMIRROR-FWD", "NATMIRROR-GUARD")
WATCHDOG_SECONDS = 2.0


def descriptors(pid: int) -> dict[int, str]:
    """Return what a process has open, by descriptor."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed already
            found[int(path.name)] = str(path.readlink())
    return found


@contextmanager
def limited(pid: int, limit: int) -> Iterator[None]:
    """Let a process get no descriptor from this number on."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        if Path(f"/proc/{pid}/fd").exists():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def full(pid: int) -> int:
    """Wait until no thread of natmirror uses the reserve; return the lowest free descriptor."""
    found: dict[int, str] = {}

    def is_whole() -> bool:
        nonlocal found
        found = descriptors(pid)
        return list(found.values()).count(os.devnull) >= RESERVED

    wait_for(is_whole, "the reserve of descriptors")
    return min(set(range(len(found) + 1)) - found.keys())


def command(scene: Scene, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run one of natmirror's commands on the load-balancer host."""
    argv = ["ip", "netns", "exec", scene.lab.ns("lb"), sys.executable, "-m", "natmirror", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30.0, check=False, cwd=ROOT)


def health(scene: Scene, balancer: LoadBalancer) -> tuple[int, str]:
    done = command(scene, "health", "--api", str(balancer.api))
    return done.returncode, done.stdout


def clients(scene: Scene) -> tuple[Program, Path]:
    """Start connections that go on until a file exists."""
    until, started = scene.file("until"), scene.file("started")
    client, _ = scene.client(connections=CONNECTIONS, until=until, started=started, size=200)
    return client, until


def test_no_descriptor_left_costs_production_nothing(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(iptables=iptables)
    client, until = clients(scene)
    balancer.wait_for_status(lambda status: len(status["flows"]) == CONNECTIONS, "all connections")
    pid = balancer.program.pid
    limit = full(pid)
    before = len(descriptors(pid))
    with limited(pid, limit):  # what is reserved is left
        accept = ["-I", "PREROUTING", "-s", "192.0.2.1", "-j", "ACCEPT"]
        scene.lab.run("lb", [f"iptables-{iptables}", "-w", "-t", "raw", *accept])
        balancer.wait_for_status(lambda status: any(one["repairs"] for one in status["machine"]["kept"]), "a repair")
        assert_all_well(scene.run_client(connections=5, requests=5, seed=7), 5)
        code, told = health(scene, balancer)
        assert code == 0, told
    balancer.wait_for_status(lambda status: not status["failing_chores"], "all chores to work again")
    wait_for(lambda: len(descriptors(pid)) <= before, "all descriptors to be given back")
    assert_all_well(scene.run_client(connections=5, requests=5, seed=8), 5)
    until.touch()
    scene.finish(client)
    assert_all_well(scene.clients[0], CONNECTIONS)
    assert "Traceback" not in balancer.program.text


def test_a_stop_that_cannot_remove_its_rules_says_so_and_how_to_remove_them(scene: Scene, iptables: str) -> None:
    balancer = scene.balance(iptables=iptables)
    # The reserve's first half is in use, and of no use what is given back of the other one.
    with limited(balancer.program.pid, RESERVED // 2):
        balancer.program.send_signal(signal.SIGTERM)
        wait_for(lambda: not balancer.program.running(), "the end")
    assert balancer.program.popen.returncode == 1
    last = balancer.program.text.splitlines()[-1]
    assert last.startswith("natmirror: iptables: ")
    assert "Too many open files" in last
    assert all(chain in last for chain in CHAINS)
    assert last.endswith("with: natmirror cleanup")
    assert not balancer.api.exists(), "whatever else there was to do is done"
    done = command(scene, "cleanup")
    assert done.returncode == 0, done.stderr


def test_a_log_without_a_reader_costs_production_nothing(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    chatty = ["env", "NATMIRROR_LOG_LEVEL=debug"]  # a message for each leg that ends
    balancer = scene.balance(through=[*chatty, sys.executable, str(ROOT / "tests/live/apps/unread.py")])
    balancer.program.wait_for_text("full")
    client, until = clients(scene)
    assert_all_well(scene.run_client(connections=20, requests=3), 20)
    balancer.wait_for_status(
        lambda status: status["log"]["records_queued"] > 0, "the ends of legs to wait for a reader", 20.0
    )
    assert_all_well(scene.run_client(connections=20, requests=3, seed=7), 20)
    until.touch()
    scene.finish(client)
    assert_all_well(scene.clients[0], CONNECTIONS)
    assert balancer.stop() == 0


@pytest.fixture
def manager(scene: Scene) -> Iterator[Manager]:
    one = Manager(scene.file("notify"))
    yield one
    one.socket.close()


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return {**manager.environment(WATCHDOG_SECONDS), **more}


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_frozen_disk_blocks_neither_the_watchdog_nor_a_stop(scene: Scene, manager: Manager) -> None:
    scene.record("c1", "c2", "m")
    directory, frozen, shim = scene.file("disk"), scene.file("frozen"), scene.file("frozen.so")
    directory.mkdir()
    source = ROOT / "tests/live/apps/frozen.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    preloaded = {"LD_PRELOAD": str(shim), "FROZEN_BELOW": str(directory), "FROZEN_WHILE": str(frozen)}
    rules = scene.rules(f"known-switches: {directory}/switches.json\n{RULES.read_text()}")
    balancer = scene.balance(rules, env=environment(manager, **preloaded))
    client, until = clients(scene)
    frozen.touch()
    wait_for(frozen.with_name(f"{frozen.name}.hit").exists, "the disk to be written to")
    waits = CoreWaits(balancer.program)
    assert manager.longest_wait(2 * WATCHDOG_SECONDS) < WATCHDOG_SECONDS + waits.seconds()
    balancer.program.wait_for_text("known-switches: has not returned after 10 s")
    status = balancer.status()
    assert [chore["name"] for chore in status["failing_chores"]] == ["known-switches"]
    [found] = [one for one in status["findings"] if one["code"] == "switches-not-saved"]
    assert "the disk does not answer" in found["problem"]
    assert_all_well(scene.run_client(connections=5, requests=5, seed=7), 5)
    until.touch()
    scene.finish(client)
    assert_all_well(scene.clients[0], CONNECTIONS)
    balancer.program.send_signal(signal.SIGTERM)
    wait_for(lambda: not balancer.program.running(), "the end, though the disk is still frozen")
    assert balancer.program.popen.returncode == 1
    assert "natmirror: known-switches: not written" in balancer.program.text


def test_iptables_that_hangs_blocks_neither_the_watchdog_nor_commands(scene: Scene, manager: Manager) -> None:
    scene.record("c1", "c2", "m")
    programs, hangs = scene.file("bin"), scene.file("hangs")
    programs.mkdir()
    wrapper = programs / "iptables-nft-save"
    real = shutil.which("iptables-nft-save", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    wait = f'if [ -e {hangs} ]; then touch {hangs}.hit; exec sleep 60; fi\nexec {real} "$@"'
    wrapper.write_text(f"#!/bin/sh\n{wait}\n")
    wrapper.chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    balancer = scene.balance(iptables="nft", env=environment(manager, **path))
    hangs.touch()
    killed = "did not end within 15 s and was killed; trying again"  # the host checks'
    scene.lab.run("lb", ["iptables-nft", "-t", "raw", "-N", "OTHER"])  # the rules are read after each change
    wait_for(hangs.with_name(f"{hangs.name}.hit").exists, "iptables to be asked")
    drained = command(scene, "drain", "openflow/c1", "--api", str(balancer.api))
    assert (drained.returncode, drained.stderr) == (0, "")
    assert killed not in balancer.program.text, "the command has not waited for it"
    waits = CoreWaits(balancer.program)
    assert manager.longest_wait(2 * WATCHDOG_SECONDS) < WATCHDOG_SECONDS + waits.seconds()
    assert_all_well(scene.run_client(connections=5, requests=5), 5)
    balancer.program.wait_for_text("WARNING rules-unreadable: ")
    balancer.program.wait_for_text(killed, 30.0)
    assert health(scene, balancer)[0] == 0
    hangs.unlink()
    balancer.program.wait_for_text("rules-unreadable: no longer so", 30.0)
    scene.lab.run("lb", ["iptables-nft", "-t", "raw", "-X", "OTHER"])


def test_cleanup_beside_a_running_natmirror_is_refused(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(iptables=iptables)
    client, until = clients(scene)
    balancer.wait_for_status(lambda status: len(status["flows"]) == CONNECTIONS, "all connections")
    rules = scene.traces()["rules"]
    refused = command(scene, "cleanup")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert f"natmirror is running here, pid {balancer.program.pid}: stop it" in refused.stderr
    balancer.program.send_signal(signal.SIGSTOP)
    assert command(scene, "cleanup").stderr == refused.stderr, "a stopped one holds its lock too"
    balancer.program.send_signal(signal.SIGCONT)
    assert scene.traces()["rules"] == rules
    until.touch()
    scene.finish(client)
    assert_all_well(scene.clients[0], CONNECTIONS)
    forced = command(scene, "cleanup", "--force", "--api", str(balancer.api))
    assert forced.returncode == 0, forced.stderr
    assert {f"{iptables}: {chain}" for chain in CHAINS} <= set(forced.stdout.splitlines())
    balancer.kill()
    command(scene, "cleanup")
    assert re.search("NATMIRROR", str(scene.traces()["rules"])) is None


def test_cleanup_after_a_kill_needs_no_force(scene: Scene, iptables: str) -> None:
    balancer = scene.balance(iptables=iptables)
    balancer.kill()
    done = command(scene, "cleanup")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"{iptables}: {chain}" in done.stdout for chain in CHAINS)


def test_two_natmirrors_in_two_namespaces_do_not_disturb_each_other(scene: Scene) -> None:
    first = scene.balance()
    argv = [sys.executable, "-m", "natmirror", "cleanup"]
    assert scene.lab.run("c1", argv, cwd=str(ROOT)) == "nothing to remove\n"
    with pytest.raises(HostError, match="is running here"):
        scene.lab.run("lb", argv, cwd=str(ROOT))
    assert first.program.running()
