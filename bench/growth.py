"""Measures how memory, idle processor time, latency and throughput change with the number of idle flows."""

import time
from statistics import median

from bench.contenders import Contender, Natmirror
from bench.counters import Usage, resident_bytes
from bench.machine import CONTENDER_CORES, running_on
from bench.measures import MEASURES, Measure, take
from bench.network import Network
from bench.results import Sample, Step
from natmirror.errors import HostError
from natmirror.lab.process import Program, wait_for

GROWTH = "growth"
FEW = 10
"""The number of idle flows that others are compared with."""

_WARM_UP = 0.3
_SETTLE = 1.0
_LEGS_TIMEOUT = 20.0


def grow(
    contender: Contender, network: Network, steps: list[int], seconds: float, patience: float, samples: int
) -> list[Step]:
    """Start a contender and measure it with more and more idle flows; it keeps running afterwards.

    Each measure takes ``seconds``; opening the connections may take up to ``patience`` seconds. Packets are measured
    ``samples`` times, because a single sample varies with the machine more than with the number of flows. The first
    step that fails is the last one.
    """
    done: list[Step] = []
    held: list[Program] = []
    with running_on(CONTENDER_CORES):
        contender.start(network)
    _take("latency", contender, network, _WARM_UP)  # memory that a program takes only once must not count for flows
    empty = resident_bytes(network.lab)
    open_flows = 0
    for flows in steps:
        step = Step(contender.name, flows)
        done.append(step)
        try:
            wanted = min(flows, contender.max_flows())
            programs, opened, took = network.hold(contender.target, wanted - open_flows, patience)
            held += programs
            open_flows += opened
            step.values = {"open": open_flows, "opened_per_s": opened / took}
            if wanted < flows:
                step.failure = f"the limit of open files allows only {wanted:,} connections here"
            elif open_flows < flows:
                step.failure = f"only {open_flows:,} could be opened within {patience:g} s"
            step.values |= _measure_step(contender, network, open_flows, seconds, empty, samples)
            lost = [program.text.splitlines()[-1] for program in held if '"lost"' in program.text]
            if lost:
                step.failure = f"idle connections were lost: {', '.join(lost)}"
        except (HostError, OSError, ValueError, KeyError) as error:
            step.failure = str(error)
        if step.failure:
            break
    return done


def compare(
    contender: Contender, network: Network, few: Contender, its_network: Network, seconds: float, times: int
) -> float:
    """Return the packets of a contender with many idle flows, over those of an equal one with ``FEW`` idle flows.

    The ratio is the median of ``times`` pairs of samples in turn, because the machine's speed changes within a minute.
    """
    with running_on(CONTENDER_CORES):
        few.start(its_network)
    its_network.hold(few.target, FEW, _LEGS_TIMEOUT)
    time.sleep(_SETTLE)
    ratios = []
    for number in range(times):
        pair = [(contender, network), (few, its_network)]
        passed = {
            one: _take("packets", one, where, seconds)["packets_per_s"]
            for one, where in (pair if number % 2 else pair[::-1])
        }
        ratios.append(passed[contender] / passed[few])
    return median(ratios)


def _measure_step(
    contender: Contender, network: Network, flows: int, seconds: float, empty: int, samples: int
) -> dict[str, float]:
    if isinstance(contender, Natmirror) and contender.mirrors:
        wait_for(lambda: _legs(contender) >= flows * contender.mirrors, "the legs of all flows", _LEGS_TIMEOUT)
    time.sleep(_SETTLE)
    before = Usage.now(network.lab)
    time.sleep(seconds)
    used = Usage.now(network.lab).since(before)
    resident = resident_bytes(network.lab)
    latency = _take("latency", contender, network, seconds)
    packets = [_take("packets", contender, network, seconds)["packets_per_s"] for _ in range(samples)]
    return {
        "resident_bytes": resident,
        "bytes_per_flow": (resident - empty) / flows if flows else 0.0,
        "idle_cpu_percent": 100 * used.program / used.seconds,
        "p50_us": latency["p50_us"],
        "p99_us": latency["p99_us"],
        "packets_per_s": median(packets),
    }


def _legs(contender: Natmirror) -> int:
    return sum(int(mirror["legs"]) for mirror in contender.status()["mirrors"])


def _take(name: str, contender: Contender, network: Network, seconds: float) -> dict[str, float]:
    measure: Measure = next(measure for measure in MEASURES if measure.name == name)
    sample = Sample(contender.name, name, 0)
    take(measure, contender, network, seconds, sample)
    return sample.values
