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
from tests.helpers.openflow_sessions import AGAIN, introduced, packet_in, request, session_of
from tests.helpers.relative import RelativeEngine
from tests.helpers.session import IRS, ISS, MIRROR_ISS, Session, engine
from tests.helpers.support import MASTER, RULES, SERVICE, assert_adds_up, packet, segment

WIDE = bytes((1, 3, 3, 14))
RESENT = 33  # packets that one call sends again at most, and the one that three acknowledgements ask for


# Reading


def said() -> list[tuple[str, bytes]]:
    """Everything that a switch, its controller and its master may say, and much of it in one piece."""
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


def heard(one: RelativeEngine, stops: Callable[[], Callable[[], bool]] | None) -> dict[str, Any]:
    """What a master is told of all that, and what is counted; read in slices that end when ``stops`` says."""
    session, master = introduced(one)
    for who, data in said():
        if who == "master":
            assert master.iss is not None
            ack = master.iss + 1 + len(master.stream)
            ends, number, hook = (MASTER, session.client), MIRROR_ISS + 1 + master.said, Hook.PREROUTING
            master.said += len(data)
        elif who == "controller":
            assert session.backend is not None
            ends, number, hook = (session.backend, session.client), IRS + 1 + session.answered, Hook.FORWARD
            ack = ISS + 1 + session.sent
            session.answered += len(data)
        else:
            ends, number, hook = (session.client, SERVICE), ISS + 1 + session.sent, Hook.PREROUTING
            ack = IRS + 1 + session.answered
            session.sent += len(data)
        letters = "FA" if who == "switch end" else "PA"
        raw = packet(*ends, letters, number, ack, data)
        out = one.decide(one.on_the_wire(raw), hook, session.now, Checksum.VALID).sends
        session.to_mirror += [segment(send.packet) for send in out if isinstance(send, Send)]
    while one.next_own_timer() is not None and one.next_own_timer() <= session.now:  # type: ignore[operator]
        out = one.read_sessions(session.now, None if stops is None else stops())
        session.to_mirror += [segment(send.packet) for send in out if isinstance(send, Send)]
    master.take()
    [flow] = one.flows(session.now)
    [leg] = flow["legs"]
    assert_adds_up(one.snapshot(session.now))
    return {
        "stream": bytes(master.stream),
        "session": leg["session"],
        "decisions": one.decisions(one.flow_ids()),
        "errors": one.snapshot(session.now)["faults"],
    }


@pytest.mark.parametrize("fast", [True, False])
def test_it_does_not_matter_where_reading_stops(fast: bool) -> None:
    whole = heard(engine(AGAIN, fast=fast), None)
    assert whole["errors"] == {"internal_errors": {}, "off": []}
    assert Counter(one["type"] for one in whole["decisions"][0]["backend"]["latest"]) == {"flow_mod": 30}
    assert len(whole["stream"]) > 22 * 50_000, "long answers are among it"
    for steps in (1, 2, 3, 7, 50):

        def stops(steps: int = steps) -> Callable[[], bool]:
            done = count(1)
            return lambda: next(done) >= steps

        assert heard(engine(AGAIN, fast=fast), stops) == whole


def test_one_step_reads_one_message_and_is_done_whatever_the_time() -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    before = session_of(one, session.now)["messages_passed"].get("packet_in", 0)
    number, ack = seq.add(ISS, 1 + session.sent), seq.add(IRS, 1 + session.answered)
    raw = packet(session.client, SERVICE, "PA", number, ack, packet_in(1) * 100)
    one.decide(raw, Hook.PREROUTING, session.now, Checksum.VALID)
    for passed in range(1, 5):
        one.read_sessions(session.now, lambda: True)
        assert session_of(one, session.now)["messages_passed"]["packet_in"] == before + passed
    assert master.stream


@pytest.mark.parametrize("fast", [True, False])
def test_what_a_session_has_to_say_while_it_speaks_counts_too(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    session, master = introduced(one)
    question = request(Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0))
    session.from_backend("PA", question)
    session.from_client("PA", build(messages.V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 12, 0) + bytes(50_000)))
    master.take()
    assert master.iss is not None
    ack, number = master.iss + 1 + len(master.stream), MIRROR_ISS + 1 + master.said
    unknown = request(Type.MULTIPART_REQUEST, 9, pack("!HH4x", 13, 0))
    raw = packet(MASTER, session.client, "PA", number, ack, unknown + question * 20)
    one.decide(one.on_the_wire(raw), Hook.PREROUTING, session.now, Checksum.VALID)
    [(_, leg)] = one._legs.owners()
    while leg.lag_bytes < 100_000:
        one.read_sessions(session.now, lambda: True)
    one.handle_timer(session.now + 3.0)  # by then the unknown is refused
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
    session, master = introduced(one)
    ports = b"".join(pack("!I", number) + bytes(60) for number in range(1000))
    session.from_backend("PA", request(Type.MULTIPART_REQUEST, 3, pack("!HH4x", 13, 0)))
    session.from_client("PA", build(messages.V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 13, 0) + ports[:-64]))
    status = build(messages.V13, Type.PORT_STATUS, 0, pack("!B7x", 0) + ports[-64:])
    session.from_client("PA", status * 200)
    assert split == [len(ports) - 64], "once, however many there are"
    master.take()
    master.say(request(Type.MULTIPART_REQUEST, 9, pack("!HH4x", 13, 0)))
    answers = [body[8:] for kind, xid, body in master.messages() if (kind, xid) == (Type.MULTIPART_REPLY, 9)]
    assert b"".join(answers) == ports


# Sending


class Mirror:
    """A mirror that holds back its acknowledgements, and may lose segments."""

    def __init__(self, one: Engine, mss: int) -> None:
        self.session = Session(one)
        self.session.connect()
        self.options = pack("!BBH", 2, 4, mss) + WIDE + bytes((1, 1, 4, 2))
        self.held: dict[int, int] = {}
        self.una = 0
        self.sent = 0
        self._say("SA", -1, options=self.options)
        self.session.to_mirror.clear()

    def _say(self, letters: str, number: int = 0, *, window: int = 0xFFFF, options: bytes = b"") -> list[Segment]:
        """Send; gives the packets that one call answers it with."""
        ack = seq.add(ISS, 1 + self.una)
        raw = packet(MASTER, self.session.client, letters, MIRROR_ISS + 1 + number, ack, window=window, options=options)
        decision = self.session.engine.receive(raw, Hook.PREROUTING, self.session.now, Checksum.VALID)
        return self._segments(decision.sends)

    @staticmethod
    def _segments(sends: list[Any]) -> list[Segment]:
        return [segment(send.packet) for send in sends if isinstance(send, Send)]

    def timer(self) -> list[Segment]:
        """One call of handle_timer(), when it is due."""
        due = self.session.engine.next_timer()
        assert due is not None
        self.session.now = max(self.session.now, due)
        return self._segments(self.session.engine.handle_timer(self.session.now, lambda: True))

    def write(self, length: int) -> list[Segment]:
        """The client sends, in packets of 60,000 bytes, and the backend acknowledges them."""
        self.session.to_mirror.clear()
        for at in range(0, length, 60_000):
            self.session.from_client("PA", bytes(min(60_000, length - at)))
            self.session.from_backend("A")
        out, self.session.to_mirror = self.session.to_mirror, []
        return out

    def take(self, segments: list[Segment], *, loses: Callable[[int], bool] = lambda at: False) -> None:
        """Hold what has come, but what is lost."""
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
        """Tell what is held."""
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


def grown(mirror: Mirror, cwnd: int) -> None:
    """Let the congestion window grow."""
    [row] = [owner.leg.row for owner in mirror.session.engine._legs.living.values() if owner.leg is not None]
    while row.cwnd < cwnd:
        mirror.write(2 * int(row.cwnd))
        while (due := mirror.session.engine.next_timer()) is not None and due <= mirror.session.now:
            mirror.timer()
        while mirror.una < mirror.session.sent:
            mirror.una = min(mirror.una + 2 * int(row.mss), mirror.session.sent)
            mirror.acknowledge()


@pytest.mark.parametrize("mss", [48, 1460])
def test_a_window_that_opens_wide_is_used_in_several_calls_alike_in_both_gears(mss: int) -> None:
    told = []
    for fast in (True, False):
        mirror = Mirror(engine(RULES, fast=fast), mss)
        grown(mirror, 1 << 20)
        mirror.take(mirror.acknowledge(window=0))
        assert mirror.write(900_000) == []
        out = mirror.acknowledge()
        calls = [out]
        while mirror.session.engine.next_timer() == mirror.session.now:
            calls.append(mirror.timer())
        told.append([[(one.seq, one.payload) for one in call] for call in calls])
        lengths = [sum(one.payload_len for one in call) for call in calls]
        assert max(lengths) <= LEG_MAX_SEGMENTS * mss * (1 + fast), "a call of handle_timer() may be one of each gear's"
        assert len(calls) > 900_000 // (2 * LEG_MAX_SEGMENTS * mss)
        assert sum(lengths) == 900_000
    assert [one for call in told[0] for one in call] == [one for call in told[1] for one in call]


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_of_tiny_segments_that_loses_half_of_a_large_flight_gets_all_of_it(fast: bool) -> None:
    mirror = Mirror(engine(RULES, fast=fast), 48)
    grown(mirror, 200_000)
    segments = mirror.write(180_000)
    while (due := mirror.session.engine.next_timer()) is not None and due <= mirror.session.now:
        segments += mirror.timer()
    middle = mirror.una + 90_000
    mirror.take(segments, loses=lambda at: at < middle)
    assert mirror.sent > middle + 80_000
    calls = 0
    segments = mirror.acknowledge(sack=True)
    most = 0
    while mirror.una < mirror.session.sent:
        calls += 1
        assert calls < 20_000
        most = max(most, len(segments))
        mirror.take(segments)
        due = mirror.session.engine.next_timer()
        is_due = due is not None and due <= mirror.session.now
        segments = mirror.timer() if is_due or not segments else mirror.acknowledge(sack=True)
    assert 20 <= most <= RESENT
    [mirrored] = mirror.session.engine.snapshot(mirror.session.now)["mirrors"]
    assert mirrored["acked_bytes"] == mirror.session.sent
    assert mirrored["timeouts"] == 0, "it went on without waiting for a timer"


# A client's bytes out of order


def wide(one: Engine) -> tuple[Session, Callable[[int, bytes], list[Segment]]]:
    """A connection with wide windows whose mirror takes all at once, and how its client sends from a place on."""
    session = Session(one)
    session.connect()
    session.connect_mirror()
    client = (session.client, SERVICE)
    session.sent = 0
    session.to_mirror.clear()

    def send(at: int, data: bytes, letters: str = "A") -> list[Segment]:
        session.take(packet(*client, letters, ISS + 1 + at, IRS + 1, data), Hook.PREROUTING)
        out, session.to_mirror = session.to_mirror, []
        return out

    return session, send


@pytest.mark.parametrize("fast", [True, False])
def test_a_hole_behind_too_many_gaps_ends_the_leg_by_that_name(fast: bool) -> None:
    session, send = wide(engine(RULES, fast=fast))
    for number in range(MAX_RUNS + 1):
        send(2 + 2 * number, b"x")
    assert session.engine.snapshot(session.now)["mirror_memory"]["used_bytes"] <= MAX_RUNS * 200
    session.sent = 3 + 2 * MAX_RUNS  # the backend has it all, and says so
    session.from_backend("A")
    send(session.sent, b"y")
    [event] = session.engine.take_events()
    assert event.reason == "too-many-gaps"
    assert_adds_up(session.engine.snapshot(session.now))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("end", ["none", "fin", "rst"])
def test_what_a_filled_gap_lets_out_comes_in_several_calls_and_before_the_end(fast: bool, end: str) -> None:
    one = engine(RULES, fast=fast)
    session = Session(one)
    session.passed(packet(session.client, SERVICE, "S", ISS, options=WIDE), Hook.PREROUTING)
    session.backend = (bytes((10, 20, 0, 11)), 6653)
    found = one._nat.find_orig(session.client, SERVICE)
    assert found is not None
    assert found.backend is not None
    session.backend = (found.backend.address.packed, found.backend.port)
    session.passed(packet(session.backend, session.client, "SA", IRS, ISS + 1, options=WIDE), Hook.FORWARD)
    session.from_client("A")
    session.from_backend("A")
    raw = packet(MASTER, session.client, "SA", MIRROR_ISS, seq.add(ISS, 1), options=pack("!BBH", 2, 4, 1460) + WIDE)
    session.take(raw, Hook.PREROUTING)
    data = bytes(range(256)) * 16384
    for at in range(1, len(data), 50_000):
        session.take(
            packet(session.client, SERVICE, "A", ISS + 1 + at, IRS + 1, data[at : at + 50_000]), Hook.PREROUTING
        )
    session.to_mirror.clear()
    session.take(packet(session.client, SERVICE, "A", ISS + 1, IRS + 1, data[:1]), Hook.PREROUTING)
    [stream] = one._mirroring.streams.values()
    given = seq.diff(stream.reassembler.next, seq.add(ISS, 1))
    assert 0 < given < len(data) // 2
    session.sent = len(data)
    if end == "rst":
        session.from_client("R")
    elif end == "fin":
        session.from_client("FA")
        session.from_backend("FA")
        session.from_client("A")
    assert stream.has_rest
    received = bytearray()
    flags = 0
    calls = 0
    while calls < 3000:
        calls += 1
        for got in session.to_mirror:
            at = seq.diff(got.seq, seq.add(ISS, 1))
            if got.payload_len and at == len(received):
                received += got.payload
            flags |= got.flags & (FIN | RST | SYN)
        session.to_mirror.clear()
        due = one.next_timer()
        if due is not None and due <= session.now:
            session.to_mirror += [
                segment(raw)
                for send in one.handle_timer(session.now, lambda: True)
                if isinstance(send, Send)
                for raw in finish(send.packet, send.segment_len)
            ]
        elif len(received) < len(data) or (end != "none" and not flags):
            session.from_mirror("A", 1, 1 + len(received) + bool(flags))
        else:
            break
    assert bytes(received) == data
    assert flags == {"none": 0, "fin": FIN, "rst": RST}[end]
    assert not stream.has_rest
    assert_adds_up(one.snapshot(session.now))
