"""The JSON of a run's answers, field by field: the reference takes its sentences from here."""

from typing import TypedDict

from natmirror.backends.shown import AdmissionEntry, HealthEntry
from natmirror.engine.shown import Sums
from natmirror.ha.member import PairEntry
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.reasons import EndReason
from natmirror.runtime.chores import ChoreFailure
from natmirror.runtime.logs import LogEntry
from natmirror.runtime.shared_state import SharedStateEntry


class BackendEntry(AdmissionEntry):
    """A backend with its connections."""

    service: str
    """The service's name in the rules."""
    name: str
    """The backend's name in the rules."""
    address: str
    """The backend's address and port."""
    flows: int
    """Connections that it has now."""
    connections: int
    """Connections that it has accepted since the start."""


class RunSums(Sums):
    """What all threads have counted."""

    backends: list[BackendEntry]
    """Each backend, in the order of the rules."""


class MachineEntry(TypedDict):
    """What natmirror uses of this host."""

    queues: dict[str, dict[QueueCounter, int]]
    """What was counted for each NFQUEUE, by the queue's number."""
    tunnel: dict[OutboxCounter, int]
    """What was counted for the packets that natmirror sends itself, through the TUN device."""
    kernel_translation_off_because: str | None
    """Why the kernel does not translate addresses, so that natmirror does it itself, which costs throughput; null: the
    kernel does."""
    internal_errors: int
    """Internal errors outside mirroring: each cost at most a packet or a request."""
    ended_threads: dict[str, str]
    """The threads that have ended for good, by number, and why: natmirror is about to stop."""


class StatusAnswer(RunSums):
    """The state of a running natmirror."""

    version: str
    """natmirror's version."""
    pid: int
    """The process id."""
    rules: str
    """The path of the rules file."""
    uptime_seconds: float
    """How long natmirror has run, in seconds."""
    machine: MachineEntry
    """What it uses of this host."""
    health: list[HealthEntry]
    """What the health checks know of each backend that is checked, in the order of the rules."""
    pair: PairEntry | None
    """The pair that this host belongs to; null for a host alone."""
    shared_state: SharedStateEntry
    """What it shares with the other host of the pair."""
    log: LogEntry
    """The records of the log."""
    failing_chores: list[ChoreFailure]
    """The chores that fail now: natmirror tries each again."""


class EndedLeg(TypedDict):
    """A leg that has ended; the latest 200 are kept."""

    ended_at: str
    """When it ended, in UTC (ISO 8601)."""
    client: str
    """The client's address and port."""
    service: str
    """The service's name in the rules."""
    mirror: str
    """The mirror's name in the rules."""
    reason: EndReason
    """Why it ended."""
    client_bytes: int
    """Bytes that it had to carry."""
    acked_bytes: int
    """Those of them that the mirror acknowledged."""


class EmptyAnswer(TypedDict):
    """An empty object: natmirror has done it."""


class ErrorAnswer(TypedDict):
    """The answer where a request cannot be done."""

    error: str
    """What was wrong."""


class ReloadAnswer(TypedDict):
    """What a reload has changed."""

    changes: list[str]
    """A line for each change of the rules; empty where nothing has changed."""
