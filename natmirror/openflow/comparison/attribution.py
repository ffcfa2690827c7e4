"""Whose answer each order of one side is: the PACKET_IN that has caused it.

Each side answers on its own, early or late, and its orders may come in any order. So an order belongs to a PACKET_IN by
what it says, and not by its time alone:

- A PACKET_OUT belongs to the oldest PACKET_IN with its buffer, or its frame and port, that this side has not answered
  with a PACKET_OUT yet. Else to the oldest from which its frame follows, such as an ARP request from a reply to it.
- A FLOW_MOD with a buffer belongs to the PACKET_IN with it. Others wait for the PACKET_OUT of their burst, and belong
  to its PACKET_IN if their match covers the frame or its way back, or the frame of no other PACKET_IN.
- Else they belong to the PACKET_IN of the PACKET_OUT just before, if it is covered; else to the oldest PACKET_IN that
  is covered and has no answer; else to the one whose rules come in the same burst; else to none: they are a programme.
  So is an order about all frames.

A PACKET_IN counts only if the side knew it when the order came.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from natmirror.openflow.bodies.elements import NO_BUFFER
from natmirror.openflow.bodies.frames import frame_fields
from natmirror.openflow.bodies.values import Body, FlowMod, PacketOut
from natmirror.openflow.comparison.causes import Cause, follows_from, has_port_of, is_covered, key_of
from natmirror.openflow.comparison.readings import Reading
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.model import Done
from natmirror.openflow.tables.packed import PackedMatch

BURST = 0.05
"""Seconds in which the orders of one answer come."""
HORIZON = 5.0
"""Seconds after which a PACKET_IN is not answered any more."""
MAX_CAUSES = 128
"""PACKET_INs that can have answers."""
_MAX_WAITING = 64  # FLOW_MODs that wait for the PACKET_OUT of their burst


@dataclass(slots=True, eq=False)
class Order:
    """An order of one side."""

    at: float
    message: Message
    reading: Reading
    more_cost: int = 0
    """Bytes of memory for the body of a long message, besides an ordinary one's."""
    done: Done | None = None
    """What it has changed; None where it was not followed."""
    cause: Cause | None = None
    """The PACKET_IN that it answers; None if it answers none, or while it waits."""
    is_refused: bool = False
    """Whether the switch has refused it, or would have."""

    @property
    def body(self) -> Body:
        return self.reading.body


@dataclass(slots=True, eq=False)
class _Known:
    """A PACKET_IN that this side knows, and what it has made of it."""

    cause: Cause
    at: float
    """When this side got it."""
    number: int
    """Its place among those that this side got."""
    outs: int = 0
    flows: int = 0
    out_at: float = -inf
    """When the latest PACKET_OUT for it came."""
    last_at: float = -inf
    """When the latest order for it came."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A FLOW_MOD that waits for the PACKET_OUT of its burst."""

    order: Order
    is_delete: bool
    known: int
    """How many PACKET_INs the side had got before it."""
    there: PackedMatch
    back: PackedMatch
    """The match for the way back."""

    def is_about(self, one: _Known) -> bool:
        """Return whether it can be about a PACKET_IN: its side knew that when the order came."""
        return one.number < self.known and self.order.at - one.at <= HORIZON

    def covers(self, one: _Known) -> bool:
        return is_covered(one.cause.there, self.there)

    def covers_back(self, one: _Known) -> bool:
        return is_covered(one.cause.back, self.back)


class Attribution:
    """The attribution of one side's orders."""

    def __init__(self) -> None:
        self.limit = MAX_CAUSES
        """The PACKET_INs that are known at most."""
        self.held = 0
        """Bytes of the PACKET_INs that are known."""
        self._dropped = -1  # the number of the last one that was forgotten because there were too many
        self._known: deque[_Known] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._late: deque[_Waiting] = deque()
        """Those that no PACKET_OUT has followed, and that wait for the other rules of their burst."""
        self._count = 0

    def told(self, cause: Cause, now: float) -> None:
        """Notice that the side gets a PACKET_IN."""
        self._forget_old(now)
        self._known.append(_Known(cause, now, self._count))
        self._count += 1
        self.held += cause.cost
        if len(self._known) > self.limit:
            self._dropped = self._known[0].cause.number
            self._forget_oldest()

    def has_dropped(self, cause: Cause) -> bool:
        """Return whether later orders may be answers to a PACKET_IN that was forgotten early."""
        return cause.number <= self._dropped

    def ordered(self, order: Order) -> list[Order]:
        """Take an order. Return the orders whose causes are settled now, in the order in which they came."""
        settled = self.settle(order.at)
        body = order.body
        if isinstance(body, PacketOut):
            known = self._of_packet_out(body)
            if known is not None:
                settled += self._settle_burst(known)
                known.outs += 1
                known.out_at = order.at
                self._give(order, known)
        elif isinstance(body, FlowMod) and body.buffer_id != NO_BUFFER:
            alike = [one for one in self._known if one.cause.packet_in.buffer_id == body.buffer_id]
            if alike:
                self._give(order, alike[-1])
                alike[-1].flows += 1
        elif isinstance(body, FlowMod) and body.match:
            return settled + self._wait(order, body)
        settled.append(order)
        return settled

    def settle(self, now: float) -> list[Order]:
        """Return the orders whose burst has ended, with their causes."""
        settled: list[Order] = []
        while self._waiting and now >= self._waiting[0].order.at + BURST:
            settled += self._settle_alone(self._waiting.popleft())
        while self._late and now >= self._late[0].order.at + 2 * BURST:
            settled.append(self._settle_late(self._late.popleft()))
        self._forget_old(now)
        return settled

    def next_deadline(self) -> float | None:
        """Return when settle() has something to do."""
        if not self._waiting and not self._late:
            return None
        return min(queue[0].order.at + count * BURST for count, queue in enumerate(self._queues, 1) if queue)

    @property
    def _queues(self) -> tuple[deque[_Waiting], deque[_Waiting]]:
        return self._waiting, self._late

    @property
    def waiting(self) -> Iterator[Order]:
        """Yield the orders whose causes are not settled."""
        return (one.order for queue in self._queues for one in queue)

    def clear(self) -> list[Order]:
        """Forget all PACKET_INs; return the orders that waited, without causes."""
        waiting = list(self.waiting)
        for queue in self._queues:
            queue.clear()
        self._known.clear()
        self.held = 0
        return waiting

    def _forget_old(self, now: float) -> None:
        while self._known and now - self._known[0].at > HORIZON + BURST:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self.held -= self._known.popleft().cause.cost

    @staticmethod
    def _give(order: Order, known: _Known) -> Order:
        order.cause = known.cause
        known.last_at = max(known.last_at, order.at)
        return order

    # PACKET_OUTs

    def _of_packet_out(self, body: PacketOut) -> _Known | None:
        key, alike = key_of(body.frame), []
        if body.buffer_id != NO_BUFFER:
            alike = [one for one in self._known if one.cause.packet_in.buffer_id == body.buffer_id]
        elif body.frame:
            alike = [one for one in self._known if one.cause.frame_key == key]
        if not alike and body.frame:
            fields = frame_fields(body.frame, body.in_port)
            alike = [one for one in self._known if follows_from(one.cause, fields)]
        fresh = [one for one in alike if not one.outs]
        if fresh:
            return next((one for one in fresh if has_port_of(one.cause, body)), fresh[0])
        return max(alike, key=lambda one: one.out_at, default=None)

    # FLOW_MODs

    def _wait(self, order: Order, mod: FlowMod) -> list[Order]:
        one = _Waiting(order, mod.command.is_delete, self._count, *order.reading.packed)
        self._waiting.append(one)
        return self._settle_alone(self._waiting.popleft()) if len(self._waiting) > _MAX_WAITING else []

    def _settle_burst(self, known: _Known) -> list[Order]:
        """A PACKET_OUT shows the cause of its burst: return the orders before it that belong to the same."""
        settled, still = [], deque[_Waiting]()
        for one in self._waiting:
            owner = self._of_burst(one, known) if one.is_about(known) else None
            if owner is None:
                still.append(one)
            else:
                owner.flows += 1
                settled.append(self._give(one.order, owner))
        self._waiting = still
        return settled

    def _of_burst(self, one: _Waiting, known: _Known) -> _Known | None:
        if one.covers(known):
            return known
        for covers in (one.covers, one.covers_back):
            if covers is one.covers_back:
                if any(one.covers(other) for other in self._known if not other.outs and one.is_about(other)):
                    return None  # it comes before the PACKET_OUT of another one
                if one.covers_back(known):
                    return known
            before = self._just_before(one, covers)
            if before is not None:
                return before
        is_anothers = any(one.covers(other) or one.covers_back(other) for other in self._known if one.is_about(other))
        return None if is_anothers else known

    def _just_before(self, one: _Waiting, covers: Callable[[_Known], bool]) -> _Known | None:
        """Return the PACKET_IN whose PACKET_OUT came in the same burst, before the order, if it is covered."""
        found = [
            other
            for other in self._known
            if 0 <= one.order.at - other.out_at <= BURST and one.is_about(other) and covers(other)
        ]
        return max(found, key=lambda other: (not other.flows, other.out_at), default=None)

    def _settle_alone(self, one: _Waiting) -> list[Order]:
        """Settle an order that no PACKET_OUT has followed, or have it wait for the other rules of its burst."""
        known = self._just_before(one, one.covers) or self._just_before(one, one.covers_back)
        if known is None and not one.is_delete:
            known = self._oldest(one)
        if known is not None:
            known.flows += 1
            return [self._give(one.order, known)]
        self._late.append(one)
        return [self._settle_late(self._late.popleft())] if len(self._late) > _MAX_WAITING else []

    def _oldest(self, one: _Waiting) -> _Known | None:
        """Return the oldest PACKET_IN that is covered and has no answer."""
        covered = [other for other in self._known if one.is_about(other) and one.covers(other) and not other.flows]
        return next((other for other in covered if not other.outs), covered[0] if covered else None)

    def _settle_late(self, one: _Waiting) -> Order:
        """Settle an order by the rules that came in the same burst, before it or after it."""
        found = [
            other
            for other in self._known
            if not one.is_delete
            and abs(one.order.at - other.last_at) <= BURST
            and one.is_about(other)
            and (one.covers(other) or one.covers_back(other))
        ]
        if not found:
            return one.order
        return self._give(one.order, max(found, key=lambda other: other.last_at))
