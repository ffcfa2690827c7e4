"""The Debian package's life under a real systemd: installed, configured, upgraded and downgraded under traffic,
removed, purged. scripts/try-package builds it, and a copy with a lower version, into the root.

Each test goes on where the one before has ended. ``client``'s connections are open from the first rules to the removal.
"""

import os
from collections.abc import Iterator

import pytest

from natmirror.lab.process import wait_for
from natmirror.lab.topology import Lab
from tests.debian.client import Client
from tests.debian.machine import Machine
from tests.live.scene import RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

UNIT = "natmirror.service"
OLD, NEW = "/root/old.deb", "/root/new.deb"
FILE = "etc/natmirror/rules.yaml"
TEXT = RULES.read_text()
COMES_AND_GOES = ("dev", "proc", "root", "run", "sys", "tmp", "var/backups", "var/cache", "var/lib/apt", "var/lib/dpkg",
    "var/log", "var/tmp")  # fmt: skip


def paths(machine: Machine) -> set[str]:
    """Return the files and directories of the root that a package may leave behind."""
    found: set[str] = set()
    for directory, folders, files in os.walk(machine.root):
        here = os.path.relpath(directory, machine.root)
        folders[:] = [one for one in folders if os.path.normpath(f"{here}/{one}") not in COMES_AND_GOES]
        found |= {os.path.normpath(f"{here}/{one}") for one in (*folders, *files)}
    return found


def apt(machine: Machine, *words: str) -> str:
    return machine.run("apt-get", "--yes", "--allow-downgrades", *words)


def kernel_rules(machine: Machine) -> list[str]:
    """Return what natmirror has in the kernel, as the machine's own programs show it."""
    shown = [("iptables-nft-save",), ("iptables-legacy-save",), ("nft", "list", "tables")]
    lines = [line for command in shown for line in machine.run(*command).splitlines()]
    return [line for line in lines if "natmirror" in line.lower() or "NFQUEUE" in line]


def installed(machine: Machine) -> str:
    return machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "natmirror")


def pid(machine: Machine) -> int:
    return int(machine.show(UNIT, "MainPID"))


@pytest.fixture(scope="module")
def before(machine: Machine) -> Iterator[set[str]]:
    yield paths(machine)


def test_a_fresh_install_waits_for_rules_and_says_so(machine: Machine, before: set[str]) -> None:
    apt(machine, "install", OLD)
    assert machine.run("systemctl", "is-enabled", UNIT) == "enabled\n"
    state = [machine.show(UNIT, name) for name in ("ActiveState", "Result", "NRestarts")]
    assert state == ["inactive", "exec-condition", "0"]
    status = machine.attempt("systemctl", "status", "--no-pager", "--full", UNIT).stdout
    assert f"not started: /{FILE} has no rules yet. Write them, then run: systemctl start natmirror" in status
    assert machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "natmirror*") == ""
    assert machine.run("stat", "--format=%a %U %G", f"/{FILE}") == "640 root natmirror\n"


def test_the_command_is_there_with_its_manual_and_completion(machine: Machine) -> None:
    assert machine.run("natmirror", "--version").startswith("natmirror, version ")
    assert machine.run("sh", "-c", "zcat /usr/share/man/man8/natmirror.8.gz | grep -c '^.SS natmirror'") > "1"
    words = ["_NATMIRROR_COMPLETE=bash_complete", "COMP_WORDS=natmirror dra", "COMP_CWORD=1"]
    assert machine.run("env", *words, "natmirror") == "plain,drain\n"
    machine.run("bash", "-euc", ". /usr/share/bash-completion/completions/natmirror; complete -p natmirror")
    machine.run("natmirror", "--rules", "/usr/share/doc/natmirror/rules/lb.yaml", "--check")
    assert "#" in machine.run("grep", "ip_forward", "/etc/sysctl.d/60-natmirror.conf"), "no install makes a router"


def test_with_rules_traffic_passes_and_is_mirrored(machine: Machine, scene: Scene) -> None:
    (machine.root / FILE).write_text(TEXT)
    machine.run("systemctl", "start", UNIT)
    assert machine.run("natmirror", "health") == "fit\n"
    sent = assert_all_well(scene.run_client(connections=5, requests=5), 5)
    wait_for(lambda: scene.at_master().items() >= sent.items(), "the copies")
    assert "not permitted" not in machine.journal(UNIT)


def test_an_upgrade_keeps_connections_and_rules(machine: Machine, client: Client) -> None:
    old, version = pid(machine), installed(machine)
    apt(machine, "install", NEW)
    assert (installed(machine) > version, pid(machine) != old) == (True, True)
    client.wait_for_answers()
    assert (machine.root / FILE).read_text() == TEXT
    assert machine.run("natmirror", "health") == "fit\n"


def test_a_rollback_keeps_connections(machine: Machine, client: Client) -> None:
    new, version = pid(machine), installed(machine)
    apt(machine, "install", OLD)
    assert (installed(machine) < version, pid(machine) != new) == (True, True)
    client.wait_for_answers()


def test_an_upgrade_to_a_version_that_refuses_the_rules_leaves_the_running_one(
    machine: Machine, client: Client
) -> None:
    running = pid(machine)
    (machine.root / FILE).write_text(TEXT + "no-such-key: 1\n")
    with pytest.raises(AssertionError, match=r"no-such-key(.|\n)*this version refuses /etc/natmirror/rules\.yaml"):
        apt(machine, "install", NEW)
    assert pid(machine) == running
    client.wait_for_answers()
    (machine.root / FILE).write_text(TEXT)
    machine.run("dpkg", "--configure", "natmirror")
    assert pid(machine) != running
    client.wait_for_answers()
    client.end()


def test_a_removal_leaves_rules_and_state_alone(machine: Machine, lab: Lab) -> None:
    assert kernel_rules(machine)
    apt(machine, "remove", "natmirror")
    assert not machine.group(UNIT, "systemd").exists(), "no process is left"
    assert kernel_rules(machine) == []
    assert lab.run("lb", ["cat", "/proc/net/netfilter/nfnetlink_queue"]) == ""
    assert "natmirror" not in lab.run("lb", ["ip", "link", "show"])
    assert not machine.root.joinpath("usr/lib/natmirror").exists()
    assert (machine.root / FILE).read_text() == TEXT
    assert machine.root.joinpath("var/lib/natmirror/events.jsonl").exists()


def test_a_purge_leaves_nothing(machine: Machine, before: set[str]) -> None:
    apt(machine, "purge", "natmirror")
    machine.run("systemctl", "daemon-reload")
    assert paths(machine) - before == set()
    for kind in ("passwd", "group"):
        assert machine.attempt("getent", kind, "natmirror").returncode == 2
    assert machine.run("find", "/run", "-name", "*natmirror*") == ""
    assert machine.attempt("systemctl", "list-unit-files", "--no-legend", "natmirror*").stdout == ""
    assert machine.attempt("dpkg-query", "--status", "natmirror").returncode == 1
