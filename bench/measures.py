"""The measures of a contender: throughput, small packets, new connections, latency, and their processor time."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.contenders import Contender, Natmirror, changes, ledger
from bench.counters import Usage
from bench.network import Network
from bench.results import Sample

BULK_CONNECTIONS = 4
PACKETS_CONNECTIONS = 64
OPENING_CONNECTIONS = 64
LATENCY_CONNECTIONS = 50
LATENCY_RATE = 1000
"""Requests per second."""

_GB = 1e9
_MEGA = 1e6

Loader = Callable[[Network, str, float], dict[str, float]]
Reader = Callable[[dict[str, float], Usage], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: ``load`` runs the load, ``read`` makes figures of its output and of the usage."""

    name: str
    title: str
    load: Loader
    read: Reader


def _bulk(network: Network, to: str, seconds: float) -> dict[str, float]:
    return network.measure("bulk", to, connections=BULK_CONNECTIONS, seconds=seconds)


def _read_bulk(got: dict[str, float], used: Usage) -> dict[str, float]:
    gigabytes = got["bytes"] / _GB
    return {
        "gbit_per_s": 8 * gigabytes / got["seconds"],
        "cpu_s_per_gb": used.machine / gigabytes,
        "program_s_per_gb": used.program / gigabytes,
    }


def _packets(network: Network, to: str, seconds: float) -> dict[str, float]:
    return network.measure("packets", to, connections=PACKETS_CONNECTIONS, seconds=seconds)


def _read_packets(got: dict[str, float], used: Usage) -> dict[str, float]:
    millions = used.packets / _MEGA
    return {
        "packets_per_s": used.packets / got["seconds"],
        "round_trips_per_s": got["round_trips"] / got["seconds"],
        "cpu_s_per_mpacket": used.machine / millions,
        "program_s_per_mpacket": used.program / millions,
        "mirrors_s_per_mpacket": used.mirrors / millions,
    }


def _connections(network: Network, to: str, seconds: float) -> dict[str, float]:
    return network.measure("connections", to, connections=OPENING_CONNECTIONS, seconds=seconds)


def _read_connections(got: dict[str, float], used: Usage) -> dict[str, float]:
    return {
        "connections_per_s": got["connections"] / got["seconds"],
        "errors": got["errors"],
        "unanswered": got["unanswered"],
        "p50_us": got["p50_us"],
        "p99_us": got["p99_us"],
        "cpu_us_per_connection": _MEGA * used.machine / max(1, got["connections"]),
    }


def _latency(network: Network, to: str, seconds: float) -> dict[str, float]:
    return network.measure("latency", to, connections=LATENCY_CONNECTIONS, seconds=seconds, rate=LATENCY_RATE)


def _read_latency(got: dict[str, float], used: Usage) -> dict[str, float]:
    return {
        **{key: got[key] for key in ("p50_us", "p99_us", "p999_us", "max_us", "late_p99_us")},
        "unanswered": got["unanswered"],
    }


MEASURES = [
    Measure("bulk", "bulk", _bulk, _read_bulk),
    Measure("packets", "small packets", _packets, _read_packets),
    Measure("connections", "new connections", _connections, _read_connections),
    Measure("latency", "latency", _latency, _read_latency),
]


def take(measure: Measure, contender: Contender, network: Network, seconds: float, sample: Sample) -> None:
    """Measure a running contender once, and write the figures into ``sample``; HostError where that fails."""
    contender.check()
    status = contender.status() if isinstance(contender, Natmirror) else None
    before = Usage.now(network.lab)
    got = measure.load(network, contender.target, seconds)
    used = Usage.now(network.lab).since(before)
    contender.check()
    values = {**measure.read(got, used), "others_cores": used.others_cores}
    sample.values = {key: round(value, 4) for key, value in values.items()}
    if isinstance(contender, Natmirror) and status is not None:
        after, waited = contender.settled()
        sample.counters = changes(status, after)
        sample.ledger = ledger(status, after, waited) if contender.mirrors else None
