"""Frames that controllers send on their own, such as LLDP: both sides at their own times, with contents of their own.

They are alike if they are of the same kind and leave alike. A difference is one that a side sends again and again, and
the other side never; of what is rarer it cannot be said that it is missing.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from natmirror.openflow.bodies.frames import frame_fields
from natmirror.openflow.bodies.values import PacketOut
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.words import Found, differences

_MAX_KINDS = 64
_OFTEN = 3
_TIME = 60.0  # seconds after the third one in which the other side may send its first one


@dataclass(slots=True)
class _Kind:
    first: Effect
    is_mirrors: bool
    count: int = 0
    due_at: float = inf
    is_done: bool = False
    """Whether both sides send it, or it was reported."""


class OwnFrames:
    """The frames that production and one mirror send on their own."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes that are kept."""
        self._kinds: OrderedDict[tuple[object, ...], _Kind] = OrderedDict()
        self._next_at = inf

    def sent(self, effect: Effect, *, is_mirror: bool) -> None:
        """Notice a frame of the mirror's master, or else of production's controller."""
        sent, body = effect.sent, effect.plain
        if sent is None or not isinstance(body, PacketOut) or not body.frame:
            return
        how = sent.actions if sent.outputs is None else sent.outputs
        key = (frame_fields(body.frame, 0).get("eth_type"), how)
        one = self._kinds.get(key)
        if one is None:
            if len(self._kinds) >= _MAX_KINDS:
                self.held -= self._kinds.popitem(last=False)[1].first.cost
            one = self._kinds[key] = _Kind(effect, is_mirror)
            self.held += effect.cost
        if is_mirror is not one.is_mirrors:
            one.is_done, one.due_at = True, inf
            return
        one.count += 1
        if one.count == _OFTEN and not one.is_done:
            one.due_at = effect.order.at + _TIME
            self._next_at = min(self._next_at, one.due_at)

    def next_deadline(self) -> float:
        """Return when settle() has something to do."""
        return self._next_at

    def settle(self, now: float) -> Iterator[Found]:
        """Yield what only one side sends."""
        for one in self._kinds.values():
            if now >= one.due_at:
                one.is_done, one.due_at = True, inf
                yield from differences(*(([], [one.first]) if one.is_mirrors else ([one.first], [])))
        self._next_at = min((one.due_at for one in self._kinds.values()), default=inf)

    def clear(self) -> None:
        """Forget all frames."""
        self._kinds.clear()
        self.held = 0
        self._next_at = inf
