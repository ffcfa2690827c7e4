"""The stage on which faults are planted: a natmirror with a mirror and health checks, clients that talk, and what each
fault costs them."""

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from natmirror.api.client import ask
from natmirror.errors import HostError
from natmirror.ha import exit_codes, keepalived_hooks
from natmirror.lab.process import PATIENCE, wait_for, wait_listen
from natmirror.lab.topology import SERVICE
from tests.live.core_waits import CoreWaits
from tests.live.faults.fault import Fault, Loss
from tests.live.scene import CLIENTS, PORT, ROOT, RULES, Scene

_RULES = RULES.read_text().replace(
    "balance: maglev", "balance: round-robin\n      health: {check: tcp, interval: 500ms, timeout: 300ms, fall: 2}"
)
_JUDGED = f"""
  - name: judged
    address: {SERVICE}
    port: 6654
    pool: {{backends: [{{name: judged, address: 10.20.0.40, port: {PORT}}}]}}
    mirrors:
      - {{name: candidate, address: 10.20.0.41, port: {PORT}, protocol: openflow, verdict: on, warm-up: 0s}}
"""
"""A service of OpenFlow switches, with a master that is compared with production."""
SOURCES = CLIENTS[:2]
# Seconds
SEEN_WITHIN = 5.0
"""On a quiet machine."""
_SEEN_AT_LAST = 30.0
"""natmirror looks less often where its looks take long."""
_GONE_WITHIN = PATIENCE
_ALL_GONE_WITHIN = 60.0
"""A backend that left SYNs unanswered is a finding until a client tries it again: within AVOID_TIMEOUT."""
_CHECKS_TO_ASK_AGAIN = 6
"""Every 0.5 s: a mirror that was silent for some seconds is asked again within a quarter of that, and its answer counts
after another check."""
_SLOW = 1.0
"""An answer that takes longer has waited for a retransmission, or its programs for a core."""


@dataclass
class Outcome:
    """What became of a planted fault. The times are monotonic."""

    fault: Fault
    planted_at: float
    seen_at: float | None = None
    ended_at: float = 0.0
    shown: list[str] = field(default_factory=list)
    by_doctor: list[dict[str, Any]] = field(default_factory=list)
    after_fix: list[dict[str, Any]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    is_unfit: bool = False
    has_recovered: bool = False
    lost_copies: int = 0
    connections_lost: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    calls_failed: int = 0
    has_lost_calls: bool = False
    """Whether a new connection failed for another reason than the lack of a core."""
    slowest: float = 0.0
    lost_afterwards: list[dict[str, Any]] = field(default_factory=list)
    without_core: float = 0.0
    """For how long the programs of production have waited for a core, until the next fault is planted, in seconds."""

    def mistakes(self, seen_within: float = _SEEN_AT_LAST) -> list[str]:
        """Return in what this differs from what the fault's row says; it has to be seen within this time in seconds."""
        fault, found = self.fault, []
        if self.seen_at is None or self.seen_at - self.planted_at > seen_within:
            found.append(f"not seen within {seen_within:g} s")
        if not any(fault.remedy in text for text in self.shown):
            found.append("no such remedy")
        named = {one["code"] for one in self.by_doctor}
        if not fault.is_named_by(named) or not any(
            fault.remedy in f"{one['problem']}; {one['mend']}" for one in self.by_doctor
        ):
            found.append(f"doctor names {named}")
        if fault.fix and fault.fix not in {" ".join(one["fix"]) for one in self.by_doctor}:
            found.append("doctor does not mend it")
        if {one["code"] for one in self.after_fix} & fault.possible_codes():
            found.append("doctor has not mended it")
        if self.is_unfit != fault.stops_production and not fault.repairs:  # it is unfit until the repair is noticed
            found.append("unfit" if self.is_unfit else "fit")
        if not self.down <= {*fault.blames}:
            found.append(f"down: {self.down}")
        if not self.has_recovered:
            found.append("not all connections go on afterwards")
        if fault.keeps_copies and self.lost_copies:
            found.append(f"{self.lost_copies} bytes of copies lost")
        may_lose = Loss.TIME if fault.stops_production and fault.loses is Loss.NOTHING else fault.loses
        if may_lose is not Loss.CONNECTIONS and self.connections_lost:
            found.append(f"connections lost: {self.connections_lost}")
        if may_lose is Loss.NOTHING and (self.has_lost_calls or self.slowest > _SLOW + self.without_core):
            found.append("production has lost something")
        if self.lost_afterwards:
            found.append(f"lost after its end, at {self.ended_at:.3f}: {self.lost_afterwards}")
        return [*found, f"{self.without_core:.2f} s without a core", str(self.shown)] if found else []

    def add_up(self, events: Sequence[dict[str, Any]], until: float) -> None:
        """Note what the clients have lost by this fault; the next one was planted at ``until``."""
        settled_at = self.ended_at + self.fault.settles
        for event in events:
            began, took = event["began"], event["took"]
            if began <= settled_at and began + took >= self.planted_at:
                self.slowest = max(self.slowest, took if event["kind"] == "echo" else 0.0)
                self.connections_lost += [event] if event["kind"] == "loss" else []
                self.calls += event["kind"] == "call"
                is_failed = event["kind"] == "call" and bool(event["error"])
                self.calls_failed += is_failed
                self.has_lost_calls |= is_failed and self._is_lost(event)
            elif settled_at < began and began + took < until and self._is_lost(event):
                self.lost_afterwards.append(event)

    def _is_lost(self, event: dict[str, Any]) -> bool:
        """Return whether a connection failed, or an answer came late, for another reason than the lack of a core."""
        if event["error"] and not (event["kind"] == "call" and event["error"].startswith("TimeoutError")):
            return True
        return bool(event["took"] > _SLOW + self.without_core)

    def row(self) -> list[str]:
        """Return the figures as the cells of a table."""
        seen = "never" if self.seen_at is None else f"{self.seen_at - self.planted_at:.1f}"
        return [
            self.fault.name,
            ", ".join(self.fault.codes),
            seen,
            f"{self.ended_at - self.planted_at:.1f}" if self.fault.repairs else "-",
            f"{self.slowest:.2f}",
            str(len(self.connections_lost)),
            f"{self.calls_failed} of {self.calls}",
            str(len(self.lost_afterwards)),
            f"{self.without_core:.2f}",
        ]


HEADINGS = (
    *("fault", "findings", "seen after (s)", "repaired after (s)", "slowest answer (s)"),
    *("connections lost", "new connections failed", "lost afterwards", "without a core (s)"),
)


class Stage:
    """A natmirror that uses this iptables, its lab, and the traffic that these faults need."""

    def __init__(self, scene: Scene, iptables: str, faults: Sequence[Fault]) -> None:
        self._scene = scene
        has_master = any(fault.ends_verdicts for fault in faults)
        backends = scene.record("c1", "c2", "m")
        # A rule of another program in a table that natmirror does not use
        scene.lab.run("lb", ["iptables-nft", "-t", "nat", "-A", "PREROUTING", "-s", "192.0.2.1", "-j", "ACCEPT"])
        if has_master:
            self._start_controllers()
        rules = scene.rules(_RULES + _JUDGED * has_master)
        self.balancer = scene.balance(rules, iptables=iptables)
        self._doctor = scene.lab.start(
            "lb",
            [sys.executable, "-m", "tests.live.apps.doctor", str(rules), str(self.balancer.api)],
            name="doctor",
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        self._doctor.wait_for_text("ready")
        self._file = scene.file("calls.jsonl")
        self._events: list[dict[str, Any]] = []
        self._read = 0
        self._outcomes: list[Outcome] = []
        self._lasting: set[str] = set()
        caller = scene.app("s1", "caller", SERVICE, PORT, self._file, ",".join(SOURCES))
        self._production = caller, self.balancer.program, backends["c1"], backends["c2"]
        self._waits = CoreWaits(*self._production)
        self.balancer.wait_for_status(
            lambda status: (
                status["mirrors"][0]["acked_bytes"] > 1000 and min(one["checks"] for one in status["health"]) >= 12
            ),
            "copies, and checks that have found the second target",
        )
        if has_master:
            switch = ["--to", f"{SERVICE}:6654", "--switches", "1", "--rate", "5", "--seconds", "3600"]
            scene.start("s1", sys.executable, "-m", "natmirror.lab.swarm", *switch, name="switch")
            wait_for(lambda: _equal_answers(self._status()) > 0, "answers that are compared")
        self.balancer.wait_for_status(lambda status: not status["findings"], "no finding")

    def _start_controllers(self) -> None:
        lab = self._scene.lab
        for host, last in (("judged", 40), ("candidate", 41)):
            lab.add_controller(host, last)
            self._scene.start(host, sys.executable, "-m", "bench.judges_peer", name="controller")
            wait_listen(lab.ns(host), PORT)

    def play(self, fault: Fault) -> None:
        """Plant a fault, wait until it is seen, and end it."""
        self._wait_until_well(fault.possible_codes() | self._lasting if not fault.repairs else self._lasting)
        self._lasting = fault.possible_codes() if fault.stops_production else set()
        self._note_waits()
        before = self._status()
        outcome = Outcome(fault, time.monotonic())
        self._outcomes.append(outcome)
        self._shell(fault.host, fault.plant)
        try:
            if self._waited(lambda: self._is_seen(fault, _repairs(before, fault.repairs)), _SEEN_AT_LAST):
                outcome.seen_at = time.monotonic()
            status = self._status()
            outcome.shown = [
                f"{one['code']}: {one['problem']}; {one['problem']}; {one['mend']}" for one in status["findings"]
            ]
            outcome.down = {one["name"] for one in status["backends"] if one["state"] == "down"}
            outcome.by_doctor = self._ask_doctor("look")
            with contextlib.redirect_stdout(io.StringIO()):
                outcome.is_unfit = keepalived_hooks.health(str(self.balancer.api)) == exit_codes.HOST_FAILS
            if fault.fix:
                outcome.after_fix = self._ask_doctor("fix")
        finally:
            self._shell(fault.host, fault.undo)
        outcome.ended_at = time.monotonic()
        settled_at = outcome.ended_at + fault.settles
        outcome.has_recovered = self._waited(lambda: self._has_recovered(outcome.ended_at, settled_at), _GONE_WITHIN)
        if fault.ends_verdicts:
            outcome.has_recovered &= self._waited(lambda: _equal_answers(self._status()) > 0, _ALL_GONE_WITHIN)
        outcome.lost_copies = _lost_copies(self._status()) - _lost_copies(before)
        if fault.silences_mirror:
            self._wait_for_checks(_CHECKS_TO_ASK_AGAIN)

    def _note_waits(self) -> None:
        """Give the last outcome its programs' waits for a core, and count from now on."""
        if self._outcomes:
            self._outcomes[-1].without_core = self._waits.seconds()
        self._waits = CoreWaits(*self._production)

    def _wait_for_checks(self, count: int) -> None:
        """Wait until each backend has passed so many checks more."""
        due = [one["checks"] + count for one in self._status()["health"]]
        wait_for(
            lambda: all(one["checks"] >= at for one, at in zip(self._status()["health"], due, strict=True)),
            "checks of the backends",
            _GONE_WITHIN,
        )

    def end(self) -> list[Outcome]:
        """Wait until no fault is found any more, and return what became of each. That natmirror has repaired something
        is shown for a minute, and that verdicts were lost, for ten."""
        passing = [one.fault for one in self._outcomes if not (one.fault.repairs or one.fault.ends_verdicts)]
        codes = {code for fault in passing for code in fault.possible_codes()}
        self._wait_until_well(codes, _ALL_GONE_WITHIN)
        self._note_waits()
        self._read_events()
        for number, outcome in enumerate(self._outcomes):
            later = self._outcomes[number + 1 :]
            outcome.add_up(self._events, later[0].planted_at if later else float("inf"))
        return self._outcomes

    def _ask_doctor(self, order: str) -> list[dict[str, Any]]:
        """Return the findings of doctor."""
        answered = self._doctor.text.count("\n")
        stdin = self._doctor.popen.stdin
        assert stdin is not None
        stdin.write(f"{order}\n".encode())
        stdin.flush()
        wait_for(lambda: self._doctor.text.count("\n") > answered, "doctor")
        answer = json.loads(self._doctor.text.splitlines()[-1])
        return [finding for check in answer["checks"] for finding in check["findings"]]

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask("status", self.balancer.api)
        return status

    def _shell(self, host: str, text: str) -> None:
        self._scene.lab.run(host, ["sh", "-c", text], cwd=self._scene.lab.directory)

    def _is_seen(self, fault: Fault, repairs: int) -> bool:
        status = self._status()
        codes = {one["code"] for one in status["findings"]}
        return fault.is_named_by(codes) and (not fault.repairs or _repairs(status, fault.repairs) > repairs)

    def _wait_until_well(self, codes: set[str], timeout: float = _GONE_WITHIN) -> None:
        """Wait until none of these findings is left, nothing stops production, and each backend is up."""

        def is_well() -> bool:
            status = self._status()
            if any((one["severity"], one["affects"]) == ("failure", "production") for one in status["findings"]):
                return False
            found = {one["code"] for one in status["findings"]}
            return not found & codes and all(one["state"] in ("up", "unchecked") for one in status["backends"])

        wait_for(is_well, f"the end of {codes}, and the backends", timeout)

    def _waited(self, condition: Callable[[], bool], timeout: float) -> bool:
        with contextlib.suppress(HostError):
            wait_for(condition, "a fault", timeout)
            return True
        return False

    def _read_events(self) -> None:
        with self._file.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        self._events += map(json.loads, whole.splitlines())

    def _has_recovered(self, ended_at: float, settled_at: float) -> bool:
        """Return whether each lasting connection was answered since the fault's end, and a new one later."""
        self._read_events()
        recent = [one for one in reversed(self._events) if one["began"] >= ended_at and one["error"] is None]
        lasting = {one["number"] for one in recent if one["kind"] == "echo"}
        is_called = any(one["kind"] == "call" and one["began"] >= settled_at for one in recent)
        return is_called and len(lasting) == 2 * len(SOURCES)


def _repairs(status: dict[str, Any], name: str) -> int:
    """Return how often this was repaired; 0 where it is not in place now."""
    return sum(int(one["repairs"]) for one in status["machine"]["kept"] if one["name"] == name and one["in_place"])


def _equal_answers(status: dict[str, Any]) -> int:
    """Return how many answers of masters were equal, as the present process of the judges has counted."""
    return sum(one["comparison"]["answers"]["equal"] for one in status["mirrors"] if one["comparison"] is not None)


def _lost_copies(status: dict[str, Any]) -> int:
    return sum(sum(mirror["lost_bytes"].values()) for mirror in status["mirrors"])


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a table in Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(outcome.row() for outcome in outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
