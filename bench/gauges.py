"""The four gauges of a comparison. Each runs programs of one side and returns figures by name."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.engine_driver import KINDS
from bench.isolated import ISOLATED, TITLES
from bench.sides import ComparisonError, Side, run
from bench.verdicts import BAND

_HERE = Path(__file__).parent
_TIMEOUT = 600.0

_TOO_SHORT = ("parse",)  # takes 2 ns, and is reported in tenths of ns
_CONTENDERS = ("natmirror-0", "natmirror-1")
# For each measure of the benchmark: a speed with its unit, and the whole machine's processor time with its unit.
_LIVE = {
    "bulk": ("gbit_per_s", "Gbit/s", "cpu_s_per_gb", "s/GB"),
    "packets": ("packets_per_s", "packets/s", "cpu_s_per_mpacket", "s/Mpacket"),
    "connections": ("connections_per_s", "conn/s", "cpu_us_per_connection", "us/conn"),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure. Higher is better for a speed, lower for everything else."""

    name: str
    unit: str
    is_speed: bool = False
    band: float = BAND
    """The ratio of costs up to which two sides count as equal."""

    def cost_ratio(self, base: float, new: float) -> float:
        """Return the new side's cost as a multiple of the base's."""
        return base / new if self.is_speed else new / base


class Gauge:
    """One way to measure. The names of its measures begin with its own name and a dot."""

    name: str
    measures: list[Measure]
    is_exact = False
    needs_bench = False
    """Whether the packages that a side's benchmark needs have to be installed."""

    def obstacle(self) -> str | None:
        """Return why this machine cannot be measured with it, or None."""
        return None

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        """Measure a side once; return figures by name, the ``wanted`` ones among them. ComparisonError where it
        fails."""
        raise NotImplementedError


class EngineGauge(Gauge):
    """An engine in one process, in both gears: the thread's CPU time (engine_driver.py)."""

    name = "engine"

    def __init__(self) -> None:
        self.measures = [
            Measure(f"engine.{gear}.{kind}", "us") for gear in ("python", "c") for kind in (*KINDS, "connection")
        ]

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        # A new process each time: the layout of its memory is chance, which must not decide a whole comparison.
        # -P keeps the driver's own directory off sys.path: its modules belong to the new tree, not to the one measured.
        printed = run([side.python, "-P", str(_HERE / "engine_driver.py"), "time"], side.tree, timeout=_TIMEOUT)
        return {f"engine.{name}": value for name, value in json.loads(printed).items()}


class InstructionsGauge(Gauge):
    """Instructions of the C code per packet, counted by valgrind's callgrind. The count is the same each time, whatever
    the caches hold and whatever else the machine does."""

    name = "instructions"
    is_exact = True

    def __init__(self) -> None:
        self.measures = [Measure(f"instructions.{kind}", "instr") for kind in KINDS]

    def obstacle(self) -> str | None:
        return None if shutil.which("valgrind") else "valgrind is missing: scripts/setup --bench installs it"

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=side.tree.parent) as place:
            marks, out = Path(place, "marks.so"), Path(place, "counts")
            source = str(_HERE / "callgrind_marks.c")
            run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(marks), source], side.tree, timeout=_TIMEOUT)
            valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--vgdb=no", "--instr-atstart=no"]
            plain = ["--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={out}"]
            driver = [side.python, "-P", str(_HERE / "engine_driver.py"), "count", str(marks)]
            # Python's hashes and the layout of memory are the same in each run.
            printed = run(["env", "PYTHONHASHSEED=0", *valgrind, *plain, *driver], side.tree, timeout=_TIMEOUT)
            packets = json.loads(printed)
            found = {}
            for dump in sorted(Path(place).glob("counts.*")):
                text = dump.read_text()
                kind = dump_name(text)
                if kind in packets:
                    found[f"instructions.{kind}"] = instructions(text) / packets[kind]
        if not all(found.get(measure.name) for measure in self.measures):
            raise ComparisonError("callgrind found no C functions of natmirror: is the extension stripped?")
        return found


def dump_name(text: str) -> str:
    """Return the name in a dump of callgrind, as count_end() gave it."""
    _, _, rest = text.partition("desc: Trigger: Client Request: ")
    return rest.partition("\n")[0]


def instructions(text: str) -> int:
    """Return the instructions of natmirror's C functions and their callees in a dump of callgrind.

    Every call from cffi's wrappers, ``_cffi_f_NAME``, to ``nm_*`` counts. So the names and the number of the functions
    that Python calls do not matter. The format: valgrind's manual, "Callgrind Format Specification".
    """
    total, caller, callee = 0, "", ""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("fn="):
            caller = line[3:]
        elif line.startswith("cfn="):
            callee = line[4:]
        elif line.startswith("calls="):
            cost = next(lines).split()[-1]
            if caller.startswith("_cffi_f_") and callee.startswith("nm_"):
                total += int(cost)
    return total


class CodeGauge(Gauge):
    """The C code alone, by a side's own benchmark: nanoseconds, also for packets that wait for memory."""

    name = "code"
    needs_bench = True

    def __init__(self) -> None:
        self.measures = [Measure(f"code.{name}", "ns") for name in TITLES if name not in _TOO_SHORT]

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        results = _benchmark(side, "--seconds", "1", "--only", ISOLATED)
        return {f"code.{name}": value for name, value in results["isolated"].items()}


class LiveGauge(Gauge):
    """natmirror between network namespaces, by a side's own benchmark."""

    name = "live"
    needs_bench = True

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.measures = []
        for contender in _CONTENDERS:
            for measure, (_, unit, _, cost_unit) in _LIVE.items():
                name = f"live.{contender}.{measure}"
                self.measures += [Measure(name, unit, is_speed=True), Measure(f"{name}.cpu", cost_unit)]

    def obstacle(self) -> str | None:
        return None if os.geteuid() == 0 else "it needs root, for network namespaces"

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        chosen = [
            (contender, measure)
            for contender in _CONTENDERS
            for measure in _LIVE
            if _covers(wanted, f"live.{contender}.{measure}")
        ]
        words = ["--seconds", str(self._seconds)]
        for contender in dict.fromkeys(contender for contender, _ in chosen):
            words += ["--way", contender]
        for measure in dict.fromkeys(measure for _, measure in chosen):
            words += ["--only", measure]
        found: dict[str, float] = {}
        for sample in _benchmark(side, *words)["samples"]:
            if sample["failure"]:
                raise ComparisonError(f"{sample['way']}, {sample['measure']}: {sample['failure']}")
            name = f"live.{sample['way']}.{sample['measure']}"
            speed, _, cost, _ = _LIVE[sample["measure"]]
            found |= {name: sample["values"][speed], f"{name}.cpu": sample["values"][cost]}
        return found


def _benchmark(side: Side, *words: str) -> Any:
    with tempfile.TemporaryDirectory(dir=side.tree.parent) as place:
        run([side.python, "-m", "bench", "--rounds", "1", *words, "--output", place], side.tree, timeout=_TIMEOUT)
        return json.loads(Path(place, "benchmark.json").read_text())


def _covers(wanted: Collection[str], name: str) -> bool:
    return any(one == name or one.startswith(f"{name}.") for one in wanted)


def all_gauges(seconds: float) -> list[Gauge]:
    """Return all gauges, the quick ones first."""
    return [InstructionsGauge(), EngineGauge(), CodeGauge(), LiveGauge(seconds)]
