"""Properties for any bytes of a switch, its controller and a master: bounds hold, the pieces do not matter, and
questions get answers."""

from collections import Counter
from itertools import groupby
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import TYPES, V10, V14, Multipart, Type, build, hello, parse
from natmirror.openflow.observer import _EXPERIMENT_COST, Observer
from natmirror.openflow.session import SessionPolicy, SwitchSession
from tests.helpers.openflow import (
    ALL,
    CONNECTION,
    HEADER,
    KITS,
    begun,
    client_memory,
    cut,
    exchange,
    features,
    flow_removed,
    introduced,
    multipart,
    packet_in,
    port,
    port_status,
    session,
    split,
    understood,
)

MAX_HELD = 4 << 20
NO_ANSWER = {Type.HELLO, Type.ERROR, Type.ECHO_REPLY}
versions = st.sampled_from(ALL)
places = st.lists(st.integers(0, 1 << 16), max_size=10)
xids = st.sampled_from([0, 1, 0xFFFF_FFFF])


@st.composite
def arbitrary_message(draw: st.DrawFn, version: int, *, xid: st.SearchStrategy[int] = xids) -> bytes:
    """Draw a message with a valid header and any body."""
    kind = draw(st.integers(0, 40))
    body = draw(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda end: pack("!HH", 13, 1) + end)))
    return HEADER.pack(version, kind, 8 + len(body), draw(xid)) + body


@st.composite
def message_of_switch(draw: st.DrawFn, version: int) -> bytes:
    """Draw a message of a switch that os-ken can parse."""
    xid, number = draw(xids), draw(st.integers(1, 3))
    described = port(version, number)
    return draw(
        st.sampled_from(
            [
                packet_in(version, xid),
                port_status(version, draw(st.integers(0, 2)), described),
                flow_removed(version),
                features(version, xid, ports=described if version == V10 else b""),
                multipart(version, xid, Multipart.TABLE, b"", more=draw(st.booleans())),
                multipart(version, xid, Multipart.PORT_DESC, described, more=draw(st.booleans())),
                build(version, Type.ERROR, xid, pack("!HH", 1, 1) + questions_of_controller(version, xid)[1]),
                build(version, Type.GET_CONFIG_REPLY, xid, bytes(4)),
                build(version, Type.BARRIER_REPLY, xid),
                KITS[version].make("OFPEchoRequest", xid, data=b""),
            ]
        )
    )


def questions_of_controller(version: int, xid: int) -> list[bytes]:
    """Return questions as os-ken writes them."""
    kit = KITS[version]
    names = ["OFPFeaturesRequest", "OFPGetConfigRequest", "OFPBarrierRequest"]
    multiparts = ["OFPTableStatsRequest", "OFPDescStatsRequest"]
    if version != V10:
        multiparts.append("OFPPortDescStatsRequest")
    return [kit.make(name, xid) for name in names] + [kit.make(name, xid, flags=0) for name in multiparts]


def run(production: Observer, steps: list[tuple[bool, bytes]], where: list[int]) -> tuple[list[object], str | None]:
    """Feed the bytes of both ends in pieces; return all yielded messages, and the reason why the connection broke."""
    yielded: list[object] = []
    try:
        for of_switch, stream in steps:
            for piece in cut(stream, where):
                if of_switch:
                    yielded += production.from_switch(piece, 1.0)
                else:
                    yielded += production.from_controller(piece)
                assert production.held <= MAX_HELD
                assert production.questions <= 1024
    except Broken as broken:
        return yielded, broken.reason
    return yielded, None


@st.composite
def conversations(draw: st.DrawFn, version: int) -> list[tuple[bool, bytes]]:
    """Draw the messages that the two ends send in turn."""
    switch = st.one_of(arbitrary_message(version), message_of_switch(version))
    controller = st.one_of(
        arbitrary_message(version), xids.flatmap(lambda x: st.sampled_from(questions_of_controller(version, x)))
    )
    turns = []
    for of_switch in draw(st.lists(st.booleans(), max_size=6)):
        turns.append((of_switch, b"".join(draw(st.lists(switch if of_switch else controller, max_size=5)))))
    return [(of_switch, b"".join(one for _, one in some)) for of_switch, some in groupby(turns, lambda turn: turn[0])]


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), max_size=6), places, st.booleans(), st.booleans())
def test_any_bytes_of_production_keep_the_bounds(
    steps: list[tuple[bool, bytes]], where: list[int], is_picked_up: bool, is_begun: bool
) -> None:
    production = (
        begun(ALL[1])[0]
        if is_begun
        else Observer(Directory(client_memory(1 << 24)), CONNECTION, is_picked_up=is_picked_up)
    )
    run(production, steps, where)


@given(versions.flatmap(lambda version: st.tuples(st.just(version), conversations(version))), places, st.booleans())
def test_production_in_any_pieces_is_the_same(
    case: tuple[int, list[tuple[bool, bytes]]], where: list[int], is_lost: bool
) -> None:
    version, steps = case
    outcomes = []
    for cuts in ([], where):
        production, directory = begun(version)
        found = run(production, steps, cuts)
        if is_lost:
            production.note_gap(of_switch=True)
            ids = _EXPERIMENT_COST * len(production._experiments)  # of an EXPERIMENTER, which may be answered later
            assert (production.questions, production.held) == (0, production._controller.held + ids)
            found[0].extend(run(production, steps, [])[0])
        outcomes.append((found, [one.plain(0.0) for one in directory._datapaths.values()]))
        used = sum(one.used for one in directory._datapaths.values())
        assert used == directory._memory.used
    assert outcomes[0] == outcomes[1]


# Masters


def made_for(version: int, *, knows: bool) -> tuple[SwitchSession, Observer]:
    """Return a session whose switch is known with all its answers, or not at all."""
    production, _ = introduced(version, ports=port(V10, 1) if version == V10 else b"") if knows else begun(version)
    if knows:
        kit = KITS[version]
        exchange(production, kit.make("OFPDescStatsRequest", 1, flags=0), multipart(version, 1, 0, bytes(1056)))
        exchange(production, kit.make("OFPGetConfigRequest", 1), build(version, Type.GET_CONFIG_REPLY, 1, bytes(4)))
        if version != V10:
            ports = [multipart(version, 1, 13, port(version, number), more=number < 3) for number in range(1, 4)]
            exchange(production, kit.make("OFPPortDescStatsRequest", 1, flags=0), *ports)
    production.heard_at = 0.0
    return SwitchSession(production, SessionPolicy()), production


def answers_to(made: SwitchSession, pieces: list[bytes]) -> tuple[bytes, list[bytes], str | None]:
    """Feed a master's bytes; return the session's bytes, the master's messages, and why the session broke."""
    out, messages = made.take(), []
    try:
        for piece in pieces:
            messages += [message.raw for message in made.from_master(piece, 1.0)]
            assert made.held <= MAX_HELD
            out += made.take()
    except Broken as broken:
        return out + made.take(), messages, broken.reason
    return out, messages, None


@given(versions, st.binary(max_size=200), places, st.booleans(), st.booleans())
def test_any_bytes_of_a_master_keep_the_bounds(
    version: int, stream: bytes, where: list[int], knows: bool, is_greeted: bool
) -> None:
    whole = hello(version, 1) * is_greeted + stream
    outcomes = [answers_to(made_for(version, knows=knows)[0], cut(whole, cuts)) for cuts in ([], where)]
    out = outcomes[0][0]
    assert out == outcomes[1][0]
    assert [understood(raw).version for raw in split(out)] == [version] * len(split(out))


def is_asking(raw: bytes) -> bool:
    """Return whether a master's message has to be answered, by its type."""
    kind = parse(raw).kind
    return kind is None or kind.name.endswith("_REQUEST") or kind is Type.BUNDLE_CONTROL


@given(versions.flatmap(lambda version: st.tuples(st.just(version), st.data())), places, st.booleans(), st.booleans())
def test_each_question_has_one_answer_in_order(
    case: tuple[int, st.DataObject], where: list[int], knows: bool, is_fresh: bool
) -> None:
    version, data = case
    asked = [
        raw[:4] + pack("!I", xid) + raw[8:]
        for xid, raw in enumerate(
            data.draw(
                st.lists(
                    st.one_of(arbitrary_message(version), st.sampled_from(questions_of_controller(version, 0))),
                    max_size=12,
                )
            ),
            100,
        )
    ]
    asked = [raw for raw in asked if parse(raw).kind is not Type.HELLO]
    asked_by = {parse(raw).xid: raw for raw in asked}
    stream = hello(version, 1) + b"".join(asked)
    outcomes = []
    for cuts in ([], where):
        made, production = made_for(version, knows=knows)
        out, messages, reason = answers_to(made, cut(stream, cuts))
        assert (reason, b"".join(messages)) == (None, stream)
        if not knows:
            question = KITS[version].make("OFPFeaturesRequest", 1)
            exchange(production, question, features(version, 1), now=1.0 if is_fresh else -100.0)
            list(made.switch_known(1.0))
            made.settle(9.0)
            out += made.take()
        outcomes.append(out)
        assert made.held == 0
    assert outcomes[0] == outcomes[1]
    greeting, *answers = split(outcomes[0])
    assert greeting == hello(version, 1)
    assert all(understood(raw).version == version for raw in answers)
    answered = [HEADER.unpack_from(raw)[3] for raw in answers if parse(raw).kind is not Type.ECHO_REPLY]
    answered = [xid for xid, _ in groupby(answered)]  # an answer may have parts
    assert len(answered) == len(set(answered))
    for place, xid in enumerate(answered):
        if not is_fresh or parse(asked_by[xid]).kind is Type.BARRIER_REQUEST:
            assert all(later > xid for later in answered[place + 1 :])
    all_answered = {HEADER.unpack_from(raw)[3] for raw in answers}
    must = {parse(raw).xid for raw in asked if is_asking(raw) and not _has_more(raw)}
    may = {parse(raw).xid for raw in asked if parse(raw).kind not in NO_ANSWER}
    assert must <= all_answered <= may
    parts = Counter(HEADER.unpack_from(raw)[3] for raw in answers if parse(raw).kind is not Type.MULTIPART_REPLY)
    assert not parts or max(parts.values()) == 1


def _has_more(raw: bytes) -> bool:
    message = parse(raw)
    return message.kind is Type.MULTIPART_REQUEST and len(message.body) >= 4 and bool(message.body[3] & 1)


@given(
    versions.flatmap(lambda version: st.tuples(st.just(version), st.lists(message_of_switch(version), max_size=12))),
    places,
    st.integers(0, 12),
    st.booleans(),
)
def test_a_master_gets_the_switchs_asynchronous_messages(
    case: tuple[int, list[bytes]], where: list[int], introduced_after: int, is_behind: bool
) -> None:
    version, sent = case
    outcomes = []
    for cuts in ([], where):
        production, _ = introduced(version)
        made = session(production, greeted=False)
        made.take()
        list(made.from_master(hello(version, 1), 0.0))
        for place, some in enumerate((sent[:introduced_after], sent[introduced_after:])):
            if place:
                list(made.from_master(build(version, Type.FEATURES_REQUEST, 9), 0.0))
            for piece in cut(b"".join(some), cuts):
                for what, message in production.from_switch(piece, 0.0):
                    made.from_switch(what, message, has_room=not is_behind)
        outcomes.append(made.take())
        assert made.held == 0
    assert outcomes[0] == outcomes[1]
    answer, *received = split(outcomes[0])
    assert HEADER.unpack_from(answer)[3] == 9
    asynchronous = {Type.PACKET_IN, Type.PORT_STATUS, Type.FLOW_REMOVED, Type.ECHO_REQUEST}
    if is_behind:
        asynchronous.discard(Type.PACKET_IN)
    assert received == [raw for raw in sent if parse(raw).kind in asynchronous]
    assert all(understood(raw).version == version for raw in received)


@pytest.mark.parametrize("version", ALL)
def test_all_types_are_tried(version: int) -> None:
    assert len(TYPES[version]) <= 41
    assert (version >= V14) == (len(TYPES[version]) > 30)
