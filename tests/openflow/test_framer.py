"""Messages out of a stream: any cutting, what is no OpenFlow, streams met in their middle."""

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


def told(framer: Framer, pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    """All messages, and why the stream broke."""
    found: list[bytes] = []
    try:
        for piece in pieces:
            for raw in framer.push(piece):
                found.append(raw)  # what comes before the stream breaks counts
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
    assert told(Framer(), pieces) == (messages, None)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (TLS_CLIENT_HELLO, "tls"),
        (TLS_CLIENT_HELLO[:2], "tls"),
        (b"GET / HTTP/1.1\r\n", "not-openflow"),
        (b"\x00", "not-openflow"),
        (b"\xff", "not-openflow"),
        (b"\x04\x05", "not-openflow"),  # who begins without a HELLO
        (header(22, 0), None),  # a version like TLS's type, in a HELLO
        (header(22, 0)[:1], None),
        (header(V13, 0, 7), "bad-length"),
        (header(V13, 0, 0), "bad-length"),
        (header(V13, 0) + header(V13, 2, 3), "bad-length"),
        (header(V13, 0) + header(2, 5), "bad-version"),
        (header(V13, 0) + header(3, 10, 100), "bad-version"),
        (header(V13, 0) + header(3, 1), None),  # how an end says that it speaks something else
        (header(9, 0), None),
        (header(V13, 0) + header(V13, 99), None),  # a type that nobody knows has a length, too
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_openflow_is_named(stream: bytes, reason: str | None, size: int) -> None:
    assert told(Framer(), [stream[at : at + size] for at in range(0, len(stream), size)])[1] == reason


@pytest.mark.parametrize("kind", [0, 1])
def test_once_the_version_is_agreed_on_only_hello_and_error_have_others(kind: int) -> None:
    framer = Framer()
    list(framer.push(hello(V13, 1)))
    framer.version = V13
    assert list(framer.push(header(V15, kind))) == [header(V15, kind)]
    with pytest.raises(Broken, match="bad-version"):
        list(framer.push(header(V10, 2)))


def test_what_is_whole_before_the_break_comes_out() -> None:
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
def test_a_stream_met_in_its_middle_begins_with_a_piece_of_whole_messages(version: int) -> None:
    framer, one = Framer(in_middle=True), packet_in(version)
    assert list(framer.push(one[5:])) == []
    assert list(framer.push(one[:-1])) == []
    assert list(framer.push(b"")) == []
    assert framer.skipped_bytes == 2 * len(one) - 6
    assert list(framer.push(one + one)) == [one, one]
    assert framer.version == version
    assert list(framer.push(one[:5])) == []
    assert list(framer.push(one[5:])) == [one]


def test_a_hello_in_the_middle_does_not_tell_what_is_spoken() -> None:
    framer = Framer(in_middle=True)
    assert list(framer.push(header(V15, 0))) == []
    assert list(framer.push(header(V13, 6))) == [header(V13, 6)]
    assert framer.version == V13


def test_messages_of_two_versions_are_no_place_to_begin() -> None:
    framer = Framer(in_middle=True)
    assert list(framer.push(header(V13, 2) + header(V10, 2))) == []


def test_a_place_lost_is_found_again() -> None:
    framer = Framer()
    framer.lose_place()  # before anything was seen
    one = packet_in(V13)
    assert list(framer.push(one[7:])) == []
    assert list(framer.push(one)) == [one]
    list(framer.push(one[:20]))
    framer.lose_place()
    assert framer.held == 0
    assert list(framer.push(one[30:])) == []
    assert list(framer.push(header(V10, 2))) == []  # another version is no sign
    assert list(framer.push(one + one)) == [one, one]


places = st.lists(st.integers(0, 1 << 16), max_size=8)


@given(st.binary(max_size=300), places)
def test_any_bytes_in_any_cutting_give_messages_or_broken(stream: bytes, where: list[int]) -> None:
    for begin in (b"", hello(V13, 1)):
        whole = told(Framer(), [begin + stream])
        assert told(Framer(), cut(begin + stream, where)) == whole
        assert (begin + stream).startswith(b"".join(whole[0]))
        assert all(HEADER.unpack_from(raw)[2] == len(raw) for raw in whole[0])


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_any_bytes_in_the_middle_give_messages_or_broken(pieces: list[bytes], is_lost: bool) -> None:
    framer = Framer(in_middle=True)
    found = told(framer, pieces)[0]
    if is_lost:
        framer.lose_place()
        found += told(framer, pieces)[0]
    assert all(HEADER.unpack_from(raw)[2] == len(raw) for raw in found)


@given(st.sampled_from(ALL), places)
def test_a_conversation_in_any_cutting(version: int, where: list[int]) -> None:
    messages = conversation(version)
    framer = Framer()
    assert list(chain(*map(framer.push, cut(b"".join(messages), where)))) == messages
    assert framer.held == 0
