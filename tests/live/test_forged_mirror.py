"""Packets in a mirror's name from the clients' side, with the right numbers: they are no mirror's."""

import sys

import dpkt
import pytest

from natmirror.lab.process import wait_for
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, RST
from tests.helpers.support import at
from tests.live.apps.wire import ANSWER_LEN
from tests.live.scene import MASTER, PORT, ROOT, Scene, assert_all_well, rules, tcp_packets

pytestmark = [pytest.mark.live, pytest.mark.beside]

CONNECTIONS = 8
PAUSE = 300  # seconds between two requests: the forged packets come in the first pause, which the test ends
MIRROR = (MASTER, PORT)
NO_LEG = at("10.10.0.11", 9)


def forged(client: Endpoint, number: int, ack: int, flags: int) -> bytes:
    return build(MIRROR, client, seq=number, ack=ack, flags=flags, window=1000)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_forged_packet_reaches_no_leg_and_gets_no_answer(scene: Scene, iptables: str, asymmetric: bool) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(rules(scene, asymmetric=str(asymmetric).lower()), iptables=iptables)
    sniffer, capture = scene.sniff("lb", "pl0")
    until = scene.file("until")
    client, records = scene.client(connections=CONNECTIONS, until=until, pause=PAUSE)
    balancer.wait_for_status(
        lambda status: len(status["flows"]) == CONNECTIONS and all(flow["client_bytes"] for flow in status["flows"]),
        "a request on each connection",
    )
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["consumed_bytes"] == CONNECTIONS * ANSWER_LEN, "the master's answers"
    )
    sniffer.end()
    legs = {
        (ip.dst, ip.data.dport): ip.data for ip in tcp_packets(capture) if ip.src == MASTER and ip.data.sport == PORT
    }
    assert len(legs) == CONNECTIONS
    numbers = {end: ((last.seq + len(last.data)) & 0xFFFF_FFFF, last.ack) for end, last in legs.items()}

    answers, answered = scene.sniff("lb", "pl0")
    packets = [forged(end, *numbers[end], flags) for end in legs for flags in (ACK, RST | ACK)]
    packets += [forged(NO_LEG, 1, 2, ACK)] * 2
    gateway = scene.lab.run("lb", ["cat", "/sys/class/net/sw0/address"]).strip()
    spoofer = [sys.executable, "-m", "tests.live.apps.spoofer", gateway, *(packet.hex() for packet in packets)]
    scene.lab.run("s1", spoofer, cwd=str(ROOT))
    if asymmetric:
        balancer.wait_for_status(
            lambda status: status["mirrors"][0]["legs_ended"] == {"mirror-reset": CONNECTIONS}, "the legs to be reset"
        )
    else:
        balancer.wait_for_status(
            lambda status: status["machine"]["packets_forged"] == {"10.20.0.13:6653": len(packets)},
            "all forged packets to be counted",
        )
        balancer.program.wait_for_text(" packets in the name of 10.20.0.13:6653")
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, CONNECTIONS)
    assert scene.at_backends() == sent
    if not asymmetric:
        wait_for(lambda: len(scene.at_master()) == CONNECTIONS, "the master to have all streams")
        assert scene.at_master() == sent
    answers.end()
    resets = [ip for ip in tcp_packets(answered) if (ip.dst, ip.data.sport) == (MASTER, NO_LEG[1])]
    assert [bool(ip.data.flags & dpkt.tcp.TH_RST) for ip in resets] == [True] * 2 * asymmetric
