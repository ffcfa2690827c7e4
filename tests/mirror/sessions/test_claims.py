"""A datapath id is what a client says of itself: who gets its session with a master, and what a master learns."""

import pytest

from natmirror.engine.engine import Engine
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.openflow import messages
from natmirror.openflow.messages import Type, build
from natmirror.rules import parse_rules
from natmirror.rules.shards import Shard
from tests.helpers.client_connection import KEY, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, FEATURES, OF, Master, began, hello, introduced, packet_in, request
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import CLIENT, at, at_once

V13 = messages.V13
OTHER = at("10.10.0.66", 40001)
OTHERS_FEATURES = FEATURES[:8] + bytes(16)
TENANTS = """
switches: [10.10.0.0/24]
services:
  - name: tenant-a
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13, protocol: openflow}]
  - name: tenant-b
    address: 10.10.0.101
    port: 6653
    pool: {backends: [{name: c2, address: 10.20.0.12}]}
    mirrors: [{name: master, address: 10.20.0.14, protocol: openflow}]
"""


def described(connection: ClientConnection, text: bytes) -> None:
    """Have the backend ask for the switch's description."""
    connection.from_backend("PA", build(V13, Type.MULTIPART_REQUEST, 6, bytes(8)))
    connection.from_client("PA", build(V13, Type.MULTIPART_REPLY, 6, bytes(8) + text.ljust(1056, b"\0")))


def claimed(one: Engine) -> tuple[ClientConnection, Master]:
    """Return a connection from another address whose switch sends the same datapath id, and its master."""
    connection, master = began(one, client=OTHER)
    master.say(hello(), request(Type.FEATURES_REQUEST, 77))
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", build(V13, Type.FEATURES_REPLY, 5, OTHERS_FEATURES))
    master.take()
    return connection, master


def got(master: Master, kind: Type) -> list[bytes]:
    """Return the bodies of the messages of a kind that a master got in its current session."""
    master.take()
    return [body for one, _, body in master.messages() if one is kind]


def begins_again(connection: ClientConnection, master: Master, seconds: float = 2.0) -> bool:
    """Return whether the master gets a session at the switch's next message."""
    connection.now += seconds
    connection.to_mirror.clear()
    master.iss = None
    connection.from_client("PA", packet_in(1))
    master.take()
    if master.iss is None:
        return False
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert got(master, Type.PACKET_IN) == [packet_in(1)[8:]]
    return True


@pytest.mark.parametrize("same_address", [False, True])
def test_a_master_never_learns_what_a_switch_of_another_service_said(fast: bool, same_address: bool) -> None:
    one = engine(TENANTS, fast=fast)
    first, master = introduced(one)
    described(first, b"switch of tenant A")
    second, _ = introduced(
        one,
        client=((CLIENT if same_address else OTHER)[0], 40002),
        service=at("10.10.0.101", 6653),
        at=at("10.20.0.14", 6653),
        features=OTHERS_FEATURES,
    )
    described(second, b"SWITCH OF TENANT B")
    master.say(request(Type.FEATURES_REQUEST, 50), build(V13, Type.MULTIPART_REQUEST, 51, bytes(8)))
    assert got(master, Type.FEATURES_REPLY) == [FEATURES, FEATURES]
    assert [body[8:].rstrip(b"\0") for body in got(master, Type.MULTIPART_REPLY)] == [b"switch of tenant A"]


@pytest.mark.parametrize("rules", [OF, AGAIN])
def test_a_claim_by_another_client_does_not_end_a_living_session(fast: bool, rules: str) -> None:
    one = engine(rules, fast=fast)
    first, master = introduced(one)
    claimant, claimants_master = claimed(one)
    assert got(claimants_master, Type.FEATURES_REPLY) == []
    for number in range(5):
        first.now += 10.0
        claimant.now = first.now
        first.from_client("PA", packet_in(number))
        claimant.from_client("PA", packet_in(100 + number))
    assert len(got(master, Type.PACKET_IN)) == 5
    [mirror] = one.snapshot(first.now)["mirrors"]
    assert (mirror["legs"], mirror["legs_opened"], mirror["legs_ended"]) == (1, 2, {"datapath-in-use": 1})
    legs = {flow["client"]: flow["legs"][0] for flow in one.flows(first.now)}
    assert legs["10.10.0.66:40001"]["reason"] == "datapath-in-use"
    assert legs["10.10.0.66:40001"]["messages_missed"] == 5


def test_a_silent_session_lives_as_long_as_its_controller_asks_for_no_echo(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    first, master = introduced(one)
    first.now += 3600.0
    claimant, _ = claimed(one)
    claimant.now = first.now
    claimant.from_client("PA", packet_in(9))
    first.from_client("PA", packet_in(1))
    assert got(master, Type.PACKET_IN) == [packet_in(1)[8:]]


@pytest.mark.parametrize("rules", [OF, AGAIN])
@pytest.mark.parametrize("end", ["FA", "RA"])
def test_a_claim_succeeds_when_the_older_connection_has_ended(fast: bool, rules: str, end: str) -> None:
    one = engine(rules, fast=fast)
    first, _ = introduced(one)
    claimant, master = claimed(one)
    assert not begins_again(claimant, master)
    first.now = claimant.now
    first.from_client(end)
    assert begins_again(claimant, master, 9.0)
    assert got(master, Type.FEATURES_REPLY) == [OTHERS_FEATURES]


def test_a_claim_succeeds_when_the_older_connection_does_not_answer_its_controller(fast: bool) -> None:
    """The switch now comes from another address, and its old connection has died without a sign."""
    one = engine(AGAIN, fast=fast)
    first, old_master = introduced(one)
    first.now += 30.0
    first.from_backend("PA", request(Type.ECHO_REQUEST, 1))
    claimant, master = claimed(one)
    claimant.now = first.now + 11.0
    assert not begins_again(claimant, master, 0.0)
    assert begins_again(claimant, master, 9.0)
    first.now = claimant.now + 1.0
    first.from_client("PA", packet_in(7))
    assert got(old_master, Type.PACKET_IN) == []
    assert one.snapshot(first.now)["mirrors"][0]["legs"] == 1, "one session of the switch is open"


def test_a_switch_that_reconnects_has_its_session_at_once(fast: bool) -> None:
    """Its older connection has died without a sign; the address is the same."""
    one = engine(OF, fast=fast)
    introduced(one)
    again, master = introduced(one, client=(CLIENT[0], 40002))
    again.from_client("PA", packet_in(1))
    assert got(master, Type.PACKET_IN) == [packet_in(1)[8:]]
    assert one.snapshot(again.now)["mirrors"][0]["legs_ended"] == {"newer-connection": 1}


def test_auxiliary_connections_have_sessions_of_their_own(fast: bool) -> None:
    one = engine(OF, fast=fast)
    main, master = introduced(one)
    auxiliary, others = introduced(one, client=(CLIENT[0], 40002), features=FEATURES[:13] + b"\1" + FEATURES[14:])
    for connection, its_master in ((main, master), (auxiliary, others)):
        connection.from_client("PA", packet_in(1))
        assert got(its_master, Type.PACKET_IN) == [packet_in(1)[8:]]


def test_a_claim_in_another_thread_does_not_end_a_living_session() -> None:
    claims = SwitchClaims()
    first_thread, second_thread = (
        RelativeEngine(at_once(parse_rules(AGAIN)), key=KEY, shard=Shard(number, 2), switch_claims=claims)
        for number in (1, 0)
    )
    first, master = introduced(first_thread)
    claimant, claimants_master = claimed(second_thread)
    assert not begins_again(claimant, claimants_master)
    first.from_client("PA", packet_in(1))
    assert got(master, Type.PACKET_IN) == [packet_in(1)[8:]]
    first.from_client("FA")
    assert begins_again(claimant, claimants_master)


def test_a_known_switch_serves_only_its_service(fast: bool) -> None:
    """The same client address and port has a connection to another service when natmirror starts."""
    before = engine(TENANTS)
    connection, _ = introduced(before)
    entry = before.directory.plain("tenant-a/10.10.0.11:40001", connection.now)
    assert entry is not None
    one = engine(TENANTS.replace("protocol: openflow", "protocol: openflow, reconnect: next-message"), fast=fast)
    one.directory.restore(entry, connection.now)
    other = ClientConnection(one, service=at("10.10.0.101", 6653))
    other.sent, other.answered = 5000, 5000
    other.from_client("PA", packet_in(1))
    assert other.to_mirror == []
    [flow] = one.flows(other.now)
    assert flow["legs"][0]["reason"] == "waits-for-features"


def test_a_picked_up_connection_waits_if_its_switch_is_anothers(fast: bool) -> None:
    before = engine(AGAIN)
    connection, _ = claimed(before)
    [entry] = [before.directory.plain(name, connection.now) for name in before.directory.connections(connection.now)]
    assert entry is not None
    one = engine(AGAIN, fast=fast)
    introduced(one)
    one.directory.restore(entry, connection.now)
    connection.engine = one
    connection.from_client("PA", packet_in(0))
    connection.from_backend("A")
    assert not begins_again(connection, Master(connection))
    [mirror] = one.snapshot(connection.now)["mirrors"]
    assert mirror["sessions"] is not None
    assert mirror["sessions"]["not_opened"] == {"datapath-in-use": 1}
    legs = {flow["client"]: flow["legs"][0] for flow in one.flows(connection.now)}
    assert legs["10.10.0.66:40001"]["reason"] == "datapath-in-use"
