"""The page of the metrics: the name, kind, labels and meaning of each, from natmirror/metrics."""

from natmirror.metrics import METRICS, Kind, Metric
from natmirror.reference import markdown
from natmirror.reference.choices import sentences
from natmirror.reference.markdown import literal

_INTRODUCTION = """
`GET /metrics` on the API's Unix socket, and at the address of the rules key `metrics`, serves these metrics in the text
format of Prometheus. [monitoring.md](../monitoring.md) says how to scrape them, and what the alerts mean. No label has
a client's address. Reasons, states and other words are those of [state.md](state.md).
"""


def page() -> str:
    """Return the page."""
    kinds = markdown.table(("kind", "meaning"), [(literal(word), text) for word, text in sentences(Kind).items()])
    sections = [f"## {title}\n\n{_table(metrics)}" for title, metrics in METRICS.items()]
    return markdown.page("Metrics", _INTRODUCTION, kinds, *sections)


def _table(metrics: tuple[Metric, ...]) -> str:
    rows = [(literal(one.name), one.kind, ", ".join(map(literal, one.labels)), one.sentence) for one in metrics]
    return markdown.table(("metric", "kind", "labels", "meaning"), rows)
