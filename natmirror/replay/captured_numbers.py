"""The initial sequence numbers of legs in a capture, for a replay in which the captured mirrors answer.

A mirror's acknowledgements in the capture fit a leg of the replay only if this leg begins with the same number: that of
the captured SYN or, if the SYN is missing, the number that the mirror's SYN-ACK acknowledges. In older captures that is
the client's own number, which makes no difference here.
"""

from collections import defaultdict, deque
from pathlib import Path

from natmirror.errors import CaptureError
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, SYN, segment_of
from natmirror.replay.capture import Capture
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
    legs = _Legs()
    now = 0.0  # never decreases, like the replay's
    try:
        for captured in Capture(capture):
            now = max(now, captured.at)
            if captured.packet is not None:
                legs.note(captured.packet, mirrors, now)
    except CaptureError:
        pass  # the replay reads up to the same place, and reports the error
    return CapturedNumbers(legs.found, others)


class _Legs:
    """The legs in a capture, with times and initial numbers."""

    def __init__(self) -> None:
        self.found: defaultdict[_Ends, deque[tuple[float, int]]] = defaultdict(deque)
        self._accepted: set[_Ends] = set()  # those whose latest leg was accepted: a further SYN begins another one

    def note(self, packet: bytes, mirrors: set[Endpoint], now: float) -> None:
        """Note a packet between a leg's ends; others change nothing."""
        segment = segment_of(packet)
        if segment is None:
            return
        source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
        if source in mirrors and segment.flags & SYN and segment.flags & ACK:
            self._begin((destination, source), seq.add(segment.ack, -1), now)
        elif destination in mirrors and not segment.flags & SYN:
            self._accepted.add((source, destination))
        elif destination in mirrors and not segment.flags & ACK:
            ends = source, destination
            self._begin(ends, segment.seq, now, is_another=ends in self._accepted)
            self._accepted.discard(ends)

    def _begin(self, ends: _Ends, number: int, now: float, *, is_another: bool = False) -> None:
        """Note a SYN or its answer, which may also be a retransmission."""
        legs = self.found[ends]
        if is_another or not legs or legs[-1][1] != number:
            legs.append((now, number))
