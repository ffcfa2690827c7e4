"""The lists of a run as values for JSON: flows, legs, ended legs and decisions of all threads, some at a time.

Each row has its position, from which a later request can go on: api/lists.py says how.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from natmirror.api.lists import Position
from natmirror.engine.shown import SwitchDecisions
from natmirror.events import EventEntry, EventKind, EventQuery, EventRing, EventSeverity
from natmirror.events.query import MAX_NUMBER
from natmirror.fastpath.flow_states import FlowState
from natmirror.mirror.shown import FlowEntry, LegEntry, LegPhase
from natmirror.net.endpoint import parse_endpoint
from natmirror.openflow.comparison.shown import VerdictEntry
from natmirror.reasons import EndReason
from natmirror.runtime.api_process import Arguments
from natmirror.runtime.engine_proxy import FIRST, EngineProxy, FlowPosition
from natmirror.runtime.selection import ClientFilter, Names, Selection, check_word
from natmirror.runtime.shown import EndedLeg, LegRow

_Row = TypeVar("_Row")
_Rows = Iterator[list[tuple[Position, _Row]]]
_ROUNDING = 0.0005  # seconds: a leg's lag is shown in milliseconds
_MOST = (1 << 31) - 1
_EVENTS_AT_ONCE = 256
_BAD_CURSOR = "the parameter cursor: expected the value of next in the answer before this one"


class RunLists:
    """The lists. ``names`` returns the names that are known now, ``ended_legs`` the legs that ended last, ``verdicts``
    the verdicts that arguments ask for. Each list raises ValueError for arguments that it refuses: names and words that
    are not known, or a foreign cursor."""

    def __init__(
        self,
        engines: Sequence[EngineProxy],
        names: Callable[[], Names],
        ended_legs: Callable[[], list[tuple[int, EndedLeg]]],
        ring: EventRing,
        verdicts: Callable[[Arguments], Iterator[VerdictEntry]],
    ) -> None:
        self._verdicts = verdicts
        self._engines = engines
        self._names = names
        self._ended_legs = ended_legs
        self._ring = ring

    def flows(self, arguments: Arguments) -> _Rows[FlowEntry]:
        """Return the flows with their legs."""
        check_word(arguments.get("state"), "state", FlowState)
        self._check_names(arguments)
        after = _position(arguments, int, bool, int)
        return self._flows(Selection(arguments, of_legs=False), after)

    def legs(self, arguments: Arguments) -> _Rows[LegRow]:
        """Return a row for each leg."""
        check_word(arguments.get("state"), "state", LegPhase)
        self._check_names(arguments)
        after = _position(arguments, int, bool, int, str)
        wanted = Selection(arguments, of_legs=True)
        if (worst := arguments.get("worst")) is not None:
            return self._worst_legs(wanted, arguments["lagging"] - _ROUNDING, worst)
        return self._legs(wanted, after)

    def ended(self, arguments: Arguments) -> _Rows[EndedLeg]:
        """Return the legs that ended last, the latest last."""
        check_word(arguments.get("reason"), "reason", EndReason)
        legs = self._ended_legs()
        rows = [leg for _, leg in legs]
        self._check_names(arguments, rows)
        after = _position(arguments, int) or [0]
        client = ClientFilter(arguments.get("client"))
        wanted = {key: arguments[key] for key in ("service", "mirror", "reason") if key in arguments}
        return iter(
            [
                [
                    ([number], leg)
                    for number, leg in legs
                    if number > after[0]
                    and client.takes(parse_endpoint(leg["client"]))
                    and wanted.items() <= leg.items()
                ]
            ]
        )

    def events(self, arguments: Arguments) -> _Rows[EventEntry]:
        """Return the events, the latest last."""
        check_word(arguments.get("kind"), "kind", EventKind)
        check_word(arguments.get("severity"), "severity", EventSeverity)
        [after] = _position(arguments, int, most=MAX_NUMBER) or [0]
        return self._events(EventQuery.read(arguments), after)

    def _events(self, wanted: EventQuery, after: int) -> _Rows[EventEntry]:
        found = wanted.select(self._ring.after(after))
        for start in range(0, len(found), _EVENTS_AT_ONCE):
            yield [([one.number], one.entry()) for one in found[start : start + _EVENTS_AT_ONCE]]

    def verdict(self, arguments: Arguments) -> _Rows[VerdictEntry]:
        """Return the verdicts on masters."""
        [after] = _position(arguments, int) or [0]
        return self._verdicts_from(arguments, after)

    def _verdicts_from(self, arguments: Arguments, after: int) -> _Rows[VerdictEntry]:
        for number, one in enumerate(self._verdicts(arguments), 1):
            if number > after:
                yield [([number], one)]

    def decisions(self, arguments: Arguments) -> _Rows[SwitchDecisions]:
        """Return the orders of backends and masters for each switch."""
        self._check_names(arguments)
        return self._decisions(arguments, _position(arguments, int, int) or [0, -1])

    def _decisions(self, arguments: Arguments, after: Position) -> _Rows[SwitchDecisions]:
        client, service = ClientFilter(arguments.get("client")), arguments.get("service")
        for thread, engine in self._from(after):
            for part in engine.decisions(after[1] + 1 if thread == after[0] else 0):
                yield [
                    ([thread, number], one.show(time.monotonic()))
                    for number, one in part
                    if client.takes(parse_endpoint(one.client)) and service in (None, one.service)
                ]

    def _flows(self, wanted: Selection, after: Position | None) -> _Rows[FlowEntry]:
        for thread, engine in self._from(after):
            first = FIRST
            if after is not None and thread == after[0]:
                first = after[1], after[2] + 1
            for part in engine.flows(wanted, first):
                yield [([thread, *position], flow) for position, flow in part]

    def _legs(self, wanted: Selection, after: Position | None) -> _Rows[LegRow]:
        for thread, engine in self._from(after):
            first = FIRST if after is None or thread != after[0] else (after[1], after[2])
            for part in engine.flows(wanted, first):
                rows = chain.from_iterable(_leg_rows(thread, position, flow, wanted) for position, flow in part)
                yield [(position, row) for position, row in rows if after is None or position > after]

    def _worst_legs(self, wanted: Selection, seconds: float, most: int) -> _Rows[LegRow]:
        """Yield rows among which are those of the ``most`` legs that have been behind longest."""
        for thread, engine in enumerate(self._engines):
            shown: set[FlowPosition] = set()
            for part in engine.flows_behind(wanted, seconds):
                fresh = {position: flow for position, flow in part if position not in shown}
                shown |= fresh.keys()
                yield [row for one in fresh.items() for row in _leg_rows(thread, *one, wanted)]
                if len(shown) >= most:
                    break

    def _from(self, after: Position | None) -> Iterator[tuple[int, EngineProxy]]:
        for thread, engine in enumerate(self._engines):
            if after is None or thread >= after[0]:
                yield thread, engine

    def _check_names(self, arguments: Arguments, ended: Sequence[EndedLeg] = ()) -> None:
        if not arguments.keys() & {"service", "backend", "mirror"}:
            return
        names = self._names()
        services = names.services | {leg["service"] for leg in ended}
        mirrors = names.mirrors | {(leg["service"], leg["mirror"]) for leg in ended}
        Names(services, names.backends, mirrors).check(arguments)


def _leg_rows(
    thread: int, position: FlowPosition, flow: FlowEntry, wanted: Selection
) -> Iterator[tuple[Position, LegRow]]:
    """Yield the rows of a flow's legs, by their mirrors' names."""
    for leg in sorted(flow["legs"], key=_mirror):
        if wanted.takes_leg(leg):
            row: LegRow = {
                "service": flow["service"],
                "client": flow["client"],
                "backend": flow["backend"],
                "flow_state": flow["state"],
                **leg,
            }
            yield [thread, *position, leg["mirror"]], row


def _mirror(leg: LegEntry) -> str:
    return leg["mirror"]


def _position(arguments: Arguments, *kinds: type, most: int = _MOST) -> Position | None:
    """Return the position behind which the list goes on, or None for the whole list. ``most`` bounds its numbers."""
    position: Any = arguments.get("after")
    if position is None:
        return None
    is_one = isinstance(position, list) and len(position) == len(kinds)
    if not is_one or not all(type(one) is kind for one, kind in zip(position, kinds, strict=True)):
        raise ValueError(_BAD_CURSOR)
    if any(isinstance(one, int) and not -1 <= one <= most for one in position):
        raise ValueError(_BAD_CURSOR)
    return list(position)
