"""The engine as a whole, by packets and a manual clock."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Drop, Hook, Send
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import LEG_ACK_DELAY, SYN_ANSWER_TIMEOUT
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.net import seq
from natmirror.net.checksum import Checksum, ones_sum
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from tests.helpers.session import IRS, ISS, MIRROR_ISS, Session, engine
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
def session(fast: bool) -> Session:
    return Session(engine(fast=fast))


def connected(session: Session) -> Session:
    session.connect()
    session.connect_mirror()
    session.mirrored()
    return session


def checksums_are_right(raw: bytes) -> bool:
    ip = dpkt.ip.IP(raw)
    ip.sum = ip.data.sum = 0
    return bytes(ip) == raw


# NAT


def test_requests_go_to_a_backend_and_replies_come_from_the_service(session: Session) -> None:
    syn = session.syn()
    assert (syn.src, syn.sport) == CLIENT
    assert session.backend in (C1, C2)
    assert checksums_are_right(syn.raw)
    answer = session.syn_ack()
    assert ((answer.src, answer.sport), (answer.dst, answer.dport)) == (SERVICE, CLIENT)
    assert checksums_are_right(answer.raw)
    request = session.from_client("PA", b"request")
    assert (request.dst, request.dport) == session.backend
    assert request.payload == b"request"
    assert checksums_are_right(request.raw)
    reply = session.from_backend("PA", b"reply")
    assert (reply.src, reply.payload) == (SERVICE[0], b"reply")
    assert checksums_are_right(reply.raw)


def test_a_checksum_left_to_hardware_leaves_complete(session: Session) -> None:
    session.connect()
    assert session.backend
    for source, destination, hook in ((CLIENT, SERVICE, Hook.PREROUTING), (session.backend, CLIENT, Hook.FORWARD)):
        raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data"))
        raw[36:38] = b"\x12\x34"
        assert checksums_are_right(session.passed(bytes(raw), hook, Checksum.PARTIAL).raw)


def test_a_wrong_checksum_stays_wrong_and_reaches_no_leg(session: Session) -> None:
    connected(session)
    raw = bytearray(packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"data"))
    raw[-1] ^= 1
    out = session.passed(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    assert (out.dst, out.dport) == session.backend
    assert not checksums_are_right(out.raw)
    assert session.mirrored() == []
    assert session.engine.snapshot(session.now)["counters"][EngineCounter.BAD_CHECKSUM_PACKETS] == 1


def test_round_robin_alternates_and_keeps_each_flow(fast: bool) -> None:
    shared = engine(ROUND_ROBIN, fast=fast)
    backends = []
    for port in range(40_000, 40_004):
        session = Session(shared, client=at("10.10.0.11", port))
        session.connect()
        backends.append(session.backend)
        assert session.from_client("PA", b"x").dst == session.backend_address
    assert backends == [C1, C2, C1, C2]


def test_maglev_maps_a_clients_connections_alike_on_any_host(fast: bool) -> None:
    first, second = engine(fast=fast), Engine(parse_rules(RULES), key=b"another key here", fast=fast)
    sessions = [Session(host, client=at("10.10.0.77", port)) for host in (first, second) for port in (1025, 60_000)]
    for session in sessions:
        session.syn()
    assert len({session.backend for session in sessions}) == 1


@pytest.mark.parametrize("letters", ["RA", "SRA"])
def test_a_refused_syn_leads_the_clients_next_one_elsewhere(session: Session, letters: str) -> None:
    session.syn()
    refused = session.backend
    assert refused
    session.passed(packet(refused, CLIENT, letters, 0, FIRST), Hook.FORWARD)
    again = Session(session.engine, client=at("10.10.0.11", 40_002))
    again.syn()
    assert {refused, again.backend} == {C1, C2}


def test_an_unanswered_syn_leads_its_repetition_elsewhere(session: Session) -> None:
    session.syn()
    silent = session.backend
    session.now += SYN_ANSWER_TIMEOUT / 2
    session.syn()
    assert session.backend == silent
    session.now += SYN_ANSWER_TIMEOUT
    session.syn()
    assert {silent, session.backend} == {C1, C2}
    session.syn_ack()
    session.from_client("A")
    assert session.from_client("PA", b"x").dst == session.backend_address


def test_when_no_backend_answers_the_first_choice_is_tried_again(session: Session) -> None:
    chosen = []
    for _ in range(4):
        session.syn()
        chosen.append(session.backend)
        session.now += 1
    assert chosen[0] != chosen[1]
    assert chosen[2] == chosen[0]


def test_a_connection_met_in_its_middle_goes_where_maglev_says(session: Session) -> None:
    elsewhere = Session(engine())
    elsewhere.syn()
    out = session.passed(packet(CLIENT, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert (out.dst, out.dport) == elsewhere.backend
    snapshot = session.engine.snapshot(session.now)
    assert snapshot["counters"][EngineCounter.FLOWS_PICKED_UP] == 1
    assert [(flow["state"], flow["mirrored"]) for flow in session.engine.flows(session.now)] == [("established", False)]
    assert session.to_mirror == []


def test_a_reply_met_in_mid_connection_maps_back_and_binds_its_backend(session: Session) -> None:
    for backend in (C1, C2):
        client = at("10.10.0.11", 40_000 + backend[0][3])
        out = session.passed(packet(backend, client, "PA", 5, 6, b"data"), Hook.FORWARD)
        assert (out.src, out.sport) == SERVICE
        assert session.passed(packet(client, SERVICE, "A", 6, 9), Hook.PREROUTING).dst == backend[0]


def test_a_reply_with_a_fin_met_in_mid_connection_is_kept_as_one_that_is_closing(session: Session) -> None:
    session.passed(packet(C1, CLIENT, "FPA", 5, 6, b"data"), Hook.FORWARD)
    assert [flow["state"] for flow in session.engine.flows(session.now)] == ["closing"]
    assert session.engine.next_timer() == session.now + TIMEOUTS[State.CLOSING]


def test_a_backend_that_lost_the_client_to_another_changes_nothing(session: Session) -> None:
    session.connect()
    stale = C1 if session.backend == C2 else C2
    for letters, data in (("PA", b"stale"), ("R", b""), ("FA", b"")):
        raw = packet(stale, CLIENT, letters, 5, 6, data)
        assert session.take(raw, Hook.FORWARD) == Drop(DropReason.FORMER_BACKEND)
    assert session.from_client("PA", b"on").dst == session.backend_address


def test_the_backend_that_speaks_is_believed_over_the_one_that_maglev_gave(session: Session) -> None:
    given = session.passed(packet(CLIENT, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING).dst
    other = C1 if given == C2[0] else C2
    session.passed(packet(other, CLIENT, "PA", 6, 9, b"answer"), Hook.FORWARD)
    assert session.passed(packet(CLIENT, SERVICE, "PA", 9, 12, b"data"), Hook.PREROUTING).dst == other[0]


def test_late_packets_without_data_leave_no_flow(session: Session) -> None:
    session.passed(packet(CLIENT, SERVICE, "A", 5, 6), Hook.PREROUTING)
    session.passed(packet(CLIENT, SERVICE, "RA", 5, 6, b"data"), Hook.PREROUTING)
    session.passed(packet(C1, CLIENT, "A", 5, 6), Hook.FORWARD)
    session.passed(packet(C1, CLIENT, "R", 5, 6), Hook.FORWARD)
    assert session.engine.flows(session.now) == []


def test_a_client_that_calls_a_backend_itself_is_left_alone(session: Session) -> None:
    for letters, data in (("SA", b""), ("A", b""), ("PA", b"data"), ("FA", b"")):
        raw = packet(C1, CLIENT, letters, IRS, FIRST, data)
        assert session.take(raw, Hook.FORWARD) == Accept()
    assert session.engine.snapshot(session.now)["counters"][EngineCounter.DIRECT_CONNECTIONS] == 1


def test_what_is_none_of_ours_passes(session: Session) -> None:
    other = at("192.0.2.1", 80)
    for source, destination, hook in (
        (other, SERVICE, Hook.PREROUTING),
        (CLIENT, other, Hook.PREROUTING),
        (other, CLIENT, Hook.FORWARD),
        (C1, other, Hook.FORWARD),
    ):
        assert session.take(packet(source, destination, "PA", 5, 6, b"data"), hook) == Accept()


def test_flows_are_forgotten_in_time(session: Session) -> None:
    connected(session)
    session.engine.handle_timer(session.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert session.engine.flows(session.now)
    session.now += 100
    session.from_client("A")  # which the C gear takes, and no timer hears of
    session.engine.handle_timer(session.now + TIMEOUTS[State.ESTABLISHED] - 1)
    assert session.engine.flows(session.now)
    sends = session.engine.handle_timer(session.now + TIMEOUTS[State.ESTABLISHED])
    assert [told(send.packet)[0] for send in sends if isinstance(send, Send)] == ["RA"]
    assert session.engine.flows(session.now) == []
    assert session.engine.next_timer() is None


def test_an_orderly_close_leaves_nothing_behind(session: Session) -> None:
    connected(session)
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    assert [flow["state"] for flow in session.engine.flows(session.now)] == ["time-wait"]
    assert session.mirrored() == [("FA", FIRST, THEIRS, b"")]
    session.from_mirror("FA", 1, 2)
    session.engine.handle_timer(session.now + TIMEOUTS[State.TIME_WAIT])
    snapshot = session.engine.snapshot(session.now)
    assert (snapshot["flows"], snapshot["mirrors"][0]["legs"]) == (0, 0)
    assert session.engine.next_timer() is None


def test_the_port_used_again_at_once_is_a_new_connection_with_a_new_leg(session: Session) -> None:
    connected(session)
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    session.mirrored()
    session.sent = session.answered = 0
    session.connect()
    letters = [letters for letters, *_ in session.mirrored()]
    assert letters == ["RA", "S"], "the old leg, which the mirror has not closed, gives way"


def test_a_syn_inside_a_living_connection_changes_nothing_until_the_backend_accepts_it(session: Session) -> None:
    connected(session)
    backend = session.backend
    assert backend
    new = seq.add(ISS, 100_000)
    assert session.passed(packet(CLIENT, SERVICE, "S", new), Hook.PREROUTING).dst == backend[0]
    session.from_backend("A")  # a challenge
    session.from_client("PA", b"still here")
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"still here")]
    session.passed(packet(backend, CLIENT, "SA", 77, seq.add(new, 1)), Hook.FORWARD)
    session.passed(packet(CLIENT, SERVICE, "A", seq.add(new, 1), 78), Hook.PREROUTING)
    flows = session.engine.flows(session.now)
    assert [(flow["state"], flow["mirrored"]) for flow in flows] == [("established", True)]


def test_the_connections_own_syn_late_again_is_no_new_connection(session: Session) -> None:
    connected(session)
    session.syn()
    session.syn_ack()
    session.from_client("PA", b"still")
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"still")]
    assert session.engine.take_events() == []


# Legs


def test_a_leg_opens_when_the_clients_handshake_is_complete(session: Session) -> None:
    session.syn()
    session.syn_ack()
    assert session.to_mirror == []
    session.from_client("A")
    [syn] = session.to_mirror
    assert ((syn.src, syn.sport), (syn.dst, syn.dport)) == (CLIENT, MASTER)
    assert told(syn.raw) == ("S", ISS, 0, b"")


def test_the_mirror_gets_the_bytes_and_its_answers_reach_nobody(session: Session) -> None:
    session.connect()
    session.from_client("PA", b"hello ")
    session.mirrored()
    session.connect_mirror()
    session.from_client("PA", b"world")
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"hello "), ("PA", seq.add(FIRST, 6), THEIRS, b"world")]
    assert session.from_mirror("PA", 1, 12, b"an answer") == Drop(DropReason.FOR_LEG)
    assert session.mirrored() == [], "the acknowledgement waits for company"
    session.from_client("PA", b"!")
    assert session.mirrored() == [("PA", seq.add(FIRST, 11), seq.add(THEIRS, 9), b"!")]
    session.from_mirror("A", 10, 13)
    [mirror] = session.engine.snapshot(session.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["consumed_bytes"]) == (12, 12, 9)


def test_an_answer_is_acknowledged_after_a_moment_where_nothing_is_to_be_said(session: Session) -> None:
    connected(session)
    for number in (0, 10):
        session.from_mirror("PA", 1 + number, 1, b"an answer.")
        due = session.engine.next_timer()
        assert due is not None
        assert due == pytest.approx(session.now + LEG_ACK_DELAY)
        session.now = due
        [ack] = session.engine.handle_timer(due)
        assert isinstance(ack, Send)
        assert told(ack.packet) == ("A", FIRST, seq.add(THEIRS, 10 + number), b"")
        assert session.engine.next_timer() != due


def test_order_and_repetition_of_the_clients_packets_do_not_matter(session: Session) -> None:
    connected(session)
    session.from_client("PA", b"DEF", at=3)
    assert session.mirrored() == []
    session.from_client("PA", b"ABC", at=0)
    session.from_client("PA", b"BCDEF", at=1)
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"ABCDEF")]


def test_what_lies_outside_the_backends_window_reaches_no_leg(session: Session) -> None:
    connected(session)
    session.from_client("PA", b"far", at=70_000)
    session.from_client("PA", b"old", at=-50_000)
    assert session.mirrored() == []
    session.from_client("PA", b"near", at=0)
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"near")]


def test_bytes_that_never_passed_here_end_the_leg(session: Session) -> None:
    connected(session)
    session.sent = 5  # five bytes took another way
    session.from_client("PA", b"later")
    assert session.mirrored() == [], "they may still come"
    session.from_backend("A")
    session.from_client("PA", b"still later")
    assert [letters for letters, *_ in session.mirrored()] == ["RA"]
    [event] = session.engine.take_events()
    assert event.reason == "hole"
    assert session.from_client("PA", b"on it goes").dst == session.backend_address


def test_a_connection_that_closes_with_a_hole_does_not_end_as_if_it_were_whole(session: Session) -> None:
    connected(session)
    session.sent = 5  # five bytes took another way
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    assert [letters for letters, *_ in session.mirrored()] == ["RA"]
    assert [event.reason for event in session.engine.take_events()] == ["hole"]


def test_a_full_buffer_costs_the_leg_and_production_does_not_notice(fast: bool) -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, buffer: 64KiB}")
    session = Session(engine(rules, fast=fast))
    session.connect()
    for _ in range(70):
        assert session.from_client("PA", b"x" * 1000).dst == session.backend_address
        session.from_backend("A")
    [event] = session.engine.take_events()
    assert (event.reason, event.acked_bytes) == ("buffer-full", 0)
    [mirror] = session.engine.snapshot(session.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["legs_ended"]) == (70_000, {"buffer-full": 1})


def test_no_leg_for_a_flow_that_was_balanced_to_the_mirror(fast: bool) -> None:
    rules = RULES.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.13}")
    seen = set()
    for number in range(1, 40):
        session = Session(engine(rules, fast=fast), client=at(f"10.10.0.{number}", 4000))
        session.connect()
        assert bool(session.to_mirror) == (session.backend == C1)
        seen.add(session.backend)
        if session.backend == MASTER:
            raw = packet(MASTER, session.client, "PA", seq.add(IRS, 1), FIRST, b"production")
            assert session.take(raw, Hook.PREROUTING) == Accept(), "on its way to its own hook"
            assert (session.passed(raw, Hook.FORWARD).src) == SERVICE[0]
    assert seen == {C1, MASTER}


def test_a_reset_of_the_client_reaches_the_mirror_after_the_last_byte(session: Session) -> None:
    connected(session)
    session.from_client("PA", b"bye")
    session.from_client("RA")
    session.mirrored()
    session.from_mirror("A", 1, 4)
    assert session.mirrored() == [("RA", seq.add(FIRST, 3), THEIRS, b"")]


def test_a_blind_reset_ends_nothing(session: Session) -> None:
    connected(session)
    session.from_client("R", at=500)
    session.from_client("PA", b"alive")
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"alive")]


def test_a_mirrors_packet_without_a_leg_is_answered_with_a_reset_and_dropped(session: Session) -> None:
    assert session.from_mirror("PA", 1, 1, b"hello?") == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert session.mirrored() == [("R", FIRST, 0, b"")]
    assert session.from_mirror("R", 1, 1) == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert session.mirrored() == []


def test_a_mirror_that_clients_also_call_themselves_passes(fast: bool) -> None:
    session = Session(engine(RULES.replace("10.20.0.13}", "10.20.0.13, direct: true}"), fast=fast))
    assert session.from_mirror("PA", 1, 1, b"hello") == Accept()


def test_a_service_without_a_pool_passes_unchanged_and_is_mirrored(fast: bool) -> None:
    session = Session(engine(WATCHED, fast=fast))
    session.backend = SERVICE
    assert session.take(packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING) == Accept()
    assert session.take(packet(SERVICE, CLIENT, "SA", IRS, FIRST), Hook.OUTPUT) == Accept()
    assert session.take(packet(CLIENT, SERVICE, "A", FIRST, seq.add(IRS, 1)), Hook.PREROUTING) == Accept()
    session.connect_mirror()
    session.mirrored()
    raw = packet(CLIENT, SERVICE, "PA", FIRST, seq.add(IRS, 1), b"copied")
    assert session.take(raw, Hook.PREROUTING) == Accept()
    assert session.mirrored() == [("PA", FIRST, THEIRS, b"copied")]


def test_closing_the_engine_resets_all_legs(session: Session) -> None:
    connected(session)
    assert [told(send.packet)[0] for send in session.engine.close() if isinstance(send, Send)] == ["RA"]
    assert [event.reason for event in session.engine.take_events()] == ["natmirror-stopped"]


# The ledger


def test_each_byte_is_accounted_for_by_its_reason(fast: bool) -> None:
    rules = RULES.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.13}")
    shared = engine(rules, fast=fast)
    clients = [at(f"10.10.0.{number}", 4000) for number in range(1, 40)]
    for client in clients:
        session = Session(shared, client=client)
        session.connect()
        session.from_client("PA", b"x" * 10)
    own = sum(1 for flow in shared.flows(1.0) if flow["backend"] == "c2")
    assert 0 < own < 39
    Session(shared, client=at("10.10.0.200", 1)).passed(packet(at("10.10.0.200", 1), SERVICE, "PA", 5, 6, b"data"), PRE)
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"mirror-is-backend": 10 * own, "picked-up": 4}
    assert mirror["pending_bytes"] == 10 * (39 - own)
    shared.close()
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"mirror-is-backend": 10 * own, "picked-up": 4, "natmirror-stopped": 10 * (39 - own)}
    shared.handle_timer(100_000.0)
    [over] = shared.snapshot(100_000.0)["mirrors"]
    assert over == mirror, "the same when the flows are over"
    assert_adds_up({"mirrors": [over]})


# ICMP


def test_an_icmp_error_about_a_nated_packet_is_translated_with_its_inner_header(session: Session) -> None:
    session.connect()
    request = session.from_client("PA", b"x" * 1200)
    raw = icmp_error("10.20.0.1", "10.10.0.11", request.raw)
    verdict = session.take(raw, Hook.FORWARD)
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


def test_an_icmp_error_about_a_reply_reaches_the_backend(session: Session) -> None:
    session.connect()
    reply = session.from_backend("PA", b"x" * 1200)
    verdict = session.take(icmp_error("10.10.0.1", "10.10.0.100", reply.raw), Hook.PREROUTING)
    assert isinstance(verdict, Accept)
    assert verdict.packet
    outer, inner = dpkt.ip.IP(verdict.packet), dpkt.ip.IP(verdict.packet[28:48])
    assert session.backend
    assert (outer.dst, inner.src, inner.dst) == (session.backend[0], session.backend[0], CLIENT[0])


@pytest.mark.parametrize("hook", [Hook.FORWARD, Hook.OUTPUT])
def test_an_icmp_error_about_a_leg_is_consumed_and_heeded(session: Session, hook: Hook) -> None:
    connected(session)
    session.from_client("PA", b"x" * 1400)
    session.from_client("PA", b"x" * 1400)
    sent = session.to_mirror[0]
    session.to_mirror.clear()
    raw = icmp_error("10.20.0.1", "10.10.0.11", sent.raw, mtu=700)
    assert session.take(raw, hook) == Drop(DropReason.FOR_LEG)
    assert session.to_mirror[0].seq == sent.seq
    assert max(len(one.raw) for one in session.to_mirror) <= 700


def test_icmp_errors_about_other_things_pass(session: Session) -> None:
    inner = packet(CLIENT, at("192.0.2.1", 80), "A", 1)
    assert session.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Accept()
    assert session.take(icmp_error("10.20.0.1", "10.10.0.100", inner), Hook.PREROUTING) == Accept()


def test_a_late_icmp_error_about_a_leg_that_is_over_reaches_nobody(session: Session) -> None:
    inner = packet(CLIENT, MASTER, "A", 1)
    assert session.take(icmp_error("10.20.0.1", "10.10.0.11", inner), Hook.FORWARD) == Drop(DropReason.ICMP_WITHOUT_LEG)


# Robustness


@given(st.binary(max_size=120), st.sampled_from(Hook), st.sampled_from(Checksum), st.booleans())
def test_no_bytes_make_the_engine_raise(raw: bytes, hook: Hook, checksum: Checksum, fast: bool) -> None:
    decision = engine(fast=fast).receive(raw, hook, 1.0, checksum)
    assert isinstance(decision.verdict, Accept | Drop)
    assert decision.sends == []


@given(st.data())
def test_damaged_packets_of_a_living_connection_change_no_verdict_count(data: st.DataObject) -> None:
    session = connected(Session(engine(fast=data.draw(st.booleans()))))
    source, destination, hook = data.draw(
        st.sampled_from(
            [
                (CLIENT, SERVICE, Hook.PREROUTING),
                (session.backend, CLIENT, Hook.FORWARD),
                (MASTER, CLIENT, Hook.PREROUTING),
            ]
        )
    )
    assert source
    raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data" * 5))
    for at_byte, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at_byte] = value
    cut = data.draw(st.integers(0, len(raw)))
    decision = session.engine.receive(bytes(raw[:cut]), hook, session.now, data.draw(st.sampled_from(Checksum)))
    assert isinstance(decision.verdict, Accept | Drop)
    assert all(isinstance(send, Send) for send in decision.sends)


def test_a_snapshot_is_plain_values(session: Session) -> None:
    import json

    connected(session)
    session.from_client("PA", b"data")
    snapshot = session.engine.snapshot(session.now)
    assert json.loads(json.dumps(snapshot)) == snapshot
    flows = session.engine.flows(session.now)
    assert json.loads(json.dumps(flows)) == flows == session.engine.flows(session.now, session.engine.flow_ids())
    [flow] = flows
    assert flow["client"] == "10.10.0.11:40001"
    assert flow["legs"][0]["lag_bytes"] == 4


def test_segments_of_test_packets_are_what_they_say() -> None:
    assert segment(packet(CLIENT, SERVICE, "FA", 1, 2, b"x")).seq_len == 2
