"""The loop of the judges' process. tests/runtime/test_judges_process.py has the process as natmirror sees it."""

import os
import socket
import time
from typing import Any, cast

import pytest

from natmirror.judging.judging_loop import _Stream
from natmirror.openflow.comparison.sums import Comparisons
from tests.helpers.compared import Budget


class _Judges:
    """Has work for some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, now: float) -> bool:
        self.left -= 1
        return self.left > 0


def test_after_each_step_others_may_have_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    judges, left = _Judges(5), list[int]()
    monkeypatch.setattr(os, "sched_yield", lambda: left.append(judges.left))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = _Stream(ours, cast(Any, judges), Comparisons(Budget()))
        stream.work(time.monotonic() + 60.0)
    assert (left, stream.has_work) == ([4, 3, 2, 1, 0], False)
