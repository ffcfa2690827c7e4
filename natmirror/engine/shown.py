"""The JSON of an engine's counters and decisions, field by field. The reference shows these sentences."""

from typing import TypedDict

from natmirror.engine.counters import EngineCounter
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.mirror.faults import FaultsEntry
from natmirror.mirror.shown import MirrorEntry, MirrorMemory
from natmirror.nat.client_limits import ClientLimitEntry
from natmirror.nat.services import BackendCounts
from natmirror.nat.traffic import ServiceTraffic
from natmirror.openflow.shown import SideEntry
from natmirror.reasons import DropReason, NotKeptReason


class Sums(TypedDict):
    """The counters of engines, without those of backends and mirrors."""

    counters: dict[EngineCounter, int]
    """The engine's counters, by name."""
    drops: dict[DropReason, int]
    """Packets that natmirror dropped, by reason."""
    packets_decided_in_python: dict[PuntReason, int]
    """Packets that Python decided, by the reason why C did not."""
    packets_over_limit: dict[PuntReason, int]
    """Packets that Python would have decided, by the reason, of clients and other peers that had no turn left. C
    dropped them, or passed them without mirroring and without a flow."""
    flows: int
    """Open connections now, without clients' direct connections to backends."""
    pinned_flows: int
    """Pinned flows now: the rules alone would give another backend, so the binding has to be stored and shared."""
    client_limits: list[ClientLimitEntry]
    """The limits per client of each service that has some, and the clients that have met them."""
    mirror_memory: MirrorMemory
    """The memory budget that all mirrors share."""
    faults: FaultsEntry
    """Internal errors in mirroring, and the work that is switched off because of them."""
    answers_not_kept: dict[NotKeptReason, int]
    """Answers of OpenFlow switches that natmirror did not keep for masters, by reason."""


class Counts(Sums):
    """The counters of one engine, or of all engines together, without those of services and mirrors."""

    backends: list[BackendCounts]
    """Each backend with its connections, in the order of the rules."""


class Snapshot(Counts):
    """The counters of one engine, or of all engines together."""

    services: list[ServiceTraffic]
    """Each service with its traffic, in the order of the rules."""
    mirrors: list[MirrorEntry]
    """Each mirror, in the order of the rules."""


class SwitchDecisions(TypedDict):
    """A switch's connection, with the orders of its backend and those of its masters."""

    client: str
    """The switch's address and port."""
    service: str
    """The service's name in the rules."""
    backend: SideEntry
    """The backend's orders, which the switch has got."""
    master: SideEntry
    """The masters' orders, which the switch has not got."""
