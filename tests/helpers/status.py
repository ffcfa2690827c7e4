"""A status document as a running natmirror has it, for tests of what is made of it."""

from typing import Any

from natmirror.findings import Findings, HostCode
from natmirror.histograms import histogram
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.runtime.shared_state import OFF
from tests.helpers.client_connection import ClientConnection, engine

BACKEND = {
    "service": "openflow",
    "name": "c1",
    "address": "10.20.0.11:6653",
    "state": "down",
    "state_seconds": None,
    "share": 0.0,
    "weight": 1,
    "weight_in_rules": 1,
    "flows": 1,
    "connections": 7,
    "refused_syns": 2,
    "unanswered_syns": 3,
    "full_syns": 5,
    "max_connections": 500,
}
HEALTH = {
    "service": "openflow",
    "backend": "c1",
    "checks": 9,
    "failed_checks": 4,
    "inconclusive_checks": 1,
    "last_check_seconds": 0.002,
}
KEPT = {"name": "iptables-nft table raw", "in_place": False, "repairs": 2, "contested": False}


def status_document() -> dict[str, Any]:
    """Return the status of a natmirror whose one client has sent 2,000 bytes, of which its mirror has 1,460 after
    3 ms."""
    session = ClientConnection(engine())
    session.connect()
    session.connect_mirror()
    session.from_client("PA", b"x" * 2000)
    session.now += 0.003
    session.from_mirror("A", 1, 1 + 1460)
    findings = Findings(lambda: "01:02")
    findings.replace("host", [HostCode.NO_FORWARDING.found(interfaces="sw0", settings="x=1")])
    snapshot = session.engine.snapshot(session.now)
    return {
        **snapshot,
        "mirrors": [{**mirror, "paused_since": None} for mirror in snapshot["mirrors"]],
        "overrides": [],
        "version": "1.2",
        "uptime_seconds": 60.5,
        "findings": findings.show(),
        "failing_chores": [],
        "pair": {"role": "backup"},
        "shared_state": OFF,
        "log": {"records_dropped": 3, "records_suppressed": 0},
        "backends": [BACKEND],
        "health": [HEALTH],
        "machine": {
            "queues": {"6653": dict.fromkeys(QueueCounter, 7)},
            "tunnel": dict.fromkeys(OutboxCounter, 4),
            "kept": [KEPT],
            "packets_forged": {"10.20.0.13:6653": 3},
            "kernel_translation_off_because": None,
            "internal_errors": 0,
            "ended_threads": {},
            "thread_cpu_seconds": {"packets-0": 1.5},
            "added_latency": histogram((0.001,), (3, 1), 0.5),
        },
    }
