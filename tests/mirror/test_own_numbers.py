"""A leg has its own sequence numbers on the wire: a mirror learns nothing about production's numbers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from natmirror.actions import Action, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_MSS, Segment
from natmirror.reasons import EndReason
from natmirror.rules import parse_rules
from natmirror.tcp.initial_numbers import InitialNumbers
from natmirror.tcp.leg import Leg
from tests.helpers.client_connection import IRS, ISS, KEY, MIRROR_ISS, ClientConnection
from tests.helpers.support import CLIENT, MASTER, RULES, at, at_once, icmp_error, packet, segment, summary

THEIRS = seq.add(MIRROR_ISS, 1)
MSS = bytes((OPT_MSS, 4, 5, 180))
SESSIONS = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow}")


def started(fast: bool, rules: str = RULES) -> ClientConnection:
    return ClientConnection(Engine(at_once(parse_rules(rules)), key=KEY, fast=fast))


def sent(actions: Sequence[Action]) -> list[Segment]:
    return [segment(one) for send in actions if isinstance(send, Send) for one in finish(send.packet, send.segment_len)]


def wire(session: ClientConnection) -> list[tuple[str, int, int, bytes]]:
    """Return the packets to the mirror since the last call, with the numbers on the wire."""
    return session.mirrored()


def from_mirror(
    session: ClientConnection, letters: str, at_number: int, ack: int, data: bytes = b"", *, options: bytes = b""
) -> None:
    raw = packet(MASTER, session.client, letters, at_number, ack, data, options=options)
    session.take(raw, Hook.PREROUTING)


def opened(session: ClientConnection) -> int:
    """Open the leg, and return the number of its first byte on the wire."""
    session.connect()
    [(letters, iss, _, _)] = wire(session)
    assert letters == "S"
    from_mirror(session, "SA", MIRROR_ISS, seq.add(iss, 1), options=MSS)
    assert wire(session) == [("A", seq.add(iss, 1), THEIRS, b"")]
    return seq.add(iss, 1)


def test_each_leg_has_the_number_of_rfc_6528(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    expected = InitialNumbers(KEY).first(CLIENT, MASTER, session.now)
    assert first == seq.add(expected, 1)
    assert abs(seq.diff(first, ISS)) > 1 << 20
    other = ClientConnection(session.engine, client=at("10.10.0.11", 40002))
    other.connect()
    [(_, iss, _, _)] = wire(other)
    assert iss == InitialNumbers(KEY).first(other.client, MASTER, other.now)
    assert abs(seq.diff(seq.add(iss, -first), 0)) > 1 << 20, "although both clients have the same number"


def test_data_acknowledgements_and_the_fin_use_the_legs_numbers(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    for count in range(3):
        session.from_client("PA", b"hello")
        assert wire(session) == [("PA", seq.add(first, 5 * count), THEIRS, b"hello")]
        session.from_backend("A")
        from_mirror(session, "A", THEIRS, seq.add(first, 5 * count + 5))
    assert session.engine.flows(session.now)[0]["legs"][0]["acked_bytes"] == 15
    from_mirror(session, "PA", THEIRS, seq.add(first, 15), b"answer")
    [ack] = sent(session.engine.handle_timer(session.now + 0.05))
    assert summary(ack.raw) == ("A", seq.add(first, 15), seq.add(THEIRS, 6), b"")
    session.from_client("FA")
    assert wire(session) == [("FA", seq.add(first, 15), seq.add(THEIRS, 6), b"")]
    from_mirror(session, "FA", seq.add(THEIRS, 6), seq.add(first, 16))
    assert wire(session) == [("A", seq.add(first, 16), seq.add(THEIRS, 7), b"")]
    assert [event.reason for event in session.engine.take_events()] == ["closed"]


def test_an_acknowledgement_in_the_clients_numbers_is_refused(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"hello")
    wire(session)
    from_mirror(session, "A", THEIRS, seq.add(ISS, 6))
    assert wire(session) == [("A", seq.add(first, 5), THEIRS, b"")], "challenged (RFC 5961 §5.2)"
    assert session.engine.flows(session.now)[0]["legs"][0]["acked_bytes"] == 0


def test_selective_acknowledgements_use_the_legs_numbers(fast: bool) -> None:
    session = started(fast)
    session.connect()
    [(_, iss, _, _)] = wire(session)
    first = seq.add(iss, 1)
    from_mirror(session, "SA", MIRROR_ISS, first, options=bytes((OPT_MSS, 4, 0, 100, 1, 1, 4, 2)))
    session.from_client("PA", b"x" * 400)
    wire(session)
    blocks = b"\1\1\5\x0a" + seq.add(first, 100).to_bytes(4, "big") + seq.add(first, 400).to_bytes(4, "big")
    from_mirror(session, "A", THEIRS, first, options=blocks)
    assert wire(session) == [("A", first, THEIRS, b"x" * 100)]


def test_icmp_errors_are_matched_by_the_legs_numbers(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"x" * 1400)
    [data] = [one.raw for one in session.to_mirror]
    session.mirrored()
    error = icmp_error("10.20.0.254", "10.10.0.11", data)
    session.take(error, Hook.FORWARD)
    due = session.engine.next_timer()
    assert due is not None
    assert [(one.seq, one.payload_len) for one in sent(session.engine.handle_timer(due))] == [(first, 960)]
    other = ClientConnection(session.engine, client=at("10.10.0.11", 40002))
    other.connect()
    [syn] = other.to_mirror
    of_the_clients = packet(other.client, MASTER, "S", ISS)
    other.take(icmp_error("10.20.0.254", "10.10.0.11", of_the_clients, code=1), Hook.FORWARD)
    assert session.engine.take_events() == []
    other.take(icmp_error("10.20.0.254", "10.10.0.11", syn.raw, code=1), Hook.FORWARD)
    assert [event.reason for event in session.engine.take_events()] == ["unreachable"]


def test_a_refusal_has_to_acknowledge_the_number_on_the_wire(fast: bool) -> None:
    session = started(fast)
    session.connect()
    [(_, iss, _, _)] = wire(session)
    from_mirror(session, "RA", 0, seq.add(ISS, 1))
    assert session.engine.take_events() == []
    from_mirror(session, "RA", 0, seq.add(iss, 1))
    assert [event.reason for event in session.engine.take_events()] == ["refused"]


@pytest.mark.parametrize("protocol", ["raw", "openflow"])
def test_a_leg_opens_within_two_round_trips_although_the_mirror_has_an_old_connection(
    fast: bool, protocol: str
) -> None:
    session = started(fast, SESSIONS if protocol == "openflow" else RULES)
    session.connect()
    if protocol == "openflow":
        hello = bytes((4, 0, 0, 8, 0, 0, 0, 1))
        session.from_client("PA", hello)
        session.from_backend("PA", hello)
        session.engine.read_sessions(session.now)
    [(letters, iss, _, _)] = wire(session)
    assert letters == "S"
    from_mirror(session, "A", 4242, 777)
    assert wire(session) == [("R", 777, 0, b""), ("S", iss, 0, b"")]
    from_mirror(session, "SA", MIRROR_ISS, seq.add(iss, 1), options=MSS)
    assert [(one[0], one[1]) for one in wire(session)] in ([("A", seq.add(iss, 1))], [("PA", seq.add(iss, 1))])


@pytest.mark.parametrize("closes_first", ["client", "mirror"])
def test_a_reused_port_begins_with_a_higher_number(fast: bool, closes_first: str) -> None:
    session = started(fast)
    first = opened(session)
    for _ in range(40):  # faster than the clock of RFC 6528
        session.from_client("PA", b"x" * 1400)
        session.from_backend("A")
        from_mirror(session, "A", THEIRS, seq.add(first, session.sent))
    if closes_first == "mirror":
        from_mirror(session, "FA", THEIRS, seq.add(first, session.sent))
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    if closes_first == "mirror":
        from_mirror(session, "A", seq.add(THEIRS, 1), seq.add(first, session.sent))
    else:
        from_mirror(session, "FA", THEIRS, seq.add(first, session.sent))
    assert [event.reason for event in session.engine.take_events()] == ["closed"]
    wire(session)
    again = ClientConnection(session.engine, iss=seq.add(ISS, -1000))
    again.connect()
    [(letters, iss, _, _)] = wire(again)
    assert letters == "S"
    assert 0 < seq.diff(iss, seq.add(first, session.sent)) <= 1 << 20


def test_a_reused_port_begins_with_a_higher_number_after_a_leg_of_hours(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    other = ClientConnection(session.engine, client=at("10.10.0.11", 40002))
    other.now = session.now + 10.0
    other.connect()
    for _ in range(4):
        session.now += 2600.0
        session.from_client("PA", b"hello")
        session.from_backend("A")
        from_mirror(session, "A", THEIRS, seq.add(first, session.sent))
    from_mirror(session, "FA", THEIRS, seq.add(first, session.sent))
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    from_mirror(session, "A", seq.add(THEIRS, 1), seq.add(first, session.sent))
    assert "closed" in [event.reason for event in session.engine.take_events()]
    wire(session)
    again = ClientConnection(session.engine, iss=seq.add(ISS, 1 << 20))
    again.now = session.now + 1.0
    again.connect()
    [(_, iss, _, _)] = wire(again)
    assert seq.diff(iss, seq.add(first, session.sent)) > 0, "the mirror, in TIME-WAIT, accepts no lower number"


def test_a_reused_port_begins_with_a_higher_number_after_a_fault(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    session = started(fast)
    first = opened(session)
    for _ in range(40):
        session.from_client("PA", b"x" * 1400)
        session.from_backend("A")
        from_mirror(session, "A", THEIRS, seq.add(first, session.sent))
    [(owner, leg)] = session.engine._legs.owners()
    with monkeypatch.context() as broken:
        broken.setattr(Leg, "abort", None)
        session.engine._leg_outcomes.cut(owner, leg, EndReason.INTERNAL_ERROR)
    session.from_client("R")
    wire(session)
    again = ClientConnection(session.engine, iss=seq.add(ISS, 1 << 20))
    again.connect()
    [(_, iss, _, _)] = wire(again)
    assert 0 < seq.diff(iss, seq.add(first, session.sent)) <= 1 << 20


def test_no_packet_to_a_mirror_depends_on_the_clients_numbers(fast: bool) -> None:
    """Two clients whose sessions differ only in their numbers: the mirror sees no difference."""
    seen = []
    for iss in (ISS, 0x1234_5678):
        session = ClientConnection(Engine(at_once(parse_rules(RULES)), key=KEY, fast=fast), iss=iss)
        first = opened(session)
        session.from_client("PA", b"hello")
        from_mirror(session, "A", THEIRS, first)
        from_mirror(session, "A", THEIRS, seq.add(first, 100_000))
        from_mirror(session, "A", seq.add(THEIRS, 5), seq.add(first, 5), b"ahead")
        due = session.engine.next_timer()
        assert due is not None
        later = sent(session.engine.handle_timer(due + 1.0))
        session.from_client("RA")
        seen.append([*(summary(one.raw) for one in (*later, *session.to_mirror)), first])
    assert seen[0] == seen[1]


def test_a_mirror_cannot_forge_packets_for_production_from_its_legs_numbers(fast: bool) -> None:
    """Packets with any endpoints and numbers that the mirror can know do not change the flow's state."""
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"hello")
    session.from_backend("PA", b"answer")
    assert session.backend is not None
    for letters, data in (("R", b""), ("RA", b""), ("PA", b"forged"), ("S", b""), ("FA", b"")):
        for at_number in (first, seq.add(first, 5), THEIRS, seq.add(first, 6)):
            for names in ((CLIENT, session.service, Hook.PREROUTING), (session.backend, CLIENT, Hook.FORWARD)):
                if letters == "S" and names[0] == CLIENT:
                    continue  # a new connection, which the backend challenges
                raw = packet(names[0], names[1], letters, at_number, THEIRS, data)
                session.take(raw, names[2])
    session.mirrored()
    [flow] = session.engine.flows(session.now)
    assert (flow["state"], flow["client_bytes"], flow["backend_bytes"]) == ("established", 5, 6)
    session.from_client("PA", b"world")
    assert wire(session) == [("PA", seq.add(first, 5), THEIRS, b"world")]


def test_the_numbers_of_two_engines_with_different_keys_differ() -> None:
    firsts = set()
    for key in (KEY, bytes(16)):
        session = ClientConnection(Engine(replace(at_once(parse_rules(RULES)), max_flows=10), key=key))
        firsts.add(opened(session))
    assert len(firsts) == 2


def test_legs_with_an_address_of_ours_have_their_own_numbers_too(fast: bool) -> None:
    session = started(fast, RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"))
    session.connect()
    [syn] = session.to_mirror
    local: Endpoint = (syn.src, syn.sport)
    assert syn.seq == InitialNumbers(KEY).first(local, MASTER, session.now)
    assert IRS != syn.seq != ISS
