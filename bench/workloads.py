"""The events of a simulated day: the connections that clients open, and mishaps of hosts and backends.

All of them come from the given random numbers, so the same seed gives the same day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random

from bench.ecmp import HASH_BITS
from bench.fleet import Connection, Event
from natmirror.nat.schedulers import TABLE_SIZE, client_hash

_SIGMA = 1.5  # of the logarithm of short connections' lengths: one in a hundred is 30 times the median
_OUTAGES = 12  # host outages, one after the other; each lasts a sixtieth of the run
_FAILURES = 6  # backend outages, likewise; and as many drains, each twice as long
_NEWCOMER = ((0.3, "add"), (0.8, "remove"))  # a backend that is in the rules for half of the time


@dataclass(frozen=True, slots=True)
class Workload:
    """Connections of one kind."""

    name: str
    text: str
    seconds: float
    """How long it is simulated."""
    clients: int
    per_second: float
    """New connections of any client; 0: each client always has one connection, and opens the next when it ends."""
    mean_seconds: float
    """The mean life of a connection: exponential where clients always have one, else log-normal."""
    with_port: bool
    """Whether Maglev hashes the port too."""
    backends: int


OPENFLOW = Workload(
    "OpenFlow",
    "20,000 switches, each always connected; a connection lasts two days on average (exponential); one day; 8"
    " controllers, `hash: address`",
    seconds=86_400.0,
    clients=20_000,
    per_second=0.0,
    mean_seconds=172_800.0,
    with_port=False,
    backends=8,
)
HTTP = Workload(
    "HTTP",
    "60 new connections a second; a connection lasts 8 s on average, with a long tail (log-normal, median 2.6 s); one"
    " hour; 32 backends, `hash: address-port`",
    seconds=3_600.0,
    clients=50_000,
    per_second=60.0,
    mean_seconds=8.0,
    with_port=True,
    backends=32,
)


def connections(workload: Workload, random: Random) -> list[Connection]:
    """Return all connections that clients open."""
    if not workload.per_second:
        return [one for client in range(workload.clients) for one in _staying(workload, client, random)]
    found, now = [], random.expovariate(workload.per_second)
    while now < workload.seconds:
        lives = random.lognormvariate(log(workload.mean_seconds) - _SIGMA**2 / 2, _SIGMA)
        found.append(_connection(workload, random.randrange(workload.clients), now, lives, random))
        now += random.expovariate(workload.per_second)
    return found


def mishaps(workload: Workload, hosts: int, random: Random) -> list[Event]:
    """Return the mishaps in order: hosts leave and return, backends go down, are drained, added and removed. Two of one
    kind never overlap."""
    found: list[Event] = []
    for number in range(_OUTAGES):
        found += _outage(("leaves", "returns"), (number, _OUTAGES), hosts, 1 / 60, workload, random)
    for number in range(_FAILURES):
        found += _outage(("down", "up"), (2 * number, 2 * _FAILURES), workload.backends, 1 / 60, workload, random)
        found += _outage(
            ("drain", "undrain"), (2 * number + 1, 2 * _FAILURES), workload.backends, 1 / 30, workload, random
        )
    found += [Event(workload.seconds * share, what, workload.backends) for share, what in _NEWCOMER]
    return sorted(found, key=lambda event: event.at)


def _staying(workload: Workload, client: int, random: Random) -> list[Connection]:
    """Return the connections of a client that always has one."""
    found, now = [], random.uniform(0.0, 60.0)
    while now < workload.seconds:
        lives = random.expovariate(1 / workload.mean_seconds)
        found.append(_connection(workload, client, now, lives, random))
        now += lives + random.uniform(1.0, 5.0)
    return found


def _connection(workload: Workload, client: int, at: float, lives: float, random: Random) -> Connection:
    end = ((0x0A0A_0000 + client).to_bytes(4, "big"), random.randrange(32768, 61000))
    slot = client_hash(end, with_port=workload.with_port) % TABLE_SIZE
    return Connection(at, lives, slot, random.getrandbits(HASH_BITS))


def _outage(
    what: Sequence[str], part: tuple[int, int], among: int, share: float, workload: Workload, random: Random
) -> list[Event]:
    """Return the begin and the end of an outage that lasts a ``share`` of the whole time. It lies at random within one
    of several equal parts of that time, and concerns one of ``among`` hosts or backends."""
    number, parts = part
    length = workload.seconds / parts
    begin = (number + random.random() * (1 - share * parts)) * length
    chosen = int(random.random() * among)
    return [Event(begin, what[0], chosen), Event(begin + share * workload.seconds, what[1], chosen)]
