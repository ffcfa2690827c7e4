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
    """The sums of all threads."""

    backends: list[BackendEntry]
    """Each backend, in the order of the rules."""


class MachineEntry(TypedDict):
    """The queues, the TUN device and the threads of this run."""

    queues: dict[str, dict[QueueCounter, int]]
    """The counters of each NFQUEUE, by the queue's number."""
    tunnel: dict[OutboxCounter, int]
    """The counters of packets that natmirror sends itself, through the TUN device."""
    kernel_translation_off_because: str | None
    """Why the kernel does not translate large packets; then natmirror does it itself, which costs throughput. null: the
    kernel does."""
    internal_errors: int
    """Internal errors outside mirroring: each cost at most a packet or a request."""
    ended_threads: dict[str, str]
    """The packet threads that have ended for good, by number, and why. No packet of their clients passes until
    natmirror is restarted."""


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
    """The queues, the TUN device and the threads of this run."""
    health: list[HealthEntry]
    """The health of each backend that is checked, in the order of the rules."""
    pair: PairEntry | None
    """The pair that this host belongs to; null for a host alone."""
    shared_state: SharedStateEntry
    """The exchange of state with the other host of the pair."""
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
    """Those that the mirror has acknowledged."""


class EmptyAnswer(TypedDict):
    """An empty object: natmirror has done it."""


class ErrorAnswer(TypedDict):
    """The answer to a request that is refused."""

    error: str
    """The reason."""


class ReloadAnswer(TypedDict):
    """The changes of a reload."""

    changes: list[str]
    """A line for each change of the rules; empty where nothing has changed."""
