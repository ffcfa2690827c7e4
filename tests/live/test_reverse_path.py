"""Packets with a client's address from the pool's side, beside the filters that docs/security.md recommends."""

import re
import sys
from pathlib import Path

import pytest

from tests.live.scene import ROOT, RULES, Scene, assert_all_well, tcp_packets

pytestmark = pytest.mark.live

FORGED = "10.10.0.66"
COUNT = 100
RULESET = re.findall(r"^```nft\n(.*?)^```", (ROOT / "docs/security.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("is_early", [False, True])
def test_a_strict_filter_keeps_forged_packets_from_backends_and_an_early_one_from_natmirror(
    scene: Scene, tmp_path: Path, *, is_early: bool
) -> None:
    scene.lab.sysctl("lb", conf__all__rp_filter=1, conf__sw0__rp_filter=1, conf__pl0__rp_filter=1)
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.with_threads(RULES, 1))
    if is_early:
        [text] = RULESET
        (tmp_path / "early.nft").write_text(text)
        scene.lab.run("lb", ["nft", "-f", str(tmp_path / "early.nft")])
    captures = [scene.sniff(host, "eth0") for host in ("c1", "c2")]
    scene.lab.run("m", [sys.executable, "-m", "tests.live.apps.junk", FORGED, "ack", str(COUNT)], cwd=str(ROOT))
    assert_all_well(scene.run_client(connections=10, requests=5), 10)
    balancer.wait_until_acknowledged()
    assert balancer.status()["counters"]["packets_without_flow"] == (0 if is_early else COUNT)
    for sniffer, capture in captures:
        sniffer.end()
        seen = tcp_packets(capture)
        assert seen
        assert FORGED not in {ip.src for ip in seen}
