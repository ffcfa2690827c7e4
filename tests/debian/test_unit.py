"""The unit's life under a real systemd: installed as docs/running.md says, started, reloaded, killed, hung, stopped.

Each test goes on where the one before has ended. ``connections`` are open from the first test to the last stop.
"""

import json
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from natmirror.lab.process import wait_for
from tests.debian.client import CONNECTIONS, Client
from tests.debian.machine import Machine
from tests.helpers.processes import status_of, thread_of, wedged
from tests.live.scene import RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

UNIT = "natmirror.service"
NATMIRROR = "/opt/natmirror/bin/natmirror"
CAPABILITIES = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW
RUNNING = Path(__file__).parents[2] / "docs" / "running.md"
CHECK = "[cp, --no-preserve=mode, /proc/self/status, /proc/self/environ, /var/lib/natmirror]"
TEXT = RULES.read_text().replace("pool:\n", f"pool:\n      health: {{check: exec, command: {CHECK}}}\n")
ANOTHER = """
  - name: another
    address: 10.10.0.100
    port: 7000
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
"""


def commands(section: str) -> str:
    """Return the commands in a section of docs/running.md."""
    text = RUNNING.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return "\n".join(line for line in text.splitlines() if line.startswith("    "))


def write_rules(machine: Machine, text: str) -> None:
    """Write the rules file."""
    file = machine.root / "etc/natmirror/rules.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def pid_of(machine: Machine, words: bytes) -> int:
    """Return the process of the unit with these words in its command, by its id on this host."""
    [pid] = [pid for pid in machine.pids(UNIT) if words in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return pid


def packet_threads(pid: int) -> list[int]:
    """Return the threads to which the kernel gives the short turns that packet threads ask for (Linux 6.12)."""
    files = Path(f"/proc/{pid}/task").glob("*/sched")
    return [int(file.parent.name) for file in files if re.search(r"se\.slice +: +100000\n", file.read_text())]


def limit_of(machine: Machine, controller: str, names: tuple[str, str]) -> str:
    """Return a limit of the unit; ``names`` are those of its file in version 1 and 2 of control groups."""
    group = machine.group(UNIT, controller)
    return next((group / name).read_text().strip() for name in names if (group / name).exists())


def wait_for_restart(machine: Machine, count: int) -> None:
    """Wait until systemd has started natmirror again for the ``count``-th time."""
    wait_for(lambda: machine.show(UNIT, "NRestarts") == str(count), "the restart")
    wait_for(lambda: machine.show(UNIT, "ActiveState") == "active", "natmirror to be ready again")


def test_a_start_returns_when_packets_pass(machine: Machine, scene: Scene) -> None:
    write_rules(machine, TEXT)
    machine.run("sh", "-euc", commands("As a systemd service"), directory="/root/natmirror")
    assert machine.show(UNIT, "ActiveState") == "active"
    assert machine.run(NATMIRROR, "health") == "fit\n"
    assert_all_well(scene.run_client(connections=5, requests=5), 5)
    wait_for(lambda: machine.show(UNIT, "StatusText") != "", "a status", 15.0)
    assert re.fullmatch(r"\d+ flows, \d+ legs, (ok|degraded: .*|not-fit: .*)", machine.show(UNIT, "StatusText"))
    journal = machine.journal(UNIT, "--priority=info..info")
    ready = r"^INFO ready: rules /etc/natmirror/rules\.yaml, iptables nft, queues 6653, "  # without a second time
    assert re.search(ready, journal, re.MULTILINE)
    assert " started " in machine.run(NATMIRROR, "events", "--file", "/nowhere")
    kept = "/var/lib/natmirror/events.jsonl"  # written once a second
    wait_for(lambda: not machine.attempt("test", "-s", kept).returncode, "the events to be written", 15.0)
    assert machine.run("cat", kept).count('"kind": "started"') == 1


def test_it_has_the_rights_that_it_needs_and_no_others(machine: Machine, client: Client) -> None:
    main, api = pid_of(machine, b"--rules"), pid_of(machine, b"natmirror.api")
    for pid, capabilities in ((main, CAPABILITIES), (api, 0)):
        state = status_of(pid)
        assert [int(state[kind], 16) for kind in ("CapPrm", "CapEff", "CapAmb")] == [capabilities] * 3
        assert (int(state["CapBnd"], 16), state["NoNewPrivs"], state["Seccomp"]) == (CAPABILITIES, "1", "2")
        assert set(state["Uid"].split()) != {"0"}
    checks = machine.root / "var/lib/natmirror"
    wait_for((checks / "environ").exists, "a check by exec")
    check = dict(line.split(":\t") for line in (checks / "status").read_text().splitlines())
    assert [int(check[kind], 16) for kind in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]
    assert check["NoNewPrivs"] == "1"
    assert b"NATMIRROR_BACKEND=c" in (checks / "environ").read_bytes()
    assert b"NOTIFY_SOCKET" not in (checks / "environ").read_bytes()
    state_of_run = json.loads(machine.run(NATMIRROR, "status", "--json"))
    assert state_of_run["failing_chores"] == []
    assert {backend["state"] for backend in state_of_run["backends"]} == {"up"}
    assert len(packet_threads(main)) == len(state_of_run["machine"]["queues"])
    assert int(limit_of(machine, "memory", ("memory.limit_in_bytes", "memory.max"))) == 4 << 30
    assert limit_of(machine, "cpu", ("cpu.shares", "cpu.weight")) in {"10240", "1000"}
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(f"/proc/{main}/root/run/natmirror").iterdir()
    }
    assert modes == {"api.sock": 0o660, "api.sock.role": 0o660, "api.sock.health": 0o666}
    assert "not permitted" not in machine.journal(UNIT)


def test_a_reload_takes_good_rules_and_refuses_a_mistake(machine: Machine, client: Client) -> None:
    main = pid_of(machine, b"--rules")
    write_rules(machine, TEXT + ANOTHER)
    machine.run("systemctl", "reload", UNIT)
    assert "another" in machine.run(NATMIRROR, "status")
    write_rules(machine, TEXT.replace("port: 6653", "port: 70000", 1))
    assert machine.attempt("systemctl", "reload", UNIT).returncode == 1
    assert "the rules stay as they were: /etc/natmirror/rules.yaml:13: " in machine.journal(UNIT)
    assert machine.show(UNIT, "ActiveState") == "active"
    assert machine.run(NATMIRROR, "health") == "fit\n"
    assert pid_of(machine, b"--rules") == main
    write_rules(machine, TEXT + ANOTHER)
    client.wait_for_answers()


def test_after_a_crash_connections_go_on(machine: Machine, client: Client) -> None:
    os.kill(pid_of(machine, b"--rules"), signal.SIGKILL)
    wait_for_restart(machine, 1)
    client.wait_for_answers()
    assert "Failed with result 'signal'" in machine.journal(UNIT)
    assert machine.pids(UNIT) == [pid_of(machine, b"--rules"), pid_of(machine, b"natmirror.api")]


def test_the_watchdog_ends_a_natmirror_of_which_one_packet_thread_hangs(machine: Machine, client: Client) -> None:
    with wedged(thread_of(pid_of(machine, b"--rules"), "packets-0")):
        wait_for(lambda: "in _pass_packets" in machine.journal(UNIT), "each thread's stack in the journal", 20.0)
    wait_for_restart(machine, 2)
    client.wait_for_answers()
    journal = machine.journal(UNIT)
    assert "has not run since the last watchdog beat" in journal
    assert "Failed with result 'watchdog'" in journal


def test_the_watchdog_ends_a_natmirror_that_is_stopped(machine: Machine, client: Client) -> None:
    os.kill(pid_of(machine, b"--rules"), signal.SIGSTOP)
    wait_for(lambda: machine.show(UNIT, "NRestarts") == "3", "the watchdog", 20.0)
    wait_for_restart(machine, 3)
    client.wait_for_answers()


def test_a_stop_keeps_the_rules_and_connections_go_on_after_the_next_start(
    machine: Machine, client: Client, scene: Scene
) -> None:
    machine.run("systemctl", "stop", UNIT)
    assert (machine.show(UNIT, "ActiveState"), machine.show(UNIT, "Result")) == ("inactive", "success")
    assert scene.traces()["rules"] != []
    assert f"{CONNECTIONS} connections to services with a pool will wait for the next start" in machine.journal(UNIT)
    assert "its iptables rules are still there" in machine.attempt(NATMIRROR, "status").stdout
    machine.run("systemctl", "start", UNIT)
    client.wait_for_answers()
    client.end()


def test_a_start_with_a_mistake_is_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    write_rules(machine, "services: 1\n")
    assert machine.attempt("systemctl", "start", UNIT).returncode == 1
    assert machine.show(UNIT, "ActiveState") == "failed"
    assert machine.show(UNIT, "ExecMainStatus") == "2"
    assert "natmirror: /etc/natmirror/rules.yaml:1: expected the key switches" in machine.journal(UNIT)


def test_cleanup_removes_the_rules(machine: Machine, scene: Scene) -> None:
    assert scene.traces()["rules"] != []
    machine.run(NATMIRROR, "cleanup")
    assert scene.traces()["rules"] == []


def test_a_shutdown_of_the_host_stops_it_in_order(machine: Machine, scene: Scene) -> None:
    write_rules(machine, TEXT)
    machine.run("systemctl", "start", UNIT)
    machine.power_off()
    assert scene.traces()["rules"] != []
