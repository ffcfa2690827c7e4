"""A master that is absent, dies, freezes, vanishes, floods or sends garbage: production does not notice."""

import signal
import struct
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import dpkt
import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import SERVICE
from tests.helpers.support import at
from tests.live.scene import (
    CLIENTS,
    PORT,
    RULES,
    Scene,
    assert_all_well,
    has_right_sums,
    ip_packets,
    wait_for_ends,
    without_mirrors,
)

pytestmark = [pytest.mark.live, pytest.mark.beside]

VIP = at(SERVICE, PORT)[0]
POOL = {at(f"10.20.0.{last}", PORT)[0] for last in (11, 12)}
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
MISBEHAVIOUR = {"resetting": "reset", "deaf": "deaf", "raving": "garbage"}
FAULTS = ["off", "healthy", "absent", "black-holed", "shouting", *SIGNALS, *MISBEHAVIOUR]
ENOUGH = 1_000_000
"""Bytes that clients send after the fault."""


@pytest.mark.parametrize("fault", FAULTS)
def test_each_production_packet_passes_with_exact_nat_and_in_order(scene: Scene, fault: str) -> None:
    scene.record("c1", "c2")
    master = start_master(scene, fault)
    (switch_side, outside), (pool_side, inside) = (scene.sniff("lb", link) for link in ("sw0", "pl0"))
    balancer = scene.balance(scene.rules(without_mirrors()) if fault == "off" else RULES)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=25, until=until, started=started, size=1200)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 25, "all connections")
    if master is not None and fault in SIGNALS:
        master.send_signal(SIGNALS[fault])
    elif fault == "black-holed":
        scene.lab.run("m", ["ip", "link", "set", "eth0", "down"])
    before = client_bytes(balancer)
    balancer.wait_for_status(lambda _: client_bytes(balancer) > before + ENOUGH, "traffic to go on", 30.0)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, 25)
    if fault == "black-holed":
        scene.lab.run("m", ["ip", "link", "set", "eth0", "up"])
        scene.lab.run("m", ["ip", "route", "add", "default", "via", "10.20.0.1"])
    assert scene.at_backends() == sent
    balancer.wait_for_status(
        lambda status: all(flow["state"] in ("time-wait", "gone") for flow in status["flows"]),
        "the last packets of all connections to pass",
    )
    switch_side.end()
    pool_side.end()
    assert_exactly_nated(outside, inside)


def start_master(scene: Scene, fault: str) -> Program | None:
    """Start the master with its fault."""
    if fault in ("off", "absent"):
        return None
    if fault in MISBEHAVIOUR:
        master = scene.app("m", "bad_master", PORT, MISBEHAVIOUR[fault])
        wait_listen(scene.lab.ns("m"), PORT)
        return master
    return scene.record("m", answers=10 if fault == "shouting" else 1)["m"]


def client_bytes(balancer: LoadBalancer) -> int:
    """Return the bytes that the clients of the present flows have sent."""
    return sum(flow["client_bytes"] for flow in balancer.status()["flows"])


def assert_exactly_nated(outside: Path, inside: Path) -> None:
    """Assert that each connection's packets are the same on both sides of the host and in the same order, but for one
    address, the TTL and the checksums; and that clients get no other packets."""
    switch_side, pool_side = ip_packets(outside), ip_packets(inside)
    clients = {at(address, 0)[0] for address in CLIENTS}
    to_clients = [ip for ip in switch_side if ip.dst in clients]
    assert {(ip.src, ip.p) for ip in to_clients} == {(VIP, dpkt.ip.IP_PROTO_TCP)}, "no ICMP, nothing of the master's"
    asked = by_client(ip for ip in switch_side if ip.dst == VIP)
    forwarded = by_client(ip for ip in pool_side if ip.dst in POOL)
    answered = by_client(ip for ip in pool_side if ip.src in POOL)
    returned = by_client(to_clients)
    assert len(asked) == len(answered) == 25
    for port in asked:
        assert [seen(ip, hops=1) for ip in asked[port]] == [seen(ip) for ip in forwarded[port]]
        assert [seen(ip, hops=1) for ip in answered[port]] == [seen(ip) for ip in returned[port]]
        assert [ip for ip in forwarded[port] + returned[port] if not is_sound(ip)] == []
        assert len({ip.dst for ip in forwarded[port]}) == 1
        assert not any(ip.data.flags & dpkt.tcp.TH_RST for ip in returned[port])


def by_client(packets: Iterable[dpkt.ip.IP]) -> dict[int, list[dpkt.ip.IP]]:
    """Return the packets of each client port, in order."""
    found = defaultdict(list)
    for ip in packets:
        found[ip.data.dport if ip.data.sport == PORT else ip.data.sport].append(ip)
    return dict(found)


def seen(ip: dpkt.ip.IP, hops: int = 0) -> tuple[object, ...]:
    """Return the parts of a packet that NAT leaves unchanged, with its TTL lowered by this number of hops."""
    tcp = ip.data
    head = (ip.tos, ip.id, bytes(ip)[6:8], ip.ttl - hops, ip.opts)
    return (*head, tcp.seq, tcp.ack, tcp.flags, tcp.win, tcp.urp, bytes(tcp.opts), bytes(tcp.data))


def is_sound(ip: dpkt.ip.IP) -> bool:
    """Return whether the checksums are right, or TCP's is left to hardware and holds the pseudo-header's sum."""
    head, tcp = bytes(ip)[:20], bytes(ip.data)
    pseudo = ip.src + ip.dst + struct.pack("!HH", ip.p, len(tcp))
    is_left = dpkt.in_cksum(head) == 0 and ip.data.sum == ~dpkt.in_cksum(pseudo) & 0xFFFF
    return is_left or has_right_sums(ip)


def test_our_kernels_errors_about_an_absent_master_reach_no_client(scene: Scene) -> None:
    """No host has the master's address, so our kernel sends ICMP errors to the source of each leg's SYN: the client."""
    scene.record("c1", "c2")
    sniffer, capture = scene.sniff("s1", "eth0")
    balancer = scene.balance(scene.rules(RULES.read_text().replace("10.20.0.13", "10.20.0.99")))
    sent = assert_all_well(scene.run_client(connections=5, requests=2), 5)
    assert wait_for_ends(balancer, 5) == {"unreachable": 5}
    assert balancer.status()["counters"]["icmp_errors_for_legs"] >= 5
    assert scene.at_backends() == sent
    sniffer.end()
    assert {ip.p for ip in ip_packets(capture)} == {dpkt.ip.IP_PROTO_TCP}


def test_a_master_that_answers_with_ten_times_the_bytes_is_consumed(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", answers=10)
    balancer = scene.balance()
    sent = assert_all_well(scene.run_client(connections=20, requests=50, size=20), 20)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 20}, "the legs to end")
    assert scene.at_master() == scene.at_backends() == sent
    assert balancer.status()["mirrors"][0]["consumed_bytes"] == 20 * 50 * 32 * 10
