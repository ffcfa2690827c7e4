"""In any weather of a simulated network a mirror that restarts gets pieces of the client's stream, in their order."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from natmirror.reasons import EndReason
from tests.helpers.restarting_mirror import RestartingMirror
from tests.helpers.support import assert_adds_up
from tests.helpers.weather import FINE, weathers

STREAM = random.Random(1).randbytes(40_000)
PEACE = {"client_side": FINE, "backend_side": FINE, "mirror_side": FINE}


def run(seed: int, stream: bytes, **options: Any) -> RestartingMirror:
    """Run a case, and check what holds in any."""
    world = RestartingMirror(seed, stream, **{**PEACE, **options})
    world.backend.room = options.get("mss", 1000)  # the client waits for each acknowledgement
    world.run()
    at = 0
    for piece in world.pieces:
        found = stream.find(bytes(piece), at)
        assert found >= 0, "a byte that the client did not send, or out of order"
        at = found + len(piece)
    snapshot = world.engine.snapshot(world.now)
    assert_adds_up(snapshot)
    mirror = snapshot["mirrors"][0]
    assert (mirror["legs"], mirror["pending_bytes"], snapshot["mirror_memory"]["used_bytes"]) == (0, 0, 0)
    assert mirror["connections_not_copied"] == {}
    assert mirror["acked_bytes"] <= sum(len(piece) for piece in world.pieces)
    assert EndReason.CLOSED not in mirror["lost_bytes"]
    return world


def test_a_mirror_that_restarts_gets_the_beginning_and_the_end(fast: bool) -> None:
    world = run(1, STREAM, ends={8}, outage=0.0, fast=fast)
    assert bytes(world.backend.received) == STREAM
    beginning, end = map(bytes, world.pieces)
    assert STREAM.startswith(beginning) and STREAM.endswith(end)
    assert len(beginning) + len(end) > 30_000
    assert world.events[-1].reason == "closed"
    lost = world.engine.snapshot(world.now)["mirrors"][0]["lost_bytes"]
    assert lost.keys() <= {"mirror-reset", "reconnecting", "refused"}


@given(st.data())
def test_both_gears_do_the_same_and_the_books_stay_right(data: st.DataObject) -> None:
    options: dict[str, Any] = {
        **{f"{side}_side": data.draw(weathers) for side in ("client", "backend", "mirror")},
        "ends": set(data.draw(st.lists(st.integers(1, 60), max_size=4))),
        "outage": data.draw(st.sampled_from([0.0, 0.3, 5.0])),
        "mss": data.draw(st.sampled_from([536, 1460])),
        "scale": data.draw(st.sampled_from([None, 5])),
    }
    seed, size = data.draw(st.integers(0, 1 << 32)), data.draw(st.sampled_from([500, 5000, 40_000]))
    one, other = (run(seed, STREAM[:size], fast=fast, **options) for fast in (True, False))
    assert one.actions == other.actions
    assert one.events == other.events
