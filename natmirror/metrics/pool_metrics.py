"""The metrics of backends, of mirrors, and of the memory that mirrors share."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from natmirror.metrics.metric import Kind, Labels, Metric, Read, Sample, Status, one, rows, states, words_of_rows
from natmirror.reasons import EndReason

BACKEND_STATES = ("up", "unchecked", "down", "panic", "draining", "removed", "sorry")
MIRROR_STATES = ("untried", "up", "behind", "down", "paused")

# A reload that changes a backend's address leaves the old one in the list while it has connections.
_BACKEND = ("service", "backend", "address")
_BACKEND_KEYS = ("service", "name", "address")
_CHECKED = ("service", "backend")
_MIRROR = ("service", "mirror")
_MIRROR_KEYS = ("service", "name")

_MIRROR_COUNTERS = {
    "legs_opened": "Legs that this host has opened.",
    "legs_adopted": "Legs of the other host that this host has adopted and activated.",
    "legs_resumed": "Adopted legs that have continued, because their mirrors have answered.",
    "client_bytes": "Bytes of clients that this mirror has to get.",
    "never_acked_bytes": "Bytes of clients whose connections ended before a backend acknowledged them; no part of"
    " natmirror_mirror_client_bytes_total.",
    "sent_bytes": "Bytes sent to the mirror, retransmissions not counted.",
    "acked_bytes": "Bytes that the mirror has acknowledged.",
    "consumed_bytes": "Bytes that the mirror has sent.",
    "retransmits": "Segments sent again.",
    "timeouts": "Retransmission timeouts.",
}
_MIRROR_GAUGES = {
    "legs": "Legs that are open now.",
    "legs_unanswered": "Open legs whose mirror has not answered yet.",
    "held_bytes": "Bytes of clients that wait for their backends' acknowledgement.",
    "pending_bytes": "Bytes that the mirror has not acknowledged and that are not lost.",
    "in_flight_bytes": "Pending bytes that have been sent.",
    "lag_seconds": "How long the oldest pending byte has waited.",
    "rtt_seconds": "The longest smoothed round trip time of an open leg; 0 if none is open.",
}
_MIRROR_WORDS: dict[str, tuple[Kind, str, str, Iterable[str]]] = {
    "legs_ended_total": (Kind.COUNTER, "legs_ended", "Legs that have ended, by reason.", ()),
    "lost_bytes_total": (Kind.COUNTER, "lost_bytes", "Bytes that the mirror did not get, by reason.", EndReason),
    "connections_not_copied": (
        *(Kind.GAUGE, "connections_not_copied"),
        "Open connections whose bytes do not reach the mirror now, by reason.",
        (),
    ),
    "connections_excluded": (
        *(Kind.GAUGE, "connections_excluded"),
        "Open connections that the rules leave out for this mirror, by reason.",
        (),
    ),
}
_MIRROR_HISTOGRAMS = {
    "leg_lag": "How long the oldest byte that the mirror had not acknowledged had waited, at each of its"
    " acknowledgements.",
    "leg_rtt": "Round trips to the mirror, as legs measure them for their retransmission timers.",
}
_MEMORY = {
    "used_bytes": "Memory that mirroring uses.",
    "limit_bytes": "Memory that mirroring may use: mirror-memory in the rules.",
    "client_limit_bytes": "Memory for mirrors that one client may hold.",
    "largest_client_bytes": "Memory for mirrors of the client that holds most.",
}


def _states(path: str, keys: Labels, known: Labels) -> Read:
    """Return a function that reads the states of backends or mirrors."""

    def read(status: Status) -> Iterable[Sample]:
        for row in status[path]:
            yield from states(known, row["state"], tuple(row[key] for key in keys))

    return read


def _checks(status: Status) -> Iterable[Sample]:
    for row in status["health"]:
        results = {
            "passed": row["checks"] - row["failed_checks"],
            "failed": row["failed_checks"],
            "inconclusive": row["inconclusive_checks"],
        }
        for result, count in results.items():
            yield (row["service"], row["backend"], result), count


def _sessions(field: str, word: Callable[[str], str]) -> Read:
    """Return a function that reads a counter of the mirrors' OpenFlow sessions; ``word`` makes the label of a key."""

    def read(status: Status) -> Iterable[Sample]:
        for row in status["mirrors"]:
            counts: Counter[str] = Counter()
            for key, count in (row["sessions"] or {}).get(field, {}).items():
                counts[word(key)] += count
            for label, count in counts.items():
                yield (row["service"], row["name"], label), count

    return read


def _total(row: Mapping[str, Any], field: str) -> int | None:
    return None if row["sessions"] is None else sum(row["sessions"][field].values())


BACKEND_METRICS = (
    Metric(
        "natmirror_backend_state",
        Kind.GAUGE,
        "1 for the state that the backend has, 0 for the others.",
        _states("backends", _BACKEND_KEYS, BACKEND_STATES),
        (*_BACKEND, "state"),
    ),
    Metric(
        "natmirror_backend_last_change_seconds",
        Kind.GAUGE,
        "How long the backend has been up or down, as far as its checks say.",
        rows("backends", _BACKEND_KEYS, itemgetter("state_seconds")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_share_ratio",
        Kind.GAUGE,
        "The part of its normal share of new connections that the backend gets, from 0 to 1.",
        rows("backends", _BACKEND_KEYS, itemgetter("share")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_weight",
        Kind.GAUGE,
        "The backend's weight: that of the last natmirror weight, or else that of the rules.",
        rows("backends", _BACKEND_KEYS, itemgetter("weight")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_flows",
        Kind.GAUGE,
        "The backend's open connections.",
        rows("backends", _BACKEND_KEYS, itemgetter("flows")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_connections_total",
        Kind.COUNTER,
        "Connections that the backend has accepted.",
        rows("backends", _BACKEND_KEYS, itemgetter("connections")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_refused_syns_total",
        Kind.COUNTER,
        "Clients' SYNs that the backend has answered with a RST.",
        rows("backends", _BACKEND_KEYS, itemgetter("refused_syns")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_unanswered_syns_total",
        Kind.COUNTER,
        "Clients' SYNs that the backend has not answered in time.",
        rows("backends", _BACKEND_KEYS, itemgetter("unanswered_syns")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_full_syns_total",
        Kind.COUNTER,
        "New connections of the service that came while the backend was at its max-connections.",
        rows("backends", _BACKEND_KEYS, itemgetter("full_syns")),
        _BACKEND,
    ),
    Metric(
        "natmirror_backend_checks_total",
        Kind.COUNTER,
        "Health checks of the backend, by result: passed, failed, or inconclusive because of this host.",
        _checks,
        (*_CHECKED, "result"),
    ),
    Metric(
        "natmirror_backend_check_duration_seconds",
        Kind.GAUGE,
        "How long the last health check took.",
        rows("health", _CHECKED, itemgetter("last_check_seconds")),
        _CHECKED,
    ),
)
"""The metrics of backends."""

MIRROR_METRICS = (
    Metric(
        "natmirror_mirror_state",
        Kind.GAUGE,
        "1 for the state that the mirror has, 0 for the others.",
        _states("mirrors", _MIRROR_KEYS, MIRROR_STATES),
        (*_MIRROR, "state"),
    ),
    *(
        Metric(
            f"natmirror_mirror_{name}_total",
            Kind.COUNTER,
            sentence,
            rows("mirrors", _MIRROR_KEYS, itemgetter(name)),
            _MIRROR,
        )
        for name, sentence in _MIRROR_COUNTERS.items()
    ),
    *(
        Metric(
            f"natmirror_mirror_{name}", Kind.GAUGE, sentence, rows("mirrors", _MIRROR_KEYS, itemgetter(name)), _MIRROR
        )
        for name, sentence in _MIRROR_GAUGES.items()
    ),
    *(
        Metric(
            f"natmirror_mirror_{name}",
            kind,
            sentence,
            words_of_rows("mirrors", _MIRROR_KEYS, field, known),
            (*_MIRROR, "reason"),
        )
        for name, (kind, field, sentence, known) in _MIRROR_WORDS.items()
    ),
    *(
        Metric(
            f"natmirror_{name}_seconds",
            Kind.HISTOGRAM,
            sentence,
            rows("mirrors", _MIRROR_KEYS, itemgetter(name)),
            _MIRROR,
        )
        for name, sentence in _MIRROR_HISTOGRAMS.items()
    ),
    Metric(
        "natmirror_session_messages_passed_total",
        Kind.COUNTER,
        "Messages of OpenFlow switches that the master got.",
        rows("mirrors", _MIRROR_KEYS, lambda row: _total(row, "messages_passed")),
        _MIRROR,
    ),
    Metric(
        "natmirror_session_messages_withheld_total",
        Kind.COUNTER,
        "Messages of OpenFlow switches that the master did not get, by reason. Those that wait count too.",
        _sessions("messages_withheld", lambda key: key.rpartition(":")[2]),
        (*_MIRROR, "reason"),
    ),
    Metric(
        "natmirror_session_requests_total",
        Kind.COUNTER,
        "Requests of the master, by outcome.",
        _sessions("requests", str),
        (*_MIRROR, "outcome"),
    ),
    Metric(
        "natmirror_session_orders_total",
        Kind.COUNTER,
        "Messages of the master that would have changed a switch. The switches got none of them.",
        rows("mirrors", _MIRROR_KEYS, lambda row: _total(row, "orders")),
        _MIRROR,
    ),
    Metric(
        "natmirror_sessions_not_opened_total",
        Kind.COUNTER,
        "Attempts to open a session that failed, and connections that got no session, by reason.",
        _sessions("not_opened", str),
        (*_MIRROR, "reason"),
    ),
    *(
        Metric(f"natmirror_mirror_memory_{name}", Kind.GAUGE, sentence, one(f"mirror_memory.{name}"))
        for name, sentence in _MEMORY.items()
    ),
)
"""The metrics of mirrors, and of the memory that they share."""
