"""A synthetic switch: its messages, its answers, and the answers to its PACKET_INs."""

import resource
import struct

import dpkt
import pytest

from natmirror.errors import HostError
from natmirror.lab.swarm import allow_files
from natmirror.lab.switch import ECHO_INTERVAL, SessionError, Switch, Tally

DPID = 0x1234
OF10, OF13 = 1, 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER, FEATURES, SET_CONFIG, PACKET_IN = 0, 1, 2, 3, 4, 5, 9, 10
PACKET_OUT, FLOW_MOD = 13, 14
MULTIPART, BARRIER = {OF10: 16, OF13: 18}, {OF10: 18, OF13: 20}
PORT_DESC = struct.pack("!HH4x", 13, 0)

both = pytest.mark.parametrize("version", [OF10, OF13])


def message(version: int, kind: int, body: bytes = b"", xid: int = 7) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), xid) + body


def sent_by(switch: Switch) -> list[tuple[int, int, bytes]]:
    """Return type, xid and body of the messages that the switch has sent since the last call."""
    found, stream = [], bytes(switch.out)
    switch.out.clear()
    while stream:
        _, kind, length, xid = struct.unpack_from("!BBHI", stream)
        found.append((kind, xid, stream[8:length]))
        stream = stream[length:]
    return found


def begun(version: int) -> tuple[Switch, Tally]:
    """Return a switch that has exchanged HELLOs."""
    tally = Tally()
    switch = Switch(version, DPID, tally, 0.0)
    switch.receive(message(version, HELLO), 0.0)
    sent_by(switch)
    return switch, tally


def asked(switch: Switch, version: int, kind: int, body: bytes = b"") -> list[tuple[int, int, bytes]]:
    switch.receive(message(version, kind, body), 0.0)
    return sent_by(switch)


def frames(switch: Switch, version: int) -> list[bytes]:
    """Return the frames of the PACKET_INs that the switch has sent."""
    return [
        body[10 if version == OF10 else 34 :] for kind, xid, body in sent_by(switch) if (kind, xid) == (PACKET_IN, 0)
    ]


def packet_out(version: int, frame: bytes) -> bytes:
    action = bytes(8) if version == OF10 else bytes(16)
    head = struct.pack("!IHH" if version == OF10 else "!IIH6x", 0xFFFFFFFF, 1, len(action))
    return message(version, PACKET_OUT, head + action + frame)


def test_only_a_hello_of_1_3_has_a_bitmap() -> None:
    assert sent_by(Switch(OF10, DPID, Tally(), 0.0)) == [(HELLO, 1, b"")]
    assert sent_by(Switch(OF13, DPID, Tally(), 0.0)) == [(HELLO, 1, bytes.fromhex("00010008 00000010"))]


@both
def test_a_switch_sends_features_and_comes_up(version: int) -> None:
    switch, tally = begun(version)
    [(kind, xid, body)] = asked(switch, version, FEATURES)
    assert (kind, xid) == (6, 7)
    assert struct.unpack_from("!QI", body) == (DPID, 0)
    assert len(body) == (24 + 4 * 48 if version == OF10 else 24)
    assert tally.up == (version == OF10)
    if version == OF13:
        [(kind, xid, body)] = asked(switch, version, MULTIPART[version], PORT_DESC)
        assert (kind, xid, len(body)) == (19, 7, 8 + 4 * 64)
        assert [struct.unpack_from("!I", body, 8 + 64 * index)[0] for index in range(4)] == [1, 2, 3, 4]
    asked(switch, version, FEATURES)
    assert (tally.up, switch.up) == (1, True)


def test_a_switch_comes_up_without_a_question_for_ports() -> None:
    switch, _ = begun(OF13)
    asked(switch, OF13, FEATURES)
    again = switch.tick(0.1)
    assert not switch.up
    switch.tick(again)
    assert switch.up


@both
@pytest.mark.parametrize(
    ("kind", "body", "lengths"),
    [
        (0, b"", {OF10: 1056, OF13: 1056}),  # DESC
        (1, b"", {OF10: 0, OF13: 0}),  # FLOW
        (2, b"", {OF10: 24, OF13: 24}),  # AGGREGATE
        (3, b"", {OF10: 64, OF13: 24}),  # TABLE
        (4, {OF10: struct.pack("!H6x", 0xFFFF), OF13: struct.pack("!I4x", 0xFFFFFFFF)}, {OF10: 416, OF13: 448}),
        (4, {OF10: struct.pack("!H6x", 2), OF13: struct.pack("!I4x", 2)}, {OF10: 104, OF13: 112}),  # PORT
        (4, {OF10: struct.pack("!H6x", 9), OF13: struct.pack("!I4x", 9)}, {OF10: 0, OF13: 0}),
    ],
)
def test_a_switch_answers_statistics(
    version: int, kind: int, body: dict[int, bytes] | bytes, lengths: dict[int, int]
) -> None:
    switch, _ = begun(version)
    head = struct.pack("!HH" if version == OF10 else "!HH4x", kind, 0)
    wanted = body if isinstance(body, bytes) else body[version]
    [(answer, xid, reply)] = asked(switch, version, MULTIPART[version], head + wanted)
    assert (answer, xid, reply[: len(head)]) == (MULTIPART[version] + 1, 7, head)
    assert len(reply) - len(head) == lengths[version]


@both
def test_a_switch_answers_questions_and_is_silent_otherwise(version: int) -> None:
    switch, tally = begun(version)
    assert asked(switch, version, ECHO_REQUEST, b"abc") == [(ECHO_REPLY, 7, b"abc")]
    assert asked(switch, version, BARRIER[version]) == [(BARRIER[version] + 1, 7, b"")]
    assert asked(switch, version, 7) == [(8, 7, b"\0\0\xff\xff")]
    assert asked(switch, version, SET_CONFIG, b"\0\1\0\x80") == []
    assert asked(switch, version, 7) == [(8, 7, b"\0\1\0\x80")]
    assert asked(switch, version, FLOW_MOD, bytes(64)) == []
    assert asked(switch, version, ERROR, struct.pack("!HH", 1, 6)) == []
    assert tally.errors == {"the controller sent OFPT_ERROR 1/6": 1}


def test_a_switch_accepts_a_role() -> None:
    switch, _ = begun(OF13)
    ask, master = struct.pack("!I4xQ", 0, 0), struct.pack("!I4xQ", 2, 5)
    assert asked(switch, OF13, 24, ask) == [(25, 7, struct.pack("!I4xQ", 1, 0))]
    assert asked(switch, OF13, 24, master) == [(25, 7, master)]
    assert asked(switch, OF13, 24, ask) == [(25, 7, struct.pack("!I4xQ", 2, 0))]


@both
@pytest.mark.parametrize(("kind", "code"), [(99, 1), (EXPERIMENTER, 3), ("multipart", 2), ("version", 0)])
def test_a_switch_refuses_unknown_messages(version: int, kind: int | str, code: int) -> None:
    switch, _ = begun(version)
    request = message(version, kind, bytes(100)) if isinstance(kind, int) else b""
    if kind == "multipart":
        request = message(version, MULTIPART[version], struct.pack("!HH4x", 77, 0))
    elif kind == "version":
        request = message(6, BARRIER[version])
    switch.receive(request, 0.0)
    assert sent_by(switch) == [(ERROR, 7, struct.pack("!HH", 1, code) + request[:64])]


@pytest.mark.parametrize(
    ("version", "hello", "agreed"),
    [
        (OF10, message(OF13, HELLO), True),
        (
            OF10,
            message(OF13, HELLO, bytes.fromhex("00010008 00000010")),
            True,
        ),  # the switch sent no bitmap: the lower version counts
        (OF13, message(OF10, HELLO), False),
        (OF13, message(6, HELLO), True),
        (OF13, message(6, HELLO, bytes.fromhex("00010008 00000050")), True),
        (OF13, message(6, HELLO, bytes.fromhex("00010008 00000040")), False),
    ],
)
def test_a_switch_agrees_on_its_version_or_ends_the_session(version: int, hello: bytes, agreed: bool) -> None:
    switch = Switch(version, DPID, Tally(), 0.0)
    sent_by(switch)
    if agreed:
        switch.receive(hello, 0.0)
        assert sent_by(switch) == []
    else:
        with pytest.raises(SessionError):
            switch.receive(hello, 0.0)
        assert sent_by(switch) == [(ERROR, 0, bytes(4))]


@both
def test_a_stream_in_any_pieces_is_the_same(version: int) -> None:
    stream = message(version, FEATURES) + message(version, ECHO_REQUEST, b"x") + message(version, BARRIER[version])
    whole, _ = begun(version)
    whole.receive(stream, 0.0)
    pieces, _ = begun(version)
    for at in range(len(stream)):
        pieces.receive(stream[at : at + 1], 0.0)
    assert bytes(pieces.out) == bytes(whole.out)


@both
@pytest.mark.parametrize("length", [0, 7])
def test_an_impossible_length_ends_the_session(version: int, length: int) -> None:
    switch, _ = begun(version)
    with pytest.raises(SessionError):
        switch.receive(struct.pack("!BBHI", version, ECHO_REQUEST, length, 0), 0.0)


@both
@pytest.mark.parametrize("kind", range(30))
def test_a_message_that_is_cut_short_raises_no_other_error(version: int, kind: int) -> None:
    for length in range(20):
        switch, _ = begun(version)
        switch.packet_in(0, 0.0)
        try:
            switch.receive(message(version, kind, bytes(length)), 0.0)
        except SessionError:
            continue


def test_a_switch_probes_after_silence_and_counts_unanswered_probes() -> None:
    switch, tally = begun(OF10)
    asked(switch, OF10, FEATURES)
    assert switch.tick(1.0) == ECHO_INTERVAL
    assert sent_by(switch) == []
    assert switch.tick(ECHO_INTERVAL) == 2 * ECHO_INTERVAL
    assert sent_by(switch) == [(ECHO_REQUEST, 0, b"")]
    switch.receive(message(OF10, ECHO_REPLY), 6.0)
    assert switch.tick(10.0) == 11.0
    switch.tick(11.0)
    assert tally.unanswered_echoes == 0
    switch.tick(16.0)
    assert (sent_by(switch), tally.unanswered_echoes) == ([(ECHO_REQUEST, 0, b"")] * 2, 1)


@both
def test_frames_are_valid_and_differ(version: int) -> None:
    switch, tally = begun(version)
    for number in range(100):
        switch.packet_in(number, 0.0)
    found = frames(switch, version)
    parsed = [dpkt.ethernet.Ethernet(frame) for frame in found]
    assert tally.sent == len(found) == len({frame.src for frame in parsed}) == 100
    assert {len(frame) for frame in found} == {64, 98}
    for request, answer in zip(parsed[::2], parsed[1::2], strict=True):
        assert (request.data.sha, request.dst) == (request.src, b"\xff" * 6)
        assert answer.dst == request.src
        written = answer.data.sum
        answer.data.sum = 0
        assert dpkt.ip.IP(bytes(answer.data)).sum == written
        assert isinstance(answer.data.data, dpkt.udp.UDP)
        assert answer.data.data.ulen == len(answer.data.data)


@both
def test_a_packet_out_is_matched_by_its_frame(version: int) -> None:
    switch, tally = begun(version)
    for number in range(3):
        switch.packet_in(number, float(number))
    first, second, third = frames(switch, version)
    switch.receive(packet_out(version, third) + packet_out(version, first), 10.0)
    # A repeated and an unknown frame
    switch.receive(packet_out(version, first) + packet_out(version, b"\xff" * 60), 11.0)
    assert (tally.answered, list(tally.latencies)) == (2, [8.0, 10.0])
    switch.receive(packet_out(version, b""), 12.0)
    assert (tally.answered, tally.latencies[-1], tally.packet_outs) == (3, 11.0, 5)
    assert second[6:12] not in (first[6:12], third[6:12])


@both
def test_a_flow_mod_is_matched_by_its_source_address(version: int) -> None:
    switch, tally = begun(version)
    switch.packet_in(0, 0.0)
    switch.packet_in(1, 1.0)
    source = frames(switch, version)[1][6:12]
    if version == OF10:
        body = struct.pack("!IH", 0, 1) + source + bytes(52)
    else:
        body = bytes(40) + struct.pack("!HH", 1, 14) + bytes.fromhex("80000806") + source + bytes(2)
    switch.receive(message(version, FLOW_MOD, bytes(len(body))) + message(version, FLOW_MOD, body), 3.0)
    assert (tally.answered, list(tally.latencies), tally.flow_mods) == (1, [2.0], 2)


def test_latencies_are_counted_from_a_time() -> None:
    switch, tally = begun(OF13)
    switch.packet_in(0, 1.0)
    tally.count_from(2.0)
    switch.packet_in(1, 2.0)
    for frame in frames(switch, OF13):
        switch.receive(packet_out(OF13, frame), 5.0)
    assert (tally.answered, list(tally.latencies)) == (2, [3.0])


def test_too_many_switches_for_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_files(100)
    with pytest.raises(HostError, match=r"1100 switches need 1116 open files, and the hard limit is 1024"):
        allow_files(1100)
