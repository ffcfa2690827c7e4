"""The kernel's own Multipath TCP (RFC 8684) through natmirror: plain TCP with a pool, and never copied otherwise."""

from pathlib import Path

import dpkt
import pytest

from tests.live.scene import CLIENTS, Scene, assert_all_well, tcp_packets, wait_for_ends

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not Path("/proc/sys/net/mptcp").exists(), reason="this kernel has no Multipath TCP"),
]

SIZE = 32 << 20
"""Bytes of an upload: enough to fill the window of one subflow, so that the client uses both."""
POOL = "    pool: {mptcp: %s, backends: [{name: c1, address: 10.20.0.11}]}\n"
RULES = """
switches: [10.10.0.0/24]
services:
  - name: test
    address: 10.10.0.100
    port: 6653
%s    mirrors: [{name: master, address: 10.20.0.13, buffer: 128MiB}]
"""
OPTION = 30


@pytest.fixture
def subflows(scene: Scene) -> None:
    """Let a client's connection from its first address have a second subflow, from its second one."""
    for host in ("s1", "c1", "lb"):
        scene.lab.run(host, ["ip", "mptcp", "limits", "set", "subflows", "2", "add_addr_accepted", "2"])
    scene.lab.run("s1", ["ip", "mptcp", "endpoint", "flush"])
    scene.lab.run("s1", ["ip", "mptcp", "endpoint", "add", CLIENTS[1], "dev", "eth0", "subflow"])


def joined(scene: Scene) -> int:
    """Return the number of subflows that the client host has ever added to its connections."""
    names, values = (
        line.split()[1:]
        for line in scene.lab.run("s1", ["cat", "/proc/net/netstat"]).splitlines()
        if line.startswith("MPTcpExt:")
    )
    return dict(zip(names, map(int, values), strict=True))["MPJoinSynAckRx"]


@pytest.mark.usefixtures("subflows")
def test_with_a_pool_the_ends_use_plain_tcp_and_the_master_gets_every_byte(scene: Scene) -> None:
    scene.record("c1", mptcp=True)
    scene.record("m")
    before = joined(scene)
    balancer = scene.balance(scene.rules(RULES % (POOL % "strip")))
    sniffer, capture = scene.sniff("c1", "eth0")
    sent = assert_all_well(scene.run_client(sources=CLIENTS[0], size=SIZE, mptcp=True), 1)
    assert wait_for_ends(balancer, 1) == {"closed": 1}
    sniffer.end()
    assert joined(scene) == before
    assert scene.at_backends() == scene.at_master() == sent
    syns = [packet.data for packet in tcp_packets(capture) if packet.data.flags & 0x02]
    assert {syn.flags & 0x12 for syn in syns} == {0x02, 0x12}
    assert all(OPTION not in dict(dpkt.tcp.parse_opts(syn.opts)) for syn in syns)


@pytest.mark.parametrize("is_pooled", [True, False], ids=["pass", "no pool"])
@pytest.mark.usefixtures("subflows")
def test_no_subflow_is_copied(scene: Scene, is_pooled: bool) -> None:
    server = "c1" if is_pooled else "lb"
    scene.record(server, mptcp=True)
    scene.record("m")
    before = joined(scene)
    balancer = scene.balance(scene.rules(RULES % (POOL % "pass" if is_pooled else "")))
    sent = assert_all_well(scene.run_client(sources=CLIENTS[0], size=SIZE, mptcp=True), 1)
    [(count, _)] = sent.values()
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["lost_bytes"].get("mptcp", 0) >= count, "all bytes to be counted"
    )
    assert joined(scene) == before + 1
    [mirror] = balancer.status()["mirrors"]
    assert (mirror["legs_opened"], mirror["acked_bytes"], mirror["lost_bytes"].keys()) == (0, 0, {"mptcp"})
    assert balancer.status()["counters"]["flows_opened"] >= 2
    assert scene.recorders[server].by_port() == sent
    assert scene.at_master() == {}
