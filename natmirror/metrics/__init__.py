"""The metrics of a running natmirror, for Prometheus: each made of the status document, whose fields are declared in
runtime/shown.py.

metric.py says what a metric is. machine_metrics.py, traffic_metrics.py, pool_metrics.py and verdict_metrics.py declare
all of them, and ``METRICS`` lists them. page.py renders them with prometheus-client. Imports only findings and reasons.
"""

from natmirror.metrics.machine_metrics import MACHINE_METRICS
from natmirror.metrics.metric import Kind, Metric
from natmirror.metrics.pool_metrics import BACKEND_METRICS, MIRROR_METRICS
from natmirror.metrics.traffic_metrics import TRAFFIC_METRICS
from natmirror.metrics.verdict_metrics import VERDICT_METRICS

METRICS: dict[str, tuple[Metric, ...]] = {
    "This natmirror and its host": MACHINE_METRICS,
    "Traffic": TRAFFIC_METRICS,
    "Backends": BACKEND_METRICS,
    "Mirrors": MIRROR_METRICS,
    "Verdicts": VERDICT_METRICS,
}
"""All metrics, in sections."""

__all__ = ["METRICS", "Kind", "Metric"]
