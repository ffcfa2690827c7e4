"""An Open vSwitch connects to the service: c1 or c2 serves it, and the master gets its bytes."""

import socket
from pathlib import Path

import pytest

from natmirror.lab.controllers import programs
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.topology import CONTROLLERS, SERVICE, Lab
from natmirror.net.seq import diff
from tests.live.scene import PORT, Scene, tcp_packets

pytestmark = pytest.mark.live


@pytest.fixture
def fresh_lab() -> Lab:
    """A lab for one switch and its controllers, which outlive it."""
    return Lab()


@pytest.mark.parametrize("controller", [programs.OsKen, programs.OvsTestController])
def test_an_openflow_session_is_served_and_copied(
    fresh_lab: Lab, iptables: str, controller: type[programs.Controller]
) -> None:
    with fresh_lab as lab:
        scene = Scene(lab)
        for host in CONTROLLERS:
            controller(lab, host)
        sniffer, capture = scene.sniff("lb", "pl0")
        balancer = scene.balance(iptables=iptables)
        switch = OpenVSwitch(lab, 1)
        switch.connect(f"tcp:{SERVICE}:{PORT}")
        balancer.wait_for_status(
            lambda status: any(flow["client_bytes"] >= 48 for flow in status["flows"]), "HELLO and FEATURES_REPLY", 20.0
        )
        assert switch.peers() == [f"{SERVICE}:{PORT}"]
        for _ in range(5):
            assert switch.ping(), "the controller makes the switch pass packets"
            switch.forget_flows()
        balancer.wait_until_acknowledged()
        [mirror] = balancer.status()["mirrors"]
        sniffer.end()
        scene.close()
        at_master, at_backend = sent_to(capture, "m"), sent_to(capture, "c1") or sent_to(capture, "c2")
        seen = min(len(at_master), len(at_backend))  # the capture may have ended between the two packets
        assert seen >= mirror["acked_bytes"] > 500
        assert at_master[:seen] == at_backend[:seen]


def sent_to(capture: Path, host: str) -> bytes:
    """Return the byte stream to a host's port in a capture, assembled by sequence numbers."""
    address = socket.inet_aton(f"10.20.0.{CONTROLLERS[host]}")
    segments = [ip.data for ip in tcp_packets(capture) if ip.dst == address and ip.data.dport == PORT]
    syns = [segment.seq for segment in segments if segment.flags & 0x02]
    if not syns:
        return b""
    stream = bytearray()
    for segment in segments:
        at = diff(segment.seq, syns[0] + 1)
        if segment.data and at >= 0:
            assert at <= len(stream), "a hole in the capture"
            stream[at : at + len(segment.data)] = segment.data
    return bytes(stream)
