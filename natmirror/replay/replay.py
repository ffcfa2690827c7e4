"""The engine over a capture: its times are the clock, what the engine would send is written to another capture."""

import hashlib
import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from natmirror.actions import Accept, Action, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.errors import CaptureError
from natmirror.net import seq
from natmirror.net.icmp import IcmpError, parse_error
from natmirror.net.packet import (
    ACK,
    PROTO_TCP,
    SYN,
    Checksum,
    Datagram,
    Endpoint,
    Malformed,
    Segment,
    endpoint_of,
    finish,
    parse,
    pseudo_header_sum,
    show,
)
from natmirror.replay.capture import Writer, read
from natmirror.replay.ideal_mirror import DELAY, IdealMirror, Model
from natmirror.replay.leg_numbers import captured_numbers
from natmirror.rules import Rules
from natmirror.tcp.initial_numbers import InitialNumbers

_KEY = bytes(16)  # the flow table's hash is not to make two runs differ
_AFTERMATH = 60.0
"""Seconds after the last packet in which legs may come to their end."""

_REWRITTEN, _STRANGE, _OF_A_MIRROR, _OTHER_SIDE = "already rewritten", "none of ours", "of a mirror", "seen before"

_TTL_AT, _HEADER_CHECKSUM_AT = 8, 10
_FORWARDING_TIME = 1.0
"""Seconds that a packet takes at most from one side of the host to the other."""


@dataclass(slots=True)
class Step:
    """One action of the engine's: when, because of what (``capture``, ``mirror``, ``timer``), about which packet."""

    at: float
    cause: str
    packet: bytes | None
    action: Action


@dataclass(slots=True)
class Report:
    """What became of a capture's packets, and of its legs."""

    packets: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Packets that were not given to the engine, by reason."""
    accepted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    set_back: int = 0
    """Packets that bear an earlier time than the one before them; the engine's clock stood still for them."""
    legs: list[str] = field(default_factory=list)
    """A line for each leg that has ended."""

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

        set_back = [f"{self.set_back} packets with a time before the last one's"] if self.set_back else []
        return "\n".join(
            [
                f"{self.packets} packets read; left out: {listed(self.left_out)}",
                *set_back,
                f"{self.accepted} passed; dropped: {listed(self.dropped)}; {self.sent} synthesised",
                *self.legs,
            ]
        )


class Replay:
    """One run over one capture. ``mirror`` says who answers for the mirrors: ``model``, which is an ideal one unless
    another is given, or ``capture``.

    CaptureError for a file that is no capture.
    """

    def __init__(
        self, rules: Rules, capture: Path, *, mirror: str = "model", model: Model | None = None, fast: bool = True
    ) -> None:
        self.report = Report()
        self.streams: dict[str, bytes] = {}
        """What each leg's mirror has acknowledged, by ``mirror-address-port``, at the end."""
        self._packets = read(capture)
        numbers = captured_numbers(rules, capture, InitialNumbers(_KEY)) if mirror == "capture" else None
        self._engine = Engine(rules, key=_KEY, fast=fast, numbers=numbers)
        self._model = (model or IdealMirror()) if mirror == "model" else None
        self._coming: list[tuple[float, int, bytes]] = []  # the model's answers on their way
        self._count = 0
        self._legs = _Legs(rules)
        self._router = _Router(rules, from_mirrors=mirror == "capture", has_leg=self._legs.has)
        self._now = 0.0

    def steps(self) -> Iterator[Step]:
        """All actions in their order; CaptureError, after those of what could be read, where the capture breaks off."""
        broken: CaptureError | None = None
        latest = 0.0
        while True:
            try:
                captured = next(self._packets, None)
            except CaptureError as error:
                broken = error
                break
            if captured is None:
                break
            self.report.packets += 1
            if captured.packet is None:
                self.report.left_out["cut short" if captured.cut_short else "not IPv4"] += 1
                continue
            # A clock that was set back while the capture ran does not run back for the engine.
            self.report.set_back += captured.at < latest
            latest = captured.at
            yield from self._catch_up(max(captured.at, self._now))
            hook = self._router.hook(captured.packet, self._now)
            if isinstance(hook, str):
                self.report.left_out[hook] += 1
                continue
            yield from self._receive(captured.packet, hook, "capture")
        yield from self._catch_up(self._now + _AFTERMATH)
        self.streams = self._legs.streams()
        self.report.legs = [f"leg ended: {event}" for event in self._engine.take_events()]
        if broken is not None:
            raise broken

    def _catch_up(self, until: float) -> Iterator[Step]:
        """Timers and the model's answers that are due before ``until``, in the order of their times."""
        while True:
            timer = self._engine.next_timer()
            coming = self._coming[0][0] if self._coming else None
            due = min((when for when in (timer, coming) if when is not None), default=None)
            if due is None or due > until:
                break
            self._now = max(self._now, due)
            if coming == due:
                yield from self._receive(heapq.heappop(self._coming)[2], Hook.PREROUTING, "mirror")
            else:
                yield from self._take(self._engine.handle_timer(self._now), "timer", None)
        self._now = until

    def _receive(self, packet: bytes, hook: Hook, cause: str) -> Iterator[Step]:
        self._legs.acknowledge(packet)
        decision = self._engine.receive(packet, hook, self._now, checksum_of(packet))
        yield from self._take([decision.verdict, *decision.sends], cause, packet)

    def _take(self, actions: Sequence[Action], cause: str, packet: bytes | None) -> Iterator[Step]:
        for action in actions:
            if isinstance(action, Send):
                for packet in finish(action.packet, action.segment_len):
                    self.report.sent += 1
                    self._send(packet)
            elif cause == "capture" and isinstance(action, Accept):
                self.report.accepted += 1
            elif cause == "capture" and isinstance(action, Drop):
                self.report.dropped[action.reason] += 1
            yield Step(self._now, cause, packet, action)

    def _send(self, packet: bytes) -> None:
        segment = parse(packet)
        assert isinstance(segment, Segment)
        self._legs.sent(segment)
        if self._model is not None:
            for answer in self._model.answer(segment):
                self._count += 1
                heapq.heappush(self._coming, (self._now + DELAY, self._count, answer))


def replay(rules: Rules, capture: Path, output: Path, *, mirror: str = "model", streams: Path | None = None) -> Report:
    """Replay ``capture`` by ``rules`` into ``output``, and each leg's byte stream into a file in ``streams``.

    CaptureError where a file cannot be read or written; what came before a break in the capture is written all the
    same, and reported in the error's note. Nothing is written over before the capture is known to be one.
    """
    run = Replay(rules, capture, mirror=mirror)
    if output.exists() and output.samefile(capture):
        raise CaptureError(f"{output}: expected another file for the output, found the capture itself")
    try:
        with Writer(output) as writer:
            for step in run.steps():
                for packet in leaving(step):
                    writer.write(step.at, packet)
    except CaptureError as error:
        error.add_note(str(run.report))
        raise
    finally:
        if streams is not None:
            _write_streams(streams, run.streams)
    return run.report


def checksum_of(packet: bytes) -> Checksum:
    """Whether a captured packet's TCP checksum had been left to the capturing host's hardware."""
    try:
        segment = parse(packet)
    except Malformed:
        return Checksum.UNVERIFIED
    if not isinstance(segment, Segment):
        return Checksum.UNVERIFIED
    field = int.from_bytes(segment.raw[segment.ip_len + 16 : segment.ip_len + 18], "big")
    expected = pseudo_header_sum(segment.src, segment.dst, PROTO_TCP, len(segment.raw) - segment.ip_len)
    return Checksum.PARTIAL if field == expected else Checksum.UNVERIFIED


def leaving(step: Step) -> list[bytes]:
    """The packets that leave the host by an action."""
    if isinstance(step.action, Send):
        return finish(step.action.packet, step.action.segment_len)
    if isinstance(step.action, Accept):
        packet = step.action.packet or step.packet
        return [] if packet is None else [packet]
    return []


def _write_streams(directory: Path, streams: dict[str, bytes]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, stream in streams.items():
            (directory / f"{name}.bin").write_bytes(stream)
    except OSError as error:
        raise CaptureError(f"{directory}: {error.strerror}") from None


class _Router:
    """Gives each packet the hook that it would have met, by its addresses.

    A capture of both sides of the host shows most packets twice. One that was rewritten is told by its addresses; one
    that passed unchanged by its hop count, all that forwarding changes (RFC 1812 §5.3.1).

    ``has_leg`` answers whether a leg stands, or stood, between a mirror and a client: only that tells a mirror's
    packets from production's where the mirror is a backend too. ``from_mirrors``: the mirrors' own packets count.
    """

    def __init__(self, rules: Rules, *, from_mirrors: bool, has_leg: Callable[[Endpoint, Endpoint], bool]) -> None:
        self._networks = [(int(net.network_address), int(net.netmask)) for net in rules.switches]
        self._pooled = {endpoint_of(service): service.pool is not None for service in rules.services}
        self._addresses = {address for address, _ in self._pooled}
        self._backends = {
            endpoint_of(backend) for service in rules.services if service.pool for backend in service.pool.backends
        }
        self._mirrors = {endpoint_of(mirror) for service in rules.services for mirror in service.mirrors}
        self._from_mirrors = from_mirrors
        self._has_leg = has_leg
        self._twins = _Twins()

    def hook(self, packet: bytes, now: float) -> Hook | str:
        """The hook, or why the packet is left out."""
        try:
            parsed = parse(packet)
        except Malformed as reason:
            return str(reason)
        hook = self._of_segment(parsed) if isinstance(parsed, Segment) else self._of_datagram(parsed)
        return _OTHER_SIDE if isinstance(hook, Hook) and self._twins.knows(parsed.raw, now) else hook

    def _of_segment(self, segment: Segment) -> Hook | str:
        source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
        if self._is_client(segment.src) and destination in self._pooled:
            return Hook.PREROUTING
        if self._is_client(segment.src) and (destination in self._backends or destination in self._mirrors):
            return _REWRITTEN
        if not self._is_client(segment.dst):
            return _STRANGE
        if source in self._mirrors and (source not in self._backends or self._has_leg(source, destination)):
            return Hook.PREROUTING if self._from_mirrors else _OF_A_MIRROR
        if source in self._backends:
            return Hook.FORWARD
        if source in self._pooled:
            return _REWRITTEN if self._pooled[source] else Hook.OUTPUT
        return _STRANGE

    def _of_datagram(self, datagram: Datagram) -> Hook | str:
        error = parse_error(datagram)
        if error is None:
            return _STRANGE
        if self._is_client(datagram.dst):
            return self._of_error_to_client(error)
        if datagram.dst in self._addresses:
            return Hook.PREROUTING
        return _REWRITTEN if error.inner_src in self._backends and self._is_client(error.inner_dst[0]) else _STRANGE

    def _of_error_to_client(self, error: IcmpError) -> Hook | str:
        there = error.inner_dst
        if self._pooled.get(there):
            return _REWRITTEN
        of_a_mirror = there in self._mirrors and (there not in self._backends or self._has_leg(there, error.inner_src))
        return _OF_A_MIRROR if of_a_mirror and not self._from_mirrors else Hook.FORWARD

    def _is_client(self, address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        return any(number & mask == network for network, mask in self._networks)


class _Twins:
    """Packets of the last second, to know one again that has been forwarded meanwhile.

    A repetition by its sender has the same hop count as the first, and is no twin.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def knows(self, packet: bytes, now: float) -> bool:
        """Whether the packet has been seen one hop earlier; else it is remembered."""
        while self._recent and now - next(iter(self._recent.values()))[1] > _FORWARDING_TIME:
            self._recent.popitem(last=False)
        ttl = packet[_TTL_AT]
        constant = packet[:_TTL_AT] + packet[_TTL_AT + 1 : _HEADER_CHECKSUM_AT] + packet[_HEADER_CHECKSUM_AT + 2 :]
        key = hashlib.blake2b(constant, digest_size=16).digest()
        seen = self._recent.get(key)
        if seen is not None and seen[0] == ttl + 1:
            return True
        self._recent[key] = (ttl, now)
        self._recent.move_to_end(key)
        return False


class _Legs:
    """The byte stream of each leg: what was sent, cut off at what was acknowledged."""

    def __init__(self, rules: Rules) -> None:
        self._names = {endpoint_of(mirror): mirror.name for service in rules.services for mirror in service.mirrors}
        self._all: list[_Leg] = []
        self._latest: dict[tuple[Endpoint, Endpoint], _Leg] = {}

    def has(self, mirror: Endpoint, client: Endpoint) -> bool:
        """Whether there has been a leg between the two."""
        return (client, mirror) in self._latest

    def sent(self, segment: Segment) -> None:
        """A segment of a leg's."""
        key = ((segment.src, segment.sport), (segment.dst, segment.dport))
        leg = self._latest.get(key)
        if segment.flags & SYN and (leg is None or leg.first != seq.add(segment.seq, 1)):
            leg = self._latest[key] = _Leg(key, seq.add(segment.seq, 1))
            self._all.append(leg)
        if leg is not None and segment.payload_len:
            at = seq.diff(segment.seq, leg.first)
            leg.stream[at : at + segment.payload_len] = segment.payload

    def acknowledge(self, packet: bytes) -> None:
        """A packet that may be a mirror's acknowledgement."""
        try:
            segment = parse(packet)
        except Malformed:
            return
        if not isinstance(segment, Segment) or not segment.flags & ACK:
            return
        leg = self._latest.get(((segment.dst, segment.dport), (segment.src, segment.sport)))
        if leg is not None:
            leg.acknowledged = max(leg.acknowledged, seq.diff(segment.ack, leg.first))

    def streams(self) -> dict[str, bytes]:
        """Each leg's acknowledged bytes by a name for a file."""
        named: dict[str, bytes] = {}
        count: Counter[str] = Counter()
        for leg in self._all:
            client, mirror = leg.key
            name = f"{self._names.get(mirror, 'mirror')}-{show(client).replace(':', '-')}"
            count[name] += 1
            unique = name if count[name] == 1 else f"{name}-{count[name]}"
            named[unique] = bytes(leg.stream[: leg.acknowledged])
        return named


@dataclass(slots=True)
class _Leg:
    key: tuple[Endpoint, Endpoint]
    first: int
    stream: bytearray = field(default_factory=bytearray)
    acknowledged: int = 0
