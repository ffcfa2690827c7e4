"""Measures the cost of each kind of packet with one engine in one process. It needs neither root nor a network.

It runs as a program under the interpreter of each side of a comparison, with that side's package, and prints a line of
JSON. Both sides are measured by the same file, so it has to work with older and newer layouts of the package: ENGINE
and the constants below it list where classes and functions are, and ``sends_of`` reads the engine's answers. It builds
the packets itself.

    python engine_driver.py time             microseconds of the thread's CPU time per packet, copy or connection
    python engine_driver.py count MARKS.so   blocks of each kind, which callgrind counts (callgrind_marks.c)
"""

import ctypes
import importlib
import json
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# The places of each class or function, the newest first. A change that moves one adds the new place here. An old place
# is removed once its commits are no longer compared.
ENGINE = ("natmirror.engine.engine.Engine", "natmirror.engine.Engine")
HOOK = ("natmirror.actions.Hook", "natmirror.engine.Hook")
CHECKSUM = ("natmirror.net.checksum.Checksum", "natmirror.net.packet.Checksum", "natmirror.packet.Checksum")
PARSE_RULES = ("natmirror.rules.parse_rules", "natmirror.rulesfile.loads")

KINDS = ("plain", "copied", "ack")
"""A client's data without a mirror; with one, together with the backend's reply, which acknowledges it: either of the
two makes the engine send the copy; and the mirror's acknowledgement of the copy."""
FLOWS = 64
ROUNDS = 25
OPENINGS = 50
BATCHES = 6
PAYLOAD = bytes(24)
RULES = """
switches: [10.10.0.0/24]
services:
  - name: plain
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
  - name: mirrored
    address: 10.10.0.101
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.12}]}
    mirrors: [{name: m, address: 10.20.0.13}]
"""

Address = tuple[bytes, int]
PLAIN, MIRRORED, PLAIN_BACKEND, BACKEND, MIRROR = (
    (bytes(map(int, text.split("."))), 6653)
    for text in ("10.10.0.100", "10.10.0.101", "10.20.0.11", "10.20.0.12", "10.20.0.13")
)
FIN, SYN, PSH, ACK = 1, 2, 8, 16


_DECIDED_IN_C = ("packets_decided_in_c", "fast_packets")
"""The counter's names in the package; one side of a comparison may be older."""


class Unfit(Exception):
    """The package does not behave as this driver expects."""


def find(places: Sequence[str]) -> Any:
    """Return the object at the first of these places that exists."""
    for place in places:
        module, _, name = place.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise Unfit(f"none of {', '.join(places)} exists: add the new place to bench/engine_driver.py")


def sends_of(result: Any) -> list[bytes]:
    """Return the packets in the engine's answer: it is a list that begins with the verdict, or has them as
    ``sends``."""
    sends = result.sends if hasattr(result, "sends") else [one for one in result if type(one).__name__ == "Send"]
    return [one.packet for one in sends]


def ones_sum(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packet(
    source: Address, to: Address, flags: int, seq: int, ack: int = 0, data: bytes = b"", options: bytes = b""
) -> bytes:
    """Return a TCP packet over IPv4."""
    seq, ack, offset = seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF, 5 + len(options) // 4
    tcp = bytearray(struct.pack("!HHIIBBHHH", source[1], to[1], seq, ack, offset << 4, flags, 0xFFFF, 0, 0))
    tcp += options + data
    pseudo = source[0] + to[0] + struct.pack("!HH", 6, len(tcp))
    tcp[16:18] = struct.pack("!H", ones_sum(pseudo + bytes(tcp)) ^ 0xFFFF)
    ip = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, source[0], to[0]))
    ip[10:12] = struct.pack("!H", ones_sum(bytes(ip)) ^ 0xFFFF)
    return bytes(ip + tcp)


class Drive:
    """One engine with a manual clock; ``spent`` is the thread's CPU time in its calls, in nanoseconds."""

    def __init__(self, *, fast: bool) -> None:
        self.engine = find(ENGINE)(find(PARSE_RULES)(RULES), key=bytes(16), fast=fast)
        hook, self._checksum = find(HOOK), find(CHECKSUM).VALID
        self._prerouting, self._forward = hook.PREROUTING, hook.FORWARD
        self.now = 1.0
        self.spent = 0

    def receive(self, raw: bytes) -> Any:
        """Give the engine a packet, at the hook that follows from its source."""
        hook = self._hook(raw)
        began = time.thread_time_ns()
        result = self.engine.receive(raw, hook, self.now, self._checksum)
        self.spent += time.thread_time_ns() - began
        return result

    def handle_timer(self) -> None:
        """Have the engine do what is due."""
        began = time.thread_time_ns()
        self.engine.handle_timer(self.now)
        self.spent += time.thread_time_ns() - began
        self.engine.take_events()

    def receive_all(self, packets: list[bytes]) -> int:
        """Give the engine packets; return the nanoseconds that they took."""
        receive, now, checksum = self.engine.receive, self.now, self._checksum
        all_of_them = [(raw, self._hook(raw)) for raw in packets]
        began = time.thread_time_ns()
        for raw, hook in all_of_them:
            receive(raw, hook, now, checksum)
        return time.thread_time_ns() - began

    def _hook(self, raw: bytes) -> Any:
        return self._forward if raw[12:16] in (BACKEND[0], PLAIN_BACKEND[0]) else self._prerouting

    def packets_decided_in_c(self) -> int:
        """Return the number of packets that C has decided."""
        counters = self.engine.snapshot(self.now)["counters"]
        return int(counters[next(name for name in _DECIDED_IN_C if name in counters)])


class Connection:
    """One client's connection, established when made; it counts the sequence numbers of all ends."""

    def __init__(self, drive: Drive, client: Address, *, mirrored: bool) -> None:
        self._drive = drive
        self._client = client
        self._service, self._backend = (MIRRORED, BACKEND) if mirrored else (PLAIN, PLAIN_BACKEND)
        self._seq, self._reply_seq, self._mirror_seq = 1001, 5001, 7001
        drive.receive(packet(client, self._service, SYN, 1000))
        drive.receive(packet(self._backend, client, SYN | ACK, 5000, 1001))
        result = drive.receive(packet(client, self._service, ACK, 1001, 5001))
        self._copied = 0
        if mirrored:
            syns = [raw for raw in sends_of(result) if raw[16:20] == MIRROR[0] and raw[33] & SYN]
            if len(syns) != 1:
                raise Unfit(f"the leg of a mirror begins with {len(syns)} SYNs")
            self._copied = int.from_bytes(syns[0][24:28], "big") + 1
            mss = bytes((2, 4, 5, 180))
            drive.receive(packet(MIRROR, client, SYN | ACK, 7000, self._copied, options=mss))

    def data(self) -> bytes:
        """Return the client's next data."""
        raw = packet(self._client, self._service, PSH | ACK, self._seq, self._reply_seq, PAYLOAD)
        self._seq += len(PAYLOAD)
        self._copied += len(PAYLOAD)
        return raw

    def reply(self) -> bytes:
        """Return the backend's next data, which acknowledges the client's."""
        raw = packet(self._backend, self._client, PSH | ACK, self._reply_seq, self._seq, PAYLOAD)
        self._reply_seq += len(PAYLOAD)
        return raw

    def ack(self) -> bytes:
        """Return the mirror's acknowledgement of all copies."""
        return packet(MIRROR, self._client, ACK, self._mirror_seq, self._copied)

    def close(self) -> None:
        """Close the connection, client first, and its leg."""
        drive, client = self._drive, self._client
        drive.receive(packet(client, self._service, FIN | ACK, self._seq, self._reply_seq))
        drive.receive(packet(self._backend, client, FIN | ACK, self._reply_seq, self._seq + 1))
        drive.receive(packet(MIRROR, client, FIN | ACK, self._mirror_seq, self._copied + 1))
        drive.receive(packet(client, self._service, ACK, self._seq + 1, self._reply_seq + 1))


def client(number: int) -> Address:
    """Return the endpoint of the n-th client."""
    return bytes((10, 10, 0, 1 + number % 90)), 1025 + number


class Blocks:
    """Established connections whose packets come in blocks of one kind; each block follows on the ones before it."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._plain = [Connection(drive, client(number), mirrored=False) for number in range(FLOWS)]
        self._mirrored = [Connection(drive, client(FLOWS + number), mirrored=True) for number in range(FLOWS)]

    def __iter__(self) -> Iterator[tuple[str, list[bytes]]]:
        """Yield a block of each kind, with its name."""
        plain, mirrored = self._plain, self._mirrored
        self._drive.now += 0.001
        yield "plain", [one.data() for one in plain]
        self._drive.receive_all([one.reply() for one in plain])  # else the windows fill up
        yield "copied", [one.data() for one in mirrored] + [one.reply() for one in mirrored]
        yield "ack", [one.ack() for one in mirrored]

    def measure(self, gauge: Callable[[str, Callable[[], int]], None]) -> None:
        """Call ``gauge`` for a block of each kind, with its name and a function that feeds it to the engine and returns
        the nanoseconds."""
        for kind, packets in self:

            def feed(packets: list[bytes] = packets) -> int:
                return self._drive.receive_all(packets)

            gauge(kind, feed)

    def check(self, *, fast: bool) -> None:
        """Raise Unfit unless each kind of packet takes the path that is to be measured."""
        before = self._drive.packets_decided_in_c()
        for kind, packets in self:
            copies = sum(len(sends_of(self._drive.receive(raw))) for raw in packets)
            if copies != (FLOWS if kind == "copied" else 0):
                raise Unfit(f"{len(packets)} packets of kind {kind} made the engine send {copies} packets")
        decided, all_packets = self._drive.packets_decided_in_c() - before, (len(KINDS) + 2) * FLOWS
        if decided != (all_packets if fast else 0):
            raise Unfit(f"C has decided {decided} of {all_packets} packets")


def time_packets(*, fast: bool) -> dict[str, float]:
    """Return each kind's microseconds per connection, the median of its blocks."""
    blocks = Blocks(Drive(fast=fast))
    blocks.check(fast=fast)
    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS * (4 if fast else 1)):
        blocks.measure(lambda kind, feed: spent[kind].append(feed() / FLOWS / 1e3))
    blocks.check(fast=fast)
    return {kind: statistics.median(each) for kind, each in spent.items()}


def time_connections(*, fast: bool) -> float:
    """Return the microseconds of a mirrored connection from its SYN to its end, the median of batches."""
    drive, batches = Drive(fast=fast), []
    for batch in range(BATCHES):
        drive.spent = 0
        for number in range(OPENINGS):
            drive.now += 0.001
            one = Connection(drive, client(batch * OPENINGS + number), mirrored=True)
            for raw in (one.data(), one.reply(), one.ack()):
                drive.receive(raw)
            one.close()
            drive.handle_timer()
        batches.append(drive.spent / OPENINGS / 1e3)
    return statistics.median(batches)


def count_packets(marks: str) -> dict[str, float]:
    """Have callgrind count a block of each kind; return the number of connections in each block."""
    library = ctypes.CDLL(marks)
    blocks = Blocks(Drive(fast=True))
    blocks.check(fast=True)

    def count(kind: str, feed: Callable[[], int]) -> None:
        library.count_begin()
        feed()
        library.count_end(kind.encode())

    blocks.measure(count)
    return dict.fromkeys(KINDS, FLOWS)


def main(arguments: list[str]) -> int:
    """Print the figures as JSON."""
    try:
        if arguments[0] == "count":
            found = count_packets(arguments[1])
        else:
            found = {}
            for gear, fast in (("python", False), ("c", True)):
                found |= {f"{gear}.{kind}": value for kind, value in time_packets(fast=fast).items()}
                found[f"{gear}.connection"] = time_connections(fast=fast)
    except Unfit as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
