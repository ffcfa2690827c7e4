"""The results of a benchmark as a Markdown document."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.growth import FEW
from bench.isolated import TITLES, YARDSTICK
from bench.measures import BULK_CONNECTIONS, LATENCY_CONNECTIONS, LATENCY_RATE, OPENING_CONNECTIONS, PACKETS_CONNECTIONS
from bench.results import Results, Step

REFERENCES = {
    "dnat": "kernel DNAT",
    "haproxy": "HAProxy",
    "bare-loop": "the bare loop in C",
    "natmirror-0": "natmirror without mirrors",
}
_NOTHING = "-"
_MIN_FLOWS = 1000  # with fewer flows, one page of memory is more than all of them take


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a measure in the tables; the value is divided by ``scale``."""

    measure: str
    value: str
    title: str
    digits: int
    scale: float = 1.0


FIGURES = [
    Column("bulk", "gbit_per_s", "bulk, Gbit/s", 2),
    Column("packets", "packets_per_s", "small packets, k/s", 1, 1000),
    Column("connections", "connections_per_s", "connections, k/s", 2, 1000),
    Column("latency", "p50_us", "latency p50, µs", 0),
    Column("latency", "p99_us", "p99, µs", 0),
    Column("latency", "p999_us", "p99.9, µs", 0),
]
COSTS = [
    Column("bulk", "cpu_s_per_gb", "machine, s per GB", 2),
    Column("bulk", "program_s_per_gb", "program, s per GB", 2),
    Column("packets", "cpu_s_per_mpacket", "machine, s per million packets", 1),
    Column("packets", "program_s_per_mpacket", "program, s per million packets", 1),
    Column("packets", "mirrors_s_per_mpacket", "mirrors, s per million packets", 1),
    Column("connections", "cpu_us_per_connection", "machine, µs per connection", 0),
]
_GROWTH = [
    Column("", "open", "open", 0),
    Column("", "opened_per_s", "opened, k/s", 2, 1000),
    Column("", "resident_bytes", "resident, MB", 1, 1e6),
    Column("", "bytes_per_flow", "bytes per flow", 0),
    Column("", "idle_cpu_percent", "idle CPU, %", 2),
    Column("", "p50_us", "p50, µs", 0),
    Column("", "p99_us", "p99, µs", 0),
    Column("", "packets_per_s", "packets, k/s", 1, 1000),
]


def report(results: Results, plots: Sequence[str]) -> str:
    """Return the whole document; ``plots`` are names of files in its folder."""
    parts = ["# Benchmark", _intro(results), *(f"![{name.removesuffix('.png')}]({name})" for name in plots)]
    if results.samples:
        parts += ["## Figures", _HOW, _figures(results, FIGURES)]
        references = [name for name in REFERENCES if name in results.ways]
        parts += ["## Ratios", _RATIO] if references else []
        for name in references:
            parts += [f"### To {REFERENCES[name]}", _ratios(results, name)]
        parts += ["## Processor time", _COST, _figures(results, COSTS)]
    parts += _mirrors(results)
    if results.growth:
        parts += [
            "## Growth with the number of idle flows",
            _GROWN,
            _growth(results),
            *_compared(results),
            *_memory(results),
        ]
    if results.isolated:
        parts += ["## natmirror's C code alone", _ALONE, _alone(results.isolated)]
    if failures := results.failures():
        parts += ["## Failures", _listed(failures)]
    if results.notes:
        parts += ["## Complaints in the programs' logs", _listed(dict.fromkeys(f"`{note}`" for note in results.notes))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


_RATIO = "The median of each round's ratio. Above 1 is better for throughput, below 1 for latency."
_COST = """
*Machine* is the processor time of the whole machine during a measure, from /proc/stat: clients, servers, mirrors, the
kernel, and all other programs. *Program* is the time of the programs on the load-balancer host, *mirrors* that of the
mirrors' servers; both exclude the kernel's interrupts. The mirrors' servers share a core with the clients and the
backend, and slow them down by the time that they take."""
_LEDGER = """
natmirror's ledger, summed over all rounds and mirrors: the bytes that clients sent are acknowledged, pending, or lost
for a reason. *Wait* is the longest time that the mirrors needed after a measure to get the rest."""
_GROWN = """
Idle flows are established connections that have not sent a byte. *Resident* is the memory of the programs on the
load-balancer host, without the kernel's sockets and conntrack entries; *bytes per flow* is its growth since there
were no flows. *Idle CPU* is the part of one core that these programs take while no connection sends. Latency and
small packets are measured as above, over other connections, while the idle ones stay; small packets five times. The
bare loop in C has no flows: its loss is what the sockets of clients and servers cost the machine."""
_COMPARED = """
{contender} with {flows} idle flows and a second one with {few} ran on the same machine at the same time and were
measured in turn: the first passed {ratio:.2f} times the small packets of the second, by the median of {pairs} pairs."""
_ALONE = """
Without kernel, queue or Python, on one core; medians of several passes. 100,000 flows do not fit into the caches, so
each packet of another flow waits for memory."""
_INTRO = """
Measured {date} on {cpu}, {cores} cores{virtual}, {memory_gib} GiB, Linux {kernel}. {versions}.

Client, load-balancer host, backend and mirrors are network namespaces of this machine. They share its cores, and veth
pairs and two bridges connect them. All contenders were measured on the same path in the same run, in turn, {rounds}
times {seconds:g} s each; the figures are medians. A contender's programs are pinned to core {way_cores}, clients,
servers and mirrors to core {load_cores}; the kernel forwards a packet on the core where it was sent, or where its
verdict was given. Mirrors answer as the backend does, except for the one that only reads. Other programs on the machine
took {others} of a core during the measures. The run took {took_seconds:.0f} s. All samples are in benchmark.json."""
_HOW = f"""
*Bulk*: {BULK_CONNECTIONS} connections send as fast as they can, until the server has reported that all bytes have
arrived. *Small packets*: one 32-byte message at a time on each of {PACKETS_CONNECTIONS} connections, and its reply;
counted are the packets on the load-balancer host's link to the clients. *Connections*: connect, 32 bytes in each
direction, close; {OPENING_CONNECTIONS} at a time. *Latency*: {LATENCY_RATE} requests of 32 bytes a second over
{LATENCY_CONNECTIONS} connections, from sending a request to its complete reply, after a short warm-up."""


def _intro(results: Results) -> str:
    machine, settings = results.machine, results.settings
    others = sorted(sample.values["others_cores"] for sample in results.samples if "others_cores" in sample.values)
    return _INTRO.format_map(
        {
            **machine,
            **settings,
            "virtual": " of a virtual machine" if machine["virtual"] else "",
            "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
            **{key: ", ".join(map(str, settings[key])) for key in ("way_cores", "load_cores")},
            "others": f"{median(others):.2f} (at most {others[-1]:.2f})" if others else "an unknown fraction",
        }
    )


def _figures(results: Results, columns: Sequence[Column]) -> str:
    known = _known(results, columns)
    rows = [
        [title, *(_show(results.median(contender, column.measure, column.value), column) for column in known)]
        for contender, title in results.ways.items()
    ]
    return _table(["", *(column.title for column in known)], rows)


def _ratios(results: Results, other: str) -> str:
    known = _known(results, FIGURES)
    rows = []
    for contender, title in results.ways.items():
        ratios = (results.ratio(contender, other, column.measure, column.value) for column in known)
        rows.append([title, *(_NOTHING if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    return _table(["", *(column.title.partition(",")[0] for column in known)], rows)


def _known(results: Results, columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.measure in results.measures()]


def _alone(nanoseconds: dict[str, float]) -> str:
    rows = [
        [title, f"{nanoseconds[name]:,.0f}", f"{nanoseconds[name] / nanoseconds[YARDSTICK]:.1f}"]
        for name, title in TITLES.items()
    ]
    return _table(["", "ns", "in yardsticks"], rows)


def _mirrors(results: Results) -> list[str]:
    rows = []
    for contender, title in results.ways.items():
        for measure in results.measures():
            ledgers = [
                sample.ledger
                for sample in results.samples
                if (sample.way, sample.measure) == (contender, measure) and sample.ledger is not None
            ]
            if not ledgers:
                continue
            lost: Counter[str] = Counter()
            ended: Counter[str] = Counter()
            for ledger in ledgers:
                lost.update(ledger.lost_bytes)
                ended.update({reason: count for reason, count in ledger.legs_ended.items() if reason != "closed"})
            sums = [
                sum(ledger.client_bytes for ledger in ledgers),
                sum(ledger.acked_bytes for ledger in ledgers),
                sum(ledger.pending_bytes for ledger in ledgers),
            ]
            wait = max(ledger.wait_seconds for ledger in ledgers)
            rows.append(
                [title, measure, *(f"{value:,}" for value in sums), _reasons(lost), _reasons(ended), f"{wait:.2f}"]
            )
    if not rows:
        return []
    head = ["", "measure", "sent, bytes", "acknowledged", "pending", "lost", "legs that ended early", "wait, s"]
    return ["## The mirrors' ledger", _LEDGER, _table(head, rows)]


def _growth(results: Results) -> str:
    rows = []
    for step in results.growth:
        values = dict(step.values)
        if step.flows < _MIN_FLOWS:
            values.pop("bytes_per_flow", None)
        figures = (_show(values.get(column.value), column) for column in _GROWTH)
        rows.append([results.ways[step.way], f"{step.flows:,}", *figures, _ratio_to_few(results, step)])
    return _table(["", "idle flows", *(column.title for column in _GROWTH), f"ratio to {FEW} flows"], rows)


def _compared(results: Results) -> list[str]:
    """Return a sentence for each contender that was measured together with a second one with few flows."""
    return [
        _COMPARED.format(
            contender=results.ways[step.way],
            flows=f"{step.flows:,}",
            few=FEW,
            pairs=results.settings["growth_pairs"],
            ratio=ratio,
        )
        for step in results.growth
        if (ratio := step.values.get("of_few")) is not None
    ]


def _ratio_to_few(results: Results, step: Step) -> str:
    few = results.step(step.way, FEW)
    packets, of = step.values.get("packets_per_s"), few.values.get("packets_per_s") if few else None
    return f"{packets / of:.2f}" if packets and of else _NOTHING


def _memory(results: Results) -> list[str]:
    """Return the memory of flows and legs: a leg takes what a flow with a mirror takes more than a flow without."""
    rows = []
    for flows in dict.fromkeys(step.flows for step in results.growth):
        plain, mirrored = results.step("natmirror-0", flows), results.step("natmirror-1", flows)
        if flows < _MIN_FLOWS or plain is None or mirrored is None:
            continue
        per_flow, both = plain.values.get("bytes_per_flow"), mirrored.values.get("bytes_per_flow")
        if per_flow is not None and both is not None:
            rows.append([f"{flows:,}", f"{per_flow:,.0f}", f"{both - per_flow:,.0f}"])
    return ["natmirror's memory:", _table(["idle flows", "bytes per flow", "bytes per idle leg"], rows)] if rows else []


def _show(value: float | None, column: Column) -> str:
    return _NOTHING if value is None else f"{value / column.scale:,.{column.digits}f}"


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items())) or _NOTHING


def _listed(lines: Iterable[Any]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
