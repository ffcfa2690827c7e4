"""The engine over a capture: its times are the clock, what the engine would send is written to another capture."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from natmirror import seq
from natmirror.actions import Accept, Action, Drop, Send
from natmirror.capture import Writer, read
from natmirror.engine import Engine, Hook
from natmirror.errors import CaptureError
from natmirror.icmp import parse_error
from natmirror.model import DELAY, IdealMirror
from natmirror.packet import (
    ACK,
    PROTO_TCP,
    SYN,
    Checksum,
    Datagram,
    Endpoint,
    Malformed,
    Segment,
    endpoint_of,
    parse,
    pseudo_header_sum,
    show,
)
from natmirror.rules import Rules

_KEY = bytes(16)  # the flow table's hash is not to make two runs differ
_AFTERMATH = 60.0
"""Seconds after the last packet in which legs may come to their end."""


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
    legs: list[str] = field(default_factory=list)
    """A line for each leg."""

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

        return "\n".join(
            [
                f"{self.packets} packets read; left out: {listed(self.left_out)}",
                f"{self.accepted} passed; dropped: {listed(self.dropped)}; {self.sent} synthesised",
                *self.legs,
            ]
        )


class Replay:
    """One run over one capture. ``mirror`` says who answers for the mirrors: ``model`` or ``capture``."""

    def __init__(self, rules: Rules, capture: Path, *, mirror: str = "model", fast: bool = True) -> None:
        self.report = Report()
        self.streams: dict[str, bytes] = {}
        """What each leg's mirror has acknowledged, by ``mirror-address-port``, at the end."""
        self._capture = capture
        self._engine = Engine(rules, key=_KEY, fast=fast)
        self._router = _Router(rules, from_mirrors=mirror == "capture")
        self._model = IdealMirror() if mirror == "model" else None
        self._coming: list[tuple[float, int, bytes]] = []  # the model's answers on their way
        self._count = 0
        self._legs = _Legs(rules)
        self._now = 0.0

    def steps(self) -> Iterator[Step]:
        """All actions in their order; CaptureError, after those of what could be read, where the capture breaks off."""
        broken: CaptureError | None = None
        packets = read(self._capture)
        while True:
            try:
                captured = next(packets, None)
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
            yield from self._catch_up(max(captured.at, self._now))
            hook = self._router.hook(captured.packet)
            if isinstance(hook, str):
                self.report.left_out[hook] += 1
                continue
            yield from self._receive(captured.packet, hook, "capture")
        yield from self._catch_up(self._now + _AFTERMATH)
        self.streams = self._legs.streams()
        self.report.legs = [str(event) for event in self._engine.take_events()]
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
        yield from self._take(self._engine.receive(packet, hook, self._now, checksum_of(packet)), cause, packet)

    def _take(self, actions: list[Action], cause: str, packet: bytes | None) -> Iterator[Step]:
        for action in actions:
            if isinstance(action, Send):
                self.report.sent += 1
                self._send(action.packet)
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
    same.
    """
    run = Replay(rules, capture, mirror=mirror)
    try:
        with Writer(output) as writer:
            for step in run.steps():
                packet = leaving(step)
                if packet is not None:
                    writer.write(step.at, packet)
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


def leaving(step: Step) -> bytes | None:
    """The packet that leaves the host by an action, if one does."""
    if isinstance(step.action, Send):
        return step.action.packet
    if isinstance(step.action, Accept):
        return step.action.packet or step.packet
    return None


def _write_streams(directory: Path, streams: dict[str, bytes]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, stream in streams.items():
            (directory / f"{name}.bin").write_bytes(stream)
    except OSError as error:
        raise CaptureError(f"{directory}: {error.strerror}") from None


class _Router:
    """Which hook a packet would have met, by its addresses alone."""

    def __init__(self, rules: Rules, *, from_mirrors: bool) -> None:
        self._networks = [(int(net.network_address), int(net.netmask)) for net in rules.switches]
        self._services = {endpoint_of(service): service.pool is not None for service in rules.services}
        self._backends = {
            endpoint_of(backend) for service in rules.services if service.pool for backend in service.pool.backends
        }
        self._mirrors = {endpoint_of(mirror) for service in rules.services for mirror in service.mirrors}
        self._from_mirrors = from_mirrors

    def hook(self, packet: bytes) -> Hook | str:
        """The hook, or why the packet is left out."""
        try:
            parsed = parse(packet)
        except Malformed as reason:
            return str(reason)
        if isinstance(parsed, Datagram):
            return self._of_datagram(parsed)
        source, destination = (parsed.src, parsed.sport), (parsed.dst, parsed.dport)
        if self._is_client(parsed.src) and destination in self._services:
            return Hook.PREROUTING
        if self._is_client(parsed.src) and destination in self._backends | self._mirrors:
            return "already rewritten"
        if not self._is_client(parsed.dst):
            return "none of ours"
        if source in self._mirrors and source not in self._backends:
            return Hook.PREROUTING if self._from_mirrors else "of a mirror"
        if source in self._backends:
            return Hook.FORWARD
        if source in self._services:
            return "already rewritten" if self._services[source] else Hook.OUTPUT
        return "none of ours"

    def _of_datagram(self, datagram: Datagram) -> Hook | str:
        if parse_error(datagram) is None:
            return "none of ours"
        if any(datagram.dst == address for address, _ in self._services):
            return Hook.PREROUTING
        return Hook.FORWARD if self._is_client(datagram.dst) else "none of ours"

    def _is_client(self, address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        return any(number & mask == network for network, mask in self._networks)


class _Legs:
    """The byte stream of each leg: what was sent, cut off at what was acknowledged."""

    def __init__(self, rules: Rules) -> None:
        self._names = {endpoint_of(mirror): mirror.name for service in rules.services for mirror in service.mirrors}
        self._all: list[_Leg] = []
        self._latest: dict[tuple[Endpoint, Endpoint], _Leg] = {}

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
        for leg in self._all:
            client, mirror = leg.key
            name = f"{self._names.get(mirror, 'mirror')}-{show(client).replace(':', '-')}"
            twin = sum(other.startswith(name) for other in named)
            named[f"{name}-{twin + 1}" if twin else name] = bytes(leg.stream[: leg.acknowledged])
        return named


@dataclass(slots=True)
class _Leg:
    key: tuple[Endpoint, Endpoint]
    first: int
    stream: bytearray = field(default_factory=bytearray)
    acknowledged: int = 0
