"""The engine as a whole, by packets and a manual clock."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.fastpath import LEG_ACK_DELAY, SYN_ANSWER_TIMEOUT
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.net import seq
from natmirror.net.checksum import Checksum, ones_sum
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import (
    C1,
    C2,
    CLIENT,
    MASTER,
    RULES,
    SERVICE,
    assert_adds_up,
    at,
    icmp_error,
    packet,
    segment,
    told,
)

ROUND_ROBIN = RULES.replace("pool:", "pool:\n      balance: round-robin")
WATCHED = """
switches: [10.10.0.0/24]
services:
  - {name: web, address: 10.10.0.100, port: 6653, mirrors: [{name: master, address: 10.20.0.13}]}
"""
FIRST = seq.add(ISS, 1)
PRE = Hook.PREROUTING
THEIRS = seq.add(MIRROR_ISS, 1)


@pytest.fixture
def connection(fast: bool) -> ClientConnection:
    return ClientConnection(engine(fast=fast))


def connected(connection: ClientConnection) -> ClientConnection:
    connection.connect()
    connection.connect_mirror()
    connection.mirrored()
    return connection


def checksums_are_right(raw: bytes) -> bool:
    ip = dpkt.ip.IP(raw)
    ip.sum = ip.data.sum = 0
    return bytes(ip) == raw


# NAT


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


def test_a_checksum_left_to_hardware_leaves_complete(connection: ClientConnection) -> None:
    connection.connect()
    assert connection.backend
    for source, destination, hook in ((CLIENT, SERVICE, Hook.PREROUTING), (connection.backend, CLIENT, Hook.FORWARD)):
        raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data"))
        raw[36:38] = b"\x12\x34"
        assert checksums_are_right(connection.passed(bytes(raw), hook, Checksum.PARTIAL).raw)


def test_a_wrong_checksum_stays_wrong_and_reaches_no_leg(connection: ClientConnection) -> None:
    connected(connection)
    raw = bytearray(packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"data"))
    raw[-1] ^= 1
    out = connection.passed(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    assert (out.dst, out.dport) == connection.backend
    assert not checksums_are_right(out.raw)
    assert connection.mirrored() == []
    assert connection.engine.snapshot(connection.now)["counters"]["bad_checksums"] == 1


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


@pytest.mark.parametrize("letters", ["RA", "SRA"])
def test_a_refused_syn_leads_the_clients_next_one_elsewhere(connection: ClientConnection, letters: str) -> None:
    connection.syn()
    refused = connection.backend
    assert refused
    connection.passed(packet(refused, CLIENT, letters, 0, FIRST), Hook.FORWARD)
    again = ClientConnection(connection.engine, client=at("10.10.0.11", 40_002))
    again.syn()
    assert {refused, again.backend} == {C1, C2}


def test_an_unanswered_syn_leads_its_repetition_elsewhere(connection: ClientConnection) -> None:
    connection.syn()
    silent = connection.backend
    connection.now += SYN_ANSWER_TIMEOUT / 2
    connection.syn()
    assert connection.backend == silent
    connection.now += SYN_ANSWER_TIMEOUT
    connection.syn()
    assert {silent, connection.backend} == {C1, C2}
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


def test_a_connection_met_in_its_middle_goes_where_maglev_says(connection: ClientConnection) -> None:
    elsewhere = ClientConnection(engine())
    elsewhere.syn()
    out = connection.passed(packet(CLIENT, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert (out.dst, out.dport) == elsewhere.backend
    snapshot = connection.engine.snapshot(connection.now)
    assert snapshot["counters"]["flows_picked_up"] == 1
    assert [(flow["state"], flow["mirrored"]) for flow in connection.engine.flows(connection.now)] == [
        ("established", False)
    ]
    assert connection.to_mirror == []


def test_a_reply_met_in_mid_connection_maps_back_and_binds_its_backend(connection: ClientConnection) -> None:
    for backend in (C1, C2):
        client = at("10.10.0.11", 40_000 + backend[0][3])
        out = connection.passed(packet(backend, client, "PA", 5, 6, b"data"), Hook.FORWARD)
        assert (out.src, out.sport) == SERVICE
        assert connection.passed(packet(client, SERVICE, "A", 6, 9), Hook.PREROUTING).dst == backend[0]


def test_a_reply_with_a_fin_met_in_mid_connection_is_kept_as_one_that_is_closing(connection: ClientConnection) -> None:
    connection.passed(packet(C1, CLIENT, "FPA", 5, 6, b"data"), Hook.FORWARD)
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["closing"]
    assert connection.engine.next_timer() == connection.now + TIMEOUTS[State.CLOSING]


def test_a_backend_that_lost_the_client_to_another_changes_nothing(connection: ClientConnection) -> None:
    connection.connect()
    stale = C1 if connection.backend == C2 else C2
    for letters, data in (("PA", b"stale"), ("R", b""), ("FA", b"")):
        raw = packet(stale, CLIENT, letters, 5, 6, data)
        assert connection.take(raw, Hook.FORWARD) == Drop("stale-backend")
    assert connection.from_client("PA", b"on").dst == connection.backend_address


def test_the_backend_that_speaks_is_believed_over_the_one_that_maglev_gave(connection: ClientConnection) -> None:
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


def test_a_client_that_calls_a_backend_itself_is_left_alone(connection: ClientConnection) -> None:
    for letters, data in (("SA", b""), ("A", b""), ("PA", b"data"), ("FA", b"")):
        raw = packet(C1, CLIENT, letters, IRS, FIRST, data)
        assert connection.take(raw, Hook.FORWARD) == Accept()
    assert connection.engine.snapshot(connection.now)["counters"]["direct_connections"] == 1


def test_what_is_none_of_ours_passes(connection: ClientConnection) -> None:
    other = at("192.0.2.1", 80)
    for source, destination, hook in (
        (other, SERVICE, Hook.PREROUTING),
        (CLIENT, other, Hook.PREROUTING),
        (other, CLIENT, Hook.FORWARD),
        (C1, other, Hook.FORWARD),
    ):
        assert connection.take(packet(source, destination, "PA", 5, 6, b"data"), hook) == Accept()


def test_flows_are_forgotten_in_time(connection: ClientConnection) -> None:
    connected(connection)
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert connection.engine.flows(connection.now)
    connection.now += 100
    connection.from_client("A")  # which the C gear takes, and no timer hears of
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert connection.engine.flows(connection.now)
    sends = connection.engine.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED])
    assert [told(send.packet)[0] for send in sends if isinstance(send, Send)] == ["RA"]
    assert connection.engine.flows(connection.now) == []
    assert connection.engine.next_timer() is None


def test_an_orderly_close_leaves_nothing_behind(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["time-wait"]
    assert connection.mirrored() == [("FA", FIRST, THEIRS, b"")]
    connection.from_mirror("FA", 1, 2)
    connection.engine.handle_timer(connection.now + TIMEOUTS[State.TIME_WAIT])
    snapshot = connection.engine.snapshot(connection.now)
    assert (snapshot["flows"], snapshot["mirrors"][0]["legs"]) == (0, 0)
    assert connection.engine.next_timer() is None


def test_the_port_used_again_at_once_is_a_new_connection_with_a_new_leg(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.mirrored()
    connection.sent = connection.answered = 0
    connection.connect()
    letters = [letters for letters, *_ in connection.mirrored()]
    assert letters == ["RA", "S"], "the old leg, which the mirror has not closed, gives way"


def test_a_syn_inside_a_living_connection_changes_nothing_until_the_backend_accepts_it(
    connection: ClientConnection,
) -> None:
    connected(connection)
    backend = connection.backend
    assert backend
    new = seq.add(ISS, 100_000)
    assert connection.passed(packet(CLIENT, SERVICE, "S", new), Hook.PREROUTING).dst == backend[0]
    connection.from_backend("A")  # a challenge
    connection.from_client("PA", b"still here")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"still here")]
    connection.passed(packet(backend, CLIENT, "SA", 77, seq.add(new, 1)), Hook.FORWARD)
    connection.passed(packet(CLIENT, SERVICE, "A", seq.add(new, 1), 78), Hook.PREROUTING)
    flows = connection.engine.flows(connection.now)
    assert [(flow["state"], flow["mirrored"]) for flow in flows] == [("established", True)]


def test_the_connections_own_syn_late_again_is_no_new_connection(connection: ClientConnection) -> None:
    connected(connection)
    connection.syn()
    connection.syn_ack()
    connection.from_client("PA", b"still")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"still")]
    assert connection.engine.take_events() == []


# Legs


def test_a_leg_opens_when_the_clients_handshake_is_complete(connection: ClientConnection) -> None:
    connection.syn()
    connection.syn_ack()
    assert connection.to_mirror == []
    connection.from_client("A")
    [syn] = connection.to_mirror
    assert ((syn.src, syn.sport), (syn.dst, syn.dport)) == (CLIENT, MASTER)
    assert told(syn.raw) == ("S", ISS, 0, b"")


def test_the_mirror_gets_the_bytes_and_its_answers_reach_nobody(connection: ClientConnection) -> None:
    connection.connect()
    connection.from_client("PA", b"hello ")
    connection.mirrored()
    connection.connect_mirror()
    connection.from_client("PA", b"world")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"hello "), ("PA", seq.add(FIRST, 6), THEIRS, b"world")]
    assert connection.from_mirror("PA", 1, 12, b"an answer") == Drop("consumed")
    assert connection.mirrored() == [], "the acknowledgement waits for company"
    connection.from_client("PA", b"!")
    assert connection.mirrored() == [("PA", seq.add(FIRST, 11), seq.add(THEIRS, 9), b"!")]
    connection.from_mirror("A", 10, 13)
    [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["consumed_bytes"]) == (12, 12, 9)


def test_an_answer_is_acknowledged_after_a_moment_where_nothing_is_to_be_said(connection: ClientConnection) -> None:
    connected(connection)
    for number in (0, 10):
        connection.from_mirror("PA", 1 + number, 1, b"an answer.")
        due = connection.engine.next_timer()
        assert due is not None
        assert due == pytest.approx(connection.now + LEG_ACK_DELAY)
        connection.now = due
        [ack] = connection.engine.handle_timer(due)
        assert isinstance(ack, Send)
        assert told(ack.packet) == ("A", FIRST, seq.add(THEIRS, 10 + number), b"")
        assert connection.engine.next_timer() != due


def test_order_and_repetition_of_the_clients_packets_do_not_matter(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("PA", b"DEF", at=3)
    assert connection.mirrored() == []
    connection.from_client("PA", b"ABC", at=0)
    connection.from_client("PA", b"BCDEF", at=1)
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"ABCDEF")]


def test_what_lies_outside_the_backends_window_reaches_no_leg(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("PA", b"far", at=70_000)
    connection.from_client("PA", b"old", at=-50_000)
    assert connection.mirrored() == []
    connection.from_client("PA", b"near", at=0)
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"near")]


def test_bytes_that_never_passed_here_end_the_leg(connection: ClientConnection) -> None:
    connected(connection)
    connection.sent = 5  # five bytes took another way
    connection.from_client("PA", b"later")
    assert connection.mirrored() == [], "they may still come"
    connection.from_backend("A")
    connection.from_client("PA", b"still later")
    assert [letters for letters, *_ in connection.mirrored()] == ["RA"]
    [event] = connection.engine.take_events()
    assert event.reason == "hole"
    assert connection.from_client("PA", b"on it goes").dst == connection.backend_address


def test_a_connection_that_closes_with_a_hole_does_not_end_as_if_it_were_whole(connection: ClientConnection) -> None:
    connected(connection)
    connection.sent = 5  # five bytes took another way
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["RA"]
    assert [event.reason for event in connection.engine.take_events()] == ["hole"]


def test_a_full_buffer_costs_the_leg_and_production_does_not_notice(fast: bool) -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, buffer: 64KiB}")
    connection = ClientConnection(engine(rules, fast=fast))
    connection.connect()
    for _ in range(70):
        assert connection.from_client("PA", b"x" * 1000).dst == connection.backend_address
        connection.from_backend("A")
    [event] = connection.engine.take_events()
    assert (event.reason, event.acked_bytes) == ("buffer-full", 0)
    [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["ended"]) == (70_000, {"buffer-full": 1})


def test_no_leg_for_a_flow_that_was_balanced_to_the_mirror(fast: bool) -> None:
    rules = RULES.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.13}")
    seen = set()
    for number in range(1, 40):
        connection = ClientConnection(engine(rules, fast=fast), client=at(f"10.10.0.{number}", 4000))
        connection.connect()
        assert bool(connection.to_mirror) == (connection.backend == C1)
        seen.add(connection.backend)
        if connection.backend == MASTER:
            raw = packet(MASTER, connection.client, "PA", seq.add(IRS, 1), FIRST, b"production")
            assert connection.take(raw, Hook.PREROUTING) == Accept(), "on its way to its own hook"
            assert (connection.passed(raw, Hook.FORWARD).src) == SERVICE[0]
    assert seen == {C1, MASTER}


def test_a_reset_of_the_client_reaches_the_mirror_after_the_last_byte(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("PA", b"bye")
    connection.from_client("RA")
    connection.mirrored()
    connection.from_mirror("A", 1, 4)
    assert connection.mirrored() == [("RA", seq.add(FIRST, 3), THEIRS, b"")]


def test_a_blind_reset_ends_nothing(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("R", at=500)
    connection.from_client("PA", b"alive")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"alive")]


def test_a_mirrors_packet_without_a_leg_is_answered_with_a_reset_and_dropped(connection: ClientConnection) -> None:
    assert connection.from_mirror("PA", 1, 1, b"hello?") == Drop("mirror-without-leg")
    assert connection.mirrored() == [("R", FIRST, 0, b"")]
    assert connection.from_mirror("R", 1, 1) == Drop("mirror-without-leg")
    assert connection.mirrored() == []


def test_a_mirror_that_clients_also_call_themselves_passes(fast: bool) -> None:
    connection = ClientConnection(engine(RULES.replace("10.20.0.13}", "10.20.0.13, direct: true}"), fast=fast))
    assert connection.from_mirror("PA", 1, 1, b"hello") == Accept()


def test_a_service_without_a_pool_passes_unchanged_and_is_mirrored(fast: bool) -> None:
    connection = ClientConnection(engine(WATCHED, fast=fast))
    connection.backend = SERVICE
    assert connection.take(packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING) == Accept()
    assert connection.take(packet(SERVICE, CLIENT, "SA", IRS, FIRST), Hook.OUTPUT) == Accept()
    assert connection.take(packet(CLIENT, SERVICE, "A", FIRST, seq.add(IRS, 1)), Hook.PREROUTING) == Accept()
    connection.connect_mirror()
    connection.mirrored()
    raw = packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"copied")
    assert connection.take(raw, Hook.PREROUTING) == Accept()
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"copied")]


def test_closing_the_engine_resets_all_legs(connection: ClientConnection) -> None:
    connected(connection)
    assert [told(send.packet)[0] for send in connection.engine.close() if isinstance(send, Send)] == ["RA"]
    assert [event.reason for event in connection.engine.take_events()] == ["shutdown"]


# The ledger


def test_each_byte_is_accounted_for_by_its_reason(fast: bool) -> None:
    rules = RULES.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.13}")
    shared = engine(rules, fast=fast)
    clients = [at(f"10.10.0.{number}", 4000) for number in range(1, 40)]
    for client in clients:
        connection = ClientConnection(shared, client=client)
        connection.connect()
        connection.from_client("PA", b"x" * 10)
    own = sum(1 for flow in shared.flows(1.0) if flow["backend"] == "c2")
    assert 0 < own < 39
    ClientConnection(shared, client=at("10.10.0.200", 1)).passed(
        packet(at("10.10.0.200", 1), SERVICE, "PA", 5, 6, b"data"), PRE
    )
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"own-backend": 10 * own, "mid-connection": 4}
    assert mirror["pending_bytes"] == 10 * (39 - own)
    shared.close()
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"own-backend": 10 * own, "mid-connection": 4, "shutdown": 10 * (39 - own)}
    shared.handle_timer(100_000.0)
    [over] = shared.snapshot(100_000.0)["mirrors"]
    assert over == mirror, "the same when the flows are over"
    assert_adds_up({"mirrors": [over]})


# ICMP


def test_an_icmp_error_about_a_nated_packet_is_translated_with_its_inner_header(connection: ClientConnection) -> None:
    connection.connect()
    request = connection.from_client("PA", b"x" * 1200)
    raw = icmp_error("10.20.0.1", "10.10.0.11", request.raw)
    verdict = connection.take(raw, Hook.FORWARD)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    outer = dpkt.ip.IP(verdict.packet)
    inner = dpkt.ip.IP(verdict.packet[28:48] + bytes(20))
    assert (outer.src, outer.dst) == (SERVICE[0], CLIENT[0])
    assert (inner.src, inner.dst) == (CLIENT[0], SERVICE[0])
    assert verdict.packet[48:52] == packet(CLIENT, SERVICE, "A", 0)[20:24]
    fresh = dpkt.ip.IP(verdict.packet)
    fresh.sum = fresh.data.sum = 0
    assert bytes(fresh) == verdict.packet, "outer and ICMP checksums"
    assert ones_sum(verdict.packet[28:48]) == 0xFFFF, "inner checksum"


def test_an_icmp_error_about_a_reply_reaches_the_backend(connection: ClientConnection) -> None:
    connection.connect()
    reply = connection.from_backend("PA", b"x" * 1200)
    verdict = connection.take(icmp_error("10.10.0.1", "10.10.0.100", reply.raw), Hook.PREROUTING)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    outer, inner = dpkt.ip.IP(verdict.packet), dpkt.ip.IP(verdict.packet[28:48])
    assert connection.backend
    assert (outer.dst, inner.src, inner.dst) == (connection.backend[0], connection.backend[0], CLIENT[0])


@pytest.mark.parametrize("hook", [Hook.FORWARD, Hook.OUTPUT])
def test_an_icmp_error_about_a_leg_is_consumed_and_heeded(connection: ClientConnection, hook: Hook) -> None:
    connected(connection)
    connection.from_client("PA", b"x" * 1400)
    connection.from_client("PA", b"x" * 1400)
    sent = connection.to_mirror[0]
    connection.to_mirror.clear()
    raw = icmp_error("10.20.0.1", "10.10.0.11", sent.raw, mtu=700)
    assert connection.take(raw, hook) == Drop("consumed")
    assert connection.to_mirror[0].seq == sent.seq
    assert max(len(one.raw) for one in connection.to_mirror) <= 700


def test_icmp_errors_about_other_things_pass(connection: ClientConnection) -> None:
    inner = packet(CLIENT, at("192.0.2.1", 80), "A", 1)
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Accept()
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.100", inner), Hook.PREROUTING) == Accept()


def test_a_late_icmp_error_about_a_leg_that_is_over_reaches_nobody(connection: ClientConnection) -> None:
    inner = packet(CLIENT, MASTER, "A", 1)
    assert connection.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Drop("icmp-without-leg")


# Robustness


@given(st.binary(max_size=120), st.sampled_from(Hook), st.sampled_from(Checksum), st.booleans())
def test_no_bytes_make_the_engine_raise(raw: bytes, hook: Hook, checksum: Checksum, fast: bool) -> None:
    decision = engine(fast=fast).receive(raw, hook, 1.0, checksum)
    assert isinstance(decision.verdict, Accept | Drop)
    assert decision.sends == []


@given(st.data())
def test_damaged_packets_of_a_living_connection_change_no_verdict_count(data: st.DataObject) -> None:
    connection = connected(ClientConnection(engine(fast=data.draw(st.booleans()))))
    source, destination, hook = data.draw(
        st.sampled_from(
            [
                (CLIENT, SERVICE, Hook.PREROUTING),
                (connection.backend, CLIENT, Hook.FORWARD),
                (MASTER, CLIENT, Hook.PREROUTING),
            ]
        )
    )
    assert source
    raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data" * 5))
    for at_byte, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at_byte] = value
    cut = data.draw(st.integers(0, len(raw)))
    decision = connection.engine.receive(bytes(raw[:cut]), hook, connection.now, data.draw(st.sampled_from(Checksum)))
    assert isinstance(decision.verdict, Accept | Drop)
    assert all(isinstance(send, Send) for send in decision.sends)


def test_a_snapshot_is_plain_values(connection: ClientConnection) -> None:
    import json

    connected(connection)
    connection.from_client("PA", b"data")
    snapshot = connection.engine.snapshot(connection.now)
    assert json.loads(json.dumps(snapshot)) == snapshot
    flows = connection.engine.flows(connection.now)
    assert (
        json.loads(json.dumps(flows)) == flows == connection.engine.flows(connection.now, connection.engine.flow_ids())
    )
    [flow] = flows
    assert flow["client"] == "10.10.0.11:40001"
    assert flow["legs"][0]["lag_bytes"] == 4


def test_segments_of_test_packets_are_what_they_say() -> None:
    assert segment(packet(CLIENT, SERVICE, "FA", 1, 2, b"x")).seq_len == 2
