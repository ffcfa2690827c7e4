"""Two hosts in the simulator's world, of which one takes over from the other."""

import json
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from tests.helpers.simulator import World

_SHARE_INTERVAL = 0.2  # seconds


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
            self.later(moment.outage + _SHARE_INTERVAL, lambda: self._share(second, first))
        if moment.prepared:
            self._adopt(second)
        self.later(moment.outage, lambda: self._take_over(second))

    def _release(self, first: Engine) -> None:
        first.replicated_legs.release()
        self.events += first.take_events()
        self._living.remove(first)

    def _share(self, second: Engine, first: Engine) -> None:
        """Have the first host deliver what the second one lacks, as long as the first one has its legs."""
        if first not in self._living:
            return
        for record in second.replicated_legs.lacking_records():
            first.replicated_legs.deliver_missing(record, self.now)
        self.later(_SHARE_INTERVAL, lambda: self._share(second, first))

    def _adopt(self, second: Engine) -> None:
        for record in self._records:
            with suppress(ValueError):  # a record of another connection
                second.replicated_legs.adopt(record, self.now)

    def _take_over(self, second: Engine) -> None:
        self._adopt(second)
        second.replicated_legs.take_over(self.now)


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
