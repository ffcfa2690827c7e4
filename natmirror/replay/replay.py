"""Replays a capture through the engine: the capture's times are the clock, and a second capture gets the output."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from natmirror.actions import Accept, Action, Drop, Hook, Send
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.errors import CaptureError
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum, pseudo_header_sum
from natmirror.net.packet import PROTO_TCP, Segment, parse, segment_of
from natmirror.replay.capture import CUT_SHORT, Capture, Writer
from natmirror.replay.captured_numbers import captured_numbers
from natmirror.replay.explanation import Explanation
from natmirror.replay.hooks import HookFinder
from natmirror.replay.ideal_mirror import DELAY, IdealMirror, Model
from natmirror.replay.streams import LegStreams, NoStreams, StreamFiles, StreamStore
from natmirror.rules import Rules
from natmirror.tcp.initial_numbers import InitialNumbers

_KEY = bytes(16)  # a constant key for hashes, so that two runs do not differ
_AFTERMATH = 60.0
"""Seconds after the last packet in which legs may still end."""


@dataclass(slots=True)
class Step:
    """One action of the engine, with its time, its cause (``capture``, ``mirror``, ``timer``) and its packet."""

    at: float
    cause: str
    packet: bytes | None
    action: Action


class ReplayAnswer(TypedDict):
    """The outcome of a replay."""

    read: int
    """Packets in the capture."""
    skipped: dict[str, int]
    """Those that the engine did not get, by reason."""
    set_back: int
    """Packets with an earlier time than the packet before them; the engine's clock did not move for them."""
    fragments: str
    """The outcome of fragments; empty if there were none."""
    passed: int
    """Packets that natmirror would pass on."""
    dropped: dict[str, int]
    """Packets that it would drop, by reason."""
    sent: int
    """Packets that it would send itself."""
    legs: list[str]
    """A line for each leg that ended."""
    notes: list[str]
    """What the operator should know of the capture, and why nothing was mirrored."""


@dataclass(slots=True)
class Report:
    """The outcome of a replay: its packets and its legs."""

    packets: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Packets that the engine did not get, by reason."""
    accepted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    set_back: int = 0
    """Packets with an earlier time than the packet before them; the engine's clock did not move for them."""
    fragments: str = ""
    """The outcome of fragments; empty if there were none."""
    legs: list[str] = field(default_factory=list)
    """A line for each leg that ended."""
    notes: list[str] = field(default_factory=list)
    """What the operator should know of the capture, and why nothing was mirrored."""

    def show(self) -> ReplayAnswer:
        """Return the outcome as values for JSON."""
        return {
            "read": self.packets,
            "skipped": dict(self.skipped),
            "set_back": self.set_back,
            "fragments": self.fragments,
            "passed": self.accepted,
            "dropped": dict(self.dropped),
            "sent": self.sent,
            "legs": self.legs,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counter.items()))
            return f"{counter.total()} ({reasons})" if reasons else "none"

        set_back = [f"{self.set_back} packets have an earlier time than the packet before"] if self.set_back else []
        return "\n".join(
            [
                f"packets read: {self.packets}, skipped: {listed(self.skipped)}",
                *set_back,
                *([self.fragments] if self.fragments else []),
                f"passed: {self.accepted}, dropped: {listed(self.dropped)}, sent by natmirror: {self.sent}",
                *self.legs,
                *self.notes,
            ]
        )


class Replay:
    """The replay of one capture.

    ``mirror`` selects the source of the mirrors' answers: ``model``, an ideal mirror by default, or ``capture``, the
    captured mirrors. ``streams`` gets the bytes that each leg's mirror has acknowledged. CaptureError for a file that
    is no capture.
    """

    def __init__(
        self,
        rules: Rules,
        capture: Path,
        *,
        mirror: str = "model",
        model: Model | None = None,
        fast: bool = True,
        streams: StreamStore | None = None,
    ) -> None:
        self.report = Report()
        self._capture = Capture(capture)
        numbers = captured_numbers(rules, capture, InitialNumbers(_KEY)) if mirror == "capture" else None
        self._engine = Engine(rules, key=_KEY, fast=fast, numbers=numbers)
        self._model = (model or IdealMirror()) if mirror == "model" else None
        self._coming: list[tuple[float, int, bytes]] = []  # the model's answers on their way
        self._count = 0
        self._streams = LegStreams(rules, NoStreams() if streams is None else streams)
        self._explanation = Explanation(rules)
        self._answers = 0
        self._hooks = HookFinder(rules, from_mirrors=mirror == "capture", has_leg=self._streams.has)
        self._now = 0.0

    def steps(self) -> Iterator[Step]:
        """Yield all actions in their order. If the capture breaks off, raise CaptureError at the end."""
        broken: CaptureError | None = None
        latest = 0.0
        packets = iter(self._capture)
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
                self.report.skipped[captured.reason] += 1
                continue
            self._explanation.note(captured.packet)
            # The engine's time never decreases, even if the clock was set back during the capture.
            self.report.set_back += captured.at < latest
            latest = captured.at
            yield from self._catch_up(max(captured.at, self._now))
            hook = self._hooks.hook(captured.packet, self._now)
            if isinstance(hook, str):
                self.report.skipped[hook] += 1
                continue
            yield from self._receive(captured.packet, hook, "capture")
        yield from self._catch_up(self._now + _AFTERMATH)
        self.report.legs = [f"leg ended: {event}" for event in self._engine.take_events()]
        self._conclude()
        if broken is not None:
            raise broken

    def _conclude(self) -> None:
        """Report what the operator should know of the capture."""
        report, reassembly = self.report, self._capture.reassembly
        reassembly.finish()
        report.fragments = str(reassembly)
        if cut := report.skipped[CUT_SHORT]:
            report.notes.append(f"packets cut short: {cut}; capture whole packets (tcpdump -s 0)")
        if not self._capture.has_times:
            report.notes.append("the capture has packets without a time: natmirror took the time of the packet before")
        if not self._streams.begun:
            counters = self._engine.snapshot(self._now)["counters"]
            why = self._explanation.why(report.skipped, counters[EngineCounter.BAD_CHECKSUM_PACKETS])
            report.notes.append(f"nothing was mirrored: {why}")
        elif self._model is None and not self._answers:
            report.notes.append(
                "no mirror answered: the capture has no packets of the mirrors' own; --mirror model answers for them"
            )

    def _catch_up(self, until: float) -> Iterator[Step]:
        """Handle timers and the model's answers that are due before ``until``, in the order of their times."""
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
        self._answers += self._streams.acknowledge(packet)
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
                if packet is not None:
                    self._explanation.note_verdict(packet, action)
            elif cause == "capture" and isinstance(action, Drop):
                self.report.dropped[action.reason] += 1
            yield Step(self._now, cause, packet, action)

    def _send(self, packet: bytes) -> None:
        segment = parse(packet)
        assert isinstance(segment, Segment)
        self._streams.sent(segment)
        if self._model is not None:
            for answer in self._model.answer(segment):
                self._count += 1
                heapq.heappush(self._coming, (self._now + DELAY, self._count, answer))


def replay(
    rules: Rules,
    capture: Path,
    output: Path,
    *,
    mirror: str = "model",
    streams: Path | None = None,
    show: Callable[[Report], str] = str,
) -> Report:
    """Replay ``capture`` with ``rules`` into ``output``, and write each leg's byte stream to a file in ``streams``.

    CaptureError where a file cannot be read or written. If the capture breaks off, the packets before that are still
    replayed and written, and the error's note has the report as ``show`` returns it. No file is overwritten before
    ``capture`` is known to be a capture.
    """
    run = Replay(rules, capture, mirror=mirror, streams=None if streams is None else StreamFiles(streams))
    if output.exists() and output.samefile(capture):
        raise CaptureError(f"{output}: expected another file for the output, found the capture itself")
    try:
        with Writer(output) as writer:
            for step in run.steps():
                for packet in leaving(step):
                    writer.write(step.at, packet)
    except CaptureError as error:
        error.add_note(show(run.report))
        raise
    return run.report


def checksum_of(packet: bytes) -> Checksum:
    """Return whether the capturing host had left a packet's TCP checksum to its hardware."""
    segment = segment_of(packet)
    if segment is None:
        return Checksum.UNVERIFIED
    field = int.from_bytes(segment.raw[segment.ip_len + 16 : segment.ip_len + 18], "big")
    expected = pseudo_header_sum(segment.src, segment.dst, PROTO_TCP, len(segment.raw) - segment.ip_len)
    return Checksum.PARTIAL if field == expected else Checksum.UNVERIFIED


def leaving(step: Step) -> list[bytes]:
    """Return the packets that leave the host because of a step."""
    if isinstance(step.action, Send):
        return finish(step.action.packet, step.action.segment_len)
    if isinstance(step.action, Accept):
        packet = step.action.packet or step.packet
        return [] if packet is None else [packet]
    return []
