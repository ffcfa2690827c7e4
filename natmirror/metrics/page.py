"""The page of metrics, in the text format of Prometheus, which prometheus-client writes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from natmirror.metrics import METRICS, Kind, Metric
from natmirror.metrics.metric import Labels, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPage:
    """The page of one natmirror. It remembers its counters: Prometheus takes one that shrinks for a restart, and the
    ledger corrects some of them down."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, Labels], float] = {}

    def render(self, status: Status) -> bytes:
        """Return the page for a status document."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self._families(status)))
        return generate_latest(registry)

    def _families(self, status: Status) -> Iterator[Family]:
        for metrics in METRICS.values():
            for metric in metrics:
                yield self._family(metric, status)

    def _family(self, metric: Metric, status: Status) -> Family:
        if metric.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.sentence, labels=metric.labels)
            for labels, entry in metric.read(status):
                histogram.add_metric(labels, list(entry["at_most"].items()), entry["sum_seconds"])
            return histogram
        values = _added(metric.read(status))
        if metric.kind is Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.sentence, labels=metric.labels)
            for labels, value in values.items():
                gauge.add_metric(labels, value)
            return gauge
        counter = CounterMetricFamily(metric.name, metric.sentence, labels=metric.labels)
        for labels, value in values.items():
            key = metric.name, labels
            self._highest[key] = max(value, self._highest.get(key, value))
            counter.add_metric(labels, self._highest[key])
        return counter


class _Families(Collector):
    """Gives prometheus-client families that are made already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _added(samples: Iterable[tuple[Labels, Any]]) -> Mapping[Labels, float]:
    """Return the values by their labels. While a reload is under way, a mirror may have two rows: add them."""
    found: dict[Labels, float] = {}
    for labels, value in samples:
        found[labels] = found.get(labels, 0) + value
    return found
