"""Any bytes give a value or MalformedBody, after a number of steps that their length bounds."""

import sys
from collections.abc import Callable
from random import Random
from struct import pack
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.frames import frame_fields
from natmirror.openflow.bodies.text import body_text
from natmirror.openflow.bodies.values import Body, Opaque
from natmirror.openflow.decisions import fields_of
from natmirror.openflow.messages import TYPES, V10, V13, V14, V15, Message, Type, build, parse
from tests.helpers.openflow import ALL
from tests.helpers.openflow_bodies import FRAME, SAMPLES, changed

MAX_LEN = 0xFFFF
STEPS_PER_BYTE = 16
"""Lines of Python; the worst message found so far needs 10 for each of its bytes."""
everywhere = pytest.mark.parametrize("version", ALL)


def attempt(message: Message) -> Body | None:
    """Return the value, or None for a message that is malformed. Any value has a line, and what decisions show."""
    try:
        body = decode(message)
    except MalformedBody as error:
        assert str(error)
        return None
    assert hash(body) == hash(decode(message))
    assert body_text(body)
    fields_of(message)
    return body


def steps(function: Callable[[], object]) -> int:
    """Return the number of lines of Python that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@given(changed())
def test_a_changed_message_is_a_value_or_malformed(raw: bytes) -> None:
    attempt(parse(raw))


@given(st.sampled_from(ALL), st.integers(0, 40), st.binary(max_size=300))
def test_any_body_is_a_value_or_malformed(version: int, number: int, body: bytes) -> None:
    attempt(parse(pack("!BBHI", version, number, 8 + len(body), 1) + body))


@everywhere
def test_a_message_that_is_cut_off_anywhere(version: int) -> None:
    for raw in SAMPLES[version]:
        for length in range(8, len(raw)):
            attempt(parse(raw[:2] + pack("!H", length) + raw[4:length]))


@everywhere
def test_each_byte_changed(version: int) -> None:
    rng = Random(version)
    for raw in SAMPLES[version]:
        assert attempt(parse(raw)) is not None
        for place in range(8, len(raw)):
            for number in (0, 0xFF, rng.randrange(256)):
                attempt(parse(raw[:place] + bytes((number,)) + raw[place + 1 :]))


@everywhere
def test_each_other_type_is_opaque_and_named(version: int) -> None:
    decoded = {parse(raw).kind for raw in SAMPLES[version]} | {Type.MULTIPART_REQUEST}
    others = [kind for kind in TYPES[version] if kind is not None and kind not in decoded]
    assert others
    for kind in others:
        if kind in (Type.GROUP_MOD, Type.PORT_MOD, Type.TABLE_MOD, Type.METER_MOD, Type.ROLE_REQUEST):
            continue
        assert decode(parse(build(version, kind, 1, b"body"))) == Opaque(kind.name.lower(), b"body")


def test_bundles_do_not_nest() -> None:
    message = build(V14, Type.BARRIER_REQUEST, 1)
    for _ in range(3000):
        message = build(V14, Type.BUNDLE_ADD_MESSAGE, 1, pack("!I2xH", 1, 0) + message)
    with pytest.raises(MalformedBody, match="bundle"):
        decode(parse(message))
    experiment = build(V13, Type.BARRIER_REQUEST, 1)
    for _ in range(2000):
        head = pack("!III2xH", 0x4F4E4600, 2301, 1, 0)
        experiment = build(V13, Type.EXPERIMENTER, 1, head + experiment)
    with pytest.raises(MalformedBody, match="bundle"):
        decode(parse(experiment))


def _full(head: bytes, item: bytes) -> bytes:
    """Return a body that is as long as a message can be, of items."""
    return head + item * ((MAX_LEN - 8 - len(head)) // len(item))


def _worst() -> dict[str, bytes]:
    any_match = pack("!HH4x", 1, 4)
    flow = pack("!QQBBHHHIIIHH", 0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0, 0, 0, 0)
    different = b"".join(pack("!HBB", 0x100 + number // 128, number % 128 << 1, 0) for number in range(16_000))
    set_fields = b"".join(pack("!HHHBBI", 25, 16, 0x100 + n // 128, n % 128 << 1, 4, n) + bytes(4) for n in range(4000))
    bucket = pack("!HHII4x", 16, 0, 1, 1)
    sets = {
        "outputs": _full(flow + any_match + pack("!HH4x", 4, 65_472), pack("!HHI", 22, 8, 1))[: 48 + 65_472],
        "match": flow + pack("!HH", 1, 4 + len(different)) + different + bytes(4),
        "set": flow + any_match + pack("!HH4x", 3, 8 + len(set_fields)) + set_fields,
    }
    return {
        **{f"flow_mod {name}": build(V13, Type.FLOW_MOD, 1, body) for name, body in sets.items()},
        "buckets": build(V13, Type.GROUP_MOD, 1, _full(pack("!HBxI", 0, 0, 1), bucket)),
        "bands": build(V13, Type.METER_MOD, 1, _full(pack("!HHI", 0, 1, 1), pack("!HHIII", 1, 16, 1, 1, 0))),
        "properties": build(V14, Type.TABLE_MOD, 1, _full(pack("!B3xI", 0, 0), pack("!HH4x", 9, 8))),
        "flows": build(
            V15, Type.MULTIPART_REPLY, 1, _full(pack("!HH4x", 17, 0), pack("!H2xBBH", 24, 0, 0, 0) + any_match * 2)
        ),
        "actions of 1.0": build(
            V10, Type.PACKET_OUT, 1, _full(pack("!IHH", 0xFFFFFFFF, 1, 65_512), pack("!HHHH", 0, 8, 1, 0))
        ),
    }


@pytest.mark.parametrize("name", sorted(_worst()))
def test_the_longest_messages_need_a_bounded_number_of_steps(name: str) -> None:
    message = parse(_worst()[name])
    assert steps(lambda: attempt(message)) <= 3 * STEPS_PER_BYTE * len(message.raw)
    if name not in ("properties", "flows"):
        with pytest.raises(MalformedBody, match="more than"):
            decode(message)


@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_frame_has_fields(tail: bytes, length: int) -> None:
    frame_fields((FRAME + tail)[:length], 1)
    frame_fields(tail, 1)


@given(st.sampled_from((b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\x47", b"\x08\x06")), st.binary(max_size=120))
def test_any_packet_in_a_frame_has_fields(kind: bytes, packet: bytes) -> None:
    assert steps(lambda: frame_fields(bytes(12) + kind + packet, 1)) < 400


def test_lists_whose_decoding_would_take_milliseconds_are_refused() -> None:
    output = pack("!HHIH6x", 0, 16, 2, 0)

    def packet_out(count: int) -> Message:
        actions = output * count
        return parse(build(V13, Type.PACKET_OUT, 1, pack("!IIH6x", 0xFFFF_FFFF, 1, len(actions)) + actions))

    def group(count: int) -> Message:
        bucket = pack("!HHII4x", 32, 0, 0xFFFF_FFFF, 0xFFFF_FFFF) + output
        return parse(build(V13, Type.GROUP_MOD, 1, pack("!HBxI", 0, 0, 1) + bucket * count))

    assert attempt(packet_out(256)) is not None
    assert attempt(packet_out(257)) is None
    assert attempt(group(512)) is not None
    assert attempt(group(513)) is None
