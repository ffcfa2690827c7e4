"""A leg and its peer, for packet scripts: at this time this segment, and exactly these packets in return."""

from ipaddress import IPv4Address
from typing import Any

from natmirror.fastpath import Gear, Memory
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.packet import OPT_MSS, OPT_NOP, OPT_SACK, OPT_SACK_PERMITTED, OPT_WINDOW_SCALE
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.leg_states import LegState
from tests.helpers.support import CLIENT, MASTER, packet, segment, summary

ISS = 0xFFFF_FF00
IRS = 0xFFFF_FFF0
OFFSET = 0x9E37_79B9
"""The offset of the leg's numbers on the wire. Tests use the numbers inside the leg."""
FIRST = seq.add(ISS, 1)
THEIRS = seq.add(IRS, 1)
MSS = 100
CONNECT, STALL, LINGER = 30.0, 120.0, 5.0
OPTIONS = bytes((OPT_MSS, 4, 0, MSS, OPT_NOP, OPT_WINDOW_SCALE, 3, 2))
SACK_OPTIONS = OPTIONS + bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


class Wire:
    """A leg and its peer, with a manual clock."""

    def __init__(self, *, memory: int = 1 << 30, record: LegRecord | None = None, **settings: Any) -> None:
        """``record`` makes it a leg from another host."""
        self.now = 100.0
        self.memory = Memory(memory)
        self.settings = Mirror("master", IPv4Address(MASTER[0]), MASTER[1], **settings)
        self.gear = Gear(1, self.memory, bytes(16))
        if record is None:
            self.leg = Leg(self.gear.legs, CLIENT, self.settings, iss=ISS, offset=OFFSET)
        else:
            self.leg = Leg.from_record(self.gear.legs, self.settings, record)

    def on_the_wire(self, packets: list[bytes]) -> list[tuple[str, int, int, bytes]]:
        """Return the packets as the peer gets them, but with the numbers inside the leg."""
        shown = [summary(one) for raw in packets for one in finish(raw, self.leg.segment_len)]
        return [(letters, seq.add(at, -OFFSET), ack, data) for letters, at, ack, data in shown]

    def connect(self, *, window: int = 0xFFFF, options: bytes = OPTIONS) -> list[tuple[str, int, int, bytes]]:
        assert [summary(raw)[:2] for raw in self.leg.open(self.now)] == [("S", seq.add(ISS, OFFSET))]
        return self.send("SA", IRS, FIRST, window=window, options=options)

    def send(
        self, letters: str, at: int, ack: int, data: bytes = b"", *, window: int = 0xFFFF, options: bytes = b""
    ) -> list[tuple[str, int, int, bytes]]:
        raw = packet(MASTER, CLIENT, letters, at, seq.add(ack, OFFSET), data, window=window, options=options)
        return self.on_the_wire(self.leg.receive(segment(raw), self.now))

    def ack(self, count: int, *, window: int = 0xFFFF) -> list[tuple[str, int, int, bytes]]:
        return self.send("A", THEIRS, seq.add(FIRST, count), window=window)

    def sack(self, count: int, *blocks: tuple[int, int]) -> list[tuple[str, int, int, bytes]]:
        numbers = b"".join(seq.add(FIRST + OFFSET, number).to_bytes(4, "big") for block in blocks for number in block)
        options = bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + len(numbers))) + numbers
        return self.send("A", THEIRS, seq.add(FIRST, count), options=options)

    def finish(self) -> list[tuple[str, int, int, bytes]]:
        return self.on_the_wire(self.leg.finish(self.now))

    def write(self, data: bytes) -> list[tuple[str, int, int, bytes]]:
        return self.on_the_wire(self.leg.write(data, self.now))

    def state(self) -> LegState:
        return self.leg.state

    def timer(self) -> list[tuple[str, int, int, bytes]]:
        due = self.leg.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        return self.on_the_wire(self.leg.handle_timer(self.now))


def numbers(out: list[tuple[str, int, int, bytes]]) -> list[tuple[int, int]]:
    """Return each segment's offset in the stream, and its length."""
    return [(seq.diff(at, FIRST), len(data)) for _, at, _, data in out]
