"""Masters that a reload adds or gives another address: sessions with the switches that are connected already."""

from itertools import pairwise
from typing import Any

import pytest

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_flags import has_reader
from natmirror.net.build import finish
from natmirror.net.endpoint import Endpoint
from natmirror.openflow import messages
from natmirror.openflow.messages import Type
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, FEATURES, Master, hello, introduced, packet_in, request
from tests.helpers.support import RULES, assert_adds_up, at, segment

OTHER = at("10.20.0.15", 6653)
LINE = "      - {name: other, address: 10.20.0.15, protocol: openflow, reconnect: next-message}\n"
BOTH = AGAIN + LINE
MOVED = AGAIN.replace("10.20.0.13", "10.20.0.15")
NONE = RULES[: RULES.index("    mirrors:")]


def follow(connection: ClientConnection, text: str) -> None:
    """Apply rules as a thread does, and keep the packets to mirrors."""
    one = connection.engine
    one.reload(parse_rules(text))
    _keep(connection, one.end_removed(one.leg_ids(), connection.now))
    _keep(connection, one.follow_mirrors(one.flow_ids(), connection.now))
    one.prune()
    _keep(connection, one.read_sessions(connection.now))


def _keep(connection: ClientConnection, sends: list[Send]) -> None:
    for send in sends:
        connection.to_mirror += [segment(raw) for raw in finish(send.packet, send.segment_len)]


def speak(connection: ClientConnection, number: int) -> None:
    """Send a PACKET_IN, and the controller's acknowledgement."""
    connection.from_client("PA", packet_in(number))
    connection.from_backend("A")


def meet(connection: ClientConnection, endpoint: Endpoint) -> Master:
    """Return a master that accepts the packets to its endpoint, and asks for the switch's features."""
    connection.to_mirror = [one for one in connection.to_mirror if (one.dst, one.dport) == endpoint]
    master = Master(connection, endpoint)
    master.take()
    if master.iss is not None:
        master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    return master


def numbers(master: Master) -> list[int]:
    """The PACKET_INs that a master got."""
    return [int.from_bytes(body[4:6], "big") for kind, _, body in master.messages() if kind is Type.PACKET_IN]


def leg_of(one: Engine, now: float, name: str) -> dict[str, Any]:
    [flow] = one.flows(now)
    return next(dict(leg) for leg in reversed(flow["legs"]) if leg["mirror"] == name)


@pytest.mark.parametrize("release", [Release.SEEN, Release.ACKNOWLEDGED])
def test_an_added_master_gets_a_session_at_the_switchs_next_message(fast: bool, release: Release) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast, release=release))
    speak(connection, 1)
    follow(connection, BOTH)
    speak(connection, 2)
    other = meet(connection, OTHER)
    speak(connection, 3)
    other.take()
    assert numbers(other) == [2, 3]
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    assert [mirror["legs"] for mirror in snapshot["mirrors"]] == [1, 1]


def test_an_added_master_without_reconnect_waits_for_the_next_connection(fast: bool) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast))
    never = BOTH.replace("10.20.0.15, protocol: openflow, reconnect: next-message", "10.20.0.15, protocol: openflow")
    follow(connection, never)
    speak(connection, 2)
    assert meet(connection, OTHER).iss is None
    assert leg_of(connection.engine, connection.now, "other")["reason"] == "mirror-added"
    mirrors = connection.engine.snapshot(connection.now)["mirrors"]
    assert mirrors[1]["connections_not_copied"] == {"mirror-added": 1}
    follow(connection, BOTH)
    speak(connection, 3)
    assert numbers(meet(connection, OTHER)) == [3], "the rules let it begin now"


@pytest.mark.parametrize("release", [Release.SEEN, Release.ACKNOWLEDGED])
def test_a_master_with_another_address_gets_a_session_there(fast: bool, release: Release) -> None:
    connection, first = introduced(engine(AGAIN, fast=fast, release=release))
    speak(connection, 1)
    first.take()
    follow(connection, MOVED)
    first.take()
    assert "R" in first.ended
    speak(connection, 2)
    speak(connection, 3)
    moved = meet(connection, OTHER)
    speak(connection, 4)
    moved.take()
    assert numbers(moved) == [2, 3, 4]
    assert_adds_up(connection.engine.snapshot(connection.now))


@pytest.mark.parametrize("release", [Release.SEEN, Release.ACKNOWLEDGED])
def test_a_connection_that_its_switch_has_closed_gets_no_session(fast: bool, release: Release) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast, release=release))
    follow(connection, NONE)
    connection.from_client("FA")
    connection.from_backend("A")
    follow(connection, BOTH)
    [stream] = connection.engine._mirroring.streams.values()
    assert not has_reader(stream.flow.row), "nothing follows a FIN"
    connection.from_backend("A")
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    assert [mirror["legs"] for mirror in snapshot["mirrors"]] == [0, 0]


@pytest.mark.parametrize("release", [Release.SEEN, Release.ACKNOWLEDGED])
def test_what_passes_while_no_master_is_there_is_missed(fast: bool, release: Release) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast, release=release))
    connection.from_backend("A")
    follow(connection, NONE)
    speak(connection, 1)
    connection.from_client("PA", packet_in(2)[:9])  # a message is cut into two
    follow(connection, MOVED)
    connection.from_client("PA", packet_in(2)[9:])
    connection.from_backend("A")
    speak(connection, 3)
    moved = meet(connection, OTHER)
    speak(connection, 4)
    moved.take()
    assert numbers(moved) == [3, 4]
    assert_adds_up(connection.engine.snapshot(connection.now))


@pytest.mark.parametrize("text", [NONE, RULES])
def test_the_first_master_of_a_service_waits_for_the_switchs_features(fast: bool, text: str) -> None:
    connection = ClientConnection(engine(text, fast=fast))
    connection.connect()
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    speak(connection, 1)
    follow(connection, MOVED)
    speak(connection, 2)
    assert meet(connection, OTHER).iss is None
    leg = leg_of(connection.engine, connection.now, "master")
    assert (leg["reason"], leg["messages_missed"]) == ("waits-for-features", 1)
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", messages.build(messages.V13, Type.FEATURES_REPLY, 5, FEATURES))
    connection.from_backend("A")
    speak(connection, 3)
    moved = meet(connection, OTHER)
    assert numbers(moved) == [3]
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_a_master_after_none_is_compared_though_bytes_have_passed_unread(fast: bool) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast))
    compared = MOVED.replace("protocol: openflow", "protocol: openflow, verdict: on")
    follow(connection, compared)
    follow(connection, NONE)
    speak(connection, 1)
    follow(connection, compared)
    speak(connection, 2)
    speak(connection, 3)
    meet(connection, OTHER)
    connection.now += 10.0
    _keep(connection, connection.engine.handle_timer(connection.now))
    _keep(connection, connection.engine.read_sessions(connection.now))
    sums = connection.judged.comparisons.get("openflow", "master")
    assert sums is not None
    tables = sums.since(0.0).tables
    assert (tables.connections, tables.sessions) == (1, 1)
    assert dict(tables.not_followed) == {}


def test_an_added_master_gets_no_features_of_an_earlier_switch_with_the_same_address(fast: bool) -> None:
    known, _ = introduced(engine(AGAIN, fast=fast))
    [name] = known.engine.directory.connections(known.now)
    former = known.engine.directory.plain(name, known.now)
    assert former is not None
    one = engine(NONE, fast=fast)
    one.directory.restore(former, known.now)
    connection = ClientConnection(one)
    connection.connect()  # behind the same NAT: another switch
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    speak(connection, 1)
    follow(connection, MOVED)
    speak(connection, 2)
    speak(connection, 3)
    assert meet(connection, OTHER).iss is None
    assert leg_of(one, connection.now, "master")["reason"] == "waits-for-features"


def test_masters_that_come_and_go_leave_nothing_behind(fast: bool) -> None:
    connection, _ = introduced(engine(AGAIN, fast=fast))
    used: list[int] = []
    for _ in range(40):
        follow(connection, BOTH)
        connection.now += 20.0
        speak(connection, 2)
        meet(connection, OTHER)
        follow(connection, AGAIN)
        used.append(connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"])
        [flow] = connection.engine.flows(connection.now)
        assert [leg["mirror"] for leg in flow["legs"]] == ["master"]
    growth = {later - before for before, later in pairwise(used)}
    assert len(growth) == 1, "each time a PACKET_IN, and nothing else"
