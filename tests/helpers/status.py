"""A status document as a running natmirror has it, for tests of what is made of it."""

from collections.abc import Mapping
from typing import Any

from natmirror.findings import Findings, HostCode
from natmirror.histograms import histogram
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.runtime.condition import ProblemEntry
from natmirror.runtime.shared_state import OFF
from tests.helpers.client_connection import ClientConnection, engine

BACKEND = {
    "service": "openflow",
    "name": "c1",
    "address": "10.20.0.11:6653",
    "state": "down",
    "healthy": False,
    "reason": "connection refused",
    "state_seconds": None,
    "share": 0.0,
    "weight": 1,
    "weight_in_rules": 1,
    "flows": 1,
    "connections": 7,
    "connections_per_second": 0.4,
    "refused_syns": 2,
    "unanswered_syns": 3,
    "full_syns": 5,
    "max_connections": 500,
}
HEALTH = {
    "service": "openflow",
    "backend": "c1",
    "check": "tcp",
    "state": "down",
    "state_seconds": 9.5,
    "reason": "connection refused",
    "checks": 9,
    "failed_checks": 4,
    "inconclusive_checks": 1,
    "inconclusive_reason": "",
    "failed_syns": 0,
    "last_check_seconds": 0.002,
}
KEPT = {
    "name": "iptables-nft table raw",
    "in_place": False,
    "repairs": 2,
    "repaired_at": "2026-01-02T03:00:00.000+00:00",
    "difference": "chain NATMIRROR-PRE is missing",
    "changed_by": "nft (pid 7)",
    "contested": False,
}
PAIR = {
    "role": "backup",
    "since": "2026-01-02T03:03:00.000+00:00",
    "source": "keepalived",
    "hosts": ["lb1", "lb2"],
    "store": None,
}
AT = "2026-01-02T03:04:00.500+00:00"


def mirror_status(mirror: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mirror's entry of a snapshot as the status has it, if the mirror has been up for 50 s."""
    lately = {"acked_bytes_per_second": 146.0, "lost_bytes_last_hour": mirror["lost_bytes"]}
    return {
        **mirror,
        "state": "up",
        "reason": None,
        "state_seconds": 50.0,
        "comparison": None,
        "verdict": None,
        **lately,
    }


def status_document() -> dict[str, Any]:
    """Return the status of a natmirror whose one client has sent 2,000 bytes, of which its mirror has 1,460 after
    3 ms."""
    session = ClientConnection(engine())
    session.connect()
    session.connect_mirror()
    session.from_client("PA", b"x" * 2000)
    session.now += 0.003
    session.from_mirror("A", 1, 1 + 1460)
    findings = Findings(lambda: "2026-01-02T03:03:50.000+00:00")
    findings.replace("host", [HostCode.NO_FORWARDING.found(interfaces="sw0", settings="x=1")])
    snapshot = session.engine.snapshot(session.now)
    shown = findings.show()
    problems = [{name: one[name] for name in ProblemEntry.__required_keys__} for one in shown]  # type: ignore[literal-required]
    return {
        **snapshot,
        "mirrors": [mirror_status(one) for one in snapshot["mirrors"]],
        "overrides": [],
        "client_limits": [],
        "at": AT,
        "version": "1.2",
        "pid": 5,
        "rules": "lb.yaml",
        "loaded_rules": {
            **{"version": "06ffda94", "loaded_at": "2026-01-02T03:03:00.000+00:00"},
            **{"file_differs": False, "file_error": None},
        },
        "condition": {"state": "not-fit", "unfit_because": "no-forwarding: …", "problems": problems},
        "started_at": "2026-01-02T03:03:00.000+00:00",
        "uptime_seconds": 60.5,
        "findings": shown,
        "failing_chores": [],
        "pair": PAIR,
        "shared_state": OFF,
        "costs": {"restart": {"connections": 2, "copies_ended": 3, "copies_begun_again": 0}, "move": None},
        "log": {"records_queued": 0, "records_dropped": 3, "records_suppressed": 0},
        "backends": [BACKEND],
        "health": [HEALTH],
        "machine": {
            "queues": {"6653": dict.fromkeys(QueueCounter, 7)},
            "tunnel": dict.fromkeys(OutboxCounter, 4),
            "kept": [KEPT],
            "packets_forged": {"10.20.0.13:6653": 3},
            "kernel_translation_off_because": None,
            "paths_checked": True,
            "internal_errors": 0,
            "ended_threads": {},
            "thread_cpu_seconds": {"packets-0": 1.5},
            "added_latency": histogram((0.001,), (3, 1), 0.5),
        },
    }
