"""The engine's input and output as comparable values: hooks, decisions and events."""

from dataclasses import dataclass
from enum import IntEnum

from natmirror.reasons import DropReason, EndedBy, EndReason


class Hook(IntEnum):
    """The netfilter hook that a packet was queued at; the kernel's NF_INET_* numbers."""

    PREROUTING = 0
    FORWARD = 2
    OUTPUT = 3


@dataclass(slots=True)
class Accept:
    """Let the packet pass: as ``packet`` if it was rewritten, unchanged if ``packet`` is None."""

    packet: bytes | None = None


@dataclass(slots=True)
class Drop:
    """Drop the packet, which is counted under ``reason``."""

    reason: DropReason


FOR_LEG = Drop(DropReason.FOR_LEG)
"""The verdict on a packet that a leg has taken; made once, because it is frequent."""


@dataclass(slots=True)
class Send:
    """Send a packet that build.synthesise() made. The kernel completes its TCP checksum and cuts it into segments of at
    most ``segment_len`` bytes of data; with 0 it sends the packet whole."""

    packet: bytes
    segment_len: int = 0


Verdict = Accept | Drop
Action = Verdict | Send


@dataclass(slots=True)
class Decision:
    """The verdict on a packet, and the packets to send because of it. A named tuple would take 80 ns longer to make."""

    verdict: Verdict
    sends: list[Send]


@dataclass(slots=True)
class Order:
    """A message by which a master would have changed a switch: natmirror records it, and no switch gets it."""

    service: str
    mirror: str
    client: tuple[bytes, int]
    """The switch's endpoint."""
    offset: int
    """Bytes of orders that came before this one in the session."""
    message: bytes


@dataclass(slots=True)
class LegEnded:
    """A leg has ended: why, and how many of the client's bytes the mirror has acknowledged."""

    client: str
    service: str
    mirror: str
    reason: EndReason
    client_bytes: int
    acked_bytes: int
    ended_by: EndedBy | None = None
    """Which end of the client's connection closed or reset it first; None while it goes on, and if unknown."""

    def __str__(self) -> str:
        by = "" if self.ended_by is None else f"; the {self.ended_by} ended the connection"
        return (
            f"{self.client} -> {self.service} => {self.mirror}: {self.reason},"
            f" {self.acked_bytes} of {self.client_bytes} bytes acknowledged{by}"
        )
