"""What a check says to a controller: the same however its answers are cut, and no more than HELLO and ECHO."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow import messages
from natmirror.openflow.framer import Broken
from natmirror.openflow.handshake import Handshake
from natmirror.openflow.messages import V10, V13, V14, V15, VERSIONS, Type

XID = 0x1234


def kinds(raw: bytes) -> list[tuple[int, Type | None, int, bytes]]:
    """Version, type, xid and body of each message."""
    out = []
    while raw:
        length = int.from_bytes(raw[2:4], "big")
        message = messages.parse(raw[:length])
        out.append((message.version, message.kind, message.xid, message.body))
        raw = raw[length:]
    return out


def controller(version: int, echo_xid: int) -> bytes:
    """All that a controller says."""
    return (
        messages.hello(version, XID)
        + messages.build(version, Type.FEATURES_REQUEST, XID + 1)
        + messages.build(version, Type.ECHO_REQUEST, XID + 2, b"ping")
        + messages.build(version, Type.ECHO_REPLY, echo_xid)
    )


def test_the_hello_offers_all_versions() -> None:
    hello = messages.parse(Handshake().begin())
    assert (hello.version, hello.kind, messages.offered(hello)) == (V15, Type.HELLO, set(VERSIONS))


@pytest.mark.parametrize("version", [V10, V13, V14, V15])
@given(data=st.data())
def test_a_greeting_is_the_same_in_any_pieces(version: int, data: st.DataObject) -> None:
    greeting, said, sent, at = Handshake(), controller(version, 2), b"", 0
    while at < len(said):
        size = data.draw(st.integers(1, len(said) - at))
        assert not greeting.is_answered
        sent += greeting.receive(said[at : at + size])
        at += size
    assert greeting.is_answered
    assert greeting.version == version
    assert kinds(sent) == [(version, Type.ECHO_REQUEST, 2, b""), (version, Type.ECHO_REPLY, XID + 2, b"ping")]


def test_another_echo_is_not_taken_for_ours() -> None:
    greeting = Handshake()
    assert greeting.awaited == "HELLO"
    greeting.receive(controller(V13, 3))
    assert (greeting.is_answered, greeting.awaited) == (False, "ECHO_REPLY")


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_whatever_it_is_told_it_says_no_more_than_hello_and_echo(pieces: list[bytes], begins_well: bool) -> None:
    greeting, sent = Handshake(), b""
    with suppress(Broken):
        for piece in [messages.hello(V13, XID)] * begins_well + pieces:
            sent += greeting.receive(piece)
    assert {kind for _, kind, _, _ in kinds(sent)} <= {Type.ECHO_REQUEST, Type.ECHO_REPLY}
