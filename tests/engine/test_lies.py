"""A client that lies, and an attacker who guesses: a mirror gets exactly what the backend took, or the ledger says why
not."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.reasons import EndReason
from tests.helpers.liar import LIE, LIES, REFUSED, LyingPair, LyingToRestarts, LyingWorld
from tests.helpers.pair_world import Moment, moments
from tests.helpers.receiver import Overlap
from tests.helpers.simulator import Weather
from tests.helpers.support import assert_adds_up

STREAM = bytes(range(1, 200)) * 200
ONCE = bytes(byte for byte in random.Random(1).randbytes(20_000) if byte != LIE[0])  # each part of it stands there once
LASTS = 60.0  # seconds: a lie that is taken may leave the client waiting for ever
FINE = Weather(delay=0.005)


def check(world: LyingWorld) -> None:
    """Assert that the mirror has only bytes that the backend has taken, and that the ledger says why others are
    missing."""
    world.check()
    snapshot = world.engine.snapshot(world.now)
    assert_adds_up(snapshot)
    [mirror] = snapshot["mirrors"]
    if len(world.mirror.received) < len(world.backend.received):
        has_ended = any(reason != EndReason.CLOSED for reason in mirror["legs_ended"])
        why = has_ended or mirror["lost_bytes"] or mirror["pending_bytes"] or mirror["held_bytes"]
        assert why, "nothing says why bytes are missing"


def run(seed: int, size: int, *, answered: int = 0, silence: float = 0.0, **options: Any) -> LyingWorld:
    """Run a case in which the backend answers with so many bytes, and check it."""
    world = LyingWorld(seed, STREAM[:size], answer=STREAM[:answered], silence=silence, **options)
    world.run(silence + LASTS)
    check(world)
    return world


def is_exact(world: LyingWorld, size: int) -> bool:
    """Return whether backend and mirror have the client's whole honest stream."""
    return bytes(world.mirror.received) == bytes(world.backend.received) == STREAM[:size]


@st.composite
def surroundings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what the client's lies meet: a path, a backend, a gear."""
    return {
        "hops": draw(st.sampled_from([0, 1, 2])),
        "overlap": draw(st.sampled_from(Overlap)),
        "ack_delay": draw(st.sampled_from([0.0, 0.04])),
        "exceeds_window": draw(st.booleans()),
        "predicts": draw(st.booleans()),
        "room": draw(st.sampled_from([3000, 60_000])),
        "stamps": draw(st.booleans()),
        "scale": draw(st.sampled_from([None, 0, 4])),
        "answered": draw(st.sampled_from([0, 700, 5000])),
        "weather": Weather(
            loss=draw(st.sampled_from([0.0, 0.0, 0.05])),
            delay=draw(st.sampled_from([0.001, 0.02])),
            jitter=draw(st.sampled_from([0.0, 0.01])),
        ),
        "fast": draw(st.booleans()),
    }


seeds = st.integers(0, 1 << 32)


@pytest.mark.parametrize("kind", LIES)
@given(seed=seeds, part=st.sampled_from([0.05, 0.3]), around=surroundings())
def test_no_lie_reaches_the_mirror(kind: str, seed: int, part: float, around: dict[str, Any]) -> None:
    run(seed, 20_000, kinds=[kind], part=part, **around)


@given(seed=seeds, part=st.sampled_from([0.05, 0.3]), around=surroundings())
def test_no_mixture_of_lies_reaches_the_mirror(seed: int, part: float, around: dict[str, Any]) -> None:
    run(seed, 20_000, kinds=list(LIES), part=part, **around)


@given(seed=seeds, part=st.sampled_from([0.3, 1.0]), around=surroundings())
def test_no_old_timestamp_reaches_the_mirror_after_a_silence(seed: int, part: float, around: dict[str, Any]) -> None:
    options = {**around, "stamps": True}
    run(seed, 20_000, kinds=["old timestamp"], part=part, silence=40 * 60.0, **options)


@given(seed=seeds, rate=st.sampled_from([10_000, 50_000]), around=surroundings())
def test_no_lie_reaches_the_mirror_while_memory_is_short(seed: int, rate: float, around: dict[str, Any]) -> None:
    slow: dict[str, Any] = {"top": "mirror-memory: 1MiB\n", "mirror_weather": Weather(rate=rate)}
    run(seed, 80_000, kinds=list(LIES), part=0.05, **slow, **around)


@given(seed=seeds, part=st.sampled_from([0.05, 0.3]), when=moments, around=surroundings())
def test_no_lie_reaches_the_mirror_through_takeovers(
    seed: int, part: float, when: list[Moment], around: dict[str, Any]
) -> None:
    """No host knows the versions that only the other one has seen (docs/security.md), so these lies are none."""
    answer = STREAM[: around.pop("answered")]
    world = LyingPair(seed, STREAM[:20_000], kinds=list(REFUSED), part=part, answer=answer, moments=when, **around)
    world.run(LASTS)
    world.check()
    for one in [*world.old, *world.engines]:
        assert_adds_up(one.snapshot(world.now))


@given(
    seed=seeds,
    kinds=st.sampled_from([["near the window's edge"], ["urgent"], list(LIES)]),
    part=st.sampled_from([0.05, 0.3]),
    ends=st.sets(st.integers(1, 80), min_size=1, max_size=6),
    outage=st.sampled_from([0.0, 0.3]),
    room=st.sampled_from([1000, 3000]),
    around=surroundings(),
)
def test_no_lie_reaches_a_mirror_whose_copies_begin_again(
    seed: int, kinds: list[str], part: float, ends: set[int], outage: float, room: int, around: dict[str, Any]
) -> None:
    answer, options = STREAM[: around["answered"]], {**around, "room": room, "ends": ends, "outage": outage}
    del options["answered"]
    world = LyingToRestarts(seed, ONCE, kinds=kinds, part=part, answer=answer, **options)
    world.run(LASTS)
    world.check()
    assert_adds_up(world.engine.snapshot(world.now))


@pytest.mark.parametrize("kind", REFUSED)
@given(seed=seeds, around=surroundings())
def test_a_lie_that_every_receiver_refuses_costs_no_byte(kind: str, seed: int, around: dict[str, Any]) -> None:
    options = {**around, "stamps": around["stamps"] or kind == "old timestamp"}
    assert is_exact(run(seed, 20_000, kinds=[kind], **options), 20_000)


@pytest.mark.parametrize("stamps", [True, False])
def test_a_thousand_blind_packets_end_no_copy(stamps: bool, fast: bool) -> None:
    for seed in range(5):
        options: dict[str, Any] = {"kinds": [], "blind": 1000, "stamps": stamps, "weather": FINE, "fast": fast}
        world = run(seed, len(STREAM), overlap=Overlap.LINUX, **options)
        assert world.blind_left == 0
        assert is_exact(world, len(STREAM))
        assert [str(event.reason) for event in world.events] == ["closed"]
