"""Mirrors that a command pauses: their copies end, none begin, and the ledger tells why."""

from typing import Any

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.openflow.messages import V13, Type, build
from natmirror.rules import OverrideKind, Overrides, parse_rules
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN as AGAIN_FOR_MASTER
from tests.helpers.openflow_sessions import FEATURES, Master, began, hello, introduced, packet_in, request
from tests.helpers.overrides import override
from tests.helpers.support import CLIENT, RULES, assert_adds_up, summary

MIRROR = "{name: master, address: 10.20.0.13}"
AGAIN = RULES.replace(MIRROR, MIRROR.replace("}", ", reconnect: next-segment}"))


def set_paused(one: Engine, text: str, now: float, *, paused: bool) -> list[Send]:
    """Pause the mirror of the rules, or resume it, as a thread does; return the packets that it sends."""
    rules = parse_rules(text)
    pause = override(rules, OverrideKind.PAUSE, "master")
    overrides = Overrides({pause.key: pause} if paused else {})
    one.reload(overrides.applied(rules))
    return [*one.end_removed(one.leg_ids(), now), *one.follow_mirrors(one.flow_ids(), now)]


def mirror_of(connection: ClientConnection) -> dict[str, Any]:
    snapshot: Any = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    return dict(snapshot["mirrors"][0])


def say(connection: ClientConnection, data: bytes) -> list[tuple[str, int, int, bytes]]:
    """Send a client's data and its acknowledgement; return the packets to the mirror."""
    connection.from_client("PA", data)
    connection.from_backend("A")
    return connection.mirrored()


def connected(one: Engine, port: int = CLIENT[1], now: float = 1000.0) -> ClientConnection:
    connection = ClientConnection(one, client=(CLIENT[0], port))
    connection.now = now
    connection.establish()
    return connection


def test_a_pause_ends_copies_and_begins_none_until_it_is_over(fast: bool) -> None:
    one = engine(fast=fast)
    connection = connected(one)
    say(connection, b"seen")
    connection.from_mirror("A", 1, 5)
    sent = set_paused(one, RULES, 1000.0, paused=True)
    assert [summary(action.packet)[0] for action in sent] == ["RA"]
    assert [event.reason for event in one.take_events()] == ["mirror-paused"]
    assert say(connection, b"unseen") == []
    later = ClientConnection(one, client=(CLIENT[0], 50_000))
    later.connect()
    assert (say(later, b"later"), later.to_mirror) == ([], [])
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (15, {"mirror-paused": 11})
    assert mirror["connections_not_copied"] == {"mirror-paused": 2}
    assert set_paused(one, RULES, 1000.0, paused=False) == []
    assert (say(connection, b"on"), say(later, b"on")) == ([], []), "reconnect: never"
    fresh = connected(one, 50_001)
    assert [letters for letters, *_ in say(fresh, b"copied")] == ["PA"]
    assert mirror_of(connection)["lost_bytes"] == {"mirror-paused": 15}


def test_copies_that_may_begin_again_do_so_after_the_pause(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    connection = connected(one)
    connection.now += 10
    say(connection, b"one")
    connection.from_mirror("A", 1, 4)
    set_paused(one, AGAIN, connection.now, paused=True)
    later = ClientConnection(one, client=(CLIENT[0], 50_000))
    later.now = connection.now
    later.connect()
    assert [say(connection, b"two"), say(connection, b"two"), say(later, b"new"), say(later, b"new")] == [[]] * 4
    set_paused(one, AGAIN, connection.now, paused=False)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 2}
    assert (say(connection, b"end"), say(later, b"end")) == ([], []), "the end of the message before is not known"
    assert say(connection, b"three") == [("S", seq.add(ISS, 12), 0, b"")]
    connection.from_mirror("SA", 0, 13)
    assert [data for *_, data in connection.mirrored()] == [b"three"]
    assert [letters for letters, *_ in say(later, b"begins")] == ["S"]
    assert mirror_of(connection)["lost_bytes"] == {"mirror-paused": 12, "reconnecting": 6}


def test_a_copy_that_waits_begins_not_while_its_mirror_is_paused(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    connection = connected(one)
    connection.now += 10
    say(connection, b"one")
    connection.from_mirror("RA", 1, 1)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    set_paused(one, AGAIN, connection.now, paused=True)
    assert mirror_of(connection)["connections_not_copied"] == {"mirror-paused": 1}
    assert [say(connection, b"two"), say(connection, b"two")] == [[], []]
    set_paused(one, AGAIN, connection.now, paused=False)
    connection.now += 2  # a silence ends a message
    assert [letters for letters, *_ in say(connection, b"three")] == ["S"]
    assert mirror_of(connection)["lost_bytes"] == {"mirror-reset": 3, "mirror-paused": 6}


def test_what_a_new_connection_would_get_names_the_pause() -> None:
    one = engine()
    set_paused(one, RULES, 1000.0, paused=True)
    [shown] = one.explanation.foresee(CLIENT[0], CLIENT[1], None, 1000.0)
    assert [copy["reason"] for copy in shown["copies"]] == ["mirror-paused"]


def test_a_session_ends_with_a_pause_and_a_new_one_follows_it(fast: bool) -> None:
    switch, master = introduced(engine(AGAIN_FOR_MASTER, fast=fast))
    switch.from_backend("A")
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert len(set_paused(switch.engine, AGAIN_FOR_MASTER, switch.now, paused=True)) == 1
    assert [event.reason for event in switch.engine.take_events()] == ["mirror-paused"]
    switch.now += 10
    switch.from_client("PA", packet_in(1))
    switch.from_backend("A")
    assert mirror_of(switch)["connections_not_copied"] == {"mirror-paused": 1}
    assert [leg["reason"] for leg in switch.engine.flows(switch.now)[0]["legs"]] == ["mirror-paused"]
    set_paused(switch.engine, AGAIN_FOR_MASTER, switch.now, paused=False)
    again = Master(switch)
    switch.from_client("PA", packet_in(2))
    switch.from_backend("A")
    again.take()
    assert again.iss is not None
    assert mirror_of(switch)["connections_not_copied"] == {}


def test_a_connection_that_opens_in_a_pause_has_its_session_afterwards(fast: bool) -> None:
    one = engine(AGAIN_FOR_MASTER, fast=fast)
    set_paused(one, AGAIN_FOR_MASTER, 1000.0, paused=True)
    switch, master = began(one)
    switch.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    switch.from_client("PA", build(V13, Type.FEATURES_REPLY, 5, FEATURES))
    switch.from_backend("A")
    master.take()
    assert master.iss is None
    assert mirror_of(switch)["connections_not_copied"] == {"mirror-paused": 1}
    set_paused(one, AGAIN_FOR_MASTER, switch.now, paused=False)
    switch.from_client("PA", packet_in(2))
    switch.from_backend("A")
    master.take()
    assert master.iss is not None
