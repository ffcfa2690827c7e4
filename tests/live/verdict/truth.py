"""Compares natmirror's models of production's tables with what the switches say, while they change."""

import json
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from natmirror.judging.judging_loop import GRACE
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.openflow.comparison.judge_set import DELAY

_LEEWAY = DELAY + GRACE + 0.25
"""Seconds within which a model has to have had the switch's rules: judges read messages so much later."""
_PAUSE = 0.5  # seconds
_KEPT = 5


class Truth:
    """Takes snapshots of switches' tables, and looks whether a model had the same rules at that time. A context manager
    that looks as long as it is entered."""

    def __init__(self, path: Path, switches: Sequence[OpenVSwitch]) -> None:
        """``path``: the socket of listing.py."""
        self.equal = self.count = 0
        self.rules = 0
        """Rules in all snapshots."""
        self.doubtful = 0
        """Rules that a switch had removed, and the model called doubtful."""
        self.different: list[str] = []
        """What the nearest model lacked or had more, for the first snapshots that differ."""
        self._path, self._switches = path, switches
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        wait_for(self._path.exists, "the judges to show their models")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE):
            for switch in self._switches:
                self._look(switch)

    def _look(self, switch: OpenVSwitch) -> None:
        with socket.socket(socket.AF_UNIX) as looking:
            looking.connect(str(self._path))
            with looking.makefile("rb") as answer:
                answer.readline()  # it records from now on
                listed = set(switch.flows())
                time.sleep(_LEEWAY)
                looking.shutdown(socket.SHUT_WR)
                states: list[dict[str, bool]] = json.load(answer)
        self.count += 1
        self.rules += len(listed)
        fitting = [state for state in states if _fits(state, listed)]
        if fitting:
            self.equal += 1
            self.doubtful += min(map(len, fitting)) - len(listed)
        elif len(self.different) < _KEPT:
            nearest: dict[str, bool] = min(states, key=lambda state: len(state.keys() ^ listed), default={})
            words = [f"only the switch: {line}" for line in sorted(listed - nearest.keys())]
            words += [f"only the model: {line}" for line in sorted(nearest.keys() - listed) if not nearest[line]]
            self.different.append(f"s{switch.number}: " + "; ".join(words))


def _fits(state: dict[str, bool], listed: set[str]) -> bool:
    """Return whether a state of a model has the listed rules, and besides only doubtful ones."""
    return listed <= state.keys() and all(state[line] for line in state.keys() - listed)
