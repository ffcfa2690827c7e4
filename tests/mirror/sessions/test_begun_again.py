"""Sessions that begin again in mid-connection: a master gets no byte of which a version was seen before."""

from collections.abc import Callable

import pytest

from natmirror._ffi import lib
from natmirror.actions import Accept, Hook
from natmirror.mirror.copy_states import StreamState
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.openflow.messages import Type
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, Master, hello, introduced, packet_in, request
from tests.helpers.support import CLIENT, SERVICE, assert_adds_up, packet, segment

TRUTH, LIE, ONE, TWO = packet_in(0xAAAA), packet_in(0xEEEE), packet_in(1), packet_in(2)
FAR = 20 * len(ONE)
"""Bytes ahead of the client's next one: the backend keeps the true bytes that are sent there."""


def says(switch: ClientConnection, at: int, data: bytes, letters: str = "PA") -> None:
    number, ack = seq.add(switch.iss, 1 + switch.sent + at), seq.add(IRS, 1 + switch.answered)
    raw = packet(CLIENT, SERVICE, letters, number, ack, data)
    assert isinstance(switch.take(raw, Hook.PREROUTING), Accept)


def speak(switch: ClientConnection, data: bytes) -> None:
    switch.from_client("PA", data)
    switch.from_backend("A")
    switch.now += 0.5
    for send in switch.engine.handle_timer(switch.now):
        switch.to_mirror += [segment(raw) for raw in finish(send.packet, send.segment_len)]


def began(*, fast: bool) -> tuple[ClientConnection, Master]:
    switch, master = introduced(engine(AGAIN, fast=fast, release=Release.ACKNOWLEDGED))
    switch.from_backend("A")
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    return switch, master


def told(switch: ClientConnection, count: int, lie_after: int | None = None) -> list[int]:
    """Send ``count`` messages, the lie after ``lie_after`` bytes of them; return those that a new session's master
    gets, by number."""
    master = Master(switch)
    begin = switch.sent
    for number in range(count):
        speak(switch, LIE if switch.sent - begin == lie_after else packet_in(0x100 + number))
        master.take()
        if master.iss is not None and not master.said:
            master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert_adds_up(switch.engine.snapshot(switch.now))
    return [int.from_bytes(body[4:6], "big") for kind, _, body in master.messages() if kind is Type.PACKET_IN]


def other_version(switch: ClientConnection) -> None:
    says(switch, FAR, TRUTH)
    says(switch, 0, ONE)
    says(switch, 0, TWO)


def urgent(switch: ClientConnection) -> None:
    says(switch, FAR, TRUTH)
    says(switch, 0, ONE, "UPA")


def over_the_limit(switch: ClientConnection) -> None:
    other = ClientConnection(switch.engine, client=(CLIENT[0], 50_000))
    other.now = switch.now
    other.connect()
    for _ in range(int(lib.NM_TURNS_BURST) // lib.NM_TURN_OF_DATA):
        other.from_client("PA", b"late", at=4)  # behind a gap
    says(switch, FAR, TRUTH)
    switch.now += 1.0


def check_after(interrupt: Callable[[ClientConnection], None], *, fast: bool) -> None:
    """Check what a new session's master gets: the client's messages behind the one that its backend may have kept."""
    switch, first = began(fast=fast)
    interrupt(switch)
    numbers = told(switch, 26, FAR)
    first.take()
    assert not [body for kind, _, body in first.messages() if kind is Type.PACKET_IN]
    assert numbers
    assert min(numbers) > 0x100 + FAR // len(ONE)
    assert max(numbers) == 0x100 + 25
    assert 0xEEEE not in numbers


@pytest.mark.parametrize("interrupt", [other_version, urgent])
def test_what_the_backend_may_keep_from_before_is_not_told(
    fast: bool, interrupt: Callable[[ClientConnection], None]
) -> None:
    check_after(interrupt, fast=fast)


def test_what_passed_over_the_limit_is_not_told_either() -> None:
    check_after(over_the_limit, fast=True)


def test_a_session_begins_again_at_once_if_nothing_lies_ahead(fast: bool) -> None:
    switch, _ = began(fast=fast)
    says(switch, 0, ONE)
    says(switch, 0, TWO)
    assert told(switch, 6) == [0x102, 0x103, 0x104, 0x105]


def test_a_connection_ends_after_the_versions_of_its_last_bytes(fast: bool) -> None:
    switch, _ = began(fast=fast)
    says(switch, 0, ONE)
    switch.from_client("FPA", TWO)
    says(switch, -len(ONE) - 1, ONE)
    switch.from_backend("FA")
    switch.from_client("A")
    assert [flow["state"] for flow in switch.engine.flows(switch.now)] == ["time-wait"]
    assert_adds_up(switch.engine.snapshot(switch.now))


def test_a_stream_ends_with_its_fin_though_that_was_taken_for_a_byte(fast: bool) -> None:
    switch, _ = began(fast=fast)
    at = switch.sent
    switch.from_client("A", at=at + 1)  # it overtakes the FIN, and so does the next one
    switch.sent += 1
    switch.from_backend("A")
    switch.from_client("FA", at=at)
    [stream] = switch.engine._mirroring.streams.values()
    assert stream.state is StreamState.FINISHED
