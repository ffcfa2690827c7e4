"""A check's handshake with a controller: it sends only HELLO and ECHO, in whatever pieces the answers arrive."""

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
    """Return version, type, xid and body of each message."""
    out = []
    while raw:
        length = int.from_bytes(raw[2:4], "big")
        message = messages.parse(raw[:length])
        out.append((message.version, message.kind, message.xid, message.body))
        raw = raw[length:]
    return out


def controller(version: int, echo_xid: int) -> bytes:
    """Return all messages of a controller."""
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
def test_a_handshake_is_the_same_in_any_pieces(version: int, data: st.DataObject) -> None:
    handshake, received, sent, at = Handshake(), controller(version, 2), b"", 0
    while at < len(received):
        size = data.draw(st.integers(1, len(received) - at))
        assert not handshake.is_answered
        sent += handshake.receive(received[at : at + size])
        at += size
    assert handshake.is_answered
    assert handshake.version == version
    assert kinds(sent) == [(version, Type.ECHO_REQUEST, 2, b""), (version, Type.ECHO_REPLY, XID + 2, b"ping")]


def test_an_echo_with_another_xid_is_not_taken_for_ours() -> None:
    handshake = Handshake()
    assert handshake.awaited == "HELLO"
    handshake.receive(controller(V13, 3))
    assert (handshake.is_answered, handshake.awaited) == (False, "ECHO_REPLY")


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_a_handshake_sends_only_hello_and_echo_whatever_the_controller_sends(
    pieces: list[bytes], begins_with_hello: bool
) -> None:
    handshake, sent = Handshake(), b""
    with suppress(Broken):
        for piece in [messages.hello(V13, XID)] * begins_with_hello + pieces:
            sent += handshake.receive(piece)
    assert {kind for _, kind, _, _ in kinds(sent)} <= {Type.ECHO_REQUEST, Type.ECHO_REPLY}
