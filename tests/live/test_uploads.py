"""Sustained bulk traffic for minutes, so on demand only (make soak). The figures are printed, not asserted."""

import time

import pytest

from tests.live.scene import Scene, assert_all_well, rules, wait_for_ends, without_mirrors

pytestmark = [pytest.mark.live, pytest.mark.soak]

MIB = 1 << 20
CONNECTIONS, CHUNK_LEN, CHUNKS = 4, 4 * MIB, 64
LONG = 600.0

Sent = dict[int, tuple[int, str]]


def upload(scene: Scene, text: str, *, connections: int = CONNECTIONS, chunks: int = CHUNKS) -> tuple[Sent, float]:
    """Upload through natmirror with these rules; return the bytes of each client and their total rate in MB/s."""
    scene.balance(text)
    began = time.monotonic()
    client, records = scene.client(connections=connections, requests=chunks, size=CHUNK_LEN)
    scene.finish(client, LONG)
    took = time.monotonic() - began
    sent = assert_all_well(records, connections)
    assert all(count == chunks * (4 + CHUNK_LEN) for count, _ in sent.values())
    return sent, sum(count for count, _ in sent.values()) / took / 1e6


def test_four_uploads_of_256_mib_arrive_whole_when_the_master_keeps_up(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    sent, rate = upload(scene, rules(scene))
    assert wait_for_ends(scene.balancers[0], CONNECTIONS, LONG) == {"closed": CONNECTIONS}
    assert scene.at_master() == scene.at_backends() == sent
    print(f"\n{CONNECTIONS} of {CONNECTIONS} identical at the master, {rate:.0f} MB/s")


def test_and_with_throttling_when_the_master_takes_a_quarter_of_the_rate(scene: Scene) -> None:
    keeping_up = scene.record("c1", "c2", "m")["m"]
    _, full = upload(scene, rules(scene))
    scene.balancers[0].stop()
    keeping_up.end()
    scene.record("m", rate=full * 1e6 / 4 / CONNECTIONS)
    sent, rate = upload(scene, rules(scene, when_behind="throttle"))
    assert wait_for_ends(scene.balancers[1], CONNECTIONS, LONG) == {"closed": CONNECTIONS}
    assert scene.at_master() == sent
    assert sent.items() <= scene.at_backends().items()
    print(f"\n{CONNECTIONS} of {CONNECTIONS} identical at the master, {rate:.0f} MB/s of {full:.0f}")


def test_without_throttling_a_slow_master_costs_the_client_nothing(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", rate=MIB)
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(3):
        for kind, text in (("without", str(scene.rules(without_mirrors()))), ("with", rules(scene))):
            rates[kind].append(upload(scene, text)[1])
            scene.balancers[-1].stop()
    assert scene.balancers[-1].status()["mirrors"][0]["legs_ended"] == {"buffer-full": CONNECTIONS}
    without, beside = (sorted(rates[kind])[1] for kind in ("without", "with"))
    print(f"\nno mirror {without:.0f} MB/s, a mirror that falls behind {beside:.0f} MB/s: ratio {beside / without:.2f}")


def test_a_stream_longer_than_the_sequence_space(scene: Scene) -> None:
    chunks = 1100
    assert chunks * CHUNK_LEN > 1 << 32
    scene.record("c1", "c2", "m")
    sent, rate = upload(scene, rules(scene), connections=1, chunks=chunks)
    assert wait_for_ends(scene.balancers[0], 1, LONG) == {"closed": 1}
    assert scene.at_master() == scene.at_backends() == sent
    print(f"\n{chunks * CHUNK_LEN / (1 << 30):.1f} GiB identical at the master, {rate:.0f} MB/s")
