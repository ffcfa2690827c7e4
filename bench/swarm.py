"""A thousand OpenFlow switches at once, at a rate that their controller can sustain, with several load balancers.

    python -m bench.swarm [--switches N] [--rate PER_SECOND] [--rounds N] [--output DIR]

Controller and master are os-ken with a learning switch. For each contender it measures the latency of the replies to
PACKET_INs, as the switches see it, and the processor time of the program on the load-balancer host. Writes swarm.json
and swarm.md.
"""

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.machine import CONTENDER_CORES, LOAD_CORES, describe, running_on
from bench.network import raise_files_limit
from natmirror.errors import HostError
from natmirror.lab.controllers.programs import PORT, OsKen
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS, SERVICE, SWITCH_SIDE, Lab

_BACKEND = f"{CONTROLLER_SIDE}.{CONTROLLERS['c1']}"
_MASTER = f"{CONTROLLER_SIDE}.{CONTROLLERS['m']}"
_FIRST_SOURCE, _SOURCES = 120, 16
_MARGIN = 120.0  # seconds that a swarm may take besides its measure
_TICKS = 100.0  # of /proc/PID/stat in a second

RULES = f"""
switches: [{SWITCH_SIDE}.0/24]
services:
  - name: swarm
    address: {SERVICE}
    port: {PORT}
    pool: {{backends: [{{name: c1, address: {_BACKEND}}}]}}
"""
HAPROXY = f"""
global
  maxconn 5000
defaults
  mode tcp
  maxconn 5000
  timeout connect 5s
  timeout client 10m
  timeout server 10m
listen service
  bind {SERVICE}:{PORT} backlog 5000
  server c1 {_BACKEND}:{PORT}
"""
CONTENDERS = {
    "direct": "direct, no load balancer",
    "haproxy": "HAProxy, TCP mode",
    "nat": "natmirror, no mirror",
    "raw": "natmirror, a raw copy",
    "openflow": "natmirror, OpenFlow sessions",
}


@dataclass(slots=True)
class Sample:
    """One contender in one round: the swarm's report, and the contender's processor time."""

    way: str
    swarm: dict[str, Any]
    seconds: float
    program_s: float
    mirror: dict[str, Any] | None
    packet_ins: tuple[int, int]
    """The number that the backend and the master have seen."""


def measure(contender: str, switches: int, rate: int, seconds: float) -> Sample:
    """Measure one contender in a new lab; HostError where a program of the lab fails."""
    with Lab() as lab:
        for number in range(_SOURCES):
            lab.address("s1", "eth0", f"{SWITCH_SIDE}.{_FIRST_SOURCE + number}")
        with running_on(LOAD_CORES):
            backend, master = OsKen(lab, "c1"), OsKen(lab, "m")
        with running_on(CONTENDER_CORES):
            program, balancer = _start(lab, contender)
        words = ["--to", f"{_BACKEND if contender == 'direct' else SERVICE}:{PORT}", "--switches", str(switches)]
        words += ["--rate", str(rate), "--seconds", str(seconds), "--together"]
        words += ["--from", f"{SWITCH_SIDE}.{_FIRST_SOURCE}", "--sources", str(_SOURCES)]
        before = program_seconds(program)
        with running_on(LOAD_CORES):
            printed = lab.run("s1", [sys.executable, "-m", "natmirror.lab.swarm", *words], timeout=seconds + _MARGIN)
        cost = program_seconds(program) - before
        figures = json.loads(printed)
        mirror = None
        if balancer is not None:
            balancer.wait_until_acknowledged()
            mirror = next(iter(balancer.status()["mirrors"]), None)
            balancer.stop()
        counts = [program.program.text.count("packet-in ") for program in (backend, master)]
        return Sample(contender, figures, figures["up_seconds"] + seconds, cost, mirror, (counts[0], counts[1]))


def _start(lab: Lab, contender: str) -> tuple[Program | None, LoadBalancer | None]:
    if contender == "direct":
        return None, None
    if contender == "haproxy":
        config = lab.directory / "haproxy.cfg"
        config.write_text(HAPROXY)
        program = lab.start("lb", ["haproxy", "-db", "-f", str(config)])
        wait_listen(lab.ns("lb"), PORT)
        return program, None
    rules = lab.directory / "swarm.yaml"
    mirror = (
        "" if contender == "nat" else f"    mirrors: [{{name: master, address: {_MASTER}, protocol: {contender}}}]\n"
    )
    rules.write_text(RULES + mirror)
    balancer = LoadBalancer(lab, rules)
    return balancer.program, balancer


def program_seconds(program: Program | None) -> float:
    """Return the processor time that a program has taken."""
    if program is None:
        return 0.0
    fields = Path(f"/proc/{program.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def report(samples: list[Sample], machine: dict[str, Any], switches: int, rate: int) -> str:
    """Return the results as a Markdown document."""
    direct = statistics.median([sample.swarm["p50_ms"] for sample in samples if sample.way == "direct"] or [0.0])
    lines = [
        "# A swarm of OpenFlow switches",
        "",
        f"Measured {machine['date']} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}:"
        f" {switches} synthetic switches, {rate} PACKET_INs a second in total; controller and master are os-ken with a"
        f" learning switch. {len(samples) // len({sample.way for sample in samples})} rounds, in turn. The figures are"
        " medians; the worst latency is the maximum. A contender's programs have one core, controllers and switches"
        " share the other; with a master, two controllers run there.",
        "",
        "| | all connected, s | answered | p50, ms | added, ms | p99, ms | worst, ms | program, % of a core |"
        " connections lost | legs lost | PACKET_INs at backend and master |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for contender, title in CONTENDERS.items():
        mine = [sample for sample in samples if sample.way == contender]
        if not mine:
            continue

        def mid(name: str, mine: list[Sample] = mine) -> float:
            return float(statistics.median(sample.swarm[name] for sample in mine))

        answered = sum(sample.swarm["answered"] for sample in mine) / sum(sample.swarm["sent"] for sample in mine)
        share = statistics.median(100 * sample.program_s / sample.seconds for sample in mine)
        ended = [sample.mirror["legs_ended"] for sample in mine if sample.mirror]
        lost = sum(count for reasons in ended for reason, count in reasons.items() if reason != "closed")
        seen = [sum(column) for column in zip(*(sample.packet_ins for sample in mine), strict=True)]
        worst = max(sample.swarm["max_ms"] for sample in mine)
        cells = [
            title,
            f"{mid('up_seconds'):.2f}",
            f"{answered:.2%}",
            *(f"{value:.2f}" for value in (mid("p50_ms"), mid("p50_ms") - direct)),
            *(f"{value:.0f}" for value in (mid("p99_ms"), worst, share)),
            str(sum(sample.swarm["lost"] for sample in mine)),
            str(lost) if ended else "-",
            ", ".join(map(str, seen if ended else seen[:1])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--switches", default=1000, show_default=True)
@click.option("--rate", default=700, show_default=True, help="PACKET_INs a second, from all switches together.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--way", "ways", multiple=True, type=click.Choice(list(CONTENDERS)), help="Measure only this contender.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("docs"), show_default=True)
def main(switches: int, rate: int, rounds: int, seconds: float, ways: tuple[str, ...], output: Path) -> None:
    """Compare contenders between a thousand OpenFlow switches and their controller."""
    raise_files_limit()
    machine = describe()
    samples: list[Sample] = []
    try:
        for number in range(rounds):
            for contender in ways or CONTENDERS:
                samples.append(measure(contender, switches, rate, seconds))
                click.echo(f"round {number + 1}, {CONTENDERS[contender]}: {json.dumps(samples[-1].swarm)}", err=True)
    except HostError as error:
        sys.exit(f"swarm: {error}")
    output.mkdir(parents=True, exist_ok=True)
    text = report(samples, machine, switches, rate)
    (output / "swarm.md").write_text(text)
    plain = [{name: getattr(sample, name) for name in Sample.__slots__} for sample in samples]
    (output / "swarm.json").write_text(json.dumps({"machine": machine, "samples": plain}, indent=1) + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
