"""Several active natmirrors behind ECMP routes, from 2 to 64, simulated; writes the tables of docs/scaling.md.

    python -m bench.scaling [--hosts N]... [--seed N] [--quick] [--output FILE]

The same connections and the same mishaps for each number of hosts and each kind of router. Everything comes from the
seed: two runs give the same tables.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import click

from bench.ecmp import ROUTERS
from bench.fleet import Balancing, Connection, Event, Fleet, Outcome
from bench.workloads import HTTP, OPENFLOW, Workload, connections, mishaps
from natmirror.rules import Balance

HOSTS = (2, 4, 8, 16, 32, 64)
LAG = 0.05
"""Seconds until a record is on every host."""
ROW_LEN, LEG_LEN = 230, 2170
"""What a connection and an idle leg take (docs/benchmark.md)."""
RECORD_LEN = len(json.dumps(["put", "flow openflow/10.10.0.11:40001", "10.20.0.12:6653"], separators=(",", ":")))
"""A record under way, as a pair's hosts tell it to each other."""
RECORD_MEMORY = 170
"""The same as two strings in a dictionary, beside its row."""
REFRESH = 300.0
"""Seconds after which all records are written anew, and read by everybody."""
TITLES = {"modulo": "modulo", "threshold": "regions (Linux)", "resilient": "resilient"}
BEGIN, END = "<!-- made by make scaling -->", "<!-- end of what make scaling has made -->"
HEAD = (
    "| hosts | routes | moved at a change | moved ever | broken alone | with records | changes/s written, heard"
    " | anew/s written, heard | bytes/s heard | burst | rows | kB | kB with legs |"
)
_DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
_POOL = {"down", "up", "drain", "undrain", "add", "remove"}


def simulate(
    hosts: int, router: str, workload: Workload, plans: Sequence[Connection], events: Sequence[Event], balance: Balance
) -> Outcome:
    """One fleet through one day."""
    balancing = Balancing(workload.backends, balance, hosts)
    return Fleet(hosts, ROUTERS[router](range(hosts)), balancing, LAG).run(plans, events, workload.seconds)


def line(hosts: int, router: str, workload: Workload, outcome: Outcome) -> str:
    """One row of a table."""
    heard = outcome.records / workload.seconds
    anew = outcome.held_seconds / workload.seconds / REFRESH
    kept = outcome.rows * ROW_LEN + outcome.held * (ROW_LEN + RECORD_MEMORY)
    cells = [
        str(hosts),
        TITLES[router],
        f"{statistics.mean(outcome.moves):.1%}",
        f"{outcome.moved / outcome.flows:.2%}",
        f"{outcome.broken_alone / outcome.flows:.3%}",
        f"{outcome.broken:,}",
        *(f"{each / hosts:.3f}, {each:.2f}" for each in (heard, anew)),
        f"{(heard + 2 * anew) * RECORD_LEN:,.0f}",
        *(f"{count:,}" for count in (outcome.burst, outcome.rows)),
        *(f"{size / 1e3:,.0f}" for size in (kept, kept + outcome.rows * LEG_LEN)),
    ]
    return "| " + " | ".join(cells) + " |"


def tables(workloads: Sequence[Workload], hosts: Sequence[int], seed: int) -> Iterator[str]:
    """All that is written into the document, line by line."""
    ruler = "|--:|---|" + "--:|" * (HEAD.count("|") - 3)
    for workload in workloads:
        plans = connections(workload, Random(f"{seed} {workload.name}"))
        days = {count: mishaps(workload, count, Random(f"{seed} mishaps")) for count in hosts}
        yield from (f"### {workload.name}", "", f"{workload.text}. {_told(days[hosts[0]])}", "", HEAD, ruler)
        for count in hosts:
            for router in ROUTERS:
                outcome = simulate(count, router, workload, plans, days[count], Balance.MAGLEV)
                yield line(count, router, workload, outcome)
        most = hosts[-1]
        quiet = [event for event in days[most] if event.what not in _POOL]
        outcome = simulate(most, "modulo", workload, plans, quiet, Balance.MAGLEV)
        yield ""
        yield (
            f"The same without any change of the pool, {most} hosts, modulo: {outcome.moved / outcome.flows:.2%} of"
            f" {outcome.flows:,} connections moved, {outcome.broken_alone} broken, {outcome.records} records."
        )
        yield from ("", "With `balance: round-robin`:", "", HEAD, ruler)
        for count in hosts:
            outcome = simulate(count, "resilient", workload, plans, days[count], Balance.ROUND_ROBIN)
            yield line(count, "resilient", workload, outcome)
        yield ""


def _told(events: Sequence[Event]) -> str:
    counts = {what: sum(event.what == what for event in events) for what in ("leaves", "down", "drain", "add")}
    return (
        f"Meanwhile {counts['leaves']} times a host leaves and returns, {counts['down']} times a backend goes down,"
        f" {counts['drain']} times one is drained, and {counts['add']} is put into the rules and taken out again."
    )


def insert(document: str, text: str) -> str:
    """The document with the tables in their place; ValueError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"has no place for the tables: the lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def quickened(workload: Workload) -> Workload:
    """A tenth of a workload."""
    return replace(workload, clients=workload.clients // 10, per_second=workload.per_second / 10)


@click.command()
@click.option("--hosts", multiple=True, type=click.IntRange(2, 1024), help="Of so many hosts only; may be repeated.")
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="A tenth of the connections; prints the tables and writes nothing.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=_DOCUMENT)
def main(hosts: tuple[int, ...], seed: int, quick: bool, output: Path) -> None:
    """Simulate fleets of natmirrors, and write the tables into docs/scaling.md."""
    document = output.read_text()
    try:
        insert(document, "")
    except ValueError as error:
        raise click.UsageError(f"{output} {error}") from None
    workloads = [OPENFLOW, HTTP]
    lines = []
    for text in tables([quickened(one) for one in workloads] if quick else workloads, hosts or HOSTS, seed):
        click.echo(text)
        lines.append(text)
    if not quick:
        output.write_text(insert(document, "\n".join(lines)))


if __name__ == "__main__":
    main()
