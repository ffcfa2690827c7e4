"""What a leg gets of its client, when it ends, and the ledger of its bytes."""

import pytest

from natmirror.actions import Accept, Drop, Hook, Send
from natmirror.fastpath import LEG_ACK_DELAY
from natmirror.net import seq
from natmirror.reasons import DropReason, EndedBy
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import (
    C1,
    CLIENT,
    MASTER,
    RULES,
    SERVICE,
    assert_adds_up,
    at,
    packet,
    summary,
)

WATCHED = """
switches: [10.10.0.0/24]
services:
  - {name: web, address: 10.10.0.100, port: 6653, mirrors: [{name: master, address: 10.20.0.13}]}
"""
FIRST = seq.add(ISS, 1)
PRE = Hook.PREROUTING
THEIRS = seq.add(MIRROR_ISS, 1)


def test_a_leg_opens_when_the_clients_handshake_is_complete(connection: ClientConnection) -> None:
    connection.syn()
    connection.syn_ack()
    assert connection.to_mirror == []
    connection.from_client("A")
    [syn] = connection.to_mirror
    assert ((syn.src, syn.sport), (syn.dst, syn.dport)) == (CLIENT, MASTER)
    assert summary(syn.raw) == ("S", ISS, 0, b"")


def test_the_mirror_gets_the_bytes_and_its_answers_are_discarded(connection: ClientConnection) -> None:
    connection.connect()
    connection.from_client("PA", b"hello ")
    connection.mirrored()
    connection.connect_mirror()
    connection.from_client("PA", b"world")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"hello "), ("PA", seq.add(FIRST, 6), THEIRS, b"world")]
    assert connection.from_mirror("PA", 1, 12, b"an answer") == Drop(DropReason.FOR_LEG)
    assert connection.mirrored() == [], "the acknowledgement is delayed"
    connection.from_client("PA", b"!")
    assert connection.mirrored() == [("PA", seq.add(FIRST, 11), seq.add(THEIRS, 9), b"!")]
    connection.from_mirror("A", 10, 13)
    [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["consumed_bytes"]) == (12, 12, 9)


def test_an_answer_is_acknowledged_after_a_delay_if_no_data_follows(connection: ClientConnection) -> None:
    connection.establish()
    for number in (0, 10):
        connection.from_mirror("PA", 1 + number, 1, b"an answer.")
        due = connection.engine.next_timer()
        assert due is not None
        assert due == pytest.approx(connection.now + LEG_ACK_DELAY)
        connection.now = due
        [ack] = connection.engine.handle_timer(due)
        assert isinstance(ack, Send)
        assert summary(ack.packet) == ("A", FIRST, seq.add(THEIRS, 10 + number), b"")
        assert connection.engine.next_timer() != due


def test_order_and_repetition_of_the_clients_packets_do_not_matter(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("PA", b"DEF", at=3)
    assert connection.mirrored() == []
    connection.from_client("PA", b"ABC", at=0)
    connection.from_client("PA", b"BCDEF", at=1)
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"ABCDEF")]


def test_bytes_outside_the_backends_window_reach_no_leg(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("PA", b"far", at=70_000)
    connection.from_client("PA", b"old", at=-50_000)
    assert connection.mirrored() == []
    connection.from_client("PA", b"near", at=0)
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"near")]


def test_bytes_that_never_passed_here_end_the_leg(connection: ClientConnection) -> None:
    connection.establish()
    connection.sent = 5  # five bytes did not pass here
    connection.from_client("PA", b"later")
    assert connection.mirrored() == [], "they may still come"
    connection.from_backend("A")
    connection.from_client("PA", b"still later")
    assert [letters for letters, *_ in connection.mirrored()] == ["RA"]
    [event] = connection.engine.take_events()
    assert event.reason == "hole"
    assert connection.from_client("PA", b"on it goes").dst == connection.backend_address


def test_a_connection_that_closes_with_a_hole_ends_its_leg_for_the_hole(connection: ClientConnection) -> None:
    connection.establish()
    connection.sent = 5  # five bytes did not pass here
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["RA"]
    assert [event.reason for event in connection.engine.take_events()] == ["hole"]


@pytest.mark.parametrize(
    ("packets", "by"),
    [
        (("client FA", "backend FA", "client A"), EndedBy.CLIENT),
        (("backend FA", "client FA", "backend A"), EndedBy.BACKEND),
        (("client RA",), EndedBy.CLIENT),
        (("backend RA",), EndedBy.BACKEND),
        (("backend FA", "client RA"), EndedBy.BACKEND),
    ],
)
def test_the_end_of_a_leg_tells_which_end_of_the_connection_was_first(
    connection: ClientConnection, packets: tuple[str, ...], by: EndedBy
) -> None:
    connection.establish()
    for one in packets:
        end, letters = one.split()
        (connection.from_client if end == "client" else connection.from_backend)(letters)
    if packets[-1] == "client A" or packets[-1] == "backend A":
        connection.from_mirror("FA", 1, 2)
    [event] = connection.engine.take_events()
    assert event.ended_by is by


def test_a_full_buffer_ends_the_leg_and_does_not_touch_production(fast: bool) -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, buffer: 64KiB}")
    connection = ClientConnection(engine(rules, fast=fast))
    connection.connect()
    for _ in range(70):
        assert connection.from_client("PA", b"x" * 1000).dst == connection.backend_address
        connection.from_backend("A")
    [event] = connection.engine.take_events()
    assert (event.reason, event.acked_bytes) == ("buffer-full", 0)
    [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
    assert (mirror["client_bytes"], mirror["legs_ended"]) == (70_000, {"buffer-full": 1})


def test_a_flow_whose_backend_is_the_mirror_has_no_leg(fast: bool) -> None:
    rules = RULES.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.13}")
    seen = set()
    for number in range(1, 40):
        connection = ClientConnection(engine(rules, fast=fast), client=at(f"10.10.0.{number}", 4000))
        connection.connect()
        assert bool(connection.to_mirror) == (connection.backend == C1)
        seen.add(connection.backend)
        if connection.backend == MASTER:
            raw = packet(MASTER, connection.client, "PA", seq.add(IRS, 1), FIRST, b"production")
            assert connection.take(raw, Hook.PREROUTING) == Accept(), "it passes on to its own hook"
            assert (connection.passed(raw, Hook.FORWARD).src) == SERVICE[0]
    assert seen == {C1, MASTER}


def test_a_reset_of_the_client_reaches_the_mirror_after_the_last_byte(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("PA", b"bye")
    connection.from_client("RA")
    connection.mirrored()
    connection.from_mirror("A", 1, 4)
    assert connection.mirrored() == [("RA", seq.add(FIRST, 3), THEIRS, b"")]


def test_a_blind_reset_ends_nothing(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("R", at=500)
    connection.from_client("PA", b"alive")
    assert connection.mirrored() == [("PA", FIRST, THEIRS, b"alive")]


def test_a_mirrors_packet_without_a_leg_is_answered_with_a_reset_and_dropped(connection: ClientConnection) -> None:
    assert connection.from_mirror("PA", 1, 1, b"hello?") == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert connection.mirrored() == [("R", FIRST, 0, b"")]
    assert connection.from_mirror("R", 1, 1) == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert connection.mirrored() == []


def test_packets_of_a_mirror_with_direct_clients_pass(fast: bool) -> None:
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
    connection.establish()
    assert [summary(send.packet)[0] for send in connection.engine.close() if isinstance(send, Send)] == ["RA"]
    assert [event.reason for event in connection.engine.take_events()] == ["natmirror-stopped"]


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
    ClientConnection(shared, client=at("10.10.0.201", 1)).passed(
        packet(at("10.10.0.201", 1), SERVICE, "PA", 5, 6, b"data"), PRE
    )
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"mirror-is-backend": 10 * own, "picked-up": 4}
    assert mirror["pending_bytes"] == 10 * (39 - own)
    shared.close()
    [mirror] = shared.snapshot(1.0)["mirrors"]
    assert mirror["lost_bytes"] == {"mirror-is-backend": 10 * own, "picked-up": 4, "natmirror-stopped": 10 * (39 - own)}
    shared.handle_timer(100_000.0)
    [over] = shared.snapshot(100_000.0)["mirrors"]
    mirror["connections_not_copied"] = mirror["connections_excluded"] = {}
    assert over == mirror, "the ledger is the same once the flows are gone"
    assert_adds_up({"mirrors": [over]})
