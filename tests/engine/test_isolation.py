"""Whatever a mirror does, production's packets get the very same verdicts as without any mirror."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from natmirror.actions import Action, Send
from natmirror.net import seq
from natmirror.net.build import build
from natmirror.net.packet import ACK, RST, SYN, Segment
from natmirror.replay.ideal_mirror import IdealMirror
from natmirror.replay.replay import Replay
from natmirror.rules import load_rules

CAPTURES = sorted(path for path in (Path(__file__).parents[2] / "pcaps").glob("*.pcap") if ".out." not in path.name)


def answered(to: Segment, flags: int, number: int, *, ack: int, window: int = 0xFFFF, payload: bytes = b"") -> bytes:
    """Return a segment of the mirror to a leg."""
    ends = (to.dst, to.dport), (to.src, to.sport)
    return build(*ends, seq=number, ack=ack & 0xFFFF_FFFF, flags=flags, window=window, payload=payload)


class Refusing:
    def answer(self, segment: Segment) -> list[bytes]:
        return [answered(segment, RST | ACK, 0, ack=segment.seq + 1)] if segment.flags & SYN else []


class Resetting(IdealMirror):
    def answer(self, segment: Segment) -> list[bytes]:
        if segment.payload_len:
            return [answered(segment, RST | ACK, segment.ack, ack=segment.seq)]
        return super().answer(segment)


class Absent:
    def answer(self, segment: Segment) -> list[bytes]:
        return []


class Frozen(IdealMirror):
    """It accepts, and then falls silent."""

    def answer(self, segment: Segment) -> list[bytes]:
        return super().answer(segment) if segment.flags & SYN else []


class Closed(IdealMirror):
    """It never opens its window."""

    def answer(self, segment: Segment) -> list[bytes]:
        if segment.flags & SYN:
            return [answered(segment, SYN | ACK, 7, ack=segment.seq + 1, window=0)]
        return [answered(segment, ACK, 8, ack=segment.seq, window=0)]


class Garbage:
    """It sends random flags, numbers and data to the leg's port."""

    def __init__(self) -> None:
        self._random = random.Random(1)

    def answer(self, segment: Segment) -> list[bytes]:
        near = self._random.choice([segment.seq, segment.ack, self._random.getrandbits(32)])
        flags, data = self._random.getrandbits(8), self._random.randbytes(self._random.randrange(100))
        sane = IdealMirror().answer(segment)
        return [*sane, answered(segment, flags, near, ack=self._random.getrandbits(32), payload=data)]


class Shouting(IdealMirror):
    """It sends ten times as much as it gets."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[int, int] = {}

    def answer(self, segment: Segment) -> list[bytes]:
        answers = super().answer(segment)
        for _ in range(10 if segment.payload_len else 0):
            at = self._said.get(segment.sport, segment.ack)
            answers.append(answered(segment, ACK, at, ack=segment.seq + segment.payload_len, payload=segment.payload))
            self._said[segment.sport] = seq.add(at, segment.payload_len)
        return answers


def production(capture: Path, model: object | None, *, mirrored: bool = True) -> list[Action]:
    """Return the verdicts on production's packets in a capture, and all packets to other hosts than a mirror."""
    rules = load_rules(capture.with_suffix(".yaml"))
    mirrors = {mirror.address.packed for service in rules.services for mirror in service.mirrors}
    if not mirrored:
        rules = replace(rules, services=tuple(replace(service, mirrors=()) for service in rules.services))
    steps = Replay(rules, capture, model=model).steps()  # type: ignore[arg-type]
    return [
        step.action
        for step in steps
        if (step.cause == "capture" or isinstance(step.action, Send))
        and not (isinstance(step.action, Send) and step.action.packet[16:20] in mirrors)
    ]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.stem)
@pytest.mark.parametrize(
    "mirror",
    [None, Refusing, Resetting, Absent, Frozen, Closed, Garbage, Shouting],
    ids=lambda mirror: mirror and mirror.__name__,
)
def test_production_is_the_same_with_any_mirror_and_with_none(capture: Path, mirror: type | None) -> None:
    with_none = production(capture, None, mirrored=False)
    assert len(with_none) > 20
    assert production(capture, mirror and mirror()) == with_none
