"""The comparison of two commits: statistic, verdicts, pairs, the whole command, and that it leaves nothing behind."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from bench.compare import Comparison, choose, is_wanted, table
from bench.engine_driver import KINDS
from bench.gauges import EngineGauge, Gauge, InstructionsGauge, LiveGauge, Measure, all_gauges, dump_name, instructions
from bench.sides import REPOSITORY, TEMPORARY, ComparisonError, Side, export
from bench.verdicts import BAND, FIRST_VERDICT, Interval, Verdict, interval_of_median, is_decided, judge, judge_counts

DEADLINE = 60.0
FIRST_SLOWER = 11  # the fewest pairs with an interval of EARLY_LEVEL
ENGINE = [one.name.removeprefix("engine.") for one in EngineGauge().measures]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is missing")


# The statistic


@pytest.mark.parametrize(
    ("count", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (60, 22, 39)]
)
def test_interval_takes_the_ranks_of_the_sign_test(count: int, low: int, high: int) -> None:
    values = list(range(1, count + 1))
    random.Random(1).shuffle(values)
    assert interval_of_median(values) == Interval(low, (count + 1) / 2, high)


def test_few_values_give_no_interval() -> None:
    assert interval_of_median([]) is None
    assert interval_of_median([1.0] * 5) is None


def test_interval_encloses_the_true_median() -> None:
    chance = random.Random(1)
    inside = 0
    for _ in range(2000):
        found = interval_of_median([chance.lognormvariate(0, 0.5) for _ in range(20)])
        assert found
        inside += found.low <= 1 <= found.high
    assert inside >= 0.95 * 2000


def test_an_outlier_moves_nothing() -> None:
    calm = [1.0 + number / 1000 for number in range(-6, 6)]
    wild = [*calm[:-1], 50.0]
    assert judge(interval_of_median(calm)) is judge(interval_of_median(wild)) is Verdict.EQUAL


# The verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.99, 1.01, Verdict.EQUAL),
        (1 / BAND, BAND, Verdict.EQUAL),
        (1.001, 1.029, Verdict.EQUAL),  # it costs more, but within the band
        (1.031, 1.2, Verdict.SLOWER),
        (0.8, 0.97, Verdict.FASTER),
        (0.98, 1.04, Verdict.UNDECIDED),
        (1.01, 1.05, Verdict.UNDECIDED),  # it costs more, perhaps by more than 3 %
        (0.95, 0.99, Verdict.UNDECIDED),
        (0.9, 1.1, Verdict.UNDECIDED),
    ],
)
def test_verdict_says_where_the_interval_lies(low: float, high: float, verdict: Verdict) -> None:
    assert judge(Interval(low, (low + high) / 2, high)) is verdict


def test_sides_can_be_exchanged() -> None:
    opposite = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
    for low, high in ((0.99, 1.01), (1.04, 1.1), (0.98, 1.04), (0.9, 0.95)):
        there = judge(Interval(low, low, high))
        assert judge(Interval(1 / high, 1 / low, 1 / low)) is opposite.get(there, there)


def test_without_an_interval_nothing_is_decided() -> None:
    assert judge(None) is Verdict.UNDECIDED


def test_no_verdict_before_there_are_enough_pairs() -> None:
    assert not is_decided([1.0] * (FIRST_VERDICT - 1))
    assert is_decided([1.0] * FIRST_VERDICT)
    assert not is_decided([2.0] * (FIRST_SLOWER - 1))
    assert is_decided([2.0] * FIRST_SLOWER)
    assert not is_decided([0.5, 2.0] * FIRST_VERDICT)


@pytest.mark.parametrize(
    ("base", "new", "verdict"),
    [
        (1000, 1000, Verdict.EQUAL),
        (1000, 1009, Verdict.EQUAL),
        (1000, 1011, Verdict.SLOWER),
        (1000, 980, Verdict.FASTER),
    ],
)
def test_counts_are_compared_within_a_percent(base: float, new: float, verdict: Verdict) -> None:
    assert judge_counts(base, new) is verdict


def final_verdict(chance: random.Random, truth: float, scatter: float) -> Verdict:
    """Return the verdict of a comparison whose ratios scatter around a true one."""
    ratios: list[float] = []
    while len(ratios) < 60 and not is_decided(ratios):
        ratios.append(truth * chance.lognormvariate(0, scatter))
    return judge(interval_of_median(ratios))


@pytest.mark.parametrize("scatter", [0.01, 0.03, 0.1, 0.3])
def test_equal_sides_are_not_called_slower(scatter: float) -> None:
    chance = random.Random(1)
    verdicts = [final_verdict(chance, 1.0, scatter) for _ in range(1000)]
    assert verdicts.count(Verdict.SLOWER) < 10
    assert verdicts.count(Verdict.FASTER) < 10


def test_a_cost_higher_by_a_tenth_is_called_slower() -> None:
    chance = random.Random(1)
    verdicts = [final_verdict(chance, 1.1, 0.05) for _ in range(1000)]
    assert verdicts.count(Verdict.SLOWER) > 990
    assert verdicts.count(Verdict.EQUAL) == 0


def test_a_lower_speed_is_slower() -> None:
    assert Measure("speed", "1/s", is_speed=True).cost_ratio(110, 100) == pytest.approx(1.1)
    assert Measure("cost", "us").cost_ratio(100, 110) == pytest.approx(1.1)


# Pairs


class GivenFigures(Gauge):
    """A gauge with given figures."""

    name = "made"

    def __init__(self, *values: dict[str, list[float]], fails: int = 0, is_exact: bool = False) -> None:
        self.measures = [Measure(f"made.{name}", "us") for name in values[0]]
        self.is_exact = is_exact
        self.calls: list[str] = []
        self._values = dict(zip(("base", "new"), values, strict=True))
        self._fails = fails

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        self.calls.append(side.title)
        if self._fails:
            self._fails -= 1
            raise ComparisonError("it broke")
        turn = self.calls.count(side.title) - 1
        return {f"made.{name}": each[turn % len(each)] for name, each in self._values[side.title].items()}


def compared(gauge: Gauge, pairs: int = 60) -> Comparison:
    comparison = Comparison([Side("base", Path("b")), Side("new", Path("n"))], [gauge], [], lambda line: None)
    comparison.run(pairs)
    return comparison


def test_order_alternates_and_decided_measures_end_the_pairs() -> None:
    gauge = GivenFigures({"a": [100.0]}, {"a": [120.0]})
    comparison = compared(gauge)
    assert gauge.calls[:6] == ["base", "new", "new", "base", "base", "new"]
    assert len(gauge.calls) == 2 * FIRST_SLOWER
    assert comparison.rows["made.a"].verdict is Verdict.SLOWER
    assert comparison.status() == 1
    assert "slower: made.a" in table(comparison)


def test_a_decided_measure_drops_out_and_others_go_on() -> None:
    comparison = compared(GivenFigures({"a": [100.0], "b": [100.0]}, {"a": [100.0], "b": [80.0, 125.0]}), 30)
    assert comparison.rows["made.a"].verdict is Verdict.EQUAL
    assert len(comparison.rows["made.a"].base) == FIRST_VERDICT
    assert comparison.rows["made.b"].verdict is Verdict.UNDECIDED
    assert len(comparison.rows["made.b"].base) == 30
    assert comparison.status() == 0


def test_exact_measures_are_taken_once() -> None:
    gauge = GivenFigures({"a": [1000.0]}, {"a": [1020.0]}, is_exact=True)
    comparison = compared(gauge)
    assert gauge.calls == ["base", "new"]
    assert comparison.status() == 1
    assert "(exact)" in table(comparison)


def test_a_pair_that_fails_is_left_out() -> None:
    comparison = compared(GivenFigures({"a": [100.0]}, {"a": [100.0]}, fails=2))
    assert len(comparison.rows["made.a"].base) == FIRST_VERDICT
    assert comparison.status() == 0


def test_a_gauge_that_keeps_failing_is_given_up() -> None:
    comparison = compared(GivenFigures({"a": [100.0]}, {"a": [100.0]}, fails=100))
    assert comparison.given_up == ["made: it broke"]
    assert comparison.rows["made.a"].verdict is Verdict.UNDECIDED
    assert comparison.status() == 2
    assert "not measured: made: it broke" in table(comparison)


def test_a_measure_of_one_side_alone_is_given_up() -> None:
    comparison = compared(GivenFigures({"a": [100.0], "b": [100.0]}, {"a": [100.0]}))
    assert comparison.rows["made.a"].verdict is Verdict.EQUAL
    assert comparison.given_up == ["made.b: one side does not have this measure"]
    assert comparison.status() == 2


# What is measured


def test_names_are_chosen_by_their_beginning() -> None:
    assert is_wanted("live.natmirror-1.packets.cpu", [])
    assert is_wanted("live.natmirror-1.packets.cpu", ["live.natmirror-1.packets"])
    assert is_wanted("live.natmirror-1.packets", ["engine", "live"])
    assert not is_wanted("live.natmirror-1.packets", ["live.natmirror"])


def test_unknown_measures_are_refused() -> None:
    with pytest.raises(ComparisonError, match=r"no measure is called 'engine\.fortran'"):
        choose(all_gauges(1.0), ["engine.fortran"], lambda line: None)


def test_what_cannot_be_measured_is_left_out_unless_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    reported: list[str] = []
    assert "live" not in [gauge.name for gauge in choose(all_gauges(1.0), [], reported.append)]
    assert "live is left out: it needs root, for network namespaces" in reported
    with pytest.raises(ComparisonError, match="live: it needs root"):
        choose(all_gauges(1.0), ["live"], reported.append)


def test_instructions_are_those_that_python_calls_in_c() -> None:
    text = """desc: Trigger: Client Request: data
events: Ir
fn=receive
10 5
cfn=_cffi_f_nm_process
calls=2 20
11 900
fn=_cffi_f_nm_process
20 30
cfn=PyFloat_AsDouble
calls=2 1
21 40
cfn=nm_process
calls=2 50
22 600
fe=other.c
23 7
cfn=nm_out_clear
calls=2 60
24 20
fn=nm_process
50 100
cfn=nm_flow_touch
calls=2 70
51 500
"""
    assert dump_name(text) == "data"
    assert instructions(text) == 620


def test_the_driver_works_with_this_package() -> None:
    driver = str(REPOSITORY / "bench/engine_driver.py")
    done = subprocess.run([sys.executable, "-P", driver, "time"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ENGINE
    assert all(value > 0 for value in found.values())


class Here(Side):
    """A side with the interpreter that runs the tests."""

    @property
    def python(self) -> str:
        return sys.executable


@needs_valgrind
def test_instruction_counts_repeat(tmp_path: Path) -> None:
    for name in ("tmp", "tree"):
        (tmp_path / name).mkdir()
    first, second = (InstructionsGauge().take(Here("this", tmp_path / "tree"), []) for _ in range(2))
    assert list(first) == [f"instructions.{kind}" for kind in KINDS]
    assert all(abs(first[name] / second[name] - 1) < 0.005 for name in first)
    assert min(first.values()) > 100


def test_live_figures_are_read_from_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def benchmark(side: Side, *words: str) -> object:
        asked.extend(words)
        values = {"packets_per_s": 5e5, "cpu_s_per_mpacket": 3.0}
        return {"samples": [{"way": "natmirror-1", "measure": "packets", "values": values, "failure": None}]}

    monkeypatch.setattr("bench.gauges._benchmark", benchmark)
    found = LiveGauge(2.0).take(Side("base", Path("b")), ["live.natmirror-1.packets.cpu"])
    assert asked == ["--seconds", "2.0", "--way", "natmirror-1", "--only", "packets"]
    assert found == {"live.natmirror-1.packets": 5e5, "live.natmirror-1.packets.cpu": 3.0}


# The whole command, with a repository whose fake .venv/bin/python prints figures.json

SETUP = """#!/bin/sh
mkdir -p .venv/bin
echo '#!/bin/sh' >.venv/bin/python
echo 'cat figures.json' >>.venv/bin/python
chmod 755 .venv/bin/python
"""
SLOW_SETUP = """#!/bin/sh
mktemp >/dev/null
touch "$STARTED"
sleep 300
"""


def git(repository: Path, *words: str) -> str:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *names, *words], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repository: Path, cost: float, setup: str = SETUP) -> str:
    (repository / "scripts").mkdir(exist_ok=True)
    (repository / "scripts/setup").write_text(setup)
    (repository / "figures.json").write_text(json.dumps(dict.fromkeys(ENGINE, cost)))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", f"costs {cost}")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    (place / ".gitignore").write_text(".venv\n")
    return place


def start(repository: Path, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """Start the command with its own directory for temporary files."""
    place = repository.parent / "temporary"
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bench.compare", "--repository", str(repository), "--only", "engine", *words]
    env = {**os.environ, "TMPDIR": str(place), **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=pipe, stderr=pipe, text=True)


def finish(child: "subprocess.Popen[str]", repository: Path) -> tuple[int, str, str]:
    printed, complaints = child.communicate(timeout=DEADLINE)
    assert list((repository.parent / "temporary").iterdir()) == []
    return child.returncode, printed, complaints


@needs_git
def test_command_says_slower_and_exits_with_1(repository: Path) -> None:
    base, new = commit(repository, 100), commit(repository, 120)
    code, printed, complaints = finish(start(repository, "--base", base, "--new", new), repository)
    assert code == 1, complaints
    assert printed.count("1.200 [1.200, 1.200]") == len(ENGINE)
    assert "slower: engine.python.plain" in printed
    assert "costs 100" in complaints
    assert "costs 120" in complaints


@needs_git
def test_commit_is_equal_to_itself(repository: Path) -> None:
    commit(repository, 100)
    code, printed, complaints = finish(start(repository, "--base", "HEAD"), repository)
    assert code == 0, complaints
    assert f"0 slower, {len(ENGINE)} equal, 0 faster, 0 undecided" in printed


@needs_git
def test_work_tree_is_compared_as_it_is(repository: Path) -> None:
    commit(repository, 100)
    (repository / "figures.json").write_text(json.dumps(dict.fromkeys(ENGINE, 90)))
    code, printed, complaints = finish(start(repository, "--base", "HEAD"), repository)
    assert code == 0, complaints
    assert "faster: engine.python.plain" in printed
    assert "with uncommitted changes" in complaints


@needs_git
def test_work_tree_has_new_files_and_not_deleted_or_ignored_ones(repository: Path, tmp_path: Path) -> None:
    commit(repository, 100)
    (repository / "figures.json").unlink()
    (repository / "new").mkdir()
    (repository / "new/file").write_text("new")
    (repository / ".venv").mkdir()
    (repository / ".venv/file").write_text("built")
    export(None, tmp_path / "tree", repository)
    names = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    assert names == {".gitignore", "scripts/setup", "new/file"}


@needs_git
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--base", "nothing"], "compare: no commit is called 'nothing'"),
        (["--base", "-x"], "compare: no commit is called '-x'"),
        (["--base", "HEAD", "--new", "0123abc"], "compare: no commit is called '0123abc'"),
        (["--base", "HEAD", "--only", "speed"], "compare: no measure is called 'speed'; gauges: "),
    ],
)
def test_bad_input_is_one_line(repository: Path, words: list[str], complaint: str) -> None:
    commit(repository, 100)
    code, printed, complaints = finish(start(repository, *words), repository)
    assert (code, printed) == (2, "")
    assert complaints.startswith(complaint)
    assert complaints.count("\n") == 1


@needs_git
def test_a_build_that_fails_is_one_line(repository: Path) -> None:
    commit(repository, 100, "#!/bin/sh\necho setup: gcc is missing >&2\nexit 1\n")
    code, printed, complaints = finish(start(repository, "--base", "HEAD"), repository)
    assert (code, printed) == (2, "")
    assert complaints.splitlines()[-1].endswith("could not be built: sh scripts/setup: setup: gcc is missing")


@needs_git
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing_behind(repository: Path, number: signal.Signals) -> None:
    commit(repository, 100, SLOW_SETUP)
    started = repository.parent / "started"
    child = start(repository, "--base", "HEAD", STARTED=str(started))
    deadline = time.monotonic() + DEADLINE
    while not started.exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    assert [path.name.startswith(TEMPORARY) for path in (repository.parent / "temporary").iterdir()] == [True]
    child.send_signal(number)
    code, _, complaints = finish(child, repository)
    assert code == 130
    assert complaints.endswith("compare: interrupted\n")
    while sleeping_in(repository.parent / "temporary"):  # a program that was killed takes a moment to end
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sleeping_in(place: Path) -> list[str]:
    """Return the programs whose working directory is, or was, below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = os.readlink(entry)
        except OSError:
            continue  # it has ended, or is not ours
        if where.startswith(str(place)):
            found.append(str(entry))
    return found
