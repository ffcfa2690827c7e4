"""A mirror does not know production's sequence numbers: its forged packets have no effect."""

from collections import Counter
from pathlib import Path

import dpkt
import pytest

from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import SERVICE
from natmirror.net import seq
from tests.live.apps.forger import WINDOW
from tests.live.scene import MASTER, PORT, Scene, assert_all_well, tcp_packets

pytestmark = pytest.mark.live

CONNECTIONS = 16
EACH = 1000
"""Forged packets of each kind from each source."""
BACKENDS = ("10.20.0.11", "10.20.0.12")
KINDS = {dpkt.tcp.TH_RST: "RST", dpkt.tcp.TH_SYN: "SYN", dpkt.tcp.TH_PUSH | dpkt.tcp.TH_ACK: "data"}


def forged(capture: Path) -> Counter[str]:
    """Return the number of forged packets in a capture, by kind."""
    return Counter(KINDS[ip.data.flags] for ip in tcp_packets(capture) if ip.data.win == WINDOW)


def test_forged_packets_with_a_legs_numbers_harm_neither_production_nor_the_copy(scene: Scene) -> None:
    for host, link in (("lb", "pl0"), ("c1", "eth0"), ("c2", "eth0"), ("s1", "eth0")):
        values = {"conf__all__rp_filter": 0, f"conf__{link}__rp_filter": 0}
        scene.lab.sysctl(host, **values)  # the worst case: a host that does not check its peers' addresses
    scene.lab.sysctl("lb", conf__all__accept_local=1, conf__pl0__accept_local=1)
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    captures = {host: scene.sniff(host, "eth0") for host in ("s1", "c1", "c2")}
    until = scene.file("until")
    names = ("--service", SERVICE, "--backends", ",".join(BACKENDS), "--connections", CONNECTIONS, "--count", EACH)
    forger = scene.app("m", "forger", PORT, *names)
    forger.wait_for_text("watching")
    client, records = scene.client(connections=CONNECTIONS, until=until, size=200)
    forger.wait_for_text("done", 60.0)
    until.touch()
    scene.finish(client)
    lines = records.lines()
    well = sum(line["error"] is None for line in lines)
    arrived = {host: forged(end(*capture)) for host, capture in captures.items()}
    print(f"{well} of {CONNECTIONS} connections went on; forged packets that arrived: {arrived}")
    for kind in KINDS.values():
        assert arrived["s1"][kind] > 1.8 * EACH, "in the service's name and in backends'"
        assert arrived["c1"][kind] + arrived["c2"][kind] > 1.8 * EACH, "in the clients' names"
    sent = assert_all_well(records, CONNECTIONS)
    assert scene.at_backends() == sent
    balancer.wait_until_acknowledged()
    wait_for(lambda: len(scene.at_master()) == CONNECTIONS, "the master to have all streams")
    assert scene.at_master() == sent
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["legs_ended"] == {"closed": CONNECTIONS}, "the legs to end"
    )


def end(sniffer: Program, file: Path) -> Path:
    sniffer.end()
    return file


def test_no_number_of_a_leg_is_near_the_clients(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    scene.balance()
    sniffer, capture = scene.sniff("lb", "pl0")
    scene.run_client(connections=20, requests=2)
    sniffer.end()
    syns = [
        ip for ip in tcp_packets(capture) if ip.data.flags & dpkt.tcp.TH_SYN and not ip.data.flags & dpkt.tcp.TH_ACK
    ]
    production = {ip.data.sport: ip.data.seq for ip in syns if ip.dst != MASTER}
    legs = {ip.data.sport: ip.data.seq for ip in syns if ip.dst == MASTER}
    assert production.keys() == legs.keys()
    offsets = [seq.add(legs[port], -production[port]) for port in legs]
    assert len(set(offsets)) == 20
    assert max(offsets) - min(offsets) > 1 << 30, "over the whole space"
