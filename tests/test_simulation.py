"""The one thing that a mirror is for, in bad weather: its stream is the client's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator import Weather, World
from tests.support import assert_adds_up

STREAM = bytes(range(251)) * 80
FINE = Weather()

weathers = st.builds(
    Weather,
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.3]),
    repetition=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    delay=st.sampled_from([0.0001, 0.001, 0.05]),
    jitter=st.sampled_from([0.0, 0.0, 0.005, 0.1]),
)


def test_in_fine_weather_everything_arrives_at_once() -> None:
    world = World(1, STREAM, answer=b"y" * 5000, client_side=FINE, backend_side=FINE, mirror_side=FINE)
    world.run()
    assert bytes(world.backend.received) == bytes(world.mirror.received) == STREAM
    assert bytes(world.client.received) == b"y" * 5000
    [event] = world.events
    assert (event.reason, event.acked_bytes, event.client_bytes) == ("closed", len(STREAM), len(STREAM))
    snapshot = world.engine.snapshot(world.now)
    assert (snapshot["flows"], snapshot["mirrors"][0]["retransmits"]) == (0, 0)
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


@given(st.data())
def test_in_any_weather_the_mirrors_stream_is_the_clients(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0, 1, 500, 5000, 20_000]))
    world = World(
        data.draw(st.integers(0, 1 << 32)),
        STREAM[:size],
        answer=STREAM[: data.draw(st.sampled_from([0, 700, 9000]))],
        client_side=data.draw(weathers),
        backend_side=data.draw(weathers),
        mirror_side=data.draw(weathers),
        mss=data.draw(st.sampled_from([100, 536, 1460])),
        mirror_mss=data.draw(st.sampled_from([60, 536, 1460])),
        mirror_room=data.draw(st.sampled_from([100, 3000, 60_000])),
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
            assert event.reason in ("linger-timeout", "stalled", "connect-timeout", "port-reused", "mirror-reset")
    snapshot = world.engine.snapshot(world.now)
    assert_adds_up(snapshot)
    assert (snapshot["mirrors"][0]["legs"], snapshot["mirrors"][0]["pending_bytes"]) == (0, 0)
