"""In any weather of a simulated network the mirror's stream is the client's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror._ffi import lib
from natmirror.actions import Hook
from natmirror.engine.counters import EngineCounter
from tests.helpers.simulator import Weather, World
from tests.helpers.support import assert_adds_up
from tests.helpers.weather import FINE, STREAM, mirror_weathers, weathers

_lib: Any = lib
REASONS = ("linger-timeout", "stalled", "connect-timeout", "port-reused", "mirror-reset", "throttle-limit")


def test_without_losses_everything_arrives_at_once() -> None:
    world = World(1, STREAM, answer=b"y" * 5000, client_side=FINE, backend_side=FINE, mirror_side=FINE)
    world.run()
    assert bytes(world.backend.received) == bytes(world.mirror.received) == STREAM
    assert bytes(world.client.received) == b"y" * 5000
    [event] = world.events
    assert (event.reason, event.acked_bytes, event.client_bytes) == ("closed", len(STREAM), len(STREAM))
    snapshot = world.engine.snapshot(world.now)
    assert (world.engine.flow_ids(), snapshot["mirrors"][0]["retransmits"]) == ([], 0)
    assert (
        snapshot["counters"][EngineCounter.PACKETS_DECIDED_IN_C]
        > snapshot["counters"][EngineCounter.MIRROR_PACKETS]
        > 80
    ), "C decided on most packets"
    assert world.engine.next_timer() is None


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.3])
def test_loss_in_front_of_the_mirror_costs_no_byte(loss: float) -> None:
    for seed in range(5):
        world = World(seed, STREAM, client_side=FINE, backend_side=FINE, mirror_side=Weather(loss=loss))
        world.run()
        assert bytes(world.backend.received) == STREAM
        delivered = bytes(world.mirror.received)
        assert delivered == STREAM or world.events[0].reason == "linger-timeout"
        assert STREAM.startswith(delivered)


@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_a_client_that_is_throttled_for_a_slow_mirror_loses_nothing(sack: bool, fast: bool) -> None:
    slow = Weather(rate=100_000.0, delay=0.01)
    stream = STREAM * 20
    world = World(
        1,
        stream,
        client_side=FINE,
        backend_side=FINE,
        mirror_side=slow,
        scale=7,
        sack=sack,
        settings=", when-behind: throttle, buffer: 64KiB",
        fast=fast,
    )
    world.backend.room = 200_000
    world.run()
    assert bytes(world.backend.received) == bytes(world.mirror.received) == stream
    assert [event.reason for event in world.events] == ["closed"]
    assert world.now > len(stream) / 100_000


def test_without_throttling_the_same_client_does_not_wait_and_the_leg_is_dropped() -> None:
    slow = Weather(rate=100_000.0, delay=0.01)
    settings = ", buffer: 64KiB"
    world = World(1, STREAM * 20, client_side=FINE, backend_side=FINE, mirror_side=slow, scale=7, settings=settings)
    world.backend.room = 200_000
    world.run()
    assert bytes(world.backend.received) == STREAM * 20
    assert [event.reason for event in world.events] == ["buffer-full"]


class WorldWithoutLimit(World):
    """A world whose peers always have turns: only the C gear counts turns, and this weather repeats so many packets
    within a few milliseconds that a mirror could use them up."""

    def _through_engine(self, packet: bytes, hook: Hook) -> None:
        gear: Any = self.engine._gear.handle
        _lib.nm_turns_free(gear.turns)
        gear.turns = _lib.nm_turns_new(bytes(16))
        super()._through_engine(packet, hook)


def assert_same_in_both_gears(seed: int, stream: bytes, **options: Any) -> None:
    one, other = (WorldWithoutLimit(seed, stream, answer=STREAM[:9000], fast=fast, **options) for fast in (True, False))
    for world in (one, other):
        world.run()
    assert one.actions == other.actions
    assert one.events == other.events


def test_both_gears_do_the_same_if_a_mirror_repeats_thousands_of_packets_within_milliseconds() -> None:
    near, repeating = Weather(delay=0.0001), Weather(delay=0.0001, repetition=0.5)
    sides = {"client_side": near, "backend_side": near, "mirror_side": repeating}
    assert_same_in_both_gears(0, STREAM, **sides, mss=536, mirror_mss=60, scale=5)


@given(st.data())
def test_both_gears_do_the_same_in_any_weather(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([500, 20_000, 80_000]))
    seed = data.draw(st.integers(0, 1 << 32))
    options: dict[str, Any] = {
        **{f"{side}_side": data.draw(weathers) for side in ("client", "backend", "mirror")},
        "mss": data.draw(st.sampled_from([100, 536, 1460])),
        "mirror_mss": data.draw(st.sampled_from([60, 536, 1460])),
        "mirror_room": data.draw(st.sampled_from([3000, 60_000])),
        "mirror_scale": data.draw(st.sampled_from([None, 3])),
        "scale": data.draw(st.sampled_from([None, 5])),
        "sack": data.draw(st.booleans()),
        "settings": data.draw(
            st.sampled_from(
                ["", ", buffer: 64KiB", ", idle-timeout: 100ms", ", idle-timeout: 100ms, reconnect: next-segment"]
            )
        ),
    }
    assert_same_in_both_gears(seed, STREAM[:size], **options)


@given(st.data())
def test_in_any_weather_the_mirrors_stream_is_the_clients(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0, 1, 500, 5000, 20_000, 80_000]))
    world = World(
        data.draw(st.integers(0, 1 << 32)),
        STREAM[:size],
        answer=STREAM[: data.draw(st.sampled_from([0, 700, 9000]))],
        client_side=data.draw(weathers),
        backend_side=data.draw(weathers),
        mirror_side=data.draw(mirror_weathers),
        mss=data.draw(st.sampled_from([100, 536, 1460])),
        mirror_mss=data.draw(st.sampled_from([60, 536, 1460])),
        mirror_room=data.draw(st.sampled_from([100, 3000, 60_000])),
        mirror_scale=data.draw(st.sampled_from([None, 0, 3])),
        scale=data.draw(st.sampled_from([None, 5])),
        sack=data.draw(st.booleans()),
        settings=data.draw(st.sampled_from(["", ", when-behind: throttle, buffer: 64KiB", ", source: 10.20.0.1"])),
        fast=data.draw(st.booleans()),
    )
    world.run()
    sent = STREAM[:size]
    assert STREAM.startswith(bytes(world.backend.received))
    assert sent.startswith(bytes(world.mirror.received)), "never a byte that the client did not send, nor out of order"
    if world.client.done:
        assert bytes(world.backend.received) == sent
    for event in world.events:
        assert event.acked_bytes <= len(world.mirror.received)
        if event.reason == "closed":
            assert bytes(world.mirror.received) == sent
            assert event.acked_bytes == event.client_bytes == size
        else:
            assert event.reason in REASONS
    snapshot = world.engine.snapshot(world.now)
    assert_adds_up(snapshot)
    assert (snapshot["mirrors"][0]["legs"], snapshot["mirrors"][0]["pending_bytes"]) == (0, 0)
    assert snapshot["mirror_memory"]["used_bytes"] == 0
