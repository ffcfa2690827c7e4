"""The metrics of natmirror itself, of its host and of the pair."""

from collections import Counter
from collections.abc import Iterable

from natmirror.findings import ALL_CODES
from natmirror.metrics.metric import Kind, Metric, Sample, Status, by_word, one, rows, states

WORKS = ("copies", "sessions", "verdicts", "throttling", "takeovers")
ROLES = ("master", "backup", "fault")
SHARED_STATES = ("off", "connecting", "syncing", "complete")

_OUTSIDE_MIRRORING = "packets-and-requests"


def _findings(status: Status) -> Iterable[Sample]:
    counts = Counter(finding["code"] for finding in status["findings"])
    return [((code, code.severity, code.affects), counts[code]) for code in ALL_CODES]


def _internal_errors(status: Status) -> Iterable[Sample]:
    errors = status["faults"]["internal_errors"]
    counts = [((work,), errors.get(work, 0)) for work in WORKS]
    return [*counts, ((_OUTSIDE_MIRRORING,), status["machine"]["internal_errors"])]


def _off(status: Status) -> Iterable[Sample]:
    counts = Counter(entry["work"] for entry in status["faults"]["off"])
    return [((work,), counts[work]) for work in WORKS]


MACHINE_METRICS = (
    Metric(
        "natmirror_build_info",
        Kind.GAUGE,
        "Always 1; the label has natmirror's version.",
        lambda status: [((status["version"],), 1)],
        ("version",),
    ),
    Metric("natmirror_uptime_seconds", Kind.GAUGE, "How long natmirror has run.", one("uptime_seconds")),
    Metric(
        "natmirror_findings",
        Kind.GAUGE,
        "Faults on this host or around it that last, by their code: `natmirror status` shows each with what mends it.",
        _findings,
        ("code", "severity", "affects"),
    ),
    Metric(
        "natmirror_findings_unfit",
        Kind.GAUGE,
        "Findings that make this host unfit to be the active one of a pair.",
        lambda status: [((), sum(finding["makes_unfit"] for finding in status["findings"]))],
    ),
    Metric(
        "natmirror_thread_cpu_seconds_total",
        Kind.COUNTER,
        "Processor time of natmirror's threads, as `top -H` shows them, there with nm- before the name. others: threads"
        " without a name of their own.",
        by_word("machine.thread_cpu_seconds"),
        ("thread",),
    ),
    Metric(
        "natmirror_packet_threads_ended",
        Kind.GAUGE,
        "Packet threads that have ended after internal errors: no packet of their clients passes.",
        lambda status: [((), len(status["machine"]["ended_threads"]))],
    ),
    Metric(
        "natmirror_internal_errors_total",
        Kind.COUNTER,
        "Internal errors, by the work that they have ended. The log has the tracebacks.",
        _internal_errors,
        ("work",),
    ),
    Metric(
        "natmirror_mirroring_off_threads",
        Kind.GAUGE,
        "Packet threads in which this work is switched off after internal errors.",
        _off,
        ("work",),
    ),
    Metric(
        "natmirror_failing_chores",
        Kind.GAUGE,
        "Chores that fail now. natmirror tries each again.",
        lambda status: [((), len(status["failing_chores"]))],
    ),
    Metric(
        "natmirror_log_messages_lost_total",
        Kind.COUNTER,
        "Log messages that were not written: dropped, because stderr is not read or full; suppressed, because too many"
        " of the same kind came.",
        lambda status: [((reason,), status["log"][f"records_{reason}"]) for reason in ("dropped", "suppressed")],
        ("reason",),
    ),
    Metric(
        "natmirror_kernel_in_place",
        Kind.GAUGE,
        "1 while what natmirror has put into the kernel is as natmirror has made it, else 0.",
        rows("machine.kept", ("name",), lambda kept: int(kept["in_place"])),
        ("name",),
    ),
    Metric(
        "natmirror_kernel_repairs_total",
        Kind.COUNTER,
        "Times that natmirror has repaired it, because another program had changed or removed it.",
        rows("machine.kept", ("name",), lambda kept: kept["repairs"]),
        ("name",),
    ),
    Metric(
        "natmirror_kernel_contested",
        Kind.GAUGE,
        "1 while natmirror repairs it only every 30 s, because another program keeps undoing the repairs, else 0.",
        rows("machine.kept", ("name",), lambda kept: int(kept["contested"])),
        ("name",),
    ),
    Metric(
        "natmirror_kernel_translates",
        Kind.GAUGE,
        "1 while the kernel translates large packets, 0 while natmirror translates all itself.",
        lambda status: [((), int(status["machine"]["kernel_translation_off_because"] is None))],
    ),
    Metric(
        "natmirror_role",
        Kind.GAUGE,
        "1 for the role that this host has in its pair, 0 for the others; no series for a host alone.",
        lambda status: states(ROLES, status["pair"]["role"]) if status["pair"] else [],
        ("role",),
    ),
    Metric(
        "natmirror_shared_state",
        Kind.GAUGE,
        "1 for the state of what the pair shares, 0 for the others.",
        lambda status: states(SHARED_STATES, status["shared_state"]["state"]),
        ("state",),
    ),
    Metric(
        "natmirror_shared_state_records",
        Kind.GAUGE,
        "Records of the other host that this one holds.",
        one("shared_state.records"),
    ),
    Metric(
        "natmirror_shared_state_records_rejected",
        Kind.GAUGE,
        "Records of the other host that this one cannot use.",
        one("shared_state.records_rejected"),
    ),
    Metric(
        "natmirror_shared_state_waiting_writes",
        Kind.GAUGE,
        "Changes of this host that are not yet written to the store.",
        one("shared_state.waiting_writes"),
    ),
    Metric(
        "natmirror_shared_state_lag_seconds",
        Kind.GAUGE,
        "The age of the oldest change that is not yet written.",
        one("shared_state.lag_seconds"),
    ),
    Metric(
        "natmirror_shared_state_outages_total",
        Kind.COUNTER,
        "Times that the store stopped answering.",
        one("shared_state.outages"),
    ),
)
"""The metrics of natmirror itself, of its host and of the pair."""
