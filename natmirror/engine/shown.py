"""The JSON of an engine's sums and decisions, field by field: the reference takes its sentences from here."""

from typing import TypedDict

from natmirror.engine.counters import EngineCounter
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.mirror.faults import FaultsEntry
from natmirror.mirror.shown import MirrorEntry, MirrorMemory
from natmirror.nat.services import BackendCounts
from natmirror.openflow.shown import SideEntry
from natmirror.reasons import DropReason, NotKeptReason


class Sums(TypedDict):
    """What engines have counted, without the backends."""

    counters: dict[EngineCounter, int]
    """What has been counted since the start, by name."""
    drops: dict[DropReason, int]
    """Packets that were dropped, by reason."""
    packets_decided_in_python: dict[PuntReason, int]
    """Packets that the C gear left to Python, by reason."""
    flows: int
    """Flows that are known now; clients' direct connections to backends are not counted."""
    pinned_flows: int
    """Those of them whose backend cannot be derived from the rules: only this binding says it."""
    mirrors: list[MirrorEntry]
    """Each mirror's account, in the order of the rules."""
    mirror_memory: MirrorMemory
    """The budget that all mirrors share."""
    faults: FaultsEntry
    """Internal errors in mirroring, and what is switched off because of them."""
    answers_not_kept: dict[NotKeptReason, int]
    """Answers of OpenFlow switches that were not kept for masters, by reason."""


class Snapshot(Sums):
    """What one engine, or all engines together, have counted."""

    backends: list[BackendCounts]
    """Each backend with its connections, in the order of the rules."""


class SwitchDecisions(TypedDict):
    """What the backend and the masters have decided for the switch behind one connection."""

    client: str
    """The switch's address and port."""
    service: str
    """The service's name in the rules."""
    backend: SideEntry
    """What the backend has ordered."""
    master: SideEntry
    """What the masters would have ordered."""
