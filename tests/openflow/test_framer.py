"""Messages in a stream: streams in any pieces, streams that are not OpenFlow, and picked up ones."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.framer import Broken, Framer
from natmirror.openflow.messages import V10, V13, V15, hello
from tests.helpers.openflow import ALL, HEADER, KITS, cut, packet_in

TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")


def header(version: int, kind: int, length: int = 8) -> bytes:
    return HEADER.pack(version, kind, length, 7)


def conversation(version: int) -> list[bytes]:
    kit = KITS[version]
    return [
        kit.make("OFPHello", 1),
        kit.make("OFPFeaturesRequest", 2),
        kit.make("OFPEchoRequest", 3, data=bytes(3000)),
        packet_in(version, 0, b"x" * 1500),
        kit.make("OFPBarrierRequest", 4),
    ]


def framed(framer: Framer, pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    """Return all messages, and the reason why the stream broke."""
    found: list[bytes] = []
    try:
        for piece in pieces:
            for raw in framer.push(piece):
                found.append(raw)  # messages before the break count
            assert framer.held < 0x10000
        list(framer.push(b""))
    except Broken as broken:
        return found, broken.reason
    return found, None


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1448, 1 << 20])
def test_any_segmentation_gives_the_same_messages(version: int, size: int) -> None:
    messages = conversation(version)
    stream = b"".join(messages)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert framed(Framer(), pieces) == (messages, None)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (TLS_CLIENT_HELLO, "tls"),
        (TLS_CLIENT_HELLO[:2], "tls"),
        (b"GET / HTTP/1.1\r\n", "not-openflow"),
        (b"\x00", "not-openflow"),
        (b"\xff", "not-openflow"),
        (b"\x04\x05", "not-openflow"),  # begins without a HELLO
        (header(22, 0), None),  # a HELLO whose version is the number of a TLS handshake record
        (header(22, 0)[:1], None),
        (header(V13, 0, 7), "bad-length"),
        (header(V13, 0, 0), "bad-length"),
        (header(V13, 0) + header(V13, 2, 3), "bad-length"),
        (header(V13, 0) + header(2, 5), "bad-version"),
        (header(V13, 0) + header(3, 10, 100), "bad-version"),
        (header(V13, 0) + header(3, 1), None),  # an ERROR in the version that its sender speaks
        (header(9, 0), None),
        (header(V13, 0) + header(V13, 99), None),  # an unknown type
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_streams_that_are_not_openflow_break_with_a_reason(stream: bytes, reason: str | None, size: int) -> None:
    assert framed(Framer(), [stream[at : at + size] for at in range(0, len(stream), size)])[1] == reason


@pytest.mark.parametrize("kind", [0, 1])
def test_after_negotiation_only_hello_and_error_may_have_other_versions(kind: int) -> None:
    framer = Framer()
    list(framer.push(hello(V13, 1)))
    framer.version = V13
    assert list(framer.push(header(V15, kind))) == [header(V15, kind)]
    with pytest.raises(Broken, match="bad-version"):
        list(framer.push(header(V10, 2)))


def test_complete_messages_before_the_break_are_yielded() -> None:
    framer, good = Framer(), hello(V13, 1)
    messages = framer.push(good + header(V13, 2, 3) + bytes(60_000))
    assert next(messages) == good
    with pytest.raises(Broken, match="bad-length"):
        next(messages)
    assert framer.held == 8
    for _ in range(2):
        with pytest.raises(Broken, match="bad-length"):
            list(framer.push(bytes(9)))


@pytest.mark.parametrize("version", ALL)
def test_a_picked_up_stream_begins_with_a_piece_of_whole_messages(version: int) -> None:
    framer, one = Framer(is_picked_up=True), packet_in(version)
    assert list(framer.push(one[5:])) == []
    assert list(framer.push(one[:-1])) == []
    assert list(framer.push(b"")) == []
    assert framer.skipped_bytes == 2 * len(one) - 6
    assert list(framer.push(one + one)) == [one, one]
    assert framer.version == version
    assert list(framer.push(one[:5])) == []
    assert list(framer.push(one[5:])) == [one]


def test_a_hello_in_a_picked_up_stream_does_not_set_the_version() -> None:
    framer = Framer(is_picked_up=True)
    assert list(framer.push(header(V15, 0))) == []
    assert list(framer.push(header(V13, 6))) == [header(V13, 6)]
    assert framer.version == V13


def test_a_picked_up_stream_does_not_begin_with_messages_of_two_versions() -> None:
    framer = Framer(is_picked_up=True)
    assert list(framer.push(header(V13, 2) + header(V10, 2))) == []


def test_the_framer_finds_the_next_message_after_a_gap() -> None:
    framer = Framer()
    framer.note_gap()  # before the first byte
    one = packet_in(V13)
    assert list(framer.push(one[7:])) == []
    assert list(framer.push(one)) == [one]
    list(framer.push(one[:20]))
    framer.note_gap()
    assert framer.held == 0
    assert list(framer.push(one[30:])) == []
    assert list(framer.push(header(V10, 2))) == []  # another version is not accepted as a start
    assert list(framer.push(one + one)) == [one, one]


places = st.lists(st.integers(0, 1 << 16), max_size=8)


@given(st.binary(max_size=300), places)
def test_any_bytes_in_any_pieces_give_messages_or_broken(stream: bytes, where: list[int]) -> None:
    for begin in (b"", hello(V13, 1)):
        whole = framed(Framer(), [begin + stream])
        assert framed(Framer(), cut(begin + stream, where)) == whole
        assert (begin + stream).startswith(b"".join(whole[0]))
        assert all(HEADER.unpack_from(raw)[2] == len(raw) for raw in whole[0])


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_any_bytes_of_a_picked_up_stream_give_messages_or_broken(pieces: list[bytes], is_lost: bool) -> None:
    framer = Framer(is_picked_up=True)
    found = framed(framer, pieces)[0]
    if is_lost:
        framer.note_gap()
        found += framed(framer, pieces)[0]
    assert all(HEADER.unpack_from(raw)[2] == len(raw) for raw in found)


@given(st.sampled_from(ALL), places)
def test_a_conversation_in_any_pieces_gives_its_messages(version: int, where: list[int]) -> None:
    messages = conversation(version)
    framer = Framer()
    assert list(chain(*map(framer.push, cut(b"".join(messages), where)))) == messages
    assert framer.held == 0
