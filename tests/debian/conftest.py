"""Fixtures: the lab with the machine in it. Without a root, which scripts/try-* make, there are no tests here."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from natmirror.lab.process import wait_for
from natmirror.lab.topology import Lab, leftovers
from tests.debian.client import CONNECTIONS, Client
from tests.debian.machine import Machine
from tests.live.scene import CLIENTS, Scene

ROOT = os.environ.get("NATMIRROR_DEBIAN_ROOT")
collect_ignore_glob = [] if ROOT else ["test_*.py"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for address in CLIENTS[1:]:
            lab.address("s1", "eth0", address)
        yield lab
    assert leftovers() == []


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    assert ROOT
    for left in ("etc/natmirror", "etc/systemd/system/multi-user.target.wants", "var/lib/natmirror", "var/log/journal"):
        shutil.rmtree(Path(ROOT, left), ignore_errors=True)
    machine = Machine(Path(ROOT), lab.ns("lb"), lab.directory / "boot.log")
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    scene = Scene(lab)
    scene.record("c1", "c2", "m")
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def client(scene: Scene) -> Iterator[Client]:
    until, answered = scene.file("until"), scene.file("answered")
    program, records = scene.client(connections=CONNECTIONS, until=until, size=200, progress=answered)
    wait_for(answered.exists, "the client's first answers")
    yield Client(scene, program, records, until, answered)
    until.touch()
