"""The latest steps that changed a state, so that a step can be taken out of the middle as if it had never been.

A switch may refuse an order (ERROR) after its controller has sent more orders. Undoing the refused one alone would be
wrong: what a later deletion has found depends on it. So the later steps are undone too, the latest first, and done
again without the refused one, each with its own time. Where no later step can depend on it, that is left out.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from natmirror.openflow.tables.bundles import ORDER_COST, Order
from natmirror.openflow.tables.entries import Key
from natmirror.openflow.tables.state import NOTHING_KNOWN, Account, Change, Known, State
from natmirror.openflow.tables.steps import PER_STEP, Steps

MAX_STEPS = 1024
"""Steps that can be undone, of one switch and side."""
REFUSAL_TIMEOUT = 10.0
"""Seconds after which no ERROR of the switch can be about an order any more."""
HEAD_LEN = 64
"""Bytes of a refused request that an ERROR has at least (1.3.5 §7.5.4)."""

Action = Callable[[float], Iterable[Change | None]]
"""A function that changes the state, with its time as the argument, and yields each change after it was made; None for
work that has changed nothing."""


@dataclass(slots=True, eq=False)
class Step:
    """One order of the controller, or one event of the switch."""

    action: Action
    at: float
    xid: int | None = None
    """The order's transaction id; None for what a switch cannot refuse."""
    head: bytes = b""
    """The beginning of the order's message."""
    orders: list[Order] = field(default_factory=list)
    """What the action does: one order, or those of a bundle."""
    only_key: Key | None = None
    """The only entry by which the step decides and which it can change; None if there may be several."""
    is_unknown: bool = False
    """Whether natmirror cannot say what the order changes; then the switch must refuse it."""
    number: int = 0
    """Its place among all steps ever taken."""
    changes: list[Change] = field(default_factory=list)
    known_before: Known = NOTHING_KNOWN
    replaced: int = 0
    """Bytes of the entries that it replaced."""
    cost: int = 0
    """Bytes of memory, with those of the entries that it replaced."""


class Journal:
    """The steps of one state that can still be undone, the oldest first."""

    def __init__(self, state: State, account: Account) -> None:
        self._state = state
        self._account = account
        self._steps: deque[Step] = deque()
        self.end = 0
        """The number that the next step will have."""
        self._dropped_at = float("-inf")
        self.kept_from = 0
        """The number from which on no step was dropped early."""
        self.has_unknown = False
        """Whether the switch has done an order that natmirror does not know."""

    def do(self, step: Step) -> Steps[list[Change]]:
        """Take a step, and keep it. Return its changes."""
        self.confirm_old(step.at)
        step.number = self.end
        self.end += 1
        self._steps.append(step)
        yield from self._take(step)
        step.cost = ORDER_COST * max(1, len(step.orders)) + step.replaced
        is_paid = self._account.take(step.cost)
        while not is_paid and len(self._steps) > 1:
            self._drop_early(step.at)
            is_paid = self._account.take(step.cost)
        if not is_paid:
            step.cost = 0
        if not is_paid or len(self._steps) > MAX_STEPS:
            self._drop_early(step.at)
        return step.changes

    def _take(self, step: Step) -> Steps[None]:
        step.known_before = self._state.known
        step.changes = []
        step.replaced = 0
        for count, change in enumerate(step.action(step.at), 1):
            if change is not None:
                step.changes.append(change)
                step.replaced += 0 if change.old is None else change.old.cost
            if not count % PER_STEP:
                yield

    def _drop_early(self, now: float) -> None:
        """Drop the oldest step, though the switch could still refuse it."""
        self._dropped_at = now
        self.kept_from = self._steps[0].number + 1
        self._drop_first()

    def _drop_first(self) -> None:
        step = self._steps.popleft()
        self._account.give(step.cost)
        self.has_unknown = self.has_unknown or step.is_unknown

    def confirm(self, end: int) -> None:
        """Drop the steps with lower numbers: the switch has done them."""
        while self._steps and self._steps[0].number < end:
            self._drop_first()

    def confirm_old(self, now: float) -> None:
        """Drop the steps that are too old to be refused."""
        while self._steps and now - self._steps[0].at > REFUSAL_TIMEOUT:
            self._drop_first()

    def has_dropped(self, now: float) -> bool:
        """Return whether steps were dropped lately that the switch could still refuse."""
        return now - self._dropped_at <= REFUSAL_TIMEOUT

    def clear(self) -> None:
        """Forget all steps."""
        self.confirm(self.end)
        self.kept_from = self.end
        self.has_unknown = False
        self._dropped_at = float("-inf")

    def find(self, xid: int, data: bytes) -> Step | None:
        """Return the step of a refused order. Where several have the transaction id, return the oldest whose message
        begins as the ERROR says, for a switch refuses orders in their order."""
        found = [step for step in self._steps if xid in (step.xid, *(one for one, _ in step.orders))]
        head = data[:HEAD_LEN]
        return next((step for step in found if step.head.startswith(head)), found[0] if found else None)

    def refuse(self, refused: Step, xid: int, now: float) -> Steps[None]:
        """Undo a step as if it had never been. If the transaction id is that of one order in a bundle, undo that order
        only."""
        if xid != refused.xid:
            yield from self._refuse_in_bundle(refused, xid, now)
            return
        later = list(self._steps)[self._steps.index(refused) + 1 :]
        self._steps.remove(refused)
        self._account.give(refused.cost)
        if self._is_independent(refused, later):
            yield from self._state.undo(reversed(refused.changes), now)
        else:
            yield from self._undo([refused, *later], now)
            yield from self._redo(later)

    def _refuse_in_bundle(self, bundle: Step, xid: int, now: float) -> Steps[None]:
        later = list(self._steps)[self._steps.index(bundle) :]
        yield from self._undo(later, now)
        del bundle.orders[next(at for at, (one, _) in enumerate(bundle.orders) if one == xid)]
        yield from self._redo(later)

    def do_first(self, step: Step, now: float) -> Steps[None]:
        """Take a step as if before all steps that are kept; it cannot be undone itself."""
        later = list(self._steps)
        yield from self._undo(later, now)
        yield from self._take(step)
        yield from self._redo(later)

    def _undo(self, steps: Sequence[Step], now: float) -> Steps[None]:
        for count, step in enumerate(reversed(steps), 1):
            yield from self._state.undo(reversed(step.changes), now)
            self._state.known = step.known_before
            if not count % PER_STEP:
                yield

    def _redo(self, steps: Sequence[Step]) -> Steps[None]:
        for count, step in enumerate(steps, 1):
            yield from self._take(step)
            if not count % PER_STEP:
                yield

    def _is_independent(self, refused: Step, later: list[Step]) -> bool:
        """Return whether no later step can depend on a step: each has one key, which is none of those changed."""
        keys = {change.key for change in refused.changes}
        return self._state.known == refused.known_before and all(
            step.only_key is not None and step.only_key not in keys for step in later
        )
