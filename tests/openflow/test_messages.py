"""Numbers, HELLOs and natmirror's own messages, checked with os-ken."""

from itertools import product
from struct import pack

import pytest

from natmirror.openflow import messages
from natmirror.openflow.messages import TYPES, V10, V13, V14, V15, Message, Multipart, Type, build, hello, parse
from tests.helpers.openflow import ALL, HEADER, KITS, names, understood

OTHER_NAMES = {
    "EXPERIMENTER": "VENDOR",
    "MULTIPART_REQUEST": "STATS_REQUEST",
    "MULTIPART_REPLY": "STATS_REPLY",
}


def greeting(version: int, body: bytes = b"") -> Message:
    return parse(HEADER.pack(version, 0, 8 + len(body), 1) + body)


def bitmap(*versions: int, words: int = 1) -> bytes:
    bits = pack("!I", sum(1 << version for version in versions)) + bytes(4 * (words - 1))
    return pack("!HH", 1, 4 + len(bits)) + bits + bytes(-(4 + len(bits)) % 8)


@pytest.mark.parametrize("version", ALL)
def test_types_have_the_numbers_of_the_specification(version: int) -> None:
    ofproto = KITS[version].ofproto
    theirs = {name[5:]: number for name, number in vars(ofproto).items() if name.startswith("OFPT_")}
    ours = {
        (OTHER_NAMES.get(kind.name, kind.name) if version == V10 else kind.name): number
        for number, kind in enumerate(TYPES[version])
        if kind is not None
    }
    assert ours == theirs


@pytest.mark.parametrize("version", [V13, V14, V15])
def test_multiparts_have_the_numbers_of_the_specification(version: int) -> None:
    ofproto = KITS[version].ofproto
    for kind in Multipart:
        names = (kind.name, kind.name + "_STATS", kind.name + "_DESC", kind.name.replace("CONFIG", "DESC"))
        theirs = {getattr(ofproto, "OFPMP_" + name, None) for name in names}
        assert kind in theirs or (theirs == {None} and kind > Multipart.PORT_DESC), kind


@pytest.mark.parametrize("version", ALL)
def test_a_hello_offers_only_its_version(version: int) -> None:
    assert names(hello(version, 9)) == [("OFPHello", 9)]
    if version != V10:
        assert understood(hello(version, 9)).elements[0].versions == [version]
        assert messages.offered(parse(hello(version, 9))) == {version}


@pytest.mark.parametrize(
    ("version", "body", "offers"),
    [
        (V10, b"", {1}),
        (V13, b"", {1, 2, 3, 4}),
        (V13, bitmap(1, 4), {1, 4}),
        (V13, bitmap(0, 4), {4}),  # there is no version 0
        (V15, bitmap(4, words=3), {4}),
        (V13, pack("!HH", 7, 6) + bytes(4) + bitmap(4), {4}),  # after an unknown element with padding
        # malformed bitmaps are ignored
        (V13, bitmap(), {1, 2, 3, 4}),
        (V13, pack("!HH", 1, 4), {1, 2, 3, 4}),
        (V13, pack("!HH", 1, 6) + bytes(8), {1, 2, 3, 4}),
        (V13, pack("!HHH", 1, 8, 0), {1, 2, 3, 4}),
        (V13, pack("!HH", 1, 3) + bytes(8), {1, 2, 3, 4}),
        (V13, pack("!HH", 1, 0xFFFF) + pack("!I", 1 << 4), {1, 2, 3, 4}),
        (V10, b"hello there", {1}),
        (V13, b"\x00", {1, 2, 3, 4}),
    ],
)
def test_the_versions_that_a_hello_offers(version: int, body: bytes, offers: set[int]) -> None:
    assert messages.offered(greeting(version, body)) == offers


@pytest.mark.parametrize(
    ("one", "other", "version"),
    [
        (greeting(V10), greeting(V13), V10),
        (greeting(V15, bitmap(1, 4, 6)), greeting(V14, bitmap(1, 4, 5)), V13),
        (greeting(V15, bitmap(1, 4, 6)), greeting(V13), V13),
        (greeting(V15, bitmap(6)), greeting(V13), None),
        (greeting(V13, bitmap(4)), greeting(V10, bitmap(1)), None),
        (greeting(V13, bitmap(4)), greeting(V10), None),
        (greeting(V13), greeting(V14), V13),
        (greeting(9), greeting(V13), V13),
        (greeting(3), greeting(V13), 3),  # agreed on, but not supported here
        (greeting(V13, pack("!HH", 1, 4)), greeting(V13, bitmap(4)), V13),
    ],
)
def test_the_version_that_two_hellos_agree_on(one: Message, other: Message, version: int | None) -> None:
    assert messages.negotiated(one, other) == messages.negotiated(other, one) == version


@pytest.mark.parametrize(("version", "kind"), list(product(ALL, range(40))))
def test_an_error_has_the_beginning_of_its_request(version: int, kind: int) -> None:
    request = parse(HEADER.pack(version, kind, 108, 0xABCD) + bytes(range(100)))
    refusal = understood(messages.error(request, messages.BAD_REQUEST, messages.Refusal.EPERM))
    assert (refusal.xid, refusal.type, refusal.code, refusal.data) == (0xABCD, 1, 5, request.raw[:64])


@pytest.mark.parametrize("version", ALL)
def test_refusals_have_the_numbers_of_the_specification(version: int) -> None:
    ofproto = KITS[version].ofproto
    assert ofproto.OFPET_BAD_REQUEST == messages.BAD_REQUEST
    multipart, experimenter = ("STAT", "VENDOR") if version == V10 else ("MULTIPART", "EXPERIMENTER")
    names = {"BAD_MULTIPART": f"BAD_{multipart}", "BAD_EXPERIMENTER": f"BAD_{experimenter}"}
    for code in messages.Refusal:
        if version == V10 and code is messages.Refusal.IS_SLAVE:
            continue  # 1.0 has no roles
        assert getattr(ofproto, "OFPBRC_" + names.get(code.name, code.name)) == code


def test_a_message_that_is_too_long_cannot_be_built() -> None:
    assert len(build(V13, Type.ECHO_REPLY, 1, bytes(0xFFFF - 8))) == 0xFFFF
    with pytest.raises(ValueError, match="the limit is 65,535"):
        build(V13, Type.ECHO_REPLY, 1, bytes(0xFFFF - 7))


def test_hello_and_error_are_known_in_unsupported_versions() -> None:
    kinds = [parse(HEADER.pack(9, kind, 8, 0)).kind for kind in range(4)]
    assert kinds == [Type.HELLO, Type.ERROR, None, None]
    assert parse(HEADER.pack(V13, 200, 8, 0)).name == "unknown"


@pytest.mark.parametrize("version", ALL)
def test_type_flags_and_body_of_a_multipart_request(version: int) -> None:
    raw = KITS[version].make("OFPPortStatsRequest", 5, flags=0, port_no=3)
    kind, flags, body = messages.multipart_of(parse(raw))
    assert (kind, flags, int.from_bytes(body[: 2 if version == V10 else 4], "big")) == (Multipart.PORT_STATS, 0, 3)
    assert len(body) == 8
    with pytest.raises(ValueError, match="header"):
        messages.multipart_of(parse(build(version, Type.MULTIPART_REQUEST, 1, bytes(3))))
