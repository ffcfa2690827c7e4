"""The initial sequence numbers of legs in a capture, for a replay in which the captured mirrors answer.

A mirror's acknowledgements in the capture fit a leg only if the leg begins with the same number as there: that of its
SYN, or, where the SYN is missing, the number that the mirror's SYN-ACK acknowledges. In older captures that is the
client's own number, which makes no difference here.
"""

from collections import defaultdict, deque
from pathlib import Path

from natmirror.errors import CaptureError
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, SYN, Malformed, Segment, parse
from natmirror.replay.capture import read
from natmirror.rules import Rules
from natmirror.tcp.initial_numbers import Numbers

_EARLY = 1.0  # seconds that a captured SYN may precede the leg of the replay
_LATE = 30.0  # seconds that it may follow: if the SYN is missing, its answer may have come so late
_Ends = tuple[Endpoint, Endpoint]


class CapturedNumbers:
    """The initial numbers of a replay's legs, as in the capture.

    A leg gets the first number between the same endpoints that belongs neither to an earlier nor to a later leg. A leg
    that is not in the capture gets its number from ``others``.
    """

    def __init__(self, captured: dict[_Ends, deque[tuple[float, int]]], others: Numbers) -> None:
        """``captured``: times and numbers by local endpoint and mirror."""
        self._captured = captured
        self._others = others

    def first(self, local: Endpoint, mirror: Endpoint, now: float) -> int:
        """Return the initial number of a new leg between the two endpoints."""
        captured = self._captured.get((local, mirror), deque())
        while captured and captured[0][0] < now - _EARLY:
            captured.popleft()
        if captured and captured[0][0] <= now + _LATE:
            return captured.popleft()[1]
        return self._others.first(local, mirror, now)

    def note_last(self, local: Endpoint, mirror: Endpoint, last: int, now: float) -> None:
        """Note the last number of a leg that has ended."""
        self._others.note_last(local, mirror, last, now)


def captured_numbers(rules: Rules, capture: Path, others: Numbers) -> CapturedNumbers:
    """Return the numbers of legs to the mirrors of ``rules`` from a capture, up to where the capture breaks off."""
    mirrors = {endpoint_of(mirror) for service in rules.services for mirror in service.mirrors}
    found: defaultdict[_Ends, deque[tuple[float, int]]] = defaultdict(deque)
    now = 0.0  # never decreases, like the replay's
    try:
        for captured in read(capture):
            now = max(now, captured.at)
            leg = None if captured.packet is None else _opening(captured.packet, mirrors)
            if leg is None:
                continue
            ends, number = leg
            if not found[ends] or found[ends][-1][1] != number:  # else this is a retransmission or the answer
                found[ends].append((now, number))
    except CaptureError:
        pass  # the replay reads as far, and reports it
    return CapturedNumbers(found, others)


def _opening(packet: bytes, mirrors: set[Endpoint]) -> tuple[_Ends, int] | None:
    """Return the endpoints and the initial number of the leg that a packet opens or accepts; None for other packets."""
    try:
        segment = parse(packet)
    except Malformed:
        return None
    if not isinstance(segment, Segment) or not segment.flags & SYN:
        return None
    source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
    if segment.flags & ACK:
        return ((destination, source), seq.add(segment.ack, -1)) if source in mirrors else None
    return ((source, destination), segment.seq) if destination in mirrors else None
