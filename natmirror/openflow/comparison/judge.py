"""Judges one observed connection of a switch: would each mirror's master have done what production's controller did?

A Judge gets messages, each with its time, and keeps them until settle() works on them in small steps. So its caller
decides when that work is done, and may stop after each step. What it finds out goes to each mirror's Collector, during
settle(), give_up() and close().

It has a model of the switch's tables (ProductionModel), and for each mirror a model of the tables that the mirror's
orders would have made (MirrorModel). pair.py has what is compared with one mirror. All that it keeps is bounded; beyond
the bounds a result is "not known".
"""

from collections import deque
from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Protocol

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.values import ErrorMessage, PacketIn
from natmirror.openflow.comparison.causes import BytesKey, Cause, PastFrames, cause_of, key_of
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.frame_comparison import Frames
from natmirror.openflow.comparison.pair import Pair
from natmirror.openflow.comparison.programme import MAX_UNASKED
from natmirror.openflow.comparison.readings import Readings
from natmirror.openflow.comparison.results import Collector
from natmirror.openflow.comparison.side import Side, is_order, is_report
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.tables.evidence import prove_gone
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel, Removal
from natmirror.openflow.tables.state import Account, NotFollowed
from natmirror.openflow.tables.steps import Steps

START_TIME = 10.0
"""Seconds from the connection's beginning in which a mirror that joins begins as production does, with nothing."""
_MIN_CAUSES = 8  # PACKET_INs that are kept, however little memory there is
_MIN_PAUSE = 0.001  # seconds between two looks at what is due
_MAX_INPUTS = 16_384  # messages that wait for settle()
_INPUT_COST = 400  # bytes that Python needs for a message that waits


class _Work(Protocol):
    def __call__(self) -> Steps[None]: ...


class Judge:
    """The judge of one observed connection, made once its version is known.

    ``account`` is for the models' rules; ``held`` is the rest. ``is_picked_up``: the connection's beginning was not
    seen, so its controller has given orders before.
    """

    def __init__(self, version: int, account: Account, now: float, *, is_picked_up: bool = False) -> None:
        self._version = version
        self._account = account
        self._began_at = -inf if is_picked_up else now
        self._readings = Readings()
        self._production = Side(ProductionModel(version, account), self._readings)
        self._pairs: dict[str, Pair] = {}
        self._frames = Frames()
        self._past = PastFrames()
        self._first_orders: deque[Effect] = deque()
        """Orders of production at the start, for mirrors that join then."""
        self._first_held = 0
        self._count = 0
        self._inputs: deque[tuple[_Work, int, bool]] = deque()
        """What waits for settle(), each with its bytes, and whether it is about a mirror's session."""
        self._inputs_held = 0
        self._work: Steps[None] | None = None
        """What is not finished."""
        self._is_at_work = False
        """Whether a step is being done just now."""
        self._is_closed = False
        self._now = now
        self._settled_at = now
        self._next_at: float | None = None
        """When something is due; None where that has to be found again."""

    # The mirrors, by their names

    def joined(self, mirror: str, collector: Collector, now: float, *, warm_up: float, is_open: bool = False) -> None:
        """Notice that a session with a mirror's master begins: when its leg is established.

        A mirror that had a session before continues with its tables. ``warm_up``: seconds from now on in which no
        answer of the master counts. ``is_open``: the session has begun before, and the master has given orders.
        """
        if not self._is_closed:
            self._pair_of(mirror, collector, now, is_open)
            self._put(partial(self._joined, mirror, collector, now, warm_up, is_open), 0, now, is_of_session=True)

    def _pair_of(self, mirror: str, collector: Collector, now: float, is_open: bool) -> Pair:
        pair = self._pairs.get(mirror)
        if pair is not None:
            return pair
        is_start = not is_open and now - self._began_at <= START_TIME
        since = -inf if is_start else now
        model = MirrorModel(self._version, self._account, self._production.model)
        pair = Pair(
            *(self._production, model, self._frames, self._past, self._readings, collector, since, now),
            sees_beginning=self._began_at > -inf,
        )
        pair.give_up(self._production.attribution.limit)
        self._pairs[mirror] = pair
        self._next_at = None
        if is_start:
            for effect in self._first_orders:
                pair.effect(effect, is_mirror=False)
        return pair

    def ended(self, mirror: str, reason: str, now: float, *, is_fault: bool) -> None:
        """Notice that a session has ended. ``is_fault``: the master or the network has ended it while the switch's
        connection lived, and neither the rules nor natmirror."""
        self._put(partial(self._ended, mirror, reason, now, is_fault), 0, now, is_of_session=True)

    def removed(self, mirror: str, now: float) -> None:
        """Forget a mirror that has left the rules, or that is not judged any more."""
        self._put(partial(self._removed, mirror, now), 0, now, is_of_session=True)

    def model_of(self, mirror: str) -> MirrorModel | None:
        """Return the tables that a mirror's orders would have made; None for a mirror that never joined."""
        pair = self._pairs.get(mirror)
        return None if pair is None else pair.mirror.model

    # Messages. All of a side have to come, in their order: those that do not matter are left out here.

    def from_switch(self, message: Message, now: float) -> None:
        """Take a message of the switch, before any master gets it."""
        if message.kind is Type.PACKET_IN:
            self._put(partial(self._saw, message, now), len(message.raw), now)
        elif is_report(message):
            self._put(partial(self._reported, message, now), len(message.raw), now)

    def from_controller(self, message: Message, now: float) -> None:
        """Take a message of production's controller."""
        if is_order(message):
            self._put(partial(self._ordered, message, now), len(message.raw), now)

    def missed(self, now: float) -> None:
        """Notice that bytes of the switch or of its controller are missing: production's tables are not known."""
        self._put(partial(self._missed, now), 0, now)

    def told(self, mirror: str, message: Message, now: float) -> None:
        """Notice that a mirror's session has passed a message of the switch to the master."""
        if message.kind is Type.PACKET_IN:
            self._put(partial(self._told, mirror, key_of(message.raw), now), 0, now)

    def withheld(self, mirror: str, message: Message, now: float, *, is_wanted: bool) -> None:
        """Notice that a mirror's master will not get a message of the switch. If it wants such messages, it knows less
        than production's controller from now on: so it warms up again."""
        if message.kind is Type.PACKET_IN:
            self._put(partial(self._withheld, mirror, key_of(message.raw), now, is_wanted), 0, now)

    def from_master(self, mirror: str, message: Message, now: float) -> None:
        """Take a message of a mirror's master, except those that its session has refused."""
        if is_order(message):
            self._put(partial(self._master_ordered, mirror, message, now), len(message.raw), now)

    # Time

    def settle(self, now: float) -> Iterator[None]:
        """Work on what has come and on what is due, in steps of about 1 ms at most; yield after each.

        To be called after messages, and at next_deadline(). An unfinished call may be dropped or continued later: the
        next one continues the same work.
        """
        self._now = max(self._now, now)
        while self._step():
            yield
        self._readings.clear()

    def next_deadline(self) -> float | None:
        """Return when settle() has something to do; None where it has not."""
        if self._is_closed:
            return None
        if self._inputs or self._work is not None:
            return self._now
        due_at = self._due_at()
        return None if due_at == inf else max(due_at, self._settled_at + _MIN_PAUSE)

    def _due_at(self) -> float:
        if self._next_at is None:
            self._next_at = self._find_due()
        return self._next_at

    def _find_due(self) -> float:
        due_at = min(self._production.next_deadline(), self._began_at + START_TIME if self._first_orders else inf)
        for pair in self._pairs.values():
            due_at = min(due_at, pair.next_deadline())
        return due_at

    def _step(self) -> bool:
        """Do a step; return False if there is none."""
        if self._is_closed or self._is_at_work:
            return False
        if self._work is None:
            if self._inputs:
                begin, held, _ = self._inputs.popleft()
                self._inputs_held -= held
                self._work = begin()
            elif self._now >= self._settled_at + _MIN_PAUSE and self._now >= self._due_at():
                self._work = self._settle(self._now)
            else:
                return False
        self._is_at_work, self._next_at = True, None
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        finally:
            self._is_at_work = False
        if self._is_closed:
            self._end()
        return True

    def _settle(self, now: float) -> Steps[None]:
        self._settled_at = now
        if now >= self._began_at + START_TIME:
            self._forget_first_orders()
        if self._production.model.may_expire:
            yield from self._production.model.expire(now)
        self._distribute(self._production.settle(now))
        for pair in list(self._pairs.values()):
            yield from pair.settle(now)

    # What the inputs do

    def _put(self, work: _Work, held: int, now: float, *, is_of_session: bool = False) -> None:
        if self._is_closed:
            return
        self._now = max(self._now, now)
        if len(self._inputs) >= _MAX_INPUTS:
            self._lose_inputs(now)
        self._inputs.append((work, held + _INPUT_COST, is_of_session))
        self._inputs_held += held + _INPUT_COST

    def _lose_inputs(self, now: float) -> None:
        """Forget the messages that wait, but not which mirrors have a session."""
        kept = [one for one in self._inputs if one[2]]
        self._inputs = deque([(partial(self._lost_inputs, now), 0, False), *kept])
        self._inputs_held = sum(held for _, held, _ in kept)

    def _joined(self, mirror: str, collector: Collector, now: float, warm_up: float, is_open: bool) -> Steps[None]:
        yield from self._pair_of(mirror, collector, now, is_open).joined(collector, now, warm_up)

    def _ended(self, mirror: str, reason: str, now: float, is_fault: bool) -> Steps[None]:
        if mirror in self._pairs:
            self._pairs[mirror].ended(reason, now, is_fault=is_fault)
        yield from ()

    def _removed(self, mirror: str, now: float) -> Steps[None]:
        pair = self._pairs.pop(mirror, None)
        if pair is not None:
            pair.close(now)
        yield from ()

    def _saw(self, message: Message, now: float) -> Steps[None]:
        try:
            body = decode(message)
        except MalformedBody:
            return
        if not isinstance(body, PacketIn):
            return
        cause = cause_of(self._count, now, message, body)
        self._count += 1
        yield from self._prove_gone(body, cause, now)
        self._frames.saw(cause)
        self._past.saw(cause)
        self._production.attribution.told(cause, now)
        for pair in self._pairs.values():
            pair.saw(cause)

    def _prove_gone(self, body: PacketIn, cause: Cause, now: float) -> Steps[None]:
        if self._production.model.may_expire:
            yield from self._production.model.expire(now)
        removals = yield from prove_gone(self._production.model, body, cause.fields, cause.there, now)
        for removal in removals:
            yield from self._lost(removal, now)

    def _lost(self, removal: Removal, now: float) -> Steps[None]:
        for pair in self._pairs.values():
            yield from pair.production_lost(removal, now)

    def _reported(self, message: Message, now: float) -> Steps[None]:
        try:
            body = decode(message)
        except MalformedBody:
            return
        removal = yield from self._production.model.reported(message, body, now)
        if removal is not None:
            yield from self._lost(removal, now)
        if isinstance(body, ErrorMessage):
            for order in self._production.refuse(message.xid, body.data, now):
                for effect in [one for one in self._first_orders if one.order is order]:
                    self._first_orders.remove(effect)
                    self._first_held -= effect.cost
                for pair in self._pairs.values():
                    pair.refused(order, now)

    def _ordered(self, message: Message, now: float) -> Steps[None]:
        self._distribute((yield from self._production.ordered(message, now)))

    def _distribute(self, effects: list[Effect]) -> None:
        for effect in effects:
            if effect.order.cause is None and effect.order.at < self._began_at + START_TIME:
                self._first_orders.append(effect)
                self._first_held += effect.cost
                if len(self._first_orders) > MAX_UNASKED:
                    self._first_held -= self._first_orders.popleft().cost
            for pair in self._pairs.values():
                pair.effect(effect, is_mirror=False)

    def _missed(self, now: float) -> Steps[None]:
        self._production.model.lose(NotFollowed.BYTES_MISSING, now)
        yield from ()

    def _lost_inputs(self, now: float) -> Steps[None]:
        """Messages of all were dropped before they were read."""
        yield from self._missed(now)
        for pair in self._pairs.values():
            pair.mirror.model.lose(NotFollowed.BYTES_MISSING, now)

    def _told(self, mirror: str, key: BytesKey, now: float) -> Steps[None]:
        if mirror in self._pairs:
            yield from self._pairs[mirror].told(key, now)

    def _withheld(self, mirror: str, key: BytesKey, now: float, is_wanted: bool) -> Steps[None]:
        if mirror in self._pairs:
            self._pairs[mirror].withheld(key, now, is_wanted=is_wanted)
        yield from ()

    def _master_ordered(self, mirror: str, message: Message, now: float) -> Steps[None]:
        if mirror in self._pairs:
            yield from self._pairs[mirror].ordered(message, now)

    # Memory

    @property
    def held(self) -> int:
        """Bytes that are kept, besides the models' rules."""
        pairs = sum(pair.held for pair in self._pairs.values())
        production = self._first_held + self._production.attribution.held + self._production.held
        return self._inputs_held + self._readings.held + production + self._frames.held + self._past.held + pairs

    def give_up(self, now: float) -> None:
        """Forget all that ``held`` counts, because the memory is needed: what is open is reported as not known. Keep
        half as many PACKET_INs from now on."""
        if self._inputs:
            self._lose_inputs(now)
        self._forget_all()
        self._next_at = None
        attribution = self._production.attribution
        attribution.limit = max(_MIN_CAUSES, attribution.limit // 2)
        for pair in self._pairs.values():
            pair.give_up(attribution.limit)

    def lost(self, now: float) -> None:
        """Notice that messages of all sides are missing from here on: forget what is open, and follow no tables."""
        self._lose_inputs(now)
        self.give_up(now)

    def close(self, now: float) -> None:
        """End the judgement, because the switch's connection has ended or the memory is needed: report what is certain,
        and give all memory back. It may be called in the middle of a step, which is then the last."""
        if not self._is_closed:
            self._is_closed = True
            self._now = max(self._now, now)
            if not self._is_at_work:
                self._end()

    def _end(self) -> None:
        if self._work is not None:
            self._work.close()
            self._work = None
        self._inputs.clear()
        self._inputs_held = 0
        for pair in self._pairs.values():
            pair.close(self._now)
        self._pairs.clear()
        self._forget_all()
        self._production.model.close(self._now)

    def _forget_all(self) -> None:
        self._production.clear()
        self._frames.clear()
        self._past.clear()
        self._readings.clear()
        self._forget_first_orders()

    def _forget_first_orders(self) -> None:
        self._first_orders.clear()
        self._first_held = 0
