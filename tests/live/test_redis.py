"""Redis as backend and as master: after a benchmark both hold the same data."""

import pytest

from natmirror.lab.process import wait_for, wait_listen
from natmirror.lab.topology import SERVICE, Lab
from tests.live.scene import ROOT, Scene

pytestmark = pytest.mark.live

PORT = 6379
# These commands give the same data in any order of arrival: each key is always set to the same value, counts and equal
# list entries add up alike, and a set has no order.
TESTS = "set,incr,lpush,sadd"


@pytest.mark.parametrize("pipeline", [1, 16])
def test_after_a_benchmark_the_master_holds_what_the_backend_holds(
    lab: Lab, scene: Scene, iptables: str, pipeline: int
) -> None:
    for host in ("c1", "m"):
        scene.start(
            host,
            *("redis-server", "--port", str(PORT), "--protected-mode", "no", "--save", "", "--appendonly", "no"),
            *("--enable-debug-command", "yes", "--dir", str(lab.directory)),
            name="redis",
        )
        wait_listen(lab.ns(host), PORT)
    balancer = scene.balance(ROOT / "rules" / "redis.yaml", iptables=iptables)
    benchmark = ["redis-benchmark", "-h", SERVICE, "-p", str(PORT), "-q", "-t", TESTS, "-c", "50", "-n", "20000"]
    lab.run("s1", [*benchmark, "-r", "1000", "-P", str(pipeline), "-d", "64"])
    balancer.wait_until_acknowledged()
    assert balancer.status()["mirrors"][0]["client_bytes"] > 1_000_000
    digest = _ask(lab, "c1", "DEBUG", "DIGEST")
    assert set(digest.strip()) != {"0"}
    # What the master's kernel has acknowledged, its program may not have read yet.
    wait_for(lambda: _ask(lab, "m", "DEBUG", "DIGEST") == digest, "the master to hold the same")
    assert int(_ask(lab, "c1", "DBSIZE")) > 0


def _ask(lab: Lab, host: str, *words: str) -> str:
    return lab.run(host, ["redis-cli", "-p", str(PORT), *words])
