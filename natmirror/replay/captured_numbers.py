"""The initial numbers that legs had in a capture, for a replay in which the captured mirrors answer.

What a mirror acknowledged in the capture fits a leg only if the leg has the number that its SYN has in the capture.
Where the SYN is missing, the mirror's SYN-ACK acknowledges it. Older captures have the client's own number there, and
are replayed alike.
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

_EARLY = 1.0  # seconds that a SYN may stand in the capture before what it follows from
_LATE = 30.0  # and after: where it is missing itself, its answer may have come so late
_Ends = tuple[Endpoint, Endpoint]


class CapturedNumbers:
    """Gives a leg the number that the capture has for it: the first between the same ends that is
    not past, nor of a later leg.

    A leg that is not in the capture gets its number from ``others``.
    """

    def __init__(self, captured: dict[_Ends, deque[tuple[float, int]]], others: Numbers) -> None:
        """``captured``: times and numbers by local end and mirror."""
        self._captured = captured
        self._others = others

    def first(self, local: Endpoint, mirror: Endpoint, now: float) -> int:
        """Return the initial number of a new leg between the two ends."""
        captured = self._captured.get((local, mirror), deque())
        while captured and captured[0][0] < now - _EARLY:
            captured.popleft()
        if captured and captured[0][0] <= now + _LATE:
            return captured.popleft()[1]
        return self._others.first(local, mirror, now)

    def note_last(self, local: Endpoint, mirror: Endpoint, last: int, now: float) -> None:
        """Note the highest number that a leg which ends now used on the wire."""
        self._others.note_last(local, mirror, last, now)


def captured_numbers(rules: Rules, capture: Path, others: Numbers) -> CapturedNumbers:
    """Read the numbers of legs to the mirrors of ``rules`` from a capture, as far as it can be read."""
    mirrors = {endpoint_of(mirror) for service in rules.services for mirror in service.mirrors}
    found: defaultdict[_Ends, deque[tuple[float, int]]] = defaultdict(deque)
    now = 0.0  # does not run back, like the replay's
    try:
        for captured in read(capture):
            now = max(now, captured.at)
            leg = None if captured.packet is None else _opening(captured.packet, mirrors)
            if leg is None:
                continue
            ends, number = leg
            if not found[ends] or found[ends][-1][1] != number:  # else it was sent again, or answered
                found[ends].append((now, number))
    except CaptureError:
        pass  # the replay reads as far, and says so
    return CapturedNumbers(found, others)


def _opening(packet: bytes, mirrors: set[Endpoint]) -> tuple[_Ends, int] | None:
    """Return the ends and the initial number of the leg that a packet opens or answers; None for other packets."""
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
