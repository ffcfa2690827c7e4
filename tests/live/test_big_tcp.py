"""Packets above 64 KiB (BIG TCP), which a packet of NFQUEUE cannot carry."""

import sys

import pytest

from natmirror.errors import HostError
from tests.live.scene import ROOT, RULES, Scene, assert_all_well, wait_for_ends

pytestmark = [pytest.mark.live, pytest.mark.beside]

SIZE = 185_000
CONNECTIONS, CHUNKS, CHUNK_LEN = 4, 5, 4 << 20


def test_big_tcp_is_named_and_streams_and_copies_pass_whole(alone: Scene) -> None:
    scene = alone
    scene.record("c1", "c2", "m")
    for host in ("net", "s1", "lb", "c1", "c2", "m"):
        try:
            scene.lab.run(host, [sys.executable, "-m", "tests.live.apps.big_tcp", str(SIZE)], cwd=str(ROOT))
        except HostError as error:
            pytest.skip(str(error))
    balancer = scene.balance(RULES)
    until = scene.file("until")
    lasting, lasting_records = scene.client(sources="10.10.0.11", until=until, size=200)
    client, records = scene.client(
        sources="10.10.0.11", connections=CONNECTIONS, requests=CHUNKS, size=CHUNK_LEN, seed=1
    )
    balancer.wait_for_status(
        lambda status: "big-tcp" in {one["code"] for one in status["findings"]},
        "packets above 64 KiB to be named",
    )
    scene.finish(client)
    until.touch()
    scene.finish(lasting)
    sent = assert_all_well(records, CONNECTIONS) | assert_all_well(lasting_records, 1)
    assert wait_for_ends(balancer, CONNECTIONS + 1) == {"closed": CONNECTIONS + 1}
    assert scene.at_backends() == scene.at_master() == sent
    counters = [queue.get("packets_cut", 0) for queue in balancer.status()["machine"]["queues"].values()]
    assert sum(counters) > 0
