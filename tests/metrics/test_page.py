"""The page of metrics: its series, by a status document that a real engine has made."""

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from natmirror.backends.shown import BackendState
from natmirror.engine.counters import EngineCounter
from natmirror.findings import ALL_CODES
from natmirror.ha.role import HostRole
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.metrics import METRICS, Kind, Metric
from natmirror.metrics.machine_metrics import ROLES, SHARED_STATES, WORKS
from natmirror.metrics.page import MetricsPage
from natmirror.metrics.pool_metrics import BACKEND_STATES, MIRROR_STATES
from natmirror.metrics.traffic_metrics import ENGINE_COUNTERS, QUEUE_COUNTERS, TUN_COUNTERS
from natmirror.metrics.verdict_metrics import VERDICTS
from natmirror.mirror.faults import Work
from natmirror.mirror.shown import MirrorState
from natmirror.openflow.comparison.shown import Verdict
from natmirror.replication.synchroniser import SyncState
from tests.helpers.compared import MISSING, answer, differs, equal, sums, tables
from tests.helpers.status import status_document

ALL = [metric for metrics in METRICS.values() for metric in metrics]


@pytest.fixture
def status() -> dict[str, Any]:
    return status_document()


def series(page: bytes) -> dict[str, float]:
    """Return the page's values by series."""
    return {
        sample.name + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_the_page_has_the_values_of_the_status(status: dict[str, Any]) -> None:
    found = series(MetricsPage().render(status))
    backend = "address=10.20.0.11:6653 backend=c1 service=openflow"
    expected = {
        "natmirror_build_info version=1.2": 1,
        "natmirror_findings affects=production code=no-forwarding severity=failure": 1,
        "natmirror_findings affects=production code=contested severity=warning": 0,
        "natmirror_thread_cpu_seconds_total thread=packets-0": 1.5,
        "natmirror_kernel_in_place name=iptables-nft table raw": 0,
        "natmirror_role role=backup": 1,
        "natmirror_role role=master": 0,
        "natmirror_log_messages_lost_total reason=dropped": 3,
        f"natmirror_backend_state {backend} state=down": 1,
        f"natmirror_backend_state {backend} state=up": 0,
        f"natmirror_backend_connections_total {backend}": 7,
        "natmirror_backend_checks_total backend=c1 result=passed service=openflow": 5,
        "natmirror_mirror_state mirror=master service=openflow state=up": 1,
        "natmirror_mirror_state mirror=master service=openflow state=paused": 0,
        "natmirror_mirror_legs mirror=master service=openflow": 1,
        "natmirror_mirror_client_bytes_total mirror=master service=openflow": 2000,
        "natmirror_leg_lag_seconds_count mirror=master service=openflow": 1,
        "natmirror_leg_lag_seconds_bucket le=0.002 mirror=master service=openflow": 0,
        "natmirror_leg_lag_seconds_bucket le=0.005 mirror=master service=openflow": 1,
        "natmirror_leg_rtt_seconds_count mirror=master service=openflow": 1,
        "natmirror_added_latency_seconds_bucket le=+Inf": 4,
        "natmirror_added_latency_seconds_sum": 0.5,
        "natmirror_queue_packets_received_total queue=6653": 7,
        "natmirror_tun_packets_sent_total": 4,
        "natmirror_flows_opened_total": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert f"natmirror_backend_last_change_seconds {backend}" not in found, "null is no value"


def test_a_master_that_is_compared_has_its_series(status: dict[str, Any]) -> None:
    without = [name for name in series(MetricsPage().render(status)) if name.startswith("natmirror_verdict")]
    assert without == ["natmirror_verdict_messages_left_out_total"]
    made = sums()
    switch = made.of_switch("10.10.0.11:40001")
    answer(switch, equal(lag=0.2), equal(lag=-0.5), differs(MISSING))
    switch.compared_tables(tables(10.0, 10.0, 2.5, ("mirror: priority=11",)))
    status["mirrors"][0]["comparison"] = made.show()
    status["mirrors"][0]["verdict"] = {"verdict": "differs", "summary": ""}
    found = series(MetricsPage().render(status))
    master = "mirror=master"
    expected = {
        f"natmirror_verdict {master} service=openflow verdict=differs": 1,
        f"natmirror_verdict {master} service=openflow verdict=agrees": 0,
        f"natmirror_verdict_answers_total {master} result=equal service=openflow": 2,
        f"natmirror_verdict_answers_total {master} result=unanswered service=openflow": 0,
        f"natmirror_verdict_differences_total kind=rule-missing {master} service=openflow": 1,
        f"natmirror_verdict_table_seconds_total {master} service=openflow state=equal": 7.5,
        f"natmirror_verdict_table_differing_rules {master} service=openflow": 1,
        f"natmirror_verdict_lag_seconds_bucket le=0.1 {master} service=openflow": 2,
        f"natmirror_verdict_lag_seconds_count {master} service=openflow": 3,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_no_series_names_a_client(status: dict[str, Any]) -> None:
    assert b"10.10.0.11" not in MetricsPage().render(status)


def test_a_counter_never_shrinks(status: dict[str, Any]) -> None:
    page = MetricsPage()
    page.render(status)
    status["mirrors"][0]["client_bytes"] -= 100
    name = "natmirror_mirror_client_bytes_total mirror=master service=openflow"
    assert series(page.render(status))[name] == 2000


def test_two_rows_of_one_mirror_are_one_series(status: dict[str, Any]) -> None:
    status["mirrors"].append({**status["mirrors"][0], "address": "10.20.0.99:6653"})
    assert series(MetricsPage().render(status))["natmirror_mirror_legs mirror=master service=openflow"] == 2


@pytest.mark.parametrize(
    ("ours", "declared"),
    [
        (BACKEND_STATES, BackendState),
        (MIRROR_STATES, MirrorState),
        (ROLES, HostRole),
        (SHARED_STATES, SyncState),
        (WORKS, Work),
        (ENGINE_COUNTERS, EngineCounter),
        (QUEUE_COUNTERS, QueueCounter),
        (TUN_COUNTERS, OutboxCounter),
        (VERDICTS, Verdict),
    ],
)
def test_each_state_and_counter_of_the_status_has_its_series(ours: Any, declared: Any) -> None:
    assert list(ours) == list(declared)


def test_all_findings_have_a_series(status: dict[str, Any]) -> None:
    found = series(MetricsPage().render(status))
    assert len([name for name in found if name.startswith("natmirror_findings ")]) == len(ALL_CODES)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"natmirror(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
    assert metric.sentence.endswith(".")
    assert len([one for one in ALL if one.name == metric.name]) == 1
