"""Which backend a packet goes to, how it is rewritten, and which flow it leaves."""

from functools import partial

import dpkt
import pytest

from natmirror.actions import Accept, Drop, Hook, Send
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import SYN_ANSWER_TIMEOUT, UNCONFIRMED_TIMEOUT
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.checksum import Checksum, ones_sum
from natmirror.net.endpoint import Endpoint, parse_endpoint
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import (
    C1,
    C2,
    CLIENT,
    RULES,
    SERVICE,
    TIMEOUTS,
    at,
    packet,
    summary,
)

ROUND_ROBIN = RULES.replace("pool:", "pool:\n      balance: round-robin")
FIRST = seq.add(ISS, 1)
THEIRS = seq.add(MIRROR_ISS, 1)


def checksums_are_right(raw: bytes) -> bool:
    ip = dpkt.ip.IP(raw)
    ip.sum = ip.data.sum = 0
    return bytes(ip) == raw


def test_requests_go_to_a_backend_and_replies_come_from_the_service(connection: ClientConnection) -> None:
    syn = connection.syn()
    assert (syn.src, syn.sport) == CLIENT
    assert connection.backend in (C1, C2)
    assert checksums_are_right(syn.raw)
    answer = connection.syn_ack()
    assert ((answer.src, answer.sport), (answer.dst, answer.dport)) == (SERVICE, CLIENT)
    assert checksums_are_right(answer.raw)
    request = connection.from_client("PA", b"request")
    assert (request.dst, request.dport) == connection.backend
    assert request.payload == b"request"
    assert checksums_are_right(request.raw)
    reply = connection.from_backend("PA", b"reply")
    assert (reply.src, reply.payload) == (SERVICE[0], b"reply")
    assert checksums_are_right(reply.raw)


def test_a_checksum_left_to_hardware_is_completed(connection: ClientConnection) -> None:
    connection.connect()
    assert connection.backend
    for source, destination, hook in ((CLIENT, SERVICE, Hook.PREROUTING), (connection.backend, CLIENT, Hook.FORWARD)):
        raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data"))
        raw[36:38] = b"\x12\x34"
        assert checksums_are_right(connection.passed(bytes(raw), hook, Checksum.PARTIAL).raw)


def test_a_wrong_checksum_stays_wrong_and_reaches_no_leg(connection: ClientConnection) -> None:
    connection.establish()
    raw = bytearray(packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"data"))
    raw[-1] ^= 1
    out = connection.passed(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    assert (out.dst, out.dport) == connection.backend
    assert not checksums_are_right(out.raw)
    assert connection.mirrored() == []
    assert connection.engine.snapshot(connection.now)["counters"][EngineCounter.BAD_CHECKSUM_PACKETS] == 1


def test_round_robin_alternates_and_keeps_each_flow(fast: bool) -> None:
    shared = engine(ROUND_ROBIN, fast=fast)
    backends = []
    for port in range(40_000, 40_004):
        connection = ClientConnection(shared, client=at("10.10.0.11", port))
        connection.connect()
        backends.append(connection.backend)
        assert connection.from_client("PA", b"x").dst == connection.backend_address
    assert backends == [C1, C2, C1, C2]


def test_maglev_maps_a_clients_connections_alike_on_any_host(fast: bool) -> None:
    first, second = engine(fast=fast), Engine(parse_rules(RULES), key=b"another key here", fast=fast)
    connections = [
        ClientConnection(host, client=at("10.10.0.77", port)) for host in (first, second) for port in (1025, 60_000)
    ]
    for connection in connections:
        connection.syn()
    assert len({connection.backend for connection in connections}) == 1


def failed_syns(connection: ClientConnection) -> dict[Endpoint, tuple[int, int]]:
    """Return the SYNs that each backend has refused, and those that it has left unanswered."""
    shown = connection.engine.snapshot(connection.now)["backends"]
    return {parse_endpoint(one["address"]): (one["refused_syns"], one["unanswered_syns"]) for one in shown}


@pytest.mark.parametrize("letters", ["RA", "SRA"])
def test_after_a_refused_syn_the_clients_next_one_goes_elsewhere(connection: ClientConnection, letters: str) -> None:
    connection.syn()
    refused = connection.backend
    assert refused
    connection.passed(packet(refused, CLIENT, letters, 0, FIRST), Hook.FORWARD)
    again = ClientConnection(connection.engine, client=at("10.10.0.11", 40_002))
    again.syn()
    assert {refused, again.backend} == {C1, C2}
    assert failed_syns(connection)[refused] == (1, 0)
    assert again.backend
    assert failed_syns(connection)[again.backend] == (0, 0)


def test_an_unanswered_syn_is_repeated_to_another_backend(connection: ClientConnection) -> None:
    connection.syn()
    silent = connection.backend
    connection.now += SYN_ANSWER_TIMEOUT / 2
    connection.syn()
    assert connection.backend == silent
    connection.now += SYN_ANSWER_TIMEOUT
    connection.syn()
    assert {silent, connection.backend} == {C1, C2}
    assert silent
    assert failed_syns(connection)[silent] == (0, 1)
    connection.syn_ack()
    connection.from_client("A")
    assert connection.from_client("PA", b"x").dst == connection.backend_address


def test_when_no_backend_answers_the_first_choice_is_tried_again(connection: ClientConnection) -> None:
    chosen = []
    for _ in range(4):
        connection.syn()
        chosen.append(connection.backend)
        connection.now += 1
    assert chosen[0] != chosen[1]
    assert chosen[2] == chosen[0]


def test_a_picked_up_connection_goes_to_its_derived_backend(connection: ClientConnection) -> None:
    elsewhere = ClientConnection(engine())
    elsewhere.syn()
    out = connection.passed(packet(CLIENT, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert (out.dst, out.dport) == elsewhere.backend
    snapshot = connection.engine.snapshot(connection.now)
    assert snapshot["counters"][EngineCounter.FLOWS_PICKED_UP] == 1
    assert [(flow["state"], flow["mirrored"]) for flow in connection.engine.flows(connection.now)] == [
        ("established", False)
    ]
    assert connection.to_mirror == []


def test_a_picked_up_reply_is_translated_and_binds_its_backend(connection: ClientConnection) -> None:
    for backend in (C1, C2):
        client = at("10.10.0.11", 40_000 + backend[0][3])
        out = connection.passed(packet(backend, client, "PA", 5, 6, b"data"), Hook.FORWARD)
        assert (out.src, out.sport) == SERVICE
        assert connection.passed(packet(client, SERVICE, "A", 6, 9), Hook.PREROUTING).dst == backend[0]


def test_a_reply_with_a_fin_is_picked_up_as_a_half_closed_connection_once_its_client_answers(
    connection: ClientConnection,
) -> None:
    connection.passed(packet(C1, CLIENT, "FPA", 5, 6, b"data"), Hook.FORWARD)
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["established"]
    assert connection.engine.next_timer() == connection.now + UNCONFIRMED_TIMEOUT
    connection.passed(packet(CLIENT, SERVICE, "A", 6, 10), Hook.PREROUTING)
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["half-closed"]
    assert connection.engine.next_timer() == connection.now + TIMEOUTS[State.HALF_CLOSED]


def test_packets_of_a_backend_that_lost_its_client_to_another_are_dropped(connection: ClientConnection) -> None:
    connection.connect()
    stale = C1 if connection.backend == C2 else C2
    for letters, data in (("PA", b"stale"), ("R", b""), ("FA", b"")):
        raw = packet(stale, CLIENT, letters, 5, 6, data)
        assert connection.take(raw, Hook.FORWARD) == Drop(DropReason.FORMER_BACKEND)
    assert connection.from_client("PA", b"on").dst == connection.backend_address


def test_a_backend_that_sends_data_wins_over_the_derived_one(connection: ClientConnection) -> None:
    given = connection.passed(packet(CLIENT, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING).dst
    other = C1 if given == C2[0] else C2
    connection.passed(packet(other, CLIENT, "PA", 6, 9, b"answer"), Hook.FORWARD)
    assert connection.passed(packet(CLIENT, SERVICE, "PA", 9, 12, b"data"), Hook.PREROUTING).dst == other[0]


def test_late_packets_without_data_leave_no_flow(connection: ClientConnection) -> None:
    connection.passed(packet(CLIENT, SERVICE, "A", 5, 6), Hook.PREROUTING)
    connection.passed(packet(CLIENT, SERVICE, "RA", 5, 6, b"data"), Hook.PREROUTING)
    connection.passed(packet(C1, CLIENT, "A", 5, 6), Hook.FORWARD)
    connection.passed(packet(C1, CLIENT, "R", 5, 6), Hook.FORWARD)
    assert connection.engine.flows(connection.now) == []


def test_a_clients_direct_connection_to_a_backend_passes_unchanged(connection: ClientConnection) -> None:
    for letters, data in (("SA", b""), ("A", b""), ("PA", b"data"), ("FA", b"")):
        raw = packet(C1, CLIENT, letters, IRS, FIRST, data)
        assert connection.take(raw, Hook.FORWARD) == Accept()
    assert connection.engine.snapshot(connection.now)["counters"][EngineCounter.DIRECT_CONNECTIONS] == 1


def test_packets_of_other_hosts_pass_unchanged(connection: ClientConnection) -> None:
    other = at("192.0.2.1", 80)
    for source, destination, hook in (
        (other, SERVICE, Hook.PREROUTING),
        (CLIENT, other, Hook.PREROUTING),
        (other, CLIENT, Hook.FORWARD),
        (C1, other, Hook.FORWARD),
    ):
        assert connection.take(packet(source, destination, "PA", 5, 6, b"data"), hook) == Accept()


def test_flows_expire(connection: ClientConnection) -> None:
    connection.establish()
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert connection.engine.flows(connection.now)
    connection.now += 100
    connection.from_client("PA", b"never acknowledged")  # by the C gear, which sets no timer
    connection.from_mirror("A", 1, connection.sent + 1)
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert connection.engine.flows(connection.now)
    sends = connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED])
    assert [summary(send.packet)[0] for send in sends if isinstance(send, Send)] == ["RA"]
    assert connection.engine.flows(connection.now) == []
    assert connection.engine.next_timer() is None


def test_an_orderly_close_leaves_nothing_behind(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["time-wait"]
    assert connection.mirrored() == [("FA", FIRST, THEIRS, b"")]
    connection.from_mirror("FA", 1, 2)
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.TIME_WAIT])
    snapshot = connection.engine.snapshot(connection.now)
    assert (connection.engine.flow_ids(), snapshot["mirrors"][0]["legs"]) == ([], 0)
    assert connection.engine.next_timer() is None


def test_a_port_that_is_used_again_at_once_is_a_new_connection_with_a_new_leg(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.mirrored()
    connection.sent = connection.answered = 0
    connection.connect()
    letters = [letters for letters, *_ in connection.mirrored()]
    assert letters == ["RA", "S"], "the old leg, which the mirror has not closed, is reset"


def test_a_syn_inside_an_established_connection_changes_nothing_until_the_backend_accepts_it(
    connection: ClientConnection,
) -> None:
    connection.establish()
    backend = connection.backend
    assert backend
    new = seq.add(ISS, 100_000)
    assert connection.passed(packet(CLIENT, SERVICE, "S", new), Hook.PREROUTING).dst == backend[0]
    connection.from_backend("A")  # a challenge ACK
    connection.from_client("PA", b"still here")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"still here")]
    connection.passed(packet(backend, CLIENT, "SA", 77, seq.add(new, 1)), Hook.FORWARD)
    connection.passed(packet(CLIENT, SERVICE, "A", seq.add(new, 1), 78), Hook.PREROUTING)
    flows = connection.engine.flows(connection.now)
    assert [(flow["state"], flow["mirrored"]) for flow in flows] == [("established", True)]


@pytest.mark.parametrize(("steps", "pause"), [(1, 0.1), (2, 0.5), (3, 0.5)])
def test_a_forged_syn_replaces_no_connection_that_its_backend_keeps(
    connection: ClientConnection, steps: int, pause: float
) -> None:
    forged = packet(CLIENT, SERVICE, "S", seq.add(ISS, 100_000))
    handshake = (connection.syn, connection.syn_ack, partial(connection.from_client, "A"))
    for step in handshake[:steps]:
        step()
    for _ in range(3):
        connection.passed(forged, Hook.PREROUTING)
        connection.now += pause
        if steps > 1:
            connection.from_backend("A")  # a challenge ACK
    for step in handshake[steps:]:
        step()
    connection.connect_mirror()
    connection.mirrored()
    connection.from_client("PA", b"still here")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"still here")]


def test_a_late_repetition_of_the_connections_own_syn_is_no_new_connection(connection: ClientConnection) -> None:
    connection.establish()
    connection.syn()
    connection.syn_ack()
    connection.from_client("PA", b"still")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"still")]
    assert connection.engine.take_events() == []


def test_a_simultaneous_open_passes(connection: ClientConnection) -> None:
    """RFC 5382 REQ-2a. Its state stays at the SYN, because a backend does not open connections: it gets no copy."""
    connection.syn()
    assert connection.backend
    theirs = connection.passed(packet(connection.backend, CLIENT, "S", IRS), Hook.FORWARD)
    assert (theirs.src, theirs.sport, theirs.seq) == (*SERVICE, IRS)
    ours = packet(CLIENT, SERVICE, "SA", ISS, seq.add(IRS, 1))
    assert connection.passed(ours, Hook.PREROUTING).dst == connection.backend_address
    answer = packet(connection.backend, CLIENT, "SA", IRS, FIRST)
    assert connection.passed(answer, Hook.FORWARD).src == SERVICE[0]
    for data in (b"one", b"two"):
        assert connection.from_client("PA", data).dst == connection.backend_address
        assert connection.from_backend("A").src == SERVICE[0]


def test_translation_changes_addresses_ports_and_checksums_alone(connection: ClientConnection) -> None:
    connection.connect()
    assert connection.backend
    raw = bytearray(packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"data"))
    raw[4:6] = b"\x12\x34"  # the Identification field
    raw[1] = 0xB8  # the DSCP
    raw[10:12] = b"\0\0"
    raw[10:12] = (~ones_sum(bytes(raw[:20])) & 0xFFFF).to_bytes(2, "big")
    there = connection.passed(bytes(raw), Hook.PREROUTING).raw
    assert (there[:10], there[12:16], there[20:22], there[24:36], there[38:]) == (
        *(bytes(raw[:10]), bytes(raw[12:16]), bytes(raw[20:22]), bytes(raw[24:36]), bytes(raw[38:])),
    )
    assert checksums_are_right(there)
