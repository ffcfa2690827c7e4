"""``python -m bench.worst``: the longest single call that peers have been found to cause in a packet thread's loop.

Each input plays a switch, backend, mirror or master against an engine, in both gears, and drives it as a worker does:
what C leaves goes to decide(), what is due to handle_timer() with a worker's slice of time. It needs no root. Calls are
measured in the thread's CPU time, and the figure is the least of three runs' longest calls: what else the machine does
adds to it. ``--beside CHECKOUT`` runs the same inputs in another checkout, with its own environment, and prints its
figures beside.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

from natmirror import fastpath
from natmirror.actions import Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net.packet import ACK, PSH, RST, SYN, Checksum, Endpoint, Segment, parse
from natmirror.net.packet import build as build_packet
from natmirror.openflow.messages import V13, V14, Type, build, hello
from natmirror.rules import parse_rules
from natmirror.runtime import worker

_FLAGS = {"S": SYN, "A": ACK, "P": PSH, "R": RST}
_RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13%s}]
"""
_RAW, _MESSAGES = _RULES % "", _RULES % ", protocol: openflow, reconnect: next-message"
_SERVICE, _BACKEND, _MIRROR = (
    (bytes(map(int, text.split("."))), 6653) for text in ("10.10.0.100", "10.20.0.11", "10.20.0.13")
)
_WIDE = bytes((1, 3, 3, 14))  # a window scale
_RUNS = 3
_MIB = 1 << 20


class Loop:
    """An engine driven as a worker drives it, with a manual clock; ``longest`` is its longest call, in seconds."""

    def __init__(self, rules: str, *, fast: bool) -> None:
        self.now = 1000.0
        self.longest = 0.0
        self._fast = fast
        self.engine = Engine(replace(parse_rules(rules), max_flows=20_000), key=bytes(16), fast=fast)

    def take(self, raw: bytes, hook: Hook) -> list[Segment]:
        """A packet, and all that is due then; gives what was sent to the mirror."""
        out: list[Segment] = []
        gear = self.engine._gear
        decided = fastpath.PUNT
        if self._fast:
            packet = bytearray(raw)
            decided = self._timed(lambda: gear.process(packet, hook, Checksum.VALID, self.now))
            out += _told(gear.take_sends())
        if decided >= fastpath.PUNT:
            out += _told(self._timed(lambda: self.engine.decide(raw, hook, self.now, Checksum.VALID)).sends)
        return out + self.do_what_is_due()

    def do_what_is_due(self) -> list[Segment]:
        """Call handle_timer() until nothing is due."""
        out: list[Segment] = []
        for _ in range(100_000):
            due = self.engine.next_timer()
            if due is None or due > self.now:
                break
            out += _told(self._timed(self._handle_timer))
        return out

    def _handle_timer(self) -> list[Any]:
        until = time.thread_time() + getattr(worker, "_TIMER_SLICE", 0)
        of_bytes = getattr(worker, "_STUDY_SLICE", None)  # a checkout whose slices are bytes
        slice_: Any = of_bytes or (lambda: time.thread_time() >= until)
        return list(self.engine.handle_timer(self.now, slice_))

    def _timed(self, call: Callable[[], Any]) -> Any:
        began = time.thread_time()
        found = call()
        self.longest = max(self.longest, time.thread_time() - began)
        return found


def _told(actions: list[Any]) -> list[Segment]:
    sent = [parse(action.packet) for action in actions if isinstance(action, Send)]
    return [one for one in sent if isinstance(one, Segment) and one.dst == _MIRROR[0]]


class Connection:
    """One client's, with its backend and mirror; the numbers follow from what went before."""

    def __init__(self, loop: Loop, port: int = 40001, *, mss: int = 1460, answers: bool = True) -> None:
        self.loop = loop
        self.client: Endpoint = (bytes((10, 10, 0, 11)), port)
        self.client_seq, self.backend_seq, self.mirror_seq = 1001, 5001, 7001
        self.una = self.sent_to = 1001  # as if the leg had the client's numbers
        self.offset = 0  # how far those on the wire lie after them, as the leg's SYN tells
        self._say(self.client, _SERVICE, "S", 1000, 0, options=_WIDE)
        self._say(_BACKEND, self.client, "SA", 5000, 1001, options=_WIDE)
        self.from_client(b"")
        self.from_backend()
        if answers:
            self.answer(mss)

    def answer(self, mss: int = 1460) -> None:
        """The mirror takes the leg's SYN."""
        options = pack("!BBH", 2, 4, mss) + _WIDE + bytes((1, 1, 4, 2))
        self._say(_MIRROR, self.client, "SA", 7000, 1001, options=options)

    def _say(
        self, source: Endpoint, to: Endpoint, letters: str, at: int, ack: int, data: bytes = b"", **options: Any
    ) -> None:
        flags = sum(_FLAGS[letter] for letter in letters)
        ack = (ack + self.offset if source == _MIRROR else ack) & 0xFFFF_FFFF
        numbers = {"seq": at & 0xFFFF_FFFF, "ack": ack, "window": 0xFFFF} | options
        raw = build_packet(source, to, flags=flags, payload=data, **numbers)
        for one in self.loop.take(raw, Hook.FORWARD if source == _BACKEND else Hook.PREROUTING):
            if one.flags & SYN:
                self.offset = one.seq - 1000
            self.sent_to = max(self.sent_to, (one.seq - self.offset & 0xFFFF_FFFF) + one.payload_len)

    def from_client(self, data: bytes, at: int | None = None, letters: str = "A") -> None:
        """The client sends, in its turn or from a number on."""
        place = self.client_seq if at is None else at
        self._say(self.client, _SERVICE, letters, place, self.backend_seq, data)
        if at is None:
            self.client_seq += len(data)

    def from_backend(self, data: bytes = b"", ack: int | None = None) -> None:
        """The backend sends, and acknowledges what the client has sent."""
        self._say(_BACKEND, self.client, "A", self.backend_seq, self.client_seq if ack is None else ack, data)
        self.backend_seq += len(data)

    def from_mirror(self, data: bytes = b"", at: int | None = None, **options: Any) -> None:
        """The mirror sends, and acknowledges up to ``una``."""
        self._say(_MIRROR, self.client, "A", self.mirror_seq if at is None else at, self.una, data, **options)
        if at is None:
            self.mirror_seq += len(data)

    def sack(self, *edges: int) -> bytes:
        """The option that tells of blocks at the mirror, by where each begins and ends."""
        return bytes((1, 1, 5, 2 + 4 * len(edges))) + b"".join(
            pack("!I", edge + self.offset & 0xFFFF_FFFF) for edge in edges
        )

    def write(self, length: int) -> None:
        """Bytes from the client, acknowledged by its backend."""
        for at in range(0, length, 60_000):
            self.from_client(bytes(min(60_000, length - at)))
            self.from_backend()

    def widen(self, window: int) -> None:
        """Let the leg's congestion window grow."""
        row = next(iter(self.loop.engine._legs._living.values())).leg.row  # type: ignore[union-attr]
        while row.cwnd < window:
            self.write(2 * min(int(row.cwnd), 8 * _MIB) - (self.client_seq - self.una))
            while self.una < self.sent_to:
                self.una += min(2 * int(row.mss), self.sent_to - self.una)
                self.loop.now += 1e-6
                self.from_mirror()

    def greet(self, version: int = V13) -> None:
        """Both ends say HELLO, and the switch who it is."""
        self.from_client(hello(version, 1))
        self.from_backend(hello(version, 1))
        self.answer()
        self.from_backend(build(version, Type.FEATURES_REQUEST, 2))
        self.from_client(build(version, Type.FEATURES_REPLY, 2, pack("!QIBB2xII", 7, 0, 254, 0, 0, 0)))
        self.from_backend()

    def tell(self, multipart: int, bodies: list[bytes], version: int = V13) -> None:
        """The controller asks and the switch answers."""
        self.from_backend(build(version, Type.MULTIPART_REQUEST, 3, pack("!HH4x", multipart, 0)))
        for place, body in enumerate(bodies):
            head = pack("!HH4x", multipart, place < len(bodies) - 1)
            self.from_client(build(version, Type.MULTIPART_REPLY, 3, head + body))
            self.from_backend()
        self.una = self.sent_to
        self.from_mirror()


def _begun(loop: Loop, version: int = V13) -> Connection:
    one = Connection(loop, answers=False)
    one.greet(version)
    one.from_mirror(hello(version, 1) + build(version, Type.FEATURES_REQUEST, 9))
    one.una = one.sent_to
    one.from_mirror()
    loop.longest = 0.0
    return one


def _packed(message: bytes) -> bytes:
    return message * (64_000 // len(message))


def _port(version: int, number: int) -> bytes:
    return pack("!I", number) + bytes(60) if version == V13 else pack("!IH", number, 40) + bytes(34)


def port_status(loop: Loop, version: int, ports: int) -> None:
    """A switch of many ports, a small packet of PORT_STATUS, and a master that asks for the ports."""
    one = _begun(loop, version)
    described = [_port(version, number) for number in range(ports)]
    one.tell(13, [b"".join(described[at : at + 1000]) for at in range(0, ports, 1000)], version)
    loop.longest = 0.0
    status = build(version, Type.PORT_STATUS, 0, pack("!B7x", 2) + _port(version, 5))
    one.from_client(status * (1440 // len(status)))
    for number in range(10):
        one.from_mirror(build(version, Type.MULTIPART_REQUEST, number, pack("!HH4x", 13, 0)))


def tiny(loop: Loop, who: str, message: bytes) -> None:
    """A packet full of the smallest messages."""
    one = _begun(loop)
    says: dict[str, Callable[[bytes], None]]
    says = {"switch": one.from_client, "controller": one.from_backend, "master": one.from_mirror}
    says[who](_packed(message))


def middle(loop: Loop) -> None:
    """The same on a connection that is met in its middle."""
    one = _begun(loop)
    one.client = (one.client[0], 40002)
    one.from_client(_packed(build(V13, Type.ECHO_REQUEST, 1)), letters="PA")


def one_byte(loop: Loop) -> None:
    """A message of 64 KiB in packets of one byte."""
    one = _begun(loop)
    for byte in build(V13, Type.EXPERIMENTER, 1, bytes(20_000)):
        one.from_client(bytes((byte,)))


def elements(loop: Loop, message: bytes, version: int) -> None:
    """One message of a master's of thousands of elements."""
    one = _begun(loop, version)
    one.from_mirror(message)


def waiting(loop: Loop) -> None:
    """Questions of a master's that wait until the switch has told who it is."""
    one = Connection(loop, answers=False)
    one.from_client(hello(V13, 1))
    one.from_backend(hello(V13, 1))
    one.answer()
    loop.longest = 0.0
    one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 1) + build(V13, Type.GET_ASYNC_REQUEST, 2) * 900)
    one.greet()


def long_answers(loop: Loop) -> None:
    """A master asks 256 times for the longest answer that was ever seen."""
    one = _begun(loop)
    one.tell(12, [bytes(60_000)] * 20)
    loop.longest = 0.0
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0)) * 256)


def many_answers(loop: Loop) -> None:
    """A long answer takes the place of thousands."""
    one = _begun(loop)
    for number in range(12_000):
        question = build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4xI", 1, 0, number))
        one.from_backend(question)
        one.from_client(build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 0)))
    one.tell(12, [bytes(60_000)] * 34)


def many_parts(loop: Loop) -> None:
    """An answer in tens of thousands of parts."""
    one = _begun(loop)
    one.from_backend(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 1, 0)))
    part = build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 1))
    for _ in range(10):
        one.from_client(_packed(part))
    one.from_client(part[:10] + pack("!H4x", 0))
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 4, pack("!HH4x", 1, 0)))


def mend(loop: Loop, mss: int) -> None:
    """A mirror with small segments and a wide window tells that half of what is under way is lost."""
    one = Connection(loop, mss=mss)
    one.widen(4 * _MIB)
    one.write(12 * _MIB)
    loop.longest = 0.0
    half = one.una + (one.sent_to - one.una) // 2
    one.from_mirror(options=one.sack(half, one.sent_to))
    for _ in range(50):
        loop.now += 0.001
        one.from_mirror()


def opens(loop: Loop, mss: int) -> None:
    """A mirror's window opens over 15 MB."""
    one = Connection(loop, mss=mss)
    one.widen(12 * _MIB)
    one.from_mirror(window=0)
    one.write(15 * _MIB)
    loop.longest = 0.0
    one.from_mirror(window=0xFFFF)


def acknowledges(loop: Loop) -> None:
    """A mirror acknowledges 12 MB at once; another that has 15 MB under way is reset."""
    one = Connection(loop)
    one.widen(12 * _MIB)
    one.write(12 * _MIB)
    loop.longest = 0.0
    one.una = one.sent_to
    one.from_mirror()
    one.write(15 * _MIB)
    one._say(_MIRROR, one.client, "RA", one.mirror_seq, one.una)


def blocks(loop: Loop) -> None:
    """A mirror tells of each second segment alone, four in a packet, then again and again."""
    one = Connection(loop, mss=48)
    one.widen(_MIB)
    one.write(2 * _MIB)
    loop.longest = 0.0
    at = one.una + 48
    for _ in range(1500):
        edges = [edge for number in range(4) for edge in (at + 96 * number, at + 96 * number + 48)]
        one.from_mirror(options=one.sack(*edges))
        at += 384 if at < one.sent_to - 800 else -384


def bytes_apart(loop: Loop) -> None:
    """A client's bytes out of order, one in each packet, then packets over all of them."""
    one = Connection(loop)
    loop.longest = 0.0
    first = one.client_seq
    for number in range(8000):
        one.from_client(b"x", at=first + 2 + 2 * number)
    for at in (2000, 1, 0):
        one.from_client(b"y" * 60_000, at=first + at)


def gap(loop: Loop) -> None:
    """What a gap held back, 15 MB, comes out when it is filled."""
    one = Connection(loop)
    first = one.client_seq
    for at in range(1, 15 * _MIB, 60_000):
        one.from_client(bytes(60_000), at=first + at)
    loop.longest = 0.0
    one.from_client(b"x", at=first)


def mirrors_bytes(loop: Loop) -> None:
    """A mirror's own bytes out of order."""
    one = Connection(loop)
    loop.longest = 0.0
    for number in range(3000):
        one.from_mirror(b"x", at=one.mirror_seq + 2 + 2 * number)


def many_timers(loop: Loop, seconds: float) -> None:
    """Thousands of legs time out, and their flows expire, at one moment."""
    for number in range(2000):
        Connection(loop, 20_000 + number).from_client(b"x" * 1000)
    loop.longest = 0.0
    loop.now += seconds
    loop.do_what_is_due()


def silent_masters(loop: Loop) -> None:
    """Questions of many masters have waited long enough at one moment."""
    for number in range(500):
        one = Connection(loop, 20_000 + number, answers=False)
        one.greet()
        one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 9))
        one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 1, pack("!HH4x", 1, 0)))
    loop.longest = 0.0
    loop.now += 2.5
    loop.do_what_is_due()


def many_switches(loop: Loop) -> None:
    """One connection says that it is another switch, again and again."""
    one = _begun(loop)
    for number in range(11_000):
        one.from_backend(build(V13, Type.FEATURES_REQUEST, 2))
        one.from_client(build(V13, Type.FEATURES_REPLY, 2, pack("!QIBB2xII", number, 0, 254, 0, 0, 0)))


_ECHO, _UNKNOWN = build(V13, Type.ECHO_REQUEST, 1), bytes((4, 99, 0, 8)) + bytes(4)
_HELLO = build(V13, Type.HELLO, 1, pack("!HH4x", 9, 8) * 8000)
_ASYNC = build(V14, Type.SET_ASYNC, 1, pack("!HHI", 1, 8, 7) * 8000)
INPUTS: dict[str, tuple[str, Callable[[Loop], None]]] = {
    "PORT_STATUS, 4,000 ports, 1.3": (_MESSAGES, lambda loop: port_status(loop, V13, 4000)),
    "PORT_STATUS, 30,000 ports, 1.3": (_MESSAGES, lambda loop: port_status(loop, V13, 30_000)),
    "PORT_STATUS, 50,000 ports, 1.4": (_MESSAGES, lambda loop: port_status(loop, V14, 50_000)),
    "tiny messages: a switch's ECHOs": (_MESSAGES, lambda loop: tiny(loop, "switch", _ECHO)),
    "tiny messages: unknown ones": (_MESSAGES, lambda loop: tiny(loop, "switch", _UNKNOWN)),
    "tiny messages: PACKET_INs": (_MESSAGES, lambda loop: tiny(loop, "switch", build(V13, Type.PACKET_IN, 1))),
    "tiny messages: a controller's": (_MESSAGES, lambda loop: tiny(loop, "controller", build(V13, Type.FLOW_MOD, 1))),
    "tiny messages: a master's ECHOs": (_MESSAGES, lambda loop: tiny(loop, "master", _ECHO)),
    "tiny messages: a master's BARRIERs": (
        _MESSAGES,
        lambda loop: tiny(loop, "master", build(V13, Type.BARRIER_REQUEST, 1)),
    ),
    "tiny messages: picked up": (_MESSAGES, middle),
    "a message byte by byte": (_MESSAGES, one_byte),
    "a HELLO of 8,000 elements": (_MESSAGES, lambda loop: elements(loop, _HELLO, V13)),
    "a SET_ASYNC of 8,000 properties": (_MESSAGES, lambda loop: elements(loop, _ASYNC, V14)),
    "questions before the switch is known": (_MESSAGES, waiting),
    "a master's questions, 1.2 MB each": (_MESSAGES, long_answers),
    "answers: thousands give way": (_MESSAGES, many_answers),
    "answers: in thousands of parts": (_MESSAGES, many_parts),
    "one connection, thousands of switches": (_MESSAGES, many_switches),
    "500 masters' questions time out": (_MESSAGES, silent_masters),
    "SACK: half is lost, MSS 48": (_RAW, lambda loop: mend(loop, 48)),
    "SACK: half is lost, MSS 1460": (_RAW, lambda loop: mend(loop, 1460)),
    "SACK: each second segment": (_RAW, blocks),
    "a window opens over 15 MB, MSS 48": (_RAW, lambda loop: opens(loop, 48)),
    "a window opens over 15 MB, MSS 1460": (_RAW, lambda loop: opens(loop, 1460)),
    "12 MB acknowledged; 15 MB given up": (_RAW, acknowledges),
    "bytes out of order, a client's": (_RAW, bytes_apart),
    "bytes out of order, a mirror's": (_RAW, mirrors_bytes),
    "15 MB behind a gap": (_RAW, gap),
    "2,000 legs time out": (_RAW, lambda loop: many_timers(loop, 1.5)),
    "2,000 flows expire": (_RAW, lambda loop: many_timers(loop, 100_000.0)),
}


def measure(names: list[str]) -> dict[str, list[float]]:
    """For each input: the longest call with the C gear and without, in milliseconds."""
    gc.disable()
    found: dict[str, list[float]] = {}
    for name in names:
        rules, play = INPUTS[name]
        found[name] = [min(_longest(rules, play, fast) for _ in range(_RUNS)) for fast in (True, False)]
    return found


def _longest(rules: str, play: Callable[[Loop], None], fast: bool) -> float:
    loop = Loop(rules, fast=fast)
    play(loop)
    gc.collect()
    return loop.longest * 1000


def _beside(checkout: Path, names: list[str]) -> dict[str, list[float]]:
    python = checkout / ".venv" / "bin" / "python"
    argv = [str(python), str(Path(__file__).resolve()), "--json", *names]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    result = subprocess.run(argv, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.worst", description=__doc__.partition("\n")[0])
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="a checkout whose figures are printed beside")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="inputs by name, or a part of it; default: all")
    arguments = parser.parse_args()
    names = [name for name in INPUTS if not arguments.inputs or any(part in name for part in arguments.inputs)]
    if arguments.json:
        json.dump(measure(names), sys.stdout)
        return
    others = "" if arguments.beside is None else f"{'beside: C':>13}{'Python':>9}"
    print(f"{'longest call in ms':42}{'with C':>9}{'Python':>9}{others}")
    for name in names:
        figures = measure([name])[name]
        figures += [] if arguments.beside is None else _beside(arguments.beside, [name])[name]
        widths = [9, 9, 13, 9]
        print(
            f"{name:42}" + "".join(f"{one:{width}.2f}" for one, width in zip(figures, widths, strict=False)), flush=True
        )


if __name__ == "__main__":
    main()
