"""The files for Prometheus and Grafana name metrics that exist, and docs/monitoring.md has each alert."""

import json
import re
from pathlib import Path

import pytest

from natmirror.metrics import METRICS, Kind

ROOT = Path(__file__).parents[2]
ALERTS = (ROOT / "monitoring" / "alerts.yml").read_text()
DASHBOARD = (ROOT / "monitoring" / "dashboard.json").read_text()
NAMES = {metric.name for metrics in METRICS.values() for metric in metrics} | {
    f"{metric.name}_bucket" for metrics in METRICS.values() for metric in metrics if metric.kind is Kind.HISTOGRAM
}


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_each_metric_exists(text: str) -> None:
    found = set(re.findall(r"\bnatmirror_\w+", text))
    assert found and found <= NAMES


def test_each_alert_is_documented() -> None:
    documented = re.findall(r"^\| `(Natmirror\w+)` \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert documented == re.findall(r"- alert: (\w+)", ALERTS)


def test_each_panel_has_a_title_and_a_place_of_its_own() -> None:
    panels = json.loads(DASHBOARD)["panels"]
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len({panel["title"] for panel in panels}) == len(panels)
