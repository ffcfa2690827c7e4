"""natmirror support-dump of a natmirror that runs, and that is frozen, in a host's own network namespace."""

import json
import os
import re
import signal
import sys
import tarfile
from pathlib import Path

import pytest

from tests.live.scene import RULES, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

ADDRESS = re.compile(r"\b10\.(?:10|20)\.0\.\d+")
MAC = re.compile(r"link/ether ((?:[0-9a-f]{2}:){5}[0-9a-f]{2})")
FILES = ("host/iptables-nft.txt", "host/nftables.txt", "host/routes.txt", "host/neighbours.txt", "processes.txt")


def dump(scene: Scene, api: Path, name: str) -> dict[str, str]:
    file = scene.file(name)
    command = [sys.executable, "-m", "natmirror", "support-dump", "-o", str(file), "--api", str(api)]
    scene.lab.run("lb", [*command, "--rules", str(RULES)], timeout=100.0)
    with tarfile.open(file) as opened:
        found = ((one.name.partition("/")[2], opened.extractfile(one)) for one in opened.getmembers())
        return {name: text.read().decode() for name, text in found if text is not None}


def test_a_dump_has_all_but_no_address_of_the_network(alone: Scene) -> None:
    scene = alone
    scene.record("c1", "c2", "m")
    balancer = scene.balance(RULES)
    scene.run_client(connections=4)
    macs = MAC.findall(scene.lab.run("lb", ["ip", "link"]))
    balancer.wait_for_status(lambda status: status["condition"]["state"] == "ok", "nothing to be wrong")
    texts = dump(scene, balancer.api, "running.tar.gz")
    status = json.loads(texts["status.json"])
    assert status["condition"]["state"] == "ok"
    [mirror] = status["mirrors"]
    assert (mirror["service"], mirror["name"]) == ("service-1", "mirror-1")
    assert "packets-0" in texts["processes.txt"]
    assert mirror["address"].partition(":")[0] in texts["host/iptables-nft.txt"]
    assert not [name for name, text in texts.items() if text.startswith("not available")]
    everything = "\n".join(texts.values())
    assert not ADDRESS.findall(everything)
    assert macs and not [mac for mac in macs if mac in everything]
    pid = balancer.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        frozen = dump(scene, balancer.api, "frozen.tar.gz")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "is stopped" in frozen["status.json"]
    assert all(frozen[name] and not frozen[name].startswith("not available") for name in FILES)
