"""Runs the lab's traffic until the masters have answered enough, and collects the verdicts about them."""

import time
from collections.abc import Iterable, Sequence

from natmirror.api.client import ask_list
from tests.live.verdict.catalogue import VARIANTS
from tests.live.verdict.outcome import Outcome
from tests.live.verdict.stage import Stage
from tests.live.verdict.truth import Truth

_POLL = 0.3  # seconds between two looks at bugs that are not named
_LOOK = 5.0  # seconds between two looks at all others
_LASTS = 3.0  # seconds after the last frame in which differences may still show


def measure(stage: Stage, answers: int, timeout: float) -> tuple[list[Outcome], Truth]:
    """Send traffic until all bugs are named, and each equal master has this number of comparable answers; at most
    ``timeout`` seconds."""
    outcomes = {
        name: Outcome(name, VARIANTS[master.name], name == stage.twin) for name, master in stage.masters.items()
    }
    stage.traffic.start()
    deadline = time.monotonic() + timeout
    with Truth(stage.listing, stage.switches) as truth:
        look_at = 0.0
        while time.monotonic() < deadline and not all(_is_done(one, answers) for one in outcomes.values()):
            _ask(stage, [one for one in outcomes.values() if not one.variant.is_equal and one.named_after is None])
            if time.monotonic() >= look_at:  # seldom: that the others wait would be counted as theirs
                _ask(stage, [one for one in outcomes.values() if one.variant.is_equal])
                look_at = time.monotonic() + _LOOK
            time.sleep(_POLL)
    stage.traffic.stop()
    time.sleep(_LASTS)
    _ask(stage, outcomes.values())
    return list(outcomes.values()), truth


def mistakes(outcomes: Sequence[Outcome], answers: int) -> list[str]:
    """Return what is wrong, a line for each."""
    return [f"{one.name}: {mistake}" for one in outcomes for mistake in one.mistakes(answers)]


def _is_done(outcome: Outcome, answers: int) -> bool:
    return outcome.comparable >= answers if outcome.variant.is_equal else outcome.named_after is not None


def _ask(stage: Stage, outcomes: Iterable[Outcome]) -> None:
    """Ask for the verdict about each master alone: natmirror answers slowly while packets pass."""
    for outcome in outcomes:
        if outcome.effect is None:
            outcome.effect = stage.masters[outcome.name].first_effect()
        for entry in ask_list("verdict", stage.balancer.api, mirror=outcome.name):
            outcome.take(entry)
