"""Each alert of the shipped rules fires after its own time and not before, and not by values just below its limit.

promtool evaluates the file as it is, with the series of the cases below.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from natmirror.metrics import METRICS, Kind
from natmirror.metrics.pool_metrics import BACKEND_STATES, MIRROR_STATES
from natmirror.metrics.verdict_metrics import VERDICTS

FILE = Path(__file__).parents[2] / "monitoring" / "alerts.yml"
RULES = {rule["alert"]: rule for group in YAML(typ="safe").load(FILE)["groups"] for rule in group["rules"]}
LABELS = {
    **{metric.name: set(metric.labels) for metrics in METRICS.values() for metric in metrics},
    **{
        f"{metric.name}_bucket": {*metric.labels, "le"}
        for metrics in METRICS.values()
        for metric in metrics
        if metric.kind is Kind.HISTOGRAM
    },
    "up": set(),
}
STEP = 5  # seconds between two samples, and between two evaluations
BEGINS = 60  # when a fault begins, in seconds; its expression holds from then on
AFTER = 60  # seconds by which the series outlast the time that an alert waits
HOST = ("instance=lb1", "job=natmirror")


@dataclass(frozen=True, slots=True)
class Series:
    """A series: its samples before the fault, and with it."""

    name: str
    before: str
    fault: str

    def text(self, seconds: int) -> dict[str, str]:
        """Return it for promtool, with a fault that lasts for so many seconds."""
        well, bad = BEGINS // STEP - 1, seconds // STEP
        return {"series": self.name, "values": f"{self.before}x{well} {self.fault}x{bad}"}


def series(name: str, *labels: str) -> str:
    """Return the name of a series of the host lb1; ``labels`` are written name=value."""
    pairs = dict(one.split("=", 1) for one in (*HOST, *labels))
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in pairs.items()) + "}"


def gauge(name: str, before: float, after: float) -> Series:
    """Return a gauge whose value the fault changes."""
    return Series(name, f"{before}+0", f"{after}+0")


def held(name: str, value: float) -> Series:
    """Return a series that does not change."""
    return gauge(name, value, value)


def grows(name: str, step: float) -> Series:
    """Return a counter that grows by ``step`` with each sample of the fault."""
    return Series(name, "0+0", f"{step}+{step}")


@dataclass(frozen=True, slots=True)
class Case:
    """Series by which an alert fires, with the labels that it then has beside its severity, and its summary. ``near``
    are series by which it does not."""

    alert: str
    firing: tuple[Series, ...]
    near: tuple[Series, ...]
    labels: str
    summary: str


def findings(severity: str, affects: str) -> str:
    return series("natmirror_findings", "code=no-forwarding", f"severity={severity}", f"affects={affects}")


def backend(name: str, state: str) -> str:
    return series("natmirror_backend_state", *OF_BACKEND, f"backend={name}", f"state={state}")


def mirror(name: str, *labels: str) -> str:
    return series(f"natmirror_{name}", "service=of", "mirror=m", *labels)


def latency(limit: str) -> str:
    return series("natmirror_added_latency_seconds_bucket", f"le={limit}")


def role(host: str, word: str) -> str:
    return series("natmirror_role", f"instance={host}", f"role={word}")


OF_BACKEND = ("service=of", "address=10.20.0.11:6653")
CASES = [
    Case(
        "NatmirrorDown",
        (gauge(series("up"), 1, 0),),
        (held(series("up"), 1), held(series("up", "job=other"), 0)),
        "instance=lb1 job=natmirror",
        "natmirror on lb1 serves no metrics",
    ),
    Case(
        "NatmirrorProductionFails",
        (gauge(findings("failure", "production"), 0, 1),),
        (held(findings("failure", "copies"), 1), held(findings("warning", "production"), 1)),
        "instance=lb1 code=no-forwarding",
        "lb1: production cannot pass (no-forwarding)",
    ),
    Case(
        "NatmirrorNoBackend",
        (
            *(
                gauge(backend("c1", "up"), 1, 0),
                gauge(backend("c1", "down"), 0, 1),
                held(backend("c1", "unchecked"), 0),
            ),
            *(held(backend("c2", "up"), 0), held(backend("c2", "draining"), 1), held(backend("c2", "panic"), 0)),
        ),
        (held(backend("c1", "up"), 0), held(backend("c1", "down"), 1), held(backend("c2", "panic"), 1)),
        "instance=lb1 service=of",
        "lb1: no backend of of gets new connections",
    ),
    Case(
        "NatmirrorNoBackend",
        (gauge(backend("c1", "unchecked"), 1, 0), gauge(backend("c1", "removed"), 0, 1)),
        (held(backend("c1", "unchecked"), 1), held(backend("c1", "up"), 0)),
        "instance=lb1 service=of",
        "lb1: no backend of of gets new connections",
    ),
    Case(
        "NatmirrorPacketThreadEnded",
        (gauge(series("natmirror_packet_threads_ended"), 0, 1),),
        (held(series("natmirror_packet_threads_ended"), 0),),
        "instance=lb1 job=natmirror",
        "lb1: no packet of a part of the clients passes",
    ),
    *(
        Case(
            "NatmirrorBackendDown",
            (gauge(backend("c1", state), 0, 1),),
            (
                held(backend("c1", state), 0),
                *(held(backend("c1", one), 1) for one in BACKEND_STATES if one not in ("down", "panic")),
            ),
            f"instance=lb1 job=natmirror service=of backend=c1 address=10.20.0.11:6653 state={state}",
            f"lb1: backend of/c1 is {state}",
        )
        for state in ("down", "panic")
    ),
    Case(
        "NatmirrorMirrorDown",
        (gauge(mirror("mirror_state", "state=down"), 0, 1),),
        (
            held(mirror("mirror_state", "state=down"), 0),
            *(held(mirror("mirror_state", f"state={one}"), 1) for one in MIRROR_STATES if one != "down"),
        ),
        "instance=lb1 job=natmirror service=of mirror=m state=down",
        "lb1: mirror of/m is down",
    ),
    Case(
        "NatmirrorMirrorLags",
        (gauge(mirror("mirror_lag_seconds"), 0, 5.6),),
        (held(mirror("mirror_lag_seconds"), 5),),
        "instance=lb1 job=natmirror service=of mirror=m",
        "lb1: mirror of/m is 6 s behind",
    ),
    Case(
        "NatmirrorCopiesLost",
        (grows(mirror("mirror_lost_bytes_total", "reason=refused"), 1),),
        (
            held(mirror("mirror_lost_bytes_total", "reason=refused"), 7),
            grows(mirror("mirror_lost_bytes_total", "reason=mirror-paused"), 9),
        ),
        "instance=lb1 service=of mirror=m",
        "lb1: mirror of/m has missed bytes of clients",
    ),
    Case(
        "NatmirrorNotCopied",
        (gauge(mirror("mirror_connections_not_copied", "reason=refused"), 0, 2),),
        (
            held(mirror("mirror_connections_not_copied", "reason=refused"), 0),
            held(mirror("mirror_connections_not_copied", "reason=mirror-paused"), 9),
        ),
        "instance=lb1 service=of mirror=m",
        "lb1: 2 connections are not copied to of/m",
    ),
    Case(
        "NatmirrorCopiesFail",
        (gauge(findings("failure", "copies"), 0, 1),),
        (held(findings("failure", "production"), 1), held(findings("warning", "copies"), 1)),
        "instance=lb1 code=no-forwarding",
        "lb1: copies cannot pass (no-forwarding)",
    ),
    Case(
        "NatmirrorVerdictDiffers",
        (gauge(mirror("verdict", "verdict=differs"), 0, 1),),
        (
            held(mirror("verdict", "verdict=differs"), 0),
            *(held(mirror("verdict", f"verdict={one}"), 1) for one in VERDICTS if one != "differs"),
        ),
        "instance=lb1 job=natmirror service=of mirror=m verdict=differs",
        "lb1: master of/m would not do what production does",
    ),
    Case(
        "NatmirrorRulesChanged",
        (gauge(series("natmirror_kernel_in_place", "name=nft"), 1, 0),),
        (held(series("natmirror_kernel_in_place", "name=nft"), 1),),
        "instance=lb1 job=natmirror name=nft",
        "lb1: another program has changed natmirror's nft",
    ),
    Case(
        "NatmirrorRulesChanged",
        (grows(series("natmirror_kernel_repairs_total", "name=nft"), 1),),
        (held(series("natmirror_kernel_repairs_total", "name=nft"), 7),),
        "instance=lb1 job=natmirror name=nft",
        "lb1: another program has changed natmirror's nft",
    ),
    Case(
        "NatmirrorFinding",
        (gauge(findings("warning", "copies"), 0, 1),),
        (held(findings("warning", "copies"), 0), held(findings("failure", "production"), 1)),
        "instance=lb1 code=no-forwarding",
        "lb1: no-forwarding",
    ),
    Case(
        "NatmirrorPacketsMissed",
        (grows(series("natmirror_queue_packets_missed_total", "queue=6653"), 1),),
        (held(series("natmirror_queue_packets_missed_total", "queue=6653"), 7),),
        "instance=lb1 job=natmirror queue=6653",
        "lb1: the kernel dropped packets because natmirror was too slow for queue 6653",
    ),
    Case(
        "NatmirrorSlow",
        (grows(latency("0.02"), 985), grows(latency("0.05"), 1000), grows(latency("+Inf"), 1000)),
        (grows(latency("0.02"), 995), grows(latency("0.05"), 1000), grows(latency("+Inf"), 1000)),
        "instance=lb1",
        "lb1: one packet of a hundred waits more than 20 ms for natmirror",
    ),
    Case(
        "NatmirrorMemoryShort",
        (
            gauge(series("natmirror_mirror_memory_used_bytes"), 0, 910),
            held(series("natmirror_mirror_memory_limit_bytes"), 1000),
        ),
        (
            held(series("natmirror_mirror_memory_used_bytes"), 900),
            held(series("natmirror_mirror_memory_limit_bytes"), 1000),
        ),
        "instance=lb1 job=natmirror",
        "lb1: mirrors use 91% of mirror-memory",
    ),
    Case(
        "NatmirrorInternalErrors",
        (grows(series("natmirror_internal_errors_total", "work=copies"), 1),),
        (held(series("natmirror_internal_errors_total", "work=copies"), 7),),
        "instance=lb1 job=natmirror work=copies",
        "lb1: internal errors in natmirror (copies)",
    ),
    Case(
        "NatmirrorMirroringOff",
        (gauge(series("natmirror_mirroring_off_threads", "work=copies"), 0, 1),),
        (held(series("natmirror_mirroring_off_threads", "work=copies"), 0),),
        "instance=lb1 job=natmirror work=copies",
        "lb1: copies is switched off after internal errors",
    ),
    Case(
        "NatmirrorChoreFails",
        (gauge(series("natmirror_failing_chores"), 0, 1),),
        (held(series("natmirror_failing_chores"), 0),),
        "instance=lb1 job=natmirror",
        "lb1: background work of natmirror fails",
    ),
    *(
        Case(
            "NatmirrorPairRole",
            (gauge(role("lb1", "master"), 1, active), gauge(role("lb2", "master"), 0, active)),
            (*(held(role("lb1", "master"), 1), held(role("lb2", "master"), 0)), held(role("lb2", "backup"), 1)),
            "job=natmirror",
            f"{2 * active} hosts of the pair natmirror are active",
        )
        for active in (0, 1)
    ),
    *(
        Case(
            "NatmirrorSharedState",
            (gauge(series("natmirror_shared_state", f"state={state}"), 0, 1),),
            (
                held(series("natmirror_shared_state", f"state={state}"), 0),
                *(held(series("natmirror_shared_state", f"state={one}"), 1) for one in ("off", "complete")),
            ),
            f"instance=lb1 job=natmirror state={state}",
            f"lb1: the pair does not share its state ({state})",
        )
        for state in ("connecting", "syncing")
    ),
]


def waits(alert: str) -> int:
    """Return for how many seconds the alert's expression has to hold."""
    number, unit = re.fullmatch(r"(\d+)([sm])", RULES[alert].get("for", "0s")).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def expected(case: Case) -> list[Mapping[str, Any]]:
    """Return the alert that fires in a case, as promtool compares it."""
    rule = RULES[case.alert]
    labels = dict(one.split("=", 1) for one in case.labels.split())
    shown = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], rule["annotations"]["description"])
    annotations = {"summary": case.summary, "description": shown}
    return [{"exp_labels": labels | rule["labels"], "exp_annotations": annotations}]


def scenario(case: Case, given: tuple[Series, ...], lasts: int, fires: Mapping[int, bool]) -> dict[str, Any]:
    """Return a test for promtool: whether the alert fires so many seconds after the fault's beginning."""
    return {
        "interval": f"{STEP}s",
        "input_series": [one.text(lasts) for one in given],
        "alert_rule_test": [
            {
                "eval_time": f"{BEGINS + after}s",
                "alertname": case.alert,
                "exp_alerts": expected(case) if does else [],
            }
            for after, does in fires.items()
        ],
    }


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_after_its_time_and_not_below_its_limit(case: Case, tmp_path: Path) -> None:
    wait = waits(case.alert)
    lasts = wait + AFTER
    tests = tmp_path / "tests.json"  # which is YAML as well
    content = {
        "rule_files": [str(FILE)],
        "evaluation_interval": f"{STEP}s",
        "tests": [
            scenario(case, case.firing, lasts, {-STEP: False, wait - STEP: False, wait: True}),
            scenario(case, case.near, lasts, {0: False, wait: False, lasts: False}),
        ],
    }
    tests.write_text(json.dumps(content))
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == set(RULES)


def test_the_cases_have_the_labels_that_natmirror_gives() -> None:
    for one in {one.name for case in CASES for one in (*case.firing, *case.near)}:
        name, _, labels = one.partition("{")
        assert set(re.findall(r'(\w+)="', labels)) == LABELS[name] | {"instance", "job"}, one
