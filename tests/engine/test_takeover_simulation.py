"""Two hosts, of which one takes over from the other at any moment: the mirror gets the client's stream, complete or cut
short, and never another byte."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.reasons import EndReason
from tests.helpers.pair_world import Moment, Pair, moments
from tests.helpers.support import assert_adds_up
from tests.helpers.weather import FINE, STREAM, mirror_weathers, weathers

TAKEOVER_REASONS = {
    *("closed", "linger-timeout", "stalled", "resume-timeout", "takeover-hole", "hole", "no-record"),
    *("mirror-reset", "released", "client-reset", "buffer-full"),
}


def check(world: Pair, stream: bytes) -> None:
    """Assert what holds whatever happens."""
    assert bytes(world.backend.received) == stream or not world.client.done
    delivered = bytes(world.mirror.received)
    assert stream.startswith(delivered), "never a byte that the client did not send, nor out of order"
    for event in world.events:
        assert event.reason in TAKEOVER_REASONS | {"port-reused", "connect-timeout", "flow-expired"}, event
    ends = Counter(event.reason for event in world.events)
    if ends[EndReason.CLOSED]:
        assert delivered == stream
    if world.mirror.closed_by_peer:
        assert delivered == stream
    for one in [*world.old, world.engine]:
        snapshot = one.snapshot(world.now)
        assert_adds_up(snapshot)
        assert "closed" not in snapshot["mirrors"][0]["lost_bytes"], "the mirror has acknowledged everything"
    last = world.engine.snapshot(world.now)
    assert (last["flows"], last["mirrors"][0]["legs"], last["mirror_memory"]["used_bytes"]) == (0, 0, 0)
    assert not world.engine.flow_ids()


PEACE = {"client_side": FINE, "backend_side": FINE, "mirror_side": FINE}


def run(seed: int, stream: bytes, moments: list[Moment], **options: Any) -> Pair:
    """Run a case, and check it."""
    world = Pair(seed, stream, moments, **{**PEACE, **options})
    world.run()
    check(world, stream)
    return world


@pytest.mark.parametrize("outage", [0.0, 0.7])
def test_without_losses_a_leg_goes_on_at_a_host_that_has_its_record(fast: bool, outage: float) -> None:
    world = Pair(1, STREAM, [Moment(at=120, outage=outage)], fast=fast, **PEACE)
    world.backend.room = 5000  # so that the client never has more in flight than the mirror takes at once
    world.run()
    check(world, STREAM)
    assert bytes(world.mirror.received) == STREAM
    assert [event.reason for event in world.events] == ["closed"]
    [mirror] = world.engine.snapshot(world.now)["mirrors"]
    assert (mirror["legs_adopted"], mirror["legs_resumed"], mirror["legs_opened"], mirror["lost_bytes"]) == (
        1,
        1,
        0,
        {},
    )


def options_of(data: st.DataObject) -> dict[str, Any]:
    return {
        "answer": STREAM[: data.draw(st.sampled_from([0, 700, 9000, 60_000]))],
        "client_side": data.draw(weathers),
        "backend_side": data.draw(weathers),
        "mirror_side": data.draw(mirror_weathers),
        "mss": data.draw(st.sampled_from([100, 536, 1460])),
        "mirror_mss": data.draw(st.sampled_from([60, 536, 1460])),
        "mirror_room": data.draw(st.sampled_from([100, 3000, 60_000])),
        "mirror_scale": data.draw(st.sampled_from([None, 0, 3])),
        "scale": data.draw(st.sampled_from([None, 5])),
        "sack": data.draw(st.booleans()),
        "settings": data.draw(st.sampled_from(["", ", source: 10.20.0.1", ", buffer: 64KiB"])),
    }


@given(st.data())
def test_taken_over_at_any_moment_the_mirrors_stream_is_the_clients(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([500, 5000, 20_000, 80_000]))
    seed = data.draw(st.integers(0, 1 << 32))
    run(seed, STREAM[:size], data.draw(moments), fast=data.draw(st.booleans()), **options_of(data))


@given(st.data())
def test_both_gears_take_over_alike(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([500, 20_000, 80_000]))
    seed = data.draw(st.integers(0, 1 << 32))
    when, options = data.draw(moments), options_of(data)
    one, other = (run(seed, STREAM[:size], when, fast=fast, **options) for fast in (True, False))
    assert one.actions == other.actions
    assert one.events == other.events
