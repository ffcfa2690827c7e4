"""Debian's Prometheus scrapes natmirror under load: alerts fire and clear, and each query of the dashboard has data."""

import json
import re
import signal
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from natmirror.errors import HostError
from natmirror.lab.process import PATIENCE, Program, wait_for, wait_listen
from natmirror.lab.topology import Lab
from natmirror.metrics import METRICS
from tests.live.in_process import inside
from tests.live.scene import ROOT, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

OWN, PROMETHEUS = "10.20.0.1", "10.20.0.12"
ALERTS, DASHBOARD = ROOT / "monitoring" / "alerts.yml", ROOT / "monitoring" / "dashboard.json"
DEAD_PORT = 6654
RULES = f"""
metrics: {OWN}:9653
switches: [10.10.0.0/24]
timeouts: {{closed: 5s}}
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      health: {{check: tcp, interval: 300ms, timeout: 300ms, rise: 2, fall: 2}}
      backends:
        - {{name: c1, address: 10.20.0.11}}
        - {{name: c2, address: 10.20.0.12}}
    mirrors:
      - {{name: slow, address: 10.20.0.13}}
      - {{name: dead, address: 10.20.0.13, port: {DEAD_PORT}}}
"""
CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: natmirror
    static_configs: [{{targets: ["{own}:9653"]}}]
"""
TO_SLOW = ("PREROUTING", "-p", "tcp", "--dport", "6653", "-j", "DROP")
FAULTS = {
    ("NatmirrorBackendDown", "c1"),
    ("NatmirrorMirrorLags", "slow"),
    ("NatmirrorCopiesLost", "dead"),
    ("NatmirrorNotCopied", "dead"),
    ("NatmirrorRulesChanged", ""),
}


def get(lab: Lab, address: str, port: int, path: str) -> bytes:
    with inside(lab, "c2"):
        connection = HTTPConnection(address, port, timeout=PATIENCE)
        connection.connect()
    connection.request("GET", path)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def ask(lab: Lab, path: str) -> Any:
    return json.loads(get(lab, PROMETHEUS, 9090, f"/api/v1/{path}"))["data"]


def impatient(alerts: str) -> str:
    """Return the alert rules with times that suit a test."""
    alerts = re.sub(r"for: \w+", "for: 0s", re.sub(r"\[\d+m\]", "[4s]", alerts))
    return alerts.replace("natmirror_mirror_lag_seconds > 5", "natmirror_mirror_lag_seconds > 1")


def firing(lab: Lab) -> set[tuple[str, str]]:
    """Return the alerts that fire, each with its backend or mirror."""
    return {
        (labels["alertname"], labels.get("backend") or labels.get("mirror") or "")
        for alert in ask(lab, "alerts")["alerts"]
        if alert["state"] == "firing" and (labels := alert["labels"])
    }


def start_prometheus(scene: Scene) -> Program:
    directory = scene.file("prometheus")
    directory.mkdir()
    alerts, configuration = directory / "alerts.yml", directory / "prometheus.yml"
    alerts.write_text(impatient(ALERTS.read_text()))
    configuration.write_text(CONFIGURATION.format(alerts=alerts, own=OWN))
    words = (f"--config.file={configuration}", f"--storage.tsdb.path={directory}/data")
    program = scene.start("c2", "prometheus", *words, f"--web.listen-address={PROMETHEUS}:9090", name="prometheus")
    wait_listen(scene.lab.ns("c2"), 9090)
    wait_for(lambda: b"is Ready" in get(scene.lab, PROMETHEUS, 9090, "/-/ready"), "Prometheus to be ready")
    return program


def queries() -> list[str]:
    """Return the dashboard's queries, without those about verdicts: no mirror of these rules has one."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = [query for query in found if "natmirror_verdict_" not in query]
    return [query.replace("$instance", ".+").replace("$__rate_interval", "5s") for query in shown]


def has_data(lab: Lab, query: str) -> bool:
    return bool(ask(lab, f"query?query={quote(query)}")["result"])


def promtool(*words: str, text: bytes = b"") -> None:
    outcome = subprocess.run(["promtool", "check", *words], input=text, capture_output=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def documented() -> dict[str, str]:
    """Return the kind of each metric in the reference, by its name."""
    text = Path(ROOT / "docs" / "reference" / "metrics.md").read_text()
    return dict(re.findall(r"^\| `(natmirror_\w+)` \| (\w+) \|", text, re.MULTILINE))


def test_prometheus_sees_faults_begin_and_end(alone: Scene) -> None:
    scene, lab = alone, alone.lab
    promtool("rules", str(ALERTS))
    c1 = scene.record("c1", "c2", "m")["c1"]
    other = scene.app("m", "recorder", DEAD_PORT, scene.file("dead.jsonl"))
    wait_listen(lab.ns("m"), DEAD_PORT)
    scene.balance(scene.rules(RULES))
    start_prometheus(scene)
    until = scene.file("until")
    client, _ = scene.client(connections=16, until=until, pause=0.005, size=500)
    wait_for(lambda: all(ask(lab, f"query?query={quote(query)}")["result"] for query in queries()), "data for all")
    wait_for(lambda: not firing(lab) & FAULTS, "no alert: a busy machine may make a mirror lag for a moment")

    # Four faults at once: a backend dies, a mirror gets nothing, another one ends its connections, a table is flushed.
    c1.end(signal.SIGKILL)
    lab.run("m", ["iptables", "-t", "raw", "-A", *TO_SLOW])
    other.end(signal.SIGKILL)
    lab.run("lb", ["iptables", "-F"])
    seen: set[tuple[str, str]] = set()

    def all_fired() -> bool:
        seen.update(firing(lab) & FAULTS)
        return seen == FAULTS

    try:
        wait_for(all_fired, "the alerts")
    except HostError:
        pytest.fail(f"these alerts did not fire: {FAULTS - seen}")

    lab.run("m", ["iptables", "-t", "raw", "-D", *TO_SLOW])
    scene.record("c1")
    scene.app("m", "recorder", DEAD_PORT, scene.file("dead.jsonl"))
    until.touch()
    scene.finish(client)
    wait_for(lambda: not firing(lab) & FAULTS, "the alerts to clear")

    page = get(lab, OWN, 9653, "/metrics")
    promtool("metrics", text=page)
    assert dict(re.findall(r"^# TYPE (\w+) (\w+)$", page.decode(), re.MULTILINE)) == documented()
    assert documented().keys() == {metric.name for metrics in METRICS.values() for metric in metrics}
