"""A leg's throughput on a path that loses packets, beside the kernel's own TCP on the same path (make soak).

Both are measured at the receiver, from the connection's begin to its end. The kernel's congestion control is
Reno, its timestamps are off and it cuts its data into single segments, so that a loss costs both the same.
"""

from statistics import median

import pytest

from natmirror.lab.process import wait_for, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS
from tests.live.scene import PORT, Records, Scene, assert_all_well, rules, wait_for_ends

pytestmark = [pytest.mark.live, pytest.mark.soak]

MIB = 1 << 20
LONG = 600.0
SIZES = {0.0: 64 * MIB, 0.1: 32 * MIB, 1.0: 16 * MIB, 3.0: 4 * MIB, 10.0: MIB // 2}
"""Bytes of an upload, by the path's loss in percent; each takes a few seconds."""
RUNS = 5
MASTER = f"{CONTROLLER_SIDE}.{CONTROLLERS['m']}"
OTHER_PORT = PORT + 1
"""The port of the kernel's own connections to the master."""


def test_throughput_against_loss(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    direct = Records(scene.file("direct.jsonl"))
    scene.app("m", "recorder", OTHER_PORT, direct.file)
    wait_listen(scene.lab.ns("m"), OTHER_PORT)
    scene.lab.sysctl("lb", tcp_congestion_control="reno", tcp_timestamps=0)
    scene.lab.run("lb", ["ip", "link", "set", "pl0", "gso_max_size", "1600"])
    balancer = scene.balance(rules(scene, buffer="256MiB", linger="60s"))
    print("\n\n| loss towards the master | kernel (Reno) | leg | ratio |\n|---|---|---|---|")
    uploads = 0
    for percent, size in SIZES.items():
        if percent:
            scene.lose("m", percent)
        kernel, leg = [], []
        for seed in range(RUNS):
            client = scene.app("lb", "client", MASTER, OTHER_PORT, scene.file("kernel.jsonl"), "--size", size)
            scene.finish(client, LONG)
            uploads += 1
            kernel.append(rate(direct, uploads))
            client, records = scene.client(size=size, seed=seed)
            scene.finish(client, LONG)
            assert_all_well(records, 1)
            leg.append(rate(scene.recorders["m"], uploads))
        scene.heal()
        ratio = median(leg) / median(kernel)
        print(f"| {percent:g} % | {median(kernel):.2f} MB/s | {median(leg):.2f} MB/s | {ratio:.2f} |", flush=True)
    count = RUNS * len(SIZES)
    assert wait_for_ends(balancer, count) == {"closed": count}
    assert scene.at_master() == scene.at_backends()


def rate(records: Records, count: int) -> float:
    """Return the MB/s of the latest of ``count`` connections, once it has ended."""
    wait_for(lambda: len(records.lines()) == count, "the master to have everything", LONG)
    line = records.lines()[-1]
    return float(line["bytes"] / line["seconds"] / 1e6)
