"""The results of a benchmark as plots."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import FIGURES, Column
from bench.results import Results

matplotlib.use("Agg")

_OURS, _OTHERS = "#c0392b", "#7f8c8d"
_INCH = 4.2
_SHORTEST_US = 10  # the left end of the logarithmic scale of latencies
_GROWTH = [
    Column("", "resident_bytes", "resident memory, MB", 1, 1e6),
    Column("", "idle_cpu_percent", "idle CPU, % of a core", 2),
    Column("", "p50_us", "latency p50, µs", 0),
    Column("", "packets_per_s", "small packets, k/s", 1, 1000),
]


def plot(results: Results, directory: Path) -> list[str]:
    """Write the plots for which there are results; return the names of the files."""
    drawn: dict[str, Callable[[Results], Figure]] = {}
    if results.samples:
        drawn["benchmark.png"] = _bars
    if results.growth:
        drawn["benchmark-growth.png"] = _lines
    for name, draw in drawn.items():
        draw(results).savefig(directory / name, dpi=100, metadata={"Software": None})
    return list(drawn)


def _bars(results: Results) -> Figure:
    """Draw a panel for each figure with a bar for each contender; the thin line spans the rounds."""
    columns = [column for column in FIGURES if column.measure in results.measures()]
    wide = min(3, len(columns))
    tall = -(-len(columns) // wide)
    figure = Figure(figsize=(_INCH * wide + 1.5, (0.34 * len(results.ways) + 1) * tall), layout="constrained")
    panels = figure.subplots(tall, wide, squeeze=False, sharey=True)
    for panel, column in zip(panels.flat, columns, strict=False):
        _bar_panel(panel, results, column)
    for panel in panels.flat[len(columns) :]:
        panel.remove()
    return figure


def _bar_panel(panel: Axes, results: Results, column: Column) -> None:
    for place, contender in enumerate(results.ways):
        rounds = [value / column.scale for value in results.rounds(contender, column.measure, column.value).values()]
        middle = results.median(contender, column.measure, column.value)
        if middle is None:
            continue
        middle /= column.scale
        panel.barh(place, middle, color=_OURS if contender.startswith("natmirror") else _OTHERS)
        panel.plot([min(rounds), max(rounds)], [place, place], color="black", linewidth=0.8)
        panel.annotate(
            f"{middle:,.{column.digits}f}",
            (middle, place),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=7,
        )
    panel.set_yticks(range(len(results.ways)), list(results.ways.values()), fontsize=8)
    if not panel.yaxis_inverted():
        panel.invert_yaxis()
    panel.set_title(column.title, fontsize=9)
    panel.margins(x=0.2)
    panel.spines[["top", "right"]].set_visible(False)
    if column.measure == "latency":
        panel.set_xscale("log")
        panel.set_xlim(left=_SHORTEST_US)


def _lines(results: Results) -> Figure:
    """Draw a panel for each figure with a line for each contender, by the number of idle flows."""
    figure = Figure(figsize=(2 * _INCH + 2, 2 * 3), layout="constrained")
    panels = figure.subplots(2, 2)
    for panel, column in zip(panels.flat, _GROWTH, strict=True):
        for contender in dict.fromkeys(step.way for step in results.growth):
            points = [
                (step.values["open"], step.values[column.value] / column.scale)
                for step in results.growth
                if step.way == contender and column.value in step.values
            ]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=results.ways[contender])
        panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.set_title(column.title, fontsize=9)
        panel.set_xlabel("idle flows", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].legend(fontsize=7)
    return figure
