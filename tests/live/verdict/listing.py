"""Run natmirror, and show the rules of its models of production's tables: listing.py SOCKET PYTHON -m natmirror …

The models are in the process of the judges, which is this program too: listing.py SOCKET judging …. A thread of it
listens on the Unix socket. It records the models' changes from the time of a connection until the other end
shuts its side down, and then sends, as JSON, all states of that time: for each, the rules as ``ovs-ofctl dump-flows``
writes them, and whether each is doubtful.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from natmirror.cli.entry import main
from natmirror.judging.__main__ import main as judging
from natmirror.judging.chamber import Chamber
from natmirror.openflow.bodies.text import flow_text
from natmirror.openflow.bodies.values import FlowStats
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import Key, Rule, RuleKey
from natmirror.openflow.tables.production import ProductionModel
from natmirror.runtime import judges_process

_JUDGING = "judging"


class Recorder:
    """Records the changes of one model's rules. Other threads make them meanwhile, each in one step of the
    interpreter."""

    def __init__(self, model: ProductionModel) -> None:
        self._model = model
        self._first: dict[RuleKey, Rule] = {}
        self._changes: list[tuple[RuleKey | None, Rule | None]] = []
        self._is_recording = False
        model.state.watch(self)

    def changed(self, key: Key, now: float) -> None:
        if self._is_recording and isinstance(key, RuleKey):
            self._changes.append((key, self._model.state.rules.get(key)))

    def reset(self, now: float) -> None:
        if self._is_recording:
            self._changes.append((None, None))

    def begin(self) -> None:
        """Record from now on. A change at this moment may be in both, which does no harm."""
        self._changes = []
        self._is_recording = True
        self._first = self._model.state.rules.copy()

    def end(self, now: float) -> Iterator[dict[str, bool]]:
        """Yield the rules of each state since begin(), and whether the model calls them doubtful."""
        self._is_recording = False
        rules = self._first
        yield self._shown(rules, now)
        for key, rule in self._changes:
            if key is None:
                rules = {}
            elif rule is None:
                rules.pop(key, None)
            else:
                rules[key] = rule
            yield self._shown(rules, now)

    def _shown(self, rules: dict[RuleKey, Rule], now: float) -> dict[str, bool]:
        return {text(self._model.version, rule): self._model.is_doubtful(rule, now) for rule in rules.values()}


_recorders: list[Recorder] = []
_make = ProductionModel.__init__


def _made(model: ProductionModel, *arguments: Any) -> None:
    _make(model, *arguments)
    _recorders.append(Recorder(model))


def serve(listener: socket.socket) -> None:
    """Serve one connection after another."""
    while True:
        connection, _ = listener.accept()
        with connection:
            recorders = list(_recorders)
            for one in recorders:
                one.begin()
            connection.sendall(b"\n")
            connection.recv(1)
            states = [state for one in recorders for state in one.end(time.monotonic())]
            connection.sendall(json.dumps(states).encode())


def text(version: int, rule: Rule) -> str:
    """Return a rule's line. Statistics of OpenFlow 1.0 have no flags."""
    key = rule.key
    return flow_text(
        FlowStats(
            table=key.table,
            priority=key.priority,
            match=key.match,
            instructions=rule.instructions,
            cookie=rule.cookie,
            idle_timeout=rule.idle_timeout,
            hard_timeout=rule.hard_timeout,
            flags=0 if version == V10 else rule.flags,
            importance=rule.importance,
            duration=0.0,
        )
    )


def run_natmirror(path: Path) -> None:
    """Run natmirror, whose judges this program is."""
    program = [sys.executable, "-m", "tests.live.verdict.listing", str(path), _JUDGING]
    setattr(judges_process, "_PROGRAM", program)  # noqa: B010 - a type checker does not want a constant replaced
    sys.argv[:] = ["natmirror", *sys.argv[5:]]
    main()


def run_judges(path: Path) -> None:
    """Run the judges, and show their models."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    setattr(ProductionModel, "__init__", _made)  # noqa: B010 - as above
    judge = Chamber.run

    def run(chamber: Chamber) -> None:
        threading.Thread(target=serve, args=(server,), daemon=True).start()  # once the rights are given up
        judge(chamber)

    setattr(Chamber, "run", run)  # noqa: B010 - as above
    del sys.argv[1:3]
    judging()


if __name__ == "__main__":
    (run_judges if sys.argv[2] == _JUDGING else run_natmirror)(Path(sys.argv[1]))
