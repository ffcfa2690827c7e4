"""Several active natmirrors behind ECMP routes, from 2 to 64, simulated; writes the tables of docs/scaling.md.

    python -m bench.scaling [--hosts N]... [--seed N] [--quick] [--output FILE]

Each number of hosts and each kind of router gets the same connections and the same mishaps. All of them come from the
seed, so two runs give the same tables.
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
"""Seconds until a record has reached every host."""
ROW_LEN, LEG_LEN = 230, 2170
"""Bytes of a flow and of an idle leg (docs/benchmark.md)."""
RECORD_LEN = len(json.dumps(["put", "flow openflow/10.10.0.11:40001", "10.20.0.12:6653"], separators=(",", ":")))
"""Bytes of a record that one host of a pair sends to the other."""
RECORD_MEMORY = 170
"""Bytes of a record in memory, as two strings in a dictionary, without its row."""
REFRESH = 300.0
"""Seconds after which each host writes all its records again, and all hosts read them."""
TITLES = {"modulo": "modulo", "threshold": "regions (Linux)", "resilient": "resilient"}
BEGIN, END = "<!-- made by make scaling -->", "<!-- end of what make scaling has made -->"
HEAD = (
    "| hosts | routes | moved at a change | moved ever | broken alone | with records | changes/s written, read"
    " | refreshes/s written, read | bytes/s read | burst | rows | kB | kB with legs |"
)
_DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
_OF_THE_POOL = {"down", "up", "drain", "undrain", "add", "remove"}


def simulate(
    hosts: int, router: str, workload: Workload, opened: Sequence[Connection], events: Sequence[Event], balance: Balance
) -> Outcome:
    """Simulate one fleet."""
    balancing = Balancing(workload.backends, balance, hosts)
    return Fleet(hosts, ROUTERS[router](range(hosts)), balancing, LAG).run(opened, events, workload.seconds)


def line(hosts: int, router: str, workload: Workload, outcome: Outcome) -> str:
    """Return one row of a table."""
    changes = outcome.record_changes / workload.seconds
    refreshes = outcome.record_seconds / workload.seconds / REFRESH
    memory = outcome.rows * ROW_LEN + outcome.max_records * (ROW_LEN + RECORD_MEMORY)
    cells = [
        str(hosts),
        TITLES[router],
        f"{statistics.mean(outcome.moves):.1%}",
        f"{outcome.moved / outcome.flows:.2%}",
        f"{outcome.broken_alone / outcome.flows:.3%}",
        f"{outcome.broken:,}",
        *(f"{each / hosts:.3f}, {each:.2f}" for each in (changes, refreshes)),
        f"{(changes + 2 * refreshes) * RECORD_LEN:,.0f}",
        *(f"{count:,}" for count in (outcome.burst, outcome.rows)),
        *(f"{size / 1e3:,.0f}" for size in (memory, memory + outcome.rows * LEG_LEN)),
    ]
    return "| " + " | ".join(cells) + " |"


def tables(workloads: Sequence[Workload], hosts: Sequence[int], seed: int) -> Iterator[str]:
    """Yield the lines that the document gets."""
    ruler = "|--:|---|" + "--:|" * (HEAD.count("|") - 3)
    for workload in workloads:
        opened = connections(workload, Random(f"{seed} {workload.name}"))
        days = {count: mishaps(workload, count, Random(f"{seed} mishaps")) for count in hosts}
        yield from (
            f"### {workload.name}",
            "",
            f"{workload.text}. {_mishaps_in_words(days[hosts[0]])}",
            "",
            HEAD,
            ruler,
        )
        for count in hosts:
            for router in ROUTERS:
                outcome = simulate(count, router, workload, opened, days[count], Balance.MAGLEV)
                yield line(count, router, workload, outcome)
        most = hosts[-1]
        quiet = [event for event in days[most] if event.what not in _OF_THE_POOL]
        outcome = simulate(most, "modulo", workload, opened, quiet, Balance.MAGLEV)
        yield ""
        yield (
            f"The same without any change of the pool, {most} hosts, modulo: {outcome.moved / outcome.flows:.2%} of"
            f" {outcome.flows:,} connections moved, {outcome.broken_alone} broken, {outcome.record_changes} records."
        )
        yield from ("", "With `balance: round-robin`:", "", HEAD, ruler)
        for count in hosts:
            outcome = simulate(count, "resilient", workload, opened, days[count], Balance.ROUND_ROBIN)
            yield line(count, "resilient", workload, outcome)
        yield ""


def _mishaps_in_words(events: Sequence[Event]) -> str:
    counts = {what: sum(event.what == what for event in events) for what in ("leaves", "down", "drain", "add")}
    return (
        f"In that time a host leaves and returns {counts['leaves']} times, a backend goes down {counts['down']} times"
        f" and is drained {counts['drain']} times, and {counts['add']} is added to the rules and removed again."
    )


def insert(document: str, text: str) -> str:
    """Return the document with the tables in their place.

    ValueError where the document has no place for them.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"has no place for the tables: the lines {BEGIN} and {END} are missing")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def shortened(workload: Workload) -> Workload:
    """Return a workload with a tenth of the connections."""
    return replace(workload, clients=workload.clients // 10, per_second=workload.per_second / 10)


@click.command()
@click.option(
    "--hosts",
    multiple=True,
    type=click.IntRange(2, 1024),
    help="Simulate only fleets of N hosts; may be repeated.",
    metavar="N",
)
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="Simulate a tenth of the connections, print the tables and write nothing.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=_DOCUMENT)
def main(hosts: tuple[int, ...], seed: int, quick: bool, output: Path) -> None:
    """Simulate fleets of hosts, and write the tables into docs/scaling.md."""
    document = output.read_text()
    try:
        insert(document, "")
    except ValueError as error:
        raise click.UsageError(f"{output} {error}") from None
    workloads = [OPENFLOW, HTTP]
    lines = []
    for text in tables([shortened(one) for one in workloads] if quick else workloads, hosts or HOSTS, seed):
        click.echo(text)
        lines.append(text)
    if not quick:
        output.write_text(insert(document, "\n".join(lines)))


if __name__ == "__main__":
    main()
