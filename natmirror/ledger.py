"""What became of the bytes: for each mirror, how much clients have sent, how much arrived, what was lost and why.

For each mirror, at any moment: bytes that clients sent = bytes acknowledged + bytes pending + bytes lost, by reason.
The reason is why a leg has ended, or why there never was one.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from natmirror.mirror import Leg
from natmirror.packet import Endpoint, show
from natmirror.rules import Mirror, Service
from natmirror.stream import Reassembler

MID_CONNECTION = "mid-connection"
OWN_BACKEND = "own-backend"
PORT_IN_USE = "port-in-use"
NO_FREE_PORT = "no-free-port"
NO_MEMORY = "memory-full"
UNTRACKED = "untracked"


class MirroredFlow(Protocol):
    """What has to be known of a flow to mirror it."""

    row: Any
    client: Endpoint
    service: Service
    syn_data: bytes

    @property
    def picked_up(self) -> bool:
        """Whether the connection was met in its middle."""


@dataclass(slots=True, eq=False)
class Strand:
    """One flow's copy for one mirror: a leg, or why there is none."""

    mirror: Mirror
    tap: "Tap"
    leg: Leg | None = None
    leg_id: int = -1
    """The leg's number in the table, while it is there."""
    absent: str | None = None

    @property
    def over(self) -> str | None:
        """Why no more bytes will arrive; None while a leg lives."""
        return self.absent if self.leg is None else self.leg.ended

    @property
    def acked_bytes(self) -> int:
        """Bytes that the mirror has acknowledged."""
        return 0 if self.leg is None else self.leg.acked_bytes

    @property
    def missing_bytes(self) -> int:
        """Bytes that the client has sent and the mirror has not acknowledged."""
        return self.tap.client_bytes - self.acked_bytes


@dataclass(slots=True, eq=False)
class Tap:
    """A flow's stream, and where it goes."""

    flow: MirroredFlow
    reassembler: Reassembler
    strands: list[Strand] = field(default_factory=list)
    finished: bool = False
    """The stream's end has been told to the legs."""
    flow_over: bool = False
    final_bytes: int | None = None
    """What the client sent in all, once the flow's row is gone."""

    @property
    def client_bytes(self) -> int:
        """Bytes the client has sent on this connection."""
        return int(self.flow.row.orig.bytes) if self.final_bytes is None else self.final_bytes

    def alive(self) -> list[tuple[Strand, Leg]]:
        """The legs that have not ended."""
        return [(strand, strand.leg) for strand in self.strands if strand.leg is not None and strand.leg.ended is None]


@dataclass(slots=True)
class Totals:
    """One mirror's sums over the legs and flows that are over."""

    endpoint: Endpoint
    opened: int = 0
    client_bytes: int = 0
    sent_bytes: int = 0
    acked_bytes: int = 0
    consumed_bytes: int = 0
    retransmits: int = 0
    timeouts: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """Legs by the reason of their end."""
    lost: Counter[str] = field(default_factory=Counter)
    """Bytes by the reason why they did not arrive."""

    def leg_ended(self, strand: Strand, leg: Leg, reason: str) -> None:
        """A leg is over; if its flow is, then so is the account of its bytes."""
        self.ended[reason] += 1
        for name in LEG_SUMS:
            setattr(self, name, getattr(self, name) + getattr(leg, name))
        if strand.tap.final_bytes is not None:
            self.lost[reason] += strand.missing_bytes

    def flow_forgotten(self, strand: Strand) -> None:
        """A flow is over, and ``strand.tap.final_bytes`` known; its leg may live on for a while."""
        self.client_bytes += strand.tap.client_bytes
        if strand.over is not None:
            self.lost[strand.over] += strand.missing_bytes


LEG_SUMS = ("sent_bytes", "acked_bytes", "consumed_bytes", "retransmits", "timeouts")
"""What is summed over legs, by the same name here and there."""


class Ledger:
    """The totals of all mirrors, and what living flows and legs add to them."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._totals = {
            (service.name, mirror.name): Totals((mirror.address.packed, mirror.port))
            for service in services
            for mirror in service.mirrors
        }

    def of(self, strand: Strand) -> Totals:
        """The totals of a strand's mirror."""
        return self._totals[strand.tap.flow.service.name, strand.mirror.name]

    def untracked(self, service: Service, count: int) -> None:
        """Bytes that a client has sent on a connection for which there is no flow."""
        for mirror in service.mirrors:
            totals = self._totals[service.name, mirror.name]
            totals.client_bytes += count
            totals.lost[UNTRACKED] += count

    def show(self, taps: list[Tap], lingering: list[Strand], now: float) -> list[dict[str, Any]]:
        """Each mirror's sums as plain values: ``taps`` of living flows, ``lingering`` legs whose flow is gone."""
        shown = {key: self._shown(*key, totals) for key, totals in self._totals.items()}
        for tap in taps:
            for strand in tap.strands:
                entry = shown[tap.flow.service.name, strand.mirror.name]
                entry["client_bytes"] += tap.client_bytes
                if strand.over is None:
                    self._add_living(entry, strand, now)
                else:
                    entry["lost_bytes"][strand.over] = entry["lost_bytes"].get(strand.over, 0) + strand.missing_bytes
        for strand in lingering:
            self._add_living(shown[strand.tap.flow.service.name, strand.mirror.name], strand, now)
        for entry in shown.values():
            entry["lost_bytes"] = {reason: count for reason, count in entry["lost_bytes"].items() if count}
        return list(shown.values())

    @staticmethod
    def _add_living(entry: dict[str, Any], strand: Strand, now: float) -> None:
        entry["legs"] += 1
        entry["pending_bytes"] += strand.missing_bytes
        if strand.leg is not None:
            entry["in_flight_bytes"] += strand.leg.in_flight_bytes
            entry["lag_seconds"] = max(entry["lag_seconds"], round(strand.leg.lag_seconds(now), 3))
            entry["rtt_seconds"] = max(entry["rtt_seconds"], round(strand.leg.rtt_seconds or 0.0, 6))
        for name in LEG_SUMS:
            entry[name] += getattr(strand.leg, name)

    @staticmethod
    def _shown(service: str, name: str, totals: Totals) -> dict[str, Any]:
        return {
            "service": service,
            "name": name,
            "address": show(totals.endpoint),
            "legs": 0,
            "opened": totals.opened,
            "client_bytes": totals.client_bytes,
            "pending_bytes": 0,
            "in_flight_bytes": 0,
            "lag_seconds": 0.0,
            "rtt_seconds": 0.0,
            "lost_bytes": dict(totals.lost),
            "ended": dict(totals.ended),
            **{sum_name: getattr(totals, sum_name) for sum_name in LEG_SUMS},
        }
