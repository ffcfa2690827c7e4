"""Cells of docs/interruptions.md that no other test has: what a restart, a reload or a move costs a copy."""

import re

import pytest

from natmirror.actions import Accept, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.openflow import messages
from natmirror.openflow.messages import Type, build
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, FEATURES, OF, introduced, packet_in, request
from tests.helpers.support import C1, CLIENT, MASTER, RULES, SERVICE, assert_adds_up, packet, segment, summary

THROTTLED = RULES.replace("10.20.0.13}", "10.20.0.13, when-behind: throttle, buffer: 64KiB}")
WIDEST = 0xFFFF
HALF = 40_000  # bytes: more than half of what a leg may buffer


def mirrored_connection(rules: str, *, fast: bool) -> ClientConnection:
    """A connection whose leg is established."""
    connection = ClientConnection(engine(rules, fast=fast))
    connection.connect()
    connection.connect_mirror()
    return connection


def shown_window(connection: ClientConnection) -> int:
    """The window that the client sees when its backend offers the widest one."""
    return connection.from_backend("A").window


def reasons(one: Engine) -> list[str]:
    """Return the end reasons of legs since the last call."""
    return [event.reason for event in one.take_events()]


def reload(one: Engine, text: str) -> list[str]:
    """Change the rules as a thread does; return why legs have ended."""
    one.reload(parse_rules(text))
    one.end_removed(one.leg_ids(), 1000.0)
    return reasons(one)


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_is_throttled_until_a_restart_and_not_after_it(fast: bool) -> None:
    connection = mirrored_connection(THROTTLED, fast=fast)
    connection.from_client("PA", bytes(HALF))
    assert shown_window(connection) < WIDEST
    connection.engine = engine(THROTTLED, fast=fast)  # the new run
    connection.from_client("PA", bytes(HALF))
    connection.from_client("PA", bytes(HALF))
    assert shown_window(connection) == WIDEST
    assert_adds_up(connection.engine.snapshot(connection.now))


@pytest.mark.parametrize("fast", [True, False])
def test_an_adopted_copy_goes_on_without_throttling_its_client(fast: bool) -> None:
    connection = mirrored_connection(THROTTLED, fast=fast)
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    connection.from_mirror("A", 1, 1 + connection.sent)
    legs, other = connection.engine.replicated_legs, engine(THROTTLED, fast=fast)
    for record in legs.records(legs.ids(), everything=True):
        other.replicated_legs.adopt(record, connection.now)
    connection.engine = other
    other.handle_timer(connection.now)
    connection.from_mirror("A", 1, 1 + connection.sent)
    connection.from_client("PA", bytes(HALF))
    assert shown_window(connection) == WIDEST
    assert reasons(other) == []
    for _ in range(4):  # a throttling mirror's buffer has some slack
        connection.from_client("PA", bytes(HALF))
        assert shown_window(connection) == WIDEST
    assert reasons(other) == ["buffer-full"]
    assert_adds_up(other.snapshot(connection.now))


@pytest.mark.parametrize(
    "change",
    [
        ("name: master", "name: another"),
        ("name: openflow", "name: another"),
        ("10.20.0.13}", "10.20.0.13, port: 6654}"),
        ("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"),
        ("10.20.0.13}", "10.20.0.13, protocol: openflow}"),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_a_reload_that_makes_a_mirror_another_one_resets_its_legs(change: tuple[str, str], fast: bool) -> None:
    connection = mirrored_connection(RULES, fast=fast)
    assert len(reload(connection.engine, RULES.replace(*change))) == 1
    assert connection.from_client("PA", b"on").dst == connection.backend_address
    assert_adds_up(connection.engine.snapshot(connection.now))


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_that_did_not_notice_a_crash_is_reset_when_it_sends(fast: bool) -> None:
    connection = mirrored_connection(RULES, fast=fast)
    connection.engine = engine(fast=fast)  # the new run
    connection.mirrored()
    connection.from_mirror("A", 1, 1)
    [reset] = connection.to_mirror
    assert (summary(reset.raw)[0], reset.seq) == ("R", seq.add(ISS, 1))


@pytest.mark.parametrize("fast", [True, False])
def test_after_a_restart_a_direct_client_gets_answers_from_the_services_address(fast: bool) -> None:
    connection = ClientConnection(engine(fast=fast))
    connection.backend = C1
    out = connection.from_backend("PA", b"data")
    assert (out.src, out.dst) == (connection.service[0], CLIENT[0])


def test_a_session_begins_again_after_a_restart_once_the_switch_is_known() -> None:
    connection, _ = introduced(engine(AGAIN))
    connection.engine = engine(AGAIN)  # the new run, without a file of known switches
    connection.to_mirror.clear()
    connection.from_client("PA", packet_in(1))
    assert connection.mirrored() == []
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 6))
    connection.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 6, FEATURES))
    connection.from_client("PA", packet_in(2))
    assert [letters for letters, *_ in connection.mirrored()] == ["S"]


def test_without_reconnect_no_session_begins_again_after_a_restart() -> None:
    connection, _ = introduced(engine(OF))
    connection.engine = engine(OF)
    connection.to_mirror.clear()
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 6))
    connection.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 6, FEATURES))
    connection.from_client("PA", packet_in(1))
    assert connection.mirrored() == []


@pytest.mark.parametrize("fast", [True, False])
def test_a_removed_client_of_a_service_without_a_pool_keeps_its_connection(fast: bool) -> None:
    watched = re.sub(r"    pool:\n.*?(?=    mirrors:)", "", RULES, flags=re.DOTALL)
    one = engine(watched, fast=fast)
    for raw, hook in (
        (packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING),
        (packet(SERVICE, CLIENT, "SA", IRS, ISS + 1), Hook.FORWARD),
        (packet(CLIENT, SERVICE, "A", ISS + 1, IRS + 1), Hook.PREROUTING),
    ):
        assert one.receive(raw, hook, 1000.0).verdict == Accept()
    elsewhere = parse_rules(watched.replace("10.10.0.0/24", "10.11.0.0/24"))
    sends = one.expel(elsewhere.switches, one.flow_ids(), 1000.0)
    one.reload(elsewhere)
    assert {segment(send.packet).dst for send in sends if isinstance(send, Send)} == {MASTER[0]}, (
        "only the leg is reset"
    )
    assert (
        one.receive(packet(CLIENT, SERVICE, "PA", ISS + 1, IRS + 1, b"on"), Hook.PREROUTING, 1000.0).verdict == Accept()
    )
