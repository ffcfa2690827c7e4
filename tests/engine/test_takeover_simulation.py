"""Two hosts, of which one takes over from the other at any moment: the mirror gets the client's stream, complete or cut
short, and never another byte."""

import json
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.reasons import EndReason
from tests.helpers.simulator import World
from tests.helpers.support import assert_adds_up
from tests.helpers.weather import FINE, STREAM, mirror_weathers, weathers

TAKEOVER_REASONS = {
    *("closed", "linger-timeout", "stalled", "resume-timeout", "takeover-hole", "hole", "no-record"),
    *("mirror-reset", "released", "client-reset", "buffer-full"),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """When a host takes over, counted in packets that passed the first one, and how the first one ends."""

    at: int
    stale: int = 0
    """The age of the records, in packets."""
    outage: float = 0.0
    """For how many seconds no host forwards packets."""
    linger: float | None = None
    """After how many seconds the first host notices; None if it is dead."""
    overlap: float = 0.0
    """For how many seconds the first host, if it has not noticed, still gets some of the packets."""
    prepared: bool = True
    """Whether the second host adopts the records before it takes over."""


class Pair(World):
    """A World whose engine is replaced, once or several times."""

    def __init__(self, seed: int, stream: bytes, moments: list[Moment], *, fast: bool = True, **options: Any) -> None:
        super().__init__(seed, stream, fast=fast, **options)
        self.old: list[Engine] = []
        """The engines that were replaced."""
        self._fast = fast
        self._moments = moments
        self._passed = 0
        self._dark_until = 0.0
        self._overlaps_until = 0.0
        self._way = Random(seed)
        self._records: list[dict[str, Any]] = []
        self._living: list[Engine] = []

    @property
    def engines(self) -> list[Engine]:
        """The engines that run."""
        return [self.engine, *self._living]

    def _through_engine(self, packet: bytes, hook: Hook) -> None:
        if self.now < self._dark_until:
            return
        if self._living and self.now < self._overlaps_until and self._way.random() < 0.5:
            second, self.engine = self.engine, self._living[-1]
            super()._through_engine(packet, hook)
            self.engine = second
            return
        super()._through_engine(packet, hook)
        self._passed += 1
        if not self._moments:
            return
        moment = self._moments[0]
        if self._passed == moment.at - moment.stale:
            self._records = self._read_records()
        if self._passed == moment.at:
            self._moments = self._moments[1:]
            self._passed = 0
            self._change(moment)

    def _read_records(self) -> list[dict[str, Any]]:
        reported = self.engine.replicated_legs.records(self.engine.replicated_legs.ids(), everything=True)
        return list(json.loads(json.dumps(reported))) or self._records

    def _change(self, moment: Moment) -> None:
        first = self.engine
        self.old.append(first)
        self._dark_until = self.now + moment.outage
        self.engine = second = Engine(self.rules, key=bytes(16), fast=self._fast)
        second.replicated_legs.release()
        if moment.linger is not None:
            self._living.append(first)
            self._overlaps_until = self.now + moment.outage + moment.overlap
            self.later(moment.linger, lambda: self._release(first))
        if moment.prepared:
            self._adopt(second)
        self.later(moment.outage, lambda: self._take_over(second))

    def _release(self, first: Engine) -> None:
        first.replicated_legs.release()
        self.events += first.take_events()
        self._living.remove(first)

    def _adopt(self, second: Engine) -> None:
        for record in self._records:
            second.replicated_legs.adopt(record, self.now)

    def _take_over(self, second: Engine) -> None:
        self._adopt(second)
        second.replicated_legs.take_over(self.now)


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


moments = st.lists(
    st.builds(
        Moment,
        at=st.integers(8, 300),
        stale=st.sampled_from([0, 0, 1, 5, 30]),
        outage=st.sampled_from([0.0, 0.0, 0.05, 0.7, 3.0]),
        linger=st.sampled_from([None, None, 0.0, 0.05, 2.0]),
        overlap=st.sampled_from([0.0, 0.02, 0.3]),
        prepared=st.booleans(),
    ),
    min_size=1,
    max_size=3,
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
