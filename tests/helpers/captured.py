"""What a capture is made of: packets as the kernel gives them, and answers of the API."""

from ipaddress import IPv4Address
from typing import Any

from natmirror.capture.recorder import Bounds, Recorder
from natmirror.capture.sides import Sorter
from natmirror.capture.story import Story, Words
from natmirror.linux.packet_socket import SeenPacket
from natmirror.net.endpoint import show
from tests.helpers.support import C1, C2, CLIENT, MASTER, SERVICE

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
_BOUNDS = Bounds(None, 1_000_000)
MAC = bytes(12) + b"\x08\0"
WORDS = Words(
    choice=lambda service: [f"chosen by {service['balance']}"],
    binding=lambda one: ["pinned"] if one["pinned"] else [],
    copy=lambda copy: f"copied to {copy['mirror']}" if copy["copied"] else f"not copied to {copy['mirror']}",
    reason=lambda word: f"what {word} means",
)
STATUS: dict[str, Any] = {
    "rules": "lb.yaml",
    "loaded_rules": {"version": "0123abcd"},
    "backends": [
        {"service": "openflow", "name": "c1", "address": show(C1)},
        {"service": "openflow", "name": "c2", "address": show(C2)},
    ],
    "mirrors": [{"service": "openflow", "name": "m", "address": show(MASTER)}],
}


def seen(raw: bytes, device: str, way: str, at: int = START, *, ethernet: bool = True) -> SeenPacket:
    """Return an IP packet that came ``in`` or went ``out``."""
    frame = MAC + raw if ethernet else raw
    return SeenPacket(at, device, way == "out", len(MAC) if ethernet else 0, frame, len(frame))


def connection(state: str = "established", backend: str | None = "c1", **copies: str | None) -> dict[str, Any]:
    """Return the client's connection; for each mirror why it gets no copy, or None."""
    return {
        "service": "openflow",
        "client": show(CLIENT),
        "backend": backend,
        "state": state,
        "pinned": False,
        "legs": [{"mirror": "m", "address": show(CLIENT)}],
        "copies": [{"mirror": name, "copied": why is None, "reason": why} for name, why in copies.items()],
    }


def answer(*connections: dict[str, Any], source: str | None = None) -> dict[str, Any]:
    """Return the part of an answer of ``natmirror explain`` that a capture reads. ``source`` is that of the mirror."""
    pool = [{"backend": one["name"], "address": one["address"]} for one in STATUS["backends"]]
    service: dict[str, Any] = {
        "service": "openflow",
        "address": show(SERVICE),
        "backend": "c1",
        "balance": "maglev",
        "pool": pool,
    }
    service["mirrors"] = [{"mirror": "m", "address": show(MASTER), "source": source}]
    return {
        "client": str(IPv4Address(CLIENT[0])),
        "in_switches": True,
        "services": [service],
        "connections": [*connections],
        "connection_count": len(connections),
    }


def ended(at: str, reason: str = "closed") -> dict[str, Any]:
    """Return the client's leg to m, which has ended."""
    sums = {"client_bytes": 10, "acked_bytes": 7}
    return {"ended_at": at, "client": show(CLIENT), "service": "openflow", "mirror": "m", "reason": reason, **sums}


class Clock:
    """The wall clock, in nanoseconds."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Written:
    """A capture in memory, whose packets ``add`` takes at a time in seconds after the start."""

    def __init__(self, bounds: Bounds = _BOUNDS) -> None:
        self.bytes = b""
        self.told: list[str] = []
        self.clock = Clock()
        self.sorter = Sorter(CLIENT[0])
        self.story = Story(self.sorter, WORDS, self.told.append, self.clock)
        self.recorder = Recorder(self.sorter, self.story, bounds, self._write, START)
        self.recorder.begin("a comment", "natmirror", "Linux")
        self.sorter.learn_status(STATUS)
        self.sorter.learn_answer(answer())

    def add(self, seconds: float, raw: bytes, device: str, way: str, **more: Any) -> bool:
        """Take a packet, at its own time."""
        return self.recorder.take(seen(raw, device, way, START + round(seconds * SECOND), **more), seconds)

    def learn(self, *connections: dict[str, Any]) -> None:
        """Take an answer about these connections."""
        self.sorter.learn_answer(answer(*connections))
        self.story.explained(answer(*connections), is_first=False)

    def finish(self, lost: int = 0) -> bytes:
        """End the capture, and return the file."""
        self.recorder.advance(1e9, to_end=True)
        self.recorder.end(START + 100 * SECOND, lost)
        return self.bytes

    def _write(self, block: bytes) -> None:
        self.bytes += block
