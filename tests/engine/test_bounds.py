"""What a peer makes long is done in several calls, each of which does a bounded part, and comes out the same."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from struct import pack
from typing import Any

import pytest

from natmirror.actions import Hook, Send
from natmirror.engine.engine import Engine
from natmirror.fastpath import LEG_MAX_SEGMENTS
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.packet import FIN, RST, SYN, Segment
from natmirror.openflow import directory as directory_module
from natmirror.openflow import messages
from natmirror.openflow.messages import Type, build
from natmirror.openflow.ports import split_ports
from natmirror.tcp.reassembler import MAX_RUNS
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, introduced, packet_in, request, session_of
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import MASTER, RULES, SERVICE, assert_adds_up, packet, segment

WIDE = bytes((1, 3, 3, 14))
RESENT = 33  # packets: the most that one call sends again, and the one after three duplicate acknowledgements


# Reading


def script() -> list[tuple[str, bytes]]:
    """Return data of a switch, its controller and its master, of every kind, often many messages at once."""
    question = request(Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0))
    answer = build(messages.V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 12, 0) + bytes(50_000))
    status = build(messages.V13, Type.PORT_STATUS, 0, pack("!B7x", 2) + pack("!I", 5) + bytes(60))
    return [
        ("switch", packet_in(1) * 50 + packet_in(2)[:9]),
        ("controller", question + request(Type.FLOW_MOD, 4, bytes(48)) * 30),
        ("switch", packet_in(2)[9:] + answer[:30_000]),
        ("master", question * 20 + request(Type.FLOW_MOD, 9, bytes(48)) + request(Type.BARRIER_REQUEST, 8) * 20),
        ("switch", answer[30_000:] + status * 20),
        ("master", question * 7 + request(Type.ECHO_REQUEST, 7) * 40),
        ("switch", packet_in(3) * 10),
        ("switch end", b""),
    ]


def outcome(one: RelativeEngine, stops: Callable[[], Callable[[], bool]] | None) -> dict[str, Any]:
    """Return what a master gets of that data, and the counters. Reading stops after each step for which ``stops``
    asks."""
    connection, master = introduced(one)
    for who, data in script():
        if who == "master":
            assert master.iss is not None
            ack = master.iss + 1 + len(master.stream)
            ends, number, hook = (MASTER, connection.client), MIRROR_ISS + 1 + master.said, Hook.PREROUTING
            master.said += len(data)
        elif who == "controller":
            assert connection.backend is not None
            ends, number, hook = (connection.backend, connection.client), IRS + 1 + connection.answered, Hook.FORWARD
            ack = ISS + 1 + connection.sent
            connection.answered += len(data)
        else:
            ends, number, hook = (connection.client, SERVICE), ISS + 1 + connection.sent, Hook.PREROUTING
            ack = IRS + 1 + connection.answered
            connection.sent += len(data)
        letters = "FA" if who == "switch end" else "PA"
        raw = packet(*ends, letters, number, ack, data)
        out = one.decide(one.on_the_wire(raw), hook, connection.now, Checksum.VALID).sends
        connection.to_mirror += [segment(send.packet) for send in out if isinstance(send, Send)]
    while one.next_own_timer() is not None and one.next_own_timer() <= connection.now:  # type: ignore[operator]
        out = one.read_sessions(connection.now, None if stops is None else stops())
        connection.to_mirror += [segment(send.packet) for send in out if isinstance(send, Send)]
    master.take()
    [flow] = one.flows(connection.now)
    [leg] = flow["legs"]
    assert_adds_up(one.snapshot(connection.now))
    return {
        "stream": bytes(master.stream),
        "session": leg["session"],
        "decisions": [kept.show(connection.now) for kept in one.decisions(one.flow_ids())],
        "errors": one.snapshot(connection.now)["faults"],
    }


@pytest.mark.parametrize("fast", [True, False])
def test_it_does_not_matter_where_reading_stops(fast: bool) -> None:
    whole = outcome(engine(AGAIN, fast=fast), None)
    assert whole["errors"] == {"internal_errors": {}, "off": []}
    assert Counter(one["type"] for one in whole["decisions"][0]["backend"]["latest"]) == {"flow_mod": 30}
    assert len(whole["stream"]) > 22 * 50_000, "it contains the long answers"
    for steps in (1, 2, 3, 7, 50):

        def stops(steps: int = steps) -> Callable[[], bool]:
            done = count(1)
            return lambda: next(done) >= steps

        assert outcome(engine(AGAIN, fast=fast), stops) == whole


def test_each_call_reads_at_least_one_message() -> None:
    one = engine(AGAIN)
    connection, master = introduced(one)
    before = session_of(one, connection.now)["messages_passed"].get("packet_in", 0)
    number, ack = seq.add(ISS, 1 + connection.sent), seq.add(IRS, 1 + connection.answered)
    raw = packet(connection.client, SERVICE, "PA", number, ack, packet_in(1) * 100)
    one.decide(raw, Hook.PREROUTING, connection.now, Checksum.VALID)
    for passed in range(1, 5):
        one.read_sessions(connection.now, lambda: True)
        assert session_of(one, connection.now)["messages_passed"]["packet_in"] == before + passed
    assert master.stream


@pytest.mark.parametrize("fast", [True, False])
def test_messages_that_a_session_adds_while_it_sends_are_counted(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    connection, master = introduced(one)
    question = request(Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0))
    connection.from_backend("PA", question)
    connection.from_client("PA", build(messages.V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 12, 0) + bytes(50_000)))
    master.take()
    assert master.iss is not None
    ack, number = master.iss + 1 + len(master.stream), MIRROR_ISS + 1 + master.said
    unknown = request(Type.MULTIPART_REQUEST, 9, pack("!HH4x", 13, 0))
    raw = packet(MASTER, connection.client, "PA", number, ack, unknown + question * 20)
    one.decide(one.on_the_wire(raw), Hook.PREROUTING, connection.now, Checksum.VALID)
    [(_, leg)] = one._legs.owners()
    while leg.lag_bytes < 100_000:
        one.read_sessions(connection.now, lambda: True)
    one.handle_timer(connection.now + 3.0)  # by then the unknown request is refused
    assert leg.lag_bytes > 20 * 50_000
    assert leg.row.client_bytes == leg.acked_bytes + leg.lag_bytes


def test_a_port_status_does_not_look_at_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    split: list[int] = []
    real = split_ports

    def counted(version: int, ports: bytes) -> dict[int, bytes]:
        split.append(len(ports))
        return real(version, ports)

    monkeypatch.setattr(directory_module, "split_ports", counted)
    one = engine(AGAIN)
    connection, master = introduced(one)
    ports = b"".join(pack("!I", number) + bytes(60) for number in range(1000))
    connection.from_backend("PA", request(Type.MULTIPART_REQUEST, 3, pack("!HH4x", 13, 0)))
    connection.from_client("PA", build(messages.V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 13, 0) + ports[:-64]))
    status = build(messages.V13, Type.PORT_STATUS, 0, pack("!B7x", 0) + ports[-64:])
    connection.from_client("PA", status * 200)
    assert split == [len(ports) - 64], "once, however many messages there are"
    master.take()
    master.say(request(Type.MULTIPART_REQUEST, 9, pack("!HH4x", 13, 0)))
    answers = [body[8:] for kind, xid, body in master.messages() if (kind, xid) == (Type.MULTIPART_REPLY, 9)]
    assert b"".join(answers) == ports


# Sending


class Mirror:
    """A mirror that delays its acknowledgements, and may lose segments."""

    def __init__(self, one: Engine, mss: int) -> None:
        self.connection = ClientConnection(one)
        self.connection.connect()
        self.options = pack("!BBH", 2, 4, mss) + WIDE + bytes((1, 1, 4, 2))
        self.held: dict[int, int] = {}
        self.una = 0
        self.sent = 0
        self._say("SA", -1, options=self.options)
        self.connection.to_mirror.clear()

    def _say(self, letters: str, number: int = 0, *, window: int = 0xFFFF, options: bytes = b"") -> list[Segment]:
        """Send a segment; return the packets by which one call answers it."""
        ack = seq.add(ISS, 1 + self.una)
        raw = packet(
            MASTER, self.connection.client, letters, MIRROR_ISS + 1 + number, ack, window=window, options=options
        )
        decision = self.connection.engine.receive(raw, Hook.PREROUTING, self.connection.now, Checksum.VALID)
        return self._segments(decision.sends)

    @staticmethod
    def _segments(sends: list[Any]) -> list[Segment]:
        return [segment(send.packet) for send in sends if isinstance(send, Send)]

    def timer(self) -> list[Segment]:
        """Call handle_timer() when it is due; return its packets."""
        due = self.connection.engine.next_timer()
        assert due is not None
        self.connection.now = max(self.connection.now, due)
        return self._segments(self.connection.engine.handle_timer(self.connection.now, lambda: True))

    def write(self, length: int) -> list[Segment]:
        """Have the client send packets of 60,000 bytes, which the backend acknowledges; return the leg's packets."""
        self.connection.to_mirror.clear()
        for at in range(0, length, 60_000):
            self.connection.from_client("PA", bytes(min(60_000, length - at)))
            self.connection.from_backend("A")
        out, self.connection.to_mirror = self.connection.to_mirror, []
        return out

    def take(self, segments: list[Segment], *, loses: Callable[[int], bool] = lambda at: False) -> None:
        """Hold the data of these segments, except those that are lost."""
        for one in segments:
            for part in finish(one.raw, 48):
                got = segment(part)
                at = seq.diff(got.seq, seq.add(ISS, 1))
                self.sent = max(self.sent, at + got.payload_len)
                if got.payload_len and not loses(at):
                    self.held[at] = max(self.held.get(at, 0), got.payload_len)
        while self.una in self.held:
            self.una += self.held.pop(self.una)

    def acknowledge(self, *, sack: bool = False, window: int = 0xFFFF) -> list[Segment]:
        """Acknowledge the data that is held; return the leg's packets."""
        edges: list[list[int]] = []
        for at in sorted(self.held) if sack else ():
            if at < self.una:
                continue
            if edges and edges[-1][1] == at:
                edges[-1][1] += self.held[at]
            else:
                edges.append([at, at + self.held[at]])
        numbers = [seq.add(ISS, 1 + number) for edge in edges[-3:] for number in edge]
        option = bytes((1, 1, 5, 2 + 4 * len(numbers))) + pack(f"!{len(numbers)}I", *numbers) if numbers else b""
        return self._say("A", window=window, options=option)


def grow_window(mirror: Mirror, cwnd: int) -> None:
    """Make the congestion window grow to ``cwnd`` bytes."""
    [row] = [owner.leg.row for owner in mirror.connection.engine._legs.living.values() if owner.leg is not None]
    while row.cwnd < cwnd:
        mirror.write(2 * row.cwnd)
        while (due := mirror.connection.engine.next_timer()) is not None and due <= mirror.connection.now:
            mirror.timer()
        while mirror.una < mirror.connection.sent:
            mirror.una = min(mirror.una + 2 * row.mss, mirror.connection.sent)
            mirror.acknowledge()


@pytest.mark.parametrize("mss", [48, 1460])
def test_a_window_that_opens_wide_is_filled_in_several_calls_alike_in_both_gears(mss: int) -> None:
    by_gear = []
    for fast in (True, False):
        mirror = Mirror(engine(RULES, fast=fast), mss)
        grow_window(mirror, 1 << 20)
        mirror.take(mirror.acknowledge(window=0))
        assert mirror.write(900_000) == []
        out = mirror.acknowledge()
        calls = [out]
        while mirror.connection.engine.next_timer() == mirror.connection.now:
            calls.append(mirror.timer())
        by_gear.append([[(one.seq, one.payload) for one in call] for call in calls])
        lengths = [sum(one.payload_len for one in call) for call in calls]
        assert max(lengths) <= LEG_MAX_SEGMENTS * mss * (1 + fast), "one call of handle_timer() may send for each gear"
        assert len(calls) > 900_000 // (2 * LEG_MAX_SEGMENTS * mss)
        assert sum(lengths) == 900_000
    assert [one for call in by_gear[0] for one in call] == [one for call in by_gear[1] for one in call]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("written", [7, 100_000, 195_480, 300_000])
def test_what_leaves_at_once_leaves_in_as_few_packets_as_possible(fast: bool, window: int, written: int) -> None:
    mirror, longest = Mirror(engine(RULES, fast=fast), 1460), 65_535 - 40
    grow_window(mirror, 1 << 20)
    mirror.take(mirror.acknowledge(window=window))
    left = written - sum(one.payload_len for one in mirror.write(written))
    lengths = [one.payload_len for one in mirror.acknowledge() if one.payload_len]
    assert len(lengths) == -(-left // longest)
    assert sum(lengths) == left
    assert max(lengths, default=0) - min(lengths, default=0) <= len(lengths)


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_of_tiny_segments_that_loses_half_of_a_large_flight_gets_all_of_it(fast: bool) -> None:
    mirror = Mirror(engine(RULES, fast=fast), 48)
    grow_window(mirror, 200_000)
    segments = mirror.write(180_000)
    while (due := mirror.connection.engine.next_timer()) is not None and due <= mirror.connection.now:
        segments += mirror.timer()
    middle = mirror.una + 90_000
    mirror.take(segments, loses=lambda at: at < middle)
    assert mirror.sent > middle + 80_000
    calls = 0
    segments = mirror.acknowledge(sack=True)
    most = 0
    while mirror.una < mirror.connection.sent:
        calls += 1
        assert calls < 20_000
        most = max(most, len(segments))
        mirror.take(segments)
        due = mirror.connection.engine.next_timer()
        is_due = due is not None and due <= mirror.connection.now
        segments = mirror.timer() if is_due or not segments else mirror.acknowledge(sack=True)
    assert 20 <= most <= RESENT
    [mirrored] = mirror.connection.engine.snapshot(mirror.connection.now)["mirrors"]
    assert mirrored["acked_bytes"] == mirror.connection.sent
    assert mirrored["timeouts"] == 0, "the leg went on without its timer"


# A client's bytes out of order


def wide_connection(one: Engine) -> tuple[ClientConnection, Callable[[int, bytes], list[Segment]]]:
    """Return a connection with wide windows, and a function by which its client sends from an offset on."""
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    client = (connection.client, SERVICE)
    connection.sent = 0
    connection.to_mirror.clear()

    def send(at: int, data: bytes, letters: str = "A") -> list[Segment]:
        connection.take(packet(*client, letters, ISS + 1 + at, IRS + 1, data), Hook.PREROUTING)
        out, connection.to_mirror = connection.to_mirror, []
        return out

    return connection, send


@pytest.mark.parametrize("fast", [True, False])
def test_a_hole_behind_too_many_gaps_ends_the_leg_with_that_reason(fast: bool) -> None:
    connection, send = wide_connection(engine(RULES, fast=fast))
    for number in range(MAX_RUNS + 1):
        send(2 + 2 * number, b"x")
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] <= MAX_RUNS * 200
    connection.sent = 3 + 2 * MAX_RUNS  # the backend has everything, and acknowledges it
    connection.from_backend("A")
    send(connection.sent, b"y")
    [event] = connection.engine.take_events()
    assert event.reason == "too-many-gaps"
    assert_adds_up(connection.engine.snapshot(connection.now))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("end", ["none", "fin", "rst"])
def test_bytes_behind_a_filled_gap_come_in_several_calls_and_before_the_end(fast: bool, end: str) -> None:
    one = engine(RULES, fast=fast)
    connection = ClientConnection(one)
    connection.passed(packet(connection.client, SERVICE, "S", ISS, options=WIDE), Hook.PREROUTING)
    connection.backend = (bytes((10, 20, 0, 11)), 6653)
    found = one._nat.find_orig(connection.client, SERVICE)
    assert found is not None
    assert found.backend is not None
    connection.backend = (found.backend.address.packed, found.backend.port)
    connection.passed(packet(connection.backend, connection.client, "SA", IRS, ISS + 1, options=WIDE), Hook.FORWARD)
    connection.from_client("A")
    connection.from_backend("A")
    raw = packet(MASTER, connection.client, "SA", MIRROR_ISS, seq.add(ISS, 1), options=pack("!BBH", 2, 4, 1460) + WIDE)
    connection.take(raw, Hook.PREROUTING)
    data = bytes(range(256)) * 16384
    for at in range(1, len(data), 50_000):
        connection.take(
            packet(connection.client, SERVICE, "A", ISS + 1 + at, IRS + 1, data[at : at + 50_000]), Hook.PREROUTING
        )
    connection.to_mirror.clear()
    connection.take(packet(connection.client, SERVICE, "A", ISS + 1, IRS + 1, data[:1]), Hook.PREROUTING)
    [stream] = one._mirroring.streams.values()
    given = seq.diff(stream.reassembler.next, seq.add(ISS, 1))
    assert 0 < given < len(data) // 2
    connection.sent = len(data)
    if end == "rst":
        connection.from_client("R")
    elif end == "fin":
        connection.from_client("FA")
        connection.from_backend("FA")
        connection.from_client("A")
    assert stream.has_rest
    received = bytearray()
    flags = 0
    calls = 0
    while calls < 3000:
        calls += 1
        for got in connection.to_mirror:
            at = seq.diff(got.seq, seq.add(ISS, 1))
            if got.payload_len and at == len(received):
                received += got.payload
            flags |= got.flags & (FIN | RST | SYN)
        connection.to_mirror.clear()
        due = one.next_timer()
        if due is not None and due <= connection.now:
            connection.to_mirror += [
                segment(raw)
                for send in one.handle_timer(connection.now, lambda: True)
                if isinstance(send, Send)
                for raw in finish(send.packet, send.segment_len)
            ]
        elif len(received) < len(data) or (end != "none" and not flags):
            connection.from_mirror("A", 1, 1 + len(received) + bool(flags))
        else:
            break
    assert bytes(received) == data
    assert flags == {"none": 0, "fin": FIN, "rst": RST}[end]
    assert not stream.has_rest
    assert_adds_up(one.snapshot(connection.now))
