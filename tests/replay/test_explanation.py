"""A replay that mirrored nothing says why, and what came nearest."""

import struct
from pathlib import Path

import pytest

from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.replay.replay import Replay, replay
from natmirror.rules import parse_rules
from tests.helpers.captures import ONE_BACKEND, session, write
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, at, packet


def note(tmp_path: Path, packets: list[bytes], rules: str = ONE_BACKEND, mirror: str = "model") -> str:
    """Return the last line of a replay's report."""
    capture = write(tmp_path / "in.pcap", packets)
    return str(replay(parse_rules(rules), capture, tmp_path / "out.pcap", mirror=mirror)).splitlines()[-1]


def clients_side(client: Endpoint = CLIENT, there: Endpoint = SERVICE) -> list[bytes]:
    """Return what a client sends to a service."""
    return [
        packet(client, there, "S", ISS),
        packet(client, there, "A", seq.add(ISS, 1), seq.add(IRS, 1)),
        packet(client, there, "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"hello"),
    ]


def test_nothing_to_say_where_something_was_mirrored(tmp_path: Path) -> None:
    assert "nothing was mirrored" not in note(tmp_path, session())


def test_no_packet_for_a_service(tmp_path: Path) -> None:
    elsewhere = [packet(CLIENT, at("10.0.0.1", 6633), "A", number) for number in range(1200)]
    others = [packet(CLIENT, at("10.0.0.2", 80), "A", number) for number in range(4)]
    assert note(tmp_path, elsewhere + others) == (
        "nothing was mirrored: 1,204 TCP packets, none from a client to a service of the rules that has a mirror; most"
        " go to 10.0.0.1:6633 (1,200)"
    )


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        pytest.param(
            clients_side(at("192.168.1.5", 4711)), "3 packets to services came from addresses outside", id="who"
        ),
        pytest.param(
            clients_side(there=at("10.10.0.100", 6633)), "most go to 10.10.0.100:6633 (3), a service", id="port"
        ),
        pytest.param(clients_side(there=C1), "3 packets went from clients to backends", id="behind"),
        pytest.param([packet(C1, CLIENT, "A", 1, 2)], "1 packet went the other way", id="replies"),
        pytest.param(clients_side(), "but no answers from their backends (10.20.0.11:6653)", id="one way"),
        pytest.param(session()[4:], "none of them a SYN", id="middle"),
        pytest.param(
            [*clients_side()[:1], packet(C2, CLIENT, "SA", IRS, seq.add(ISS, 1)), *clients_side()[1:]],
            "but no answers from",
            id="unknown backend",
        ),
        pytest.param(
            [*clients_side()[:1], packet(C1, CLIENT, "RA", 0, seq.add(ISS, 1))], "no client completed", id="rst"
        ),
        pytest.param([], "the capture has no TCP packet", id="nothing"),
    ],
)
def test_the_nearest_miss(tmp_path: Path, packets: list[bytes], expected: str) -> None:
    assert expected in note(tmp_path, packets)


def test_another_backend_answered(tmp_path: Path) -> None:
    for number in range(1, 20):
        client = at(f"10.10.0.{number}", 40001)
        [syn, *rest] = clients_side(client)
        found = note(tmp_path, [syn, packet(C2, client, "SA", IRS, seq.add(ISS, 1)), *rest], RULES)
        if "nothing" in found:
            break
    assert found == (
        "nothing was mirrored: other backends answered than those that the rules choose: 10.20.0.12:6653 answered"
        " 1 SYN; leave the others out of the rules"
    )


def test_checksums_left_to_hardware_that_hides_them(tmp_path: Path) -> None:
    wrong = [raw[:36] + b"\xde\xad" + raw[38:] for raw in session()]
    assert "packets with a wrong TCP checksum" in note(tmp_path, wrong)


def test_rules_without_mirrors(tmp_path: Path) -> None:
    rules = ONE_BACKEND.replace("    mirrors:\n      - {name: master, address: 10.20.0.13}\n", "")
    assert note(tmp_path, session(), rules) == "nothing was mirrored: no service of the rules has a mirror"


def test_a_service_without_a_mirror(tmp_path: Path) -> None:
    rules = (
        ONE_BACKEND
        + "  - {name: web, address: 10.10.0.101, port: 80, pool: {backends: [{name: w, address: 10.20.0.50}]}}\n"
    )
    assert "3 packets went from clients to services without mirrors" in note(
        tmp_path, clients_side(there=at("10.10.0.101", 80)), rules
    )


def test_captured_mirrors_that_are_not_in_the_capture(tmp_path: Path) -> None:
    assert note(tmp_path, session(), mirror="capture") == (
        "no mirror answered: the capture has no packets of the mirrors' own; --mirror model answers for them"
    )


def test_many_destinations_take_bounded_memory(tmp_path: Path) -> None:
    scan = [packet(CLIENT, (struct.pack("!I", 0x0B000000 + number), 80), "S", 1) for number in range(10_000)]
    most = [packet(CLIENT, at("10.0.0.1", 6633), "A", 1)] * 20
    run = Replay(parse_rules(ONE_BACKEND), write(tmp_path / "in.pcap", most + scan, step=0.0))
    assert list(run.steps()) == []
    assert "most go to 10.0.0.1:6633 (20)" in str(run.report)
    assert len(run._explanation._destinations) <= 4096
