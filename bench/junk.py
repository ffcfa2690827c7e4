"""``python -m bench.junk``: the latency of clients while another one sends junk (root).

In the lab, all clients belong to one packet thread. For each kind of junk, the command measures

- the capacity: the highest rate at which natmirror's queue drops nothing, found in steps of a fifth, or what the lab
  can send, if that is less;
- the time between request and reply of clients that behave well: without junk, then with junk at half the capacity that
  the kernel drops before natmirror, then with the same junk for natmirror, and so on in turn. One ratio compares the
  last with the first. Another one compares the last two, because the sender takes time from the clients and servers
  too. Each is the median of each round's, the times are medians of all rounds;
- beside that, natmirror's part of it: the p99 of the time from a packet's arrival to its verdict, by natmirror's own
  histogram, so that only a bound is known. It covers junk too, which waits in the same queue;
- how much of natmirror's cores other programs took meanwhile. Rounds in which that was more than a twentieth are
  repeated; if there are not enough others, the least disturbed ones count;
- the clients' times with junk as fast as the lab can send it, without and with ``limit-per-client``.

Each measurement begins when the junk has lasted for half a second. natmirror has half of the cores, with the weight
that its unit gives it; the lab's programs share the others. There, clients and servers come first, then a sender that
keeps to a rate, then all other programs. Such a sender does not make up for a stop of its own: on a network, the rate
would be constant.

The command fails if a ratio is above 2, or a connection was lost.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bench.counters import core_seconds, program_seconds
from bench.junk_peers import KINDS, OVER, PORT, SENDER
from bench.machine import CONTENDER_CORES, LOAD_CORES, give_weight, running_on
from natmirror.api.client import ask
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.topology import SERVICE, Lab

_MAX_RATIO = 2.0
_LIMIT = 5000  # packets a second
_STEP = 0.8
_LOWEST_RATE = 100.0
_MAX_OTHERS = 0.05  # of the time of natmirror's cores
_MAX_TRIES = 3  # for a round without more of others
_MAX_WAITING = 1000  # packets in a queue that natmirror keeps up with
_SECONDS_OF_STEP = 1.0
_TIMEOUT = 60.0
_DROPPED_DSCP = 1
_DROP = (
    "table ip bench { chain early { type filter hook prerouting priority -400;"
    f" ip saddr {SENDER} ip dscp {_DROPPED_DSCP} drop; }}; }}"
)
"""Drops such junk before natmirror. It is there all the time, because natmirror reads the rules after each change."""
_RULES = f"""
threads: 1
metrics: 10.20.0.1:9653
switches: [10.10.0.0/24]
services:
  - name: echo
    address: {SERVICE}
    port: {PORT}
    pool: {{backends: [{{name: c1, address: 10.20.0.11}}, {{name: c2, address: 10.20.0.12}}]}}
    mirrors: [{{name: m, address: 10.20.0.13}}]
"""
_REPOSITORY = Path(__file__).parents[1]
_HEAD = (
    "| junk | capacity | half of it: sent | p50, quiet | p99, quiet | p99, dropped before | p99"
    " | ratio to quiet | to dropped before"
    " | natmirror's part | the same, dropped before | the same, quiet | others | lost"
    f" | highest rate: sent | p99 | with limit-per-client: {_LIMIT} | lost |\n" + "|---" * 18 + "|"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The time between request and reply in seconds, and the number of connections that were lost. ``added``: up to
    what bound 99 % of all packets waited for their verdicts, in seconds. ``others``: the part of the time for which
    other programs had natmirror's cores."""

    p50: float
    p99: float
    lost: int
    added: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """The figures for one kind of junk; rates are in packets a second. ``dropped``: with half the capacity that the
    kernel drops before natmirror; ``limited``: with limit-per-client."""

    kind: str
    capacity: float
    sent: float
    quiet: Sequence[Figures]
    dropped: Sequence[Figures]
    half: Sequence[Figures]
    highest_sent: float
    highest: Figures
    limited: Figures

    @property
    def ratios(self) -> dict[str, float]:
        """How many times longer the others' p99 is at half the capacity, by what it is compared with."""
        bases = {"without junk": self.quiet, "with junk that the kernel drops": self.dropped}
        return {
            name: statistics.median(junk.p99 / beside.p99 for beside, junk in zip(base, self.half, strict=True))
            for name, base in bases.items()
        }

    @property
    def lost(self) -> int:
        """The connections that were lost at half the capacity, or without junk."""
        return sum(figures.lost for figures in (*self.quiet, *self.dropped, *self.half))

    @property
    def lost_at_highest(self) -> int:
        return self.highest.lost + self.limited.lost

    def row(self) -> str:
        """Return a line of the table."""
        cells = [self.kind, f"{self.capacity:,.0f}", f"{self.sent:,.0f}"]
        cells += [_milliseconds(statistics.median(one.p50 for one in self.quiet))]
        measured = (self.quiet, self.dropped, self.half)
        cells += [_milliseconds(statistics.median(one.p99 for one in ones)) for ones in measured]
        cells += [f"{ratio:.1f}" for ratio in self.ratios.values()]
        cells += ["≤ " + _milliseconds(statistics.median(one.added for one in ones)) for ones in reversed(measured)]
        cells += [f"{max(one.others for ones in measured for one in ones):.0%}"]
        cells += [str(self.lost), f"{self.highest_sent:,.0f}"]
        cells += [_milliseconds(one.p99) for one in (self.highest, self.limited)] + [str(self.lost_at_highest)]
        return "| " + " | ".join(cells) + " |"

    def failures(self) -> Iterator[str]:
        """Yield what the command fails for."""
        for beside, ratio in self.ratios.items():
            if ratio > _MAX_RATIO:
                yield f"{self.kind}: p99 is {ratio:.1f} times as long as {beside}"
        if self.lost or self.lost_at_highest:
            yield f"{self.kind}: {self.lost + self.lost_at_highest} connections were lost"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


class Scene:
    """natmirror between clients that behave well and a host that sends one kind of junk."""

    def __init__(self, lab: Lab, kind: str, rules: str) -> None:
        self._lab = lab
        self._kind = kind
        file = lab.directory / "rules.yaml"
        file.write_text(rules)
        with running_on(CONTENDER_CORES):
            self._balancer = LoadBalancer(lab, file)
        give_weight(self._balancer.program.popen.pid)
        self._clients = _start(lab, "s2", "ask", stdin=-1)
        self._clients.wait_for_text("ready")

    def close(self) -> None:
        """End the clients and natmirror."""
        self._clients.end()
        self._balancer.stop()

    @contextmanager
    def junk(self, rate: float = 0.0, *, is_dropped: bool = False) -> Iterator[Program]:
        """Send junk at this rate, or as fast as possible, already for a while when the context begins. ``is_dropped``:
        the kernel drops it before natmirror."""
        sender = _start(self._lab, "s1", "send", self._kind, str(rate), str(_DROPPED_DSCP if is_dropped else 0))
        try:
            sender.wait_for_text("\n", _TIMEOUT)
            yield sender
        finally:
            sender.end()

    def ask(self, seconds: float) -> Figures:
        """Return the clients' figures."""
        with self._watched() as watched:
            self._begin(seconds)
        return watched.complete(self._figures())

    def ask_during_junk(self, seconds: float, rate: float = 0.0, *, is_dropped: bool = False) -> tuple[Figures, float]:
        """Return the clients' figures while junk is sent, and its rate. It ends before the last replies come.
        ``is_dropped``: the kernel drops it before natmirror."""
        with self.junk(rate, is_dropped=is_dropped) as sender, self._watched() as watched:
            self._begin(seconds)
            sent = _rate(sender)
        return watched.complete(self._figures()), sent

    @contextmanager
    def _watched(self) -> Iterator["Watched"]:
        """Yield what is known of natmirror while the clients ask, once the context has ended."""
        waits, began = self._waits(), time.monotonic()
        used, own = core_seconds(CONTENDER_CORES), program_seconds(self._lab, "lb")
        watched = Watched()
        yield watched
        others = core_seconds(CONTENDER_CORES) - used - (program_seconds(self._lab, "lb") - own)
        watched.others = max(0.0, others / len(CONTENDER_CORES) / (time.monotonic() - began))
        watched.added = p99_bound(waits, self._waits())

    def _waits(self) -> dict[str, int]:
        """Return natmirror's histogram of the time from packets' arrival to their verdicts."""
        return dict(ask("status", self._balancer.api)["machine"]["added_latency"]["at_most"])

    def _begin(self, seconds: float) -> None:
        """Have the clients send requests for this time."""
        stdin, count = self._clients.popen.stdin, self._clients.text.count(OVER)
        assert stdin is not None
        stdin.write(f"{seconds}\n".encode())
        stdin.flush()
        self._lines = len(self._clients.text.splitlines())
        wait_for(lambda: self._clients.text.count(OVER) > count, "the clients to ask", seconds + _TIMEOUT)

    def _figures(self) -> Figures:
        wait_for(lambda: self._clients.text.endswith("}\n"), "the last replies", _TIMEOUT)
        return Figures(**json.loads(self._clients.text.splitlines()[-1]))

    def capacity(self) -> float:
        """Return the highest rate of junk at which the queue drops nothing."""
        with self.junk() as sender:
            before = self._queue()
            time.sleep(_SECONDS_OF_STEP)
            rate = min(_rate(sender), (self._queue().received - before.received) / _SECONDS_OF_STEP)
        while not self._keeps_up(rate):
            rate *= _STEP
            if rate < _LOWEST_RATE:
                raise HostError(f"{self._kind}: the queue drops packets at every rate")
        return rate

    def _keeps_up(self, rate: float) -> bool:
        wait_for(lambda: not self._queue().waiting, "the queue to be empty", _TIMEOUT)
        with self.junk(rate):
            before = self._queue()
            time.sleep(_SECONDS_OF_STEP)
            after = self._queue()
        return after.dropped == before.dropped and after.waiting < _MAX_WAITING

    def _queue(self) -> "Queue":
        return Queue.parse(self._lab.run("lb", ["cat", "/proc/net/netfilter/nfnetlink_queue"]))


@dataclass(slots=True)
class Watched:
    """What Figures say of natmirror, see there."""

    added: float = 0.0
    others: float = 0.0

    def complete(self, figures: Figures) -> Figures:
        """Return the clients' figures with these."""
        return replace(figures, added=self.added, others=self.others)


@dataclass(frozen=True, slots=True)
class Queue:
    """What the kernel counts of natmirror's queue, in packets."""

    waiting: int
    dropped: int
    received: int

    @classmethod
    def parse(cls, text: str) -> "Queue":
        """Read the first line of /proc/net/netfilter/nfnetlink_queue: number, port id, waiting packets, copy mode and
        range, dropped ones (queue full, socket full), last packet's id."""
        _, _, waiting, _, _, full, refused, last, *_ = map(int, text.split())
        return cls(waiting, full + refused, last)


def p99_bound(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Return the bound in seconds that 99 % of the durations between two states of a histogram did not exceed; infinity
    if there is none."""
    counts = {limit: count - before[limit] for limit, count in after.items()}
    return next(float(limit) for limit, count in counts.items() if count >= 0.99 * counts["+Inf"])


def _start(lab: Lab, host: str, *words: str, **options: int) -> Program:
    command = [sys.executable, "-m", "bench.junk_peers", *words]
    return lab.start(host, command, name=words[0], cwd=_REPOSITORY, **options)


def _rate(sender: Program) -> float:
    return float(sender.text.split()[-1])


def measure(lab: Lab, kind: str, rounds: int, seconds: float) -> Result:
    """Return the figures for one kind of junk."""
    scene = Scene(lab, kind, _RULES)
    capacity, sent, found = scene.capacity(), 0.0, list[tuple[Figures, ...]]()
    while len(found) < _MAX_TRIES * rounds and sum(map(_is_undisturbed, found)) < rounds:
        beside = scene.ask(seconds), scene.ask_during_junk(seconds, capacity / 2, is_dropped=True)[0]
        figures, sent = scene.ask_during_junk(seconds, capacity / 2)
        found.append((*beside, figures))
    found = sorted(found, key=_others)[:rounds]
    highest, highest_sent = scene.ask_during_junk(seconds)
    scene.close()
    scene = Scene(lab, kind, f"limit-per-client: {_LIMIT}\n{_RULES}")
    limited, _ = scene.ask_during_junk(seconds)
    scene.close()
    quiet, dropped, half = ([one[which] for one in found] for which in range(3))
    return Result(kind, capacity, sent, quiet, dropped, half, highest_sent, highest, limited)


def _others(figures: Sequence[Figures]) -> float:
    return max(one.others for one in figures)


def _is_undisturbed(figures: Sequence[Figures]) -> bool:
    return _others(figures) <= _MAX_OTHERS


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds of quiet and junk.")
@click.option("--seconds", default=3.0, show_default=True, help="Duration of one measurement.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Measure this kind only; repeatable."
)
def main(rounds: int, seconds: float, kinds: Sequence[str]) -> None:
    """Measure the latency of clients while another one sends junk."""
    failures: list[str] = []
    try:
        with running_on(LOAD_CORES), Lab(switches=2) as lab:
            lab.run("lb", ["nft", _DROP])
            for host in ("c1", "c2", "m"):
                _start(lab, host, "serve")
                wait_listen(lab.ns(host), PORT)
            click.echo(_HEAD)
            for kind in kinds or KINDS:
                result = measure(lab, kind, rounds, seconds)
                click.echo(result.row())
                failures += result.failures()
    except HostError as error:
        raise click.ClickException(str(error)) from None
    if failures:
        raise click.ClickException("; ".join(failures))
    click.echo(f"No ratio is above {_MAX_RATIO:g}, and no connection was lost.")


if __name__ == "__main__":
    main()
