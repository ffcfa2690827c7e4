"""What goes into the engine and comes out of it, as comparable values: hooks, decisions, and what it reports."""

from dataclasses import dataclass
from enum import IntEnum

from natmirror.reasons import DropReason, EndReason


class Hook(IntEnum):
    """The netfilter hook that a packet was queued at; the kernel's NF_INET_* numbers."""

    PREROUTING = 0
    FORWARD = 2
    OUTPUT = 3


@dataclass(slots=True)
class Accept:
    """Let the packet pass, as ``packet`` where it was rewritten, unchanged where that is None."""

    packet: bytes | None = None


@dataclass(slots=True)
class Drop:
    """Drop the packet; ``reason`` is counted."""

    reason: DropReason


@dataclass(slots=True)
class Send:
    """Put a synthesised IPv4 packet on the wire, as packet.synthesise() makes them: with the TCP checksum to be
    completed, and cut into segments of at most ``segment_len`` bytes of data (0: as it is)."""

    packet: bytes
    segment_len: int = 0


Verdict = Accept | Drop
Action = Verdict | Send


@dataclass(slots=True)
class Decision:
    """What becomes of a packet, and what is to be sent besides. A named tuple would take 80 ns longer to make."""

    verdict: Verdict
    sends: list[Send]


@dataclass(slots=True)
class Ordered:
    """A master's message that would have changed a switch."""

    service: str
    mirror: str
    client: tuple[bytes, int]
    """The switch's end, address and port."""
    offset: int
    """Bytes of orders that this session has had before."""
    message: bytes


@dataclass(slots=True)
class LegEnded:
    """A leg is over: why, and how much of what the client sent the mirror has acknowledged."""

    client: str
    service: str
    mirror: str
    reason: EndReason
    client_bytes: int
    acked_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.client} -> {self.service} => {self.mirror}: {self.reason},"
            f" {self.acked_bytes} of {self.client_bytes} bytes acknowledged"
        )
