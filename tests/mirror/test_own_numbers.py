"""A leg's numbers on the wire are its own: what a mirror is shown tells it nothing of production's."""

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
from tests.helpers.session import IRS, ISS, KEY, MIRROR_ISS, Session
from tests.helpers.support import CLIENT, MASTER, RULES, at, icmp_error, packet, segment, told

THEIRS = seq.add(MIRROR_ISS, 1)
MSS = bytes((OPT_MSS, 4, 5, 180))
SESSIONS = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow}")


def started(fast: bool, rules: str = RULES) -> Session:
    return Session(Engine(parse_rules(rules), key=KEY, fast=fast))


def sent(actions: Sequence[Action]) -> list[Segment]:
    return [segment(one) for send in actions if isinstance(send, Send) for one in finish(send.packet, send.segment_len)]


def wire(session: Session) -> list[tuple[str, int, int, bytes]]:
    """What was sent to the mirror since the last call, as it is on the wire."""
    return session.mirrored()


def from_mirror(
    session: Session, letters: str, at_number: int, ack: int, data: bytes = b"", *, options: bytes = b""
) -> None:
    raw = packet(MASTER, session.client, letters, at_number, ack, data, options=options)
    session.take(raw, Hook.PREROUTING)


def opened(session: Session) -> int:
    """The number of the leg's first byte on the wire, once it stands."""
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
    other = Session(session.engine, client=at("10.10.0.11", 40002))
    other.connect()
    [(_, iss, _, _)] = wire(other)
    assert iss == InitialNumbers(KEY).first(other.client, MASTER, other.now)
    assert abs(seq.diff(seq.add(iss, -first), 0)) > 1 << 20, "although both clients have the same"


def test_data_acknowledgements_and_the_end_go_by_them(fast: bool) -> None:
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
    assert told(ack.raw) == ("A", seq.add(first, 15), seq.add(THEIRS, 6), b"")
    session.from_client("FA")
    assert wire(session) == [("FA", seq.add(first, 15), seq.add(THEIRS, 6), b"")]
    from_mirror(session, "FA", seq.add(THEIRS, 6), seq.add(first, 16))
    assert wire(session) == [("A", seq.add(first, 16), seq.add(THEIRS, 7), b"")]
    assert [event.reason for event in session.engine.take_events()] == ["closed"]


def test_an_acknowledgement_in_the_clients_numbers_is_none_of_the_legs(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"hello")
    wire(session)
    from_mirror(session, "A", THEIRS, seq.add(ISS, 6))
    assert wire(session) == [("A", seq.add(first, 5), THEIRS, b"")], "challenged (RFC 5961 §5.2)"
    assert session.engine.flows(session.now)[0]["legs"][0]["acked_bytes"] == 0


def test_selective_acknowledgements_are_read_in_them(fast: bool) -> None:
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


def test_errors_of_routers_are_read_in_them(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"x" * 1400)
    [data] = [one.raw for one in session.to_mirror]
    session.mirrored()
    error = icmp_error("10.20.0.254", "10.10.0.11", data)
    session.take(error, Hook.FORWARD)
    assert [(number, len(piece)) for _, number, _, piece in wire(session)] == [(first, 960), (seq.add(first, 960), 440)]
    other = Session(session.engine, client=at("10.10.0.11", 40002))
    other.connect()
    [syn] = other.to_mirror
    of_the_clients = packet(other.client, MASTER, "S", ISS)
    other.take(icmp_error("10.20.0.254", "10.10.0.11", of_the_clients, code=1), Hook.FORWARD)
    assert session.engine.take_events() == []
    other.take(icmp_error("10.20.0.254", "10.10.0.11", syn.raw, code=1), Hook.FORWARD)
    assert [event.reason for event in session.engine.take_events()] == ["unreachable"]


def test_a_refusal_has_to_name_the_number_on_the_wire(fast: bool) -> None:
    session = started(fast)
    session.connect()
    [(_, iss, _, _)] = wire(session)
    from_mirror(session, "RA", 0, seq.add(ISS, 1))
    assert session.engine.take_events() == []
    from_mirror(session, "RA", 0, seq.add(iss, 1))
    assert [event.reason for event in session.engine.take_events()] == ["refused"]


@pytest.mark.parametrize("protocol", ["raw", "openflow"])
def test_a_leftover_connection_at_the_mirror_is_cleared_and_called_within_two_round_trips(
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
def test_a_port_that_is_used_again_calls_with_a_higher_number(fast: bool, closes_first: str) -> None:
    session = started(fast)
    first = opened(session)
    for _ in range(40):  # faster than the clock
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
    again = Session(session.engine, iss=seq.add(ISS, -1000))
    again.connect()
    [(letters, iss, _, _)] = wire(again)
    assert letters == "S"
    assert 0 < seq.diff(iss, seq.add(first, session.sent)) <= 1 << 20


def test_so_does_one_whose_leg_has_stood_for_hours(fast: bool) -> None:
    session = started(fast)
    first = opened(session)
    other = Session(session.engine, client=at("10.10.0.11", 40002))
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
    again = Session(session.engine, iss=seq.add(ISS, 1 << 20))
    again.now = session.now + 1.0
    again.connect()
    [(_, iss, _, _)] = wire(again)
    assert seq.diff(iss, seq.add(first, session.sent)) > 0, "the mirror, in TIME-WAIT, takes no lower one"


def test_so_does_one_after_a_leg_that_a_fault_of_ours_has_ended(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
    again = Session(session.engine, iss=seq.add(ISS, 1 << 20))
    again.connect()
    [(_, iss, _, _)] = wire(again)
    assert 0 < seq.diff(iss, seq.add(first, session.sent)) <= 1 << 20


def test_nothing_that_a_mirror_is_shown_depends_on_the_clients_number(fast: bool) -> None:
    """The same session by two clients that differ in their numbers alone: the mirror sees no difference."""
    seen = []
    for iss in (ISS, 0x1234_5678):
        session = Session(Engine(parse_rules(RULES), key=KEY, fast=fast), iss=iss)
        first = opened(session)
        session.from_client("PA", b"hello")
        from_mirror(session, "A", THEIRS, first)
        from_mirror(session, "A", THEIRS, seq.add(first, 100_000))
        from_mirror(session, "A", seq.add(THEIRS, 5), seq.add(first, 5), b"ahead")
        due = session.engine.next_timer()
        assert due is not None
        later = sent(session.engine.handle_timer(due + 1.0))
        session.from_client("RA")
        seen.append([*(told(one.raw) for one in (*later, *session.to_mirror)), first])
    assert seen[0] == seen[1]


def test_what_a_mirror_knows_of_its_leg_makes_no_reset_that_production_believes(fast: bool) -> None:
    """Each name that it can use, the numbers of its leg, and those around them: no packet moves the flow's state."""
    session = started(fast)
    first = opened(session)
    session.from_client("PA", b"hello")
    session.from_backend("PA", b"answer")
    assert session.backend is not None
    for letters, data in (("R", b""), ("RA", b""), ("PA", b"forged"), ("S", b""), ("FA", b"")):
        for at_number in (first, seq.add(first, 5), THEIRS, seq.add(first, 6)):
            for names in ((CLIENT, session.service, Hook.PREROUTING), (session.backend, CLIENT, Hook.FORWARD)):
                if letters == "S" and names[0] == CLIENT:
                    continue  # an attempt to connect anew: challenged by the backend
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
        session = Session(Engine(replace(parse_rules(RULES), max_flows=10), key=key))
        firsts.add(opened(session))
    assert len(firsts) == 2


def test_legs_with_an_address_of_ours_have_them_too(fast: bool) -> None:
    session = started(fast, RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"))
    session.connect()
    [syn] = session.to_mirror
    local: Endpoint = (syn.src, syn.sport)
    assert syn.seq == InitialNumbers(KEY).first(local, MASTER, session.now)
    assert IRS != syn.seq != ISS
