"""The JSON of the API's answers, field by field. The reference shows these sentences, and api/resources.py names the
types by their names here."""

from typing import TypedDict

from natmirror.backends.shown import AdmissionEntry, HealthEntry
from natmirror.engine.shown import Sums, SwitchDecisions
from natmirror.events import EventEntry
from natmirror.fastpath.flow_states import FlowState
from natmirror.findings import FindingEntry
from natmirror.ha.member import PairEntry
from natmirror.histograms import HistogramEntry
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.mirror.shown import FlowEntry, LegEntry, MirrorEntry, MirrorState
from natmirror.nat.traffic import ServiceTraffic
from natmirror.openflow.comparison.shown import ComparisonEntry, Verdict, VerdictEntry
from natmirror.reasons import EndedBy, EndReason
from natmirror.rules import OverrideKind
from natmirror.runtime.chores import ChoreFailure
from natmirror.runtime.condition import ConditionEntry
from natmirror.runtime.explained import ExplainAnswer
from natmirror.runtime.keeper import KeptEntry
from natmirror.runtime.logs import LogEntry
from natmirror.runtime.shared_state import SharedStateEntry

__all__ = [
    "BackendEntry",
    "CommandAnswer",
    "EndedLeg",
    "ErrorAnswer",
    "EventEntry",
    "ExplainAnswer",
    "FlowEntry",
    "LegRow",
    "MachineEntry",
    "OverrideEntry",
    "ReloadAnswer",
    "RulesAnswer",
    "RunSums",
    "StatusAnswer",
    "SwitchDecisions",
    "VerdictEntry",
]


class BackendEntry(AdmissionEntry):
    """A backend with its connections."""

    service: str
    """The service's name in the rules."""
    name: str
    """The backend's name in the rules."""
    address: str
    """The backend's address and port."""
    flows: int
    """Its open connections: neither reset nor closed by both ends."""
    connections: int
    """Connections that it has accepted since natmirror started."""
    connections_per_second: float
    """New connections that it accepts per second, in the last 10 s."""
    refused_syns: int
    """Clients' SYNs that it has answered with a RST."""
    unanswered_syns: int
    """Clients' SYNs that it has not answered in time."""
    full_syns: int
    """New connections of the service that came while it had as many as its ``max-connections`` allows."""
    max_connections: int | None
    """The limit on its connections; null for none."""


class MirrorVerdict(TypedDict):
    """The verdict on a master about the last hour; looked at every ten seconds."""

    verdict: Verdict
    """The verdict."""
    summary: str
    """What it rests on, in one line; ``natmirror verdict`` has the rest."""


class MirrorStatus(MirrorEntry):
    """A mirror, with its state. At any moment, ``client_bytes`` = ``acked_bytes`` + ``pending_bytes`` + the sum of
    ``lost_bytes``."""

    state: MirrorState
    """Whether it takes copies."""
    reason: EndReason | None
    """Why its legs fail; null while it is not down."""
    state_seconds: float
    """Seconds for which it has been so, as far as legs have shown it; looked at every two seconds."""
    acked_bytes_per_second: float
    """Bytes that it acknowledges per second, in the last 10 s."""
    lost_bytes_last_hour: dict[EndReason, int]
    """Bytes that it did not get within the last hour, by reason; counted every minute."""
    comparison: ComparisonEntry | None
    """The sums of the comparison with production, at most some seconds old; null for a mirror without ``verdict: on``,
    and before the first session. They begin again with the process of the judges."""
    verdict: MirrorVerdict | None
    """The verdict on the master; null for a mirror without ``verdict: on``, and for another mirror's twin."""


class RunSums(Sums):
    """The counters of all threads together."""

    services: list[ServiceTraffic]
    """Each service with its traffic, in the order of the rules."""
    backends: list[BackendEntry]
    """Each backend, in the order of the rules."""
    mirrors: list[MirrorStatus]
    """Each mirror, in the order of the rules."""


class OverrideEntry(TypedDict):
    """What an operator's command has set over the rules, until another one takes it back."""

    kind: OverrideKind
    """What it has set."""
    service: str
    """The service's name in the rules."""
    backend: str | None
    """The backend's name in the rules; null if it is about a mirror."""
    mirror: str | None
    """The mirror's name in the rules; null if it is about a backend."""
    weight: int | None
    """The backend's weight, if a command has set it or has added the backend."""
    resets_at: str | None
    """When a drained backend's remaining connections are reset, in UTC (RFC 3339); null for never."""
    since: str
    """When the command was given, in UTC (RFC 3339)."""
    address: str
    """The backend's or mirror's address and port."""
    kept: bool
    """Whether it holds over a restart (``--persist``)."""


class MachineEntry(TypedDict):
    """The queues, the TUN device and the threads of natmirror on this host."""

    queues: dict[str, dict[QueueCounter, int]]
    """The counters of each NFQUEUE, by the queue's number."""
    tunnel: dict[OutboxCounter, int]
    """The counters of the packets that natmirror sends itself, through the TUN device."""
    kernel_translation_off_because: str | None
    """Why natmirror translates all packets itself, which costs throughput; null while the kernel translates large
    ones."""
    paths_checked: bool
    """Whether packets in the name of a mirror, or of a mirrored service's backend, are dropped if they come in on
    another interface than the one that the route to it leads to; false if iptables or the kernel lacks the match for
    that."""
    kept: list[KeptEntry]
    """What natmirror has put into the kernel, and compares with what should be there."""
    packets_forged: dict[str, int]
    """Packets that were dropped for that reason, by the endpoint in whose name they came; counted every 10 s."""
    added_latency: HistogramEntry
    """How long packets have waited on this host for natmirror's verdict, from the moment at which the kernel received
    them. One packet of 16 is measured, if the kernel notes when packets come: with ``metrics`` in the rules it does."""
    thread_cpu_seconds: dict[str, float]
    """The processor time of natmirror's threads, in seconds, by their names, which ``top -H`` shows after ``nm-``."""
    internal_errors: int
    """Internal errors outside mirroring. Each cost at most one packet or one request; the log has the tracebacks."""
    ended_threads: dict[str, str]
    """Why packet threads have ended, by the thread's number. No packet of such a thread's clients passes until
    natmirror is restarted."""


class CostEntry(TypedDict):
    """What an interruption would cost the connections and copies of now."""

    connections: int
    """Connections to services with a pool that it would reset, or that would go on only if their backends send data
    first."""
    copies_ended: int
    """Copies and sessions that it would end for good."""
    copies_begun_again: int
    """Copies and sessions that it would end, and that would begin again in the middle (``reconnect``)."""


class CostsEntry(TypedDict):
    """What interruptions would cost now; ``natmirror explain`` tells it of one client."""

    restart: CostEntry
    """A restart of natmirror on this host."""
    move: CostEntry | None
    """The other host of the pair takes over; null without a pair."""


class LoadedRules(TypedDict):
    """The rules that run, in short."""

    version: str
    """The beginning of the SHA-256 of these rules as text with all defaults: two natmirrors with the same version have
    the same rules."""
    loaded_at: str
    """Since when these rules have run, in UTC (RFC 3339)."""
    file_differs: bool
    """Whether the rules file has other rules, or cannot be used. natmirror looks every three seconds."""
    file_error: str | None
    """Why a reload cannot apply the file; null if it can."""


class StatusAnswer(RunSums):
    """The state of a running natmirror."""

    at: str
    """The time of this state, in UTC (RFC 3339). With a thousand connections and legs or more, one look at the counters
    serves all who ask within 0.9 s: then they get the same time, and the rest of the answer may be newer."""
    condition: ConditionEntry
    """Whether all is well, and what is not."""
    version: str
    """natmirror's version."""
    pid: int
    """The process id."""
    rules: str
    """The path of the rules file."""
    loaded_rules: LoadedRules
    """The rules that run, in short."""
    started_at: str
    """When natmirror started, in UTC (RFC 3339)."""
    uptime_seconds: float
    """How long natmirror has run, in seconds."""
    machine: MachineEntry
    """The queues, the TUN device and the threads of natmirror on this host."""
    overrides: list[OverrideEntry]
    """What commands have set over the rules, the oldest first."""
    health: list[HealthEntry]
    """The health checks of each backend that is checked, in the order of the rules."""
    pair: PairEntry | None
    """The pair that this host belongs to; null for a host alone."""
    shared_state: SharedStateEntry
    """The state that this host shares with the other host of the pair."""
    costs: CostsEntry
    """What interruptions would cost now."""
    log: LogEntry
    """Log messages that have not been written."""
    failing_chores: list[ChoreFailure]
    """Chores that fail now. natmirror tries each again."""
    findings: list[FindingEntry]
    """The faults on this host or around it that last, the worst first."""


class LegRow(LegEntry):
    """A leg with its connection, or a session or copy without a leg."""

    service: str
    """The service's name in the rules."""
    client: str
    """The client's address and port."""
    backend: str | None
    """The backend's name in the rules; null for a service without a pool, and if ``flow_state`` is ``gone``."""
    flow_state: FlowState
    """The connection's state; ``gone`` if the leg has outlived it."""


class EndedLeg(TypedDict):
    """One of the latest 200 legs that have ended, or of the copies and sessions that never had a leg."""

    ended_at: str
    """When it ended, in UTC (RFC 3339)."""
    client: str
    """The client's address and port."""
    service: str
    """The service's name in the rules."""
    mirror: str
    """The mirror's name in the rules."""
    reason: EndReason
    """Why it ended."""
    client_bytes: int
    """Bytes that the leg had to carry to the mirror."""
    acked_bytes: int
    """Bytes that the mirror acknowledged."""
    ended_by: EndedBy | None
    """Which end closed or reset the client's connection first; null if it went on, if that was not seen, and for an
    OpenFlow session."""


class CommandAnswer(TypedDict):
    """natmirror has carried out the command."""

    done: str
    """What it did, and what follows for connections, as one sentence."""


class ErrorAnswer(TypedDict):
    """The answer to a request that failed."""

    error: str
    """Why it failed."""


class RulesFile(TypedDict):
    """The rules file, compared with the rules that were loaded last."""

    changed_at: str | None
    """When the file was written last, in UTC (RFC 3339); null if there is none."""
    differs: bool
    """Whether it has other rules, or cannot be used. ``natmirror reload`` applies them."""
    differences: list[str]
    """A line for each difference: behind ``-`` what only the loaded rules have, behind ``+`` what only the file has."""
    error: str | None
    """Why a reload cannot apply the file; null if it can."""


class RulesAnswer(TypedDict):
    """The rules that run, and whether the file has others."""

    at: str
    """The time of this answer, in UTC (RFC 3339)."""
    path: str
    """The path of the rules file."""
    version: str
    """The beginning of the SHA-256 of these rules as text with all defaults: two natmirrors with the same version have
    the same rules."""
    loaded_at: str
    """Since when these rules have run, in UTC (RFC 3339)."""
    running: list[str]
    """The rules that run, with all defaults: the lines that ``natmirror --check`` prints."""
    by_commands: list[str]
    """A line for each difference between these and the rules that were loaded last: behind ``+`` the backends that
    commands have added, behind ``-`` those that commands have removed."""
    file: RulesFile
    """The rules file, compared with the rules that were loaded last."""


class ReloadAnswer(TypedDict):
    """The changes that a reload has made, or would make with ``dry_run``."""

    changes: list[str]
    """A line for each change of the rules; empty if nothing has changed."""
    by_commands: list[str]
    """A line for each backend that a command has added or removed: a reload keeps that."""
    costs: list[str]
    """With ``dry_run``: a line for each loss, with the number of connections that the reload would cost it."""
