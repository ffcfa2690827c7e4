"""A client that has natmirror see other bytes than its backend takes: it sends these to the backend's own address, or
acknowledges the others in the backend's name."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint, show
from natmirror.net.packet import ACK, OPT_NOP, PSH
from tests.helpers.support import C1, C2, SERVICE
from tests.live.apps.wire import LENGTH
from tests.live.scene import PORT, ROOT, RULES, Records, Scene, assert_all_well, rules, tcp_packets, wait_for_ends

pytestmark = [pytest.mark.live, pytest.mark.beside]

CONNECTIONS, SIZE = 8, 2000
PAUSE = 300  # seconds between two requests: the lies come in the first pause, which the test ends
LIE, TRUTH = LENGTH.pack(1) + b"L", LENGTH.pack(1) + b"T"
MD5 = bytes((19, 18)) + bytes(16) + bytes((OPT_NOP, OPT_NOP))
"""A signature (RFC 2385), for which the backend has no key: it refuses the segment."""
ASYMMETRIC = "    pool:\n      asymmetric: true\n"


@dataclass(slots=True)
class Silent:
    """A client's connection on which nothing happens at the moment, with both ends' next numbers."""

    client: Endpoint
    backend: Endpoint
    seq: int
    ack: int


@dataclass(slots=True)
class Play:
    """Connections that are silent, and the client that goes on with them."""

    scene: Scene
    balancer: LoadBalancer
    client: Program
    records: Records
    until: Path
    connections: list[Silent]

    def spoof(self, *packets: bytes) -> None:
        """Send packets from the clients' host to the gateway, whatever their addresses are."""
        lab = self.scene.lab
        gateway = lab.run("lb", ["cat", "/sys/class/net/sw0/address"]).strip()
        spoofer = [sys.executable, "-m", "tests.live.apps.spoofer", gateway, *(one.hex() for one in packets)]
        lab.run("s1", spoofer, cwd=str(ROOT))

    def lie(self) -> None:
        """Send natmirror data that the backends refuse, and wait until it holds them."""
        self.spoof(*(said(one, SERVICE, LIE, options=MD5) for one in self.connections))
        self.balancer.wait_for_status(
            lambda status: status["mirrors"][0]["held_bytes"] == CONNECTIONS * len(LIE), "the lies to be held"
        )


def said(one: Silent, to: Endpoint, data: bytes, options: bytes = b"") -> bytes:
    """Return a client's next packet."""
    flags = PSH | ACK
    return build(one.client, to, seq=one.seq, ack=one.ack, flags=flags, window=500, options=options, payload=data)


def begin(scene: Scene, text: str, iptables: str) -> Play:
    """Open connections, and find out their numbers once each has had a request and is silent."""
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.rules(text), iptables=iptables)
    sniffer, capture = scene.sniff("lb", "sw0")
    until, progress = scene.file("until"), scene.file("progress")
    client, records = scene.client(connections=CONNECTIONS, until=until, size=SIZE, pause=PAUSE, progress=progress)
    balancer.wait_for_status(
        lambda status: len(status["flows"]) == CONNECTIONS and all(flow["client_bytes"] for flow in status["flows"]),
        "a request on each connection",
    )
    balancer.wait_until_acknowledged()
    wait_for(lambda: progress.exists() and float(progress.read_text()) > 0, "an answer on each connection")
    sniffer.end()
    backends = {"c1": C1, "c2": C2}
    bound = {flow["client"]: backends[flow["backend"]] for flow in balancer.status()["flows"]}
    last = {(ip.src, ip.data.sport): ip.data for ip in tcp_packets(capture) if ip.data.dport == PORT}
    silent = [
        Silent(end, bound[show(end)], (tcp.seq + len(tcp.data)) & 0xFFFF_FFFF, tcp.ack) for end, tcp in last.items()
    ]
    assert len(silent) == CONNECTIONS
    return Play(scene, balancer, client, records, until, silent)


def assert_nothing_was_believed(play: Play) -> None:
    """Let the client end its connections. Assert that the backends have what it has sent, and the mirror a part of it:
    when the true bytes followed the lies, natmirror no longer knew which of them the backends have."""
    play.until.touch()
    play.scene.finish(play.client)
    assert play.scene.at_backends() == assert_all_well(play.records, CONNECTIONS)
    assert wait_for_ends(play.balancer, CONNECTIONS) == {"ambiguous": CONNECTIONS}
    wait_for(lambda: len(play.scene.at_master()) == CONNECTIONS, "the master to have all streams")
    assert {count % (LENGTH.size + SIZE) for count, _ in play.scene.at_master().values()} == {0}, "whole requests"


def test_a_backend_gets_no_data_past_the_service_of_its_connection(scene: Scene, iptables: str) -> None:
    play = begin(scene, RULES.read_text(), iptables)
    play.lie()
    play.spoof(*(said(one, one.backend, TRUTH) for one in play.connections))
    play.balancer.wait_for_status(
        lambda status: status["drops"].get("past-service") == CONNECTIONS, "the other version to be dropped"
    )
    assert_nothing_was_believed(play)


def test_clients_connect_to_backends_themselves_as_before(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(rules(scene), iptables=iptables)
    client, records = scene.client("10.20.0.11", connections=CONNECTIONS, requests=20)
    scene.finish(client)
    assert scene.at_backends() == assert_all_well(records, CONNECTIONS)
    status = balancer.status()
    assert (status["flows"], status["drops"], status["counters"]["direct_connections"]) == ([], {}, CONNECTIONS)
    assert scene.at_master() == {}


@pytest.mark.parametrize("asymmetric", [False, True])
def test_an_acknowledgement_from_the_clients_side_releases_nothing(
    scene: Scene, iptables: str, asymmetric: bool
) -> None:
    text = RULES.read_text()
    play = begin(scene, text.replace("    pool:\n", ASYMMETRIC) if asymmetric else text, iptables)
    play.lie()
    before = play.balancer.status()["mirrors"][0]["client_bytes"]
    play.spoof(
        *(
            build(one.backend, one.client, seq=one.ack, ack=one.seq + len(LIE) & 0xFFFF_FFFF, flags=ACK, window=500)
            for one in play.connections
        )
    )
    if asymmetric:
        play.balancer.wait_for_status(
            lambda status: status["mirrors"][0]["client_bytes"] == before + CONNECTIONS * len(LIE),
            "the lies to be believed",
        )
    else:
        play.balancer.wait_for_status(
            lambda status: sum(status["machine"]["packets_forged"].values()) == CONNECTIONS,
            "all forged packets to be counted",
        )
        assert_nothing_was_believed(play)
