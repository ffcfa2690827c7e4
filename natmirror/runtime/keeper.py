"""The keeper compares what natmirror has put into the kernel with what should be there, and repairs it.

It repairs at once, five times within a minute: another program may have loaded its rules without knowing ours. One that
goes on is at war with natmirror, which neither of them can win: then the keeper repairs every 30 s only, and says so.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypedDict

from natmirror.errors import HostError
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.findings import Finding, FindingCode, Findings, OwnCode, Severity
from natmirror.linux.commands import HangsError

log = logging.getLogger("natmirror")

_MAX_REPAIRS = 5
"""This number of repairs within _WINDOW slows the keeper down."""
# Seconds
_WINDOW = 60.0
_SLOW_INTERVAL = 30.0  # between two repairs while another program undoes them
_COINCIDENCE = 10.0
"""Production that stops within this time of a change that the keeper cannot read has probably stopped because of it."""
_MAX_SHOWN = 3  # differences that a message names
_UNKNOWN = "an unknown program"


class KeptEntry(TypedDict):
    """Something that natmirror has put into the kernel, and keeps as it was."""

    name: str
    """What it is."""
    in_place: bool
    """Whether it is as natmirror has made it, as of the last check."""
    repairs: int
    """How many times natmirror has repaired it."""
    repaired_at: str | None
    """When it did so last, in UTC (RFC 3339); null: never."""
    difference: str
    """How it differs, or differed before the last repair."""
    changed_by: str
    """The programs that had changed it then, as far as the kernel tells."""
    contested: bool
    """Whether natmirror repairs it only every 30 s, because another program has undone five repairs within a minute."""


class Kept(Protocol):
    """Something that natmirror has put into the kernel."""

    name: str
    tables: Sequence[str]
    """The nftables tables that it is in."""
    command: str
    """The command that shows it."""
    unreadable: FindingCode
    """The finding while differences() cannot tell."""
    unknown: FindingCode
    """The finding instead of that, if production stopped passing just then."""
    repaired: FindingCode
    """The finding after a repair of what differences() has returned last."""
    not_repaired: FindingCode
    """The finding while that is not repaired."""

    def version(self) -> str | int | None:
        """Return something that changes whenever a program changes it, and costs little; None where there is no such
        thing."""

    def differences(self) -> list[str]:
        """Return how it differs from what natmirror has made, each in a few words. HostError where that is unknown."""

    def repair(self) -> None:
        """Make it again. HostError where the host refuses."""

    def give_way(self) -> None:
        """Do without it as far as possible: it differs, and is not repaired soon."""


class Changes(Protocol):
    """Knows which programs have changed an nftables table."""

    def take(self, table: str) -> str:
        """Return those that have changed it since the last call; empty where none is known."""


class RepairLimit:
    """Says when one thing may be repaired."""

    def __init__(self) -> None:
        self.is_contested = False
        """Whether another program keeps undoing the repairs."""
        self._repaired_at: deque[float] = deque(maxlen=_MAX_REPAIRS)

    def may_repair(self, now: float) -> bool:
        """Return whether it may be repaired now."""
        return not self.is_contested or now >= self._repaired_at[-1] + _SLOW_INTERVAL

    def note_repair(self, now: float) -> None:
        """Note that it has just been repaired."""
        self._repaired_at.append(now)
        if len(self._repaired_at) == _MAX_REPAIRS and now - self._repaired_at[0] <= _WINDOW:
            self.is_contested = True

    def note_right(self, now: float) -> None:
        """Note that it is as it should be; after a minute of that, nothing is contested any more."""
        if self.is_contested and now >= self._repaired_at[-1] + _WINDOW:
            self.is_contested = False
            self._repaired_at.clear()

    def is_recent(self, now: float) -> bool:
        """Return whether it was repaired within the last minute."""
        return bool(self._repaired_at) and now < self._repaired_at[-1] + _WINDOW


@dataclass(slots=True)
class _State:
    thing: Kept
    limits: defaultdict[FindingCode, RepairLimit] = field(default_factory=lambda: defaultdict(RepairLimit))
    """By the finding after a repair: a program that insists on the first place does not delay other repairs."""
    version: str | int | None = None  # when it was last found to be right
    repairs: int = 0
    repaired_at: str | None = None
    difference: str = ""
    changed_by: str = ""
    error: str | None = None  # why it differs now; None: it does not
    told: dict[FindingCode, Finding] = field(default_factory=dict)  # after the last repair of each kind
    unreadable: str = ""  # why it cannot be read now; empty: it can
    changed_at: float = 0.0  # when it may have changed last, while it cannot be read
    changed_version: str | int | None = None

    @property
    def is_contested(self) -> bool:
        return any(limit.is_contested for limit in self.limits.values())

    @property
    def fails(self) -> bool:
        """Return whether it differs in a way that is a failure."""
        return self.error is not None and self.thing.not_repaired.severity is Severity.FAILURE

    def note_right(self, now: float) -> None:
        for limit in self.limits.values():
            limit.note_right(now)


class Keeper:
    """Keeps ``things`` as they were made; it belongs to the thread that also makes and changes them on purpose.

    ``ring`` gets an event for each repair. ``stopped_at`` returns when production has stopped passing, or None.
    ``time_of_day`` returns the time as text.
    """

    def __init__(
        self,
        things: Sequence[Kept],
        changes: Changes,
        findings: Findings,
        ring: EventRing,
        *,
        stopped_at: Callable[[], float | None],
        time_of_day: Callable[[], str] = lambda: datetime.now(UTC).isoformat(timespec="milliseconds"),
    ) -> None:
        self.entries: list[KeptEntry] = []
        """The things as values for JSON, as of the last check; for any thread."""
        self._states = {thing.name: _State(thing) for thing in things}
        self._changes = changes
        self._findings = findings
        self._ring = ring
        self._stopped_at = stopped_at
        self._time_of_day = time_of_day
        self._has_stopped = False
        self._show(0.0)

    def check(self, things: Iterable[Kept], now: float) -> bool:
        """Compare some of the things, and repair those that differ; return whether none fails now. A thing that cannot
        be read counts as it was. If a program hangs that reads one, those after it are not compared. What all of them
        mean is reported each time, also if there are none to compare."""
        if self._has_stopped:
            return False
        states = [self._states[thing.name] for thing in things]
        try:
            for state in states:
                self._check(state, now)
        except HangsError:
            pass
        finally:
            self._show(now)
        return not any(state.fails for state in states)

    def stop(self) -> None:
        """Keep nothing any more: the operator removes it on purpose."""
        self._has_stopped = True
        self._findings.replace("keeper", [OwnCode.RULES_REMOVED.found()])

    def _check(self, state: _State, now: float) -> None:
        thing = state.thing
        version = thing.version()
        if state.error is None and version is not None and version == state.version:
            state.unreadable = ""
            state.note_right(now)
            return
        try:
            found = thing.differences()
        except HostError as error:
            if not state.unreadable or state.changed_version != version:
                state.changed_at, state.changed_version = now, version
            state.unreadable = str(error)
            if isinstance(error, HangsError):
                raise
            return
        state.unreadable = ""
        changed_by = ", ".join(filter(None, map(self._changes.take, thing.tables)))
        if not found:
            state.version, state.error = version, None
            state.note_right(now)
            return
        if state.error is None or changed_by:
            state.changed_by = changed_by or _UNKNOWN
        state.difference = "; ".join(found[:_MAX_SHOWN]) + ("; …" if len(found) > _MAX_SHOWN else "")
        limit = state.limits[thing.repaired]
        if not limit.may_repair(now):
            state.error = f"it was changed {_MAX_REPAIRS} times within a minute, so natmirror waits"
            thing.give_way()
            return
        try:
            thing.repair()
        except HostError as error:
            state.error = str(error)
            return
        is_known = limit.is_recent(now)  # otherwise the finding begins, and is logged
        text = (
            f"{thing.name}: repaired{' again' if is_known else ''}: {state.difference} (changed by {state.changed_by})"
        )
        self._ring.add(
            EventKind.KERNEL_REPAIRED,
            EventSeverity.WARNING,
            text,
            code=thing.repaired,
            subject=thing.name,
            is_logged=is_known,
        )
        state.repairs += 1
        state.repaired_at = self._time_of_day()
        state.version, state.error = None, None
        limit.note_repair(now)
        values = {"name": thing.name, "difference": state.difference, "program": state.changed_by}
        state.told[thing.repaired] = thing.repaired.found(**values)

    def _show(self, now: float) -> None:
        self.entries = [
            {
                "name": name,
                "in_place": state.error is None,
                "repairs": state.repairs,
                "repaired_at": state.repaired_at,
                "difference": state.difference,
                "changed_by": state.changed_by,
                "contested": state.is_contested,
            }
            for name, state in self._states.items()
        ]
        self._findings.replace("keeper", self._found(now))

    def _found(self, now: float) -> Iterator[Finding]:
        stopped_at = self._stopped_at()
        for name, state in self._states.items():
            if state.unreadable:
                is_cause = stopped_at is not None and abs(stopped_at - state.changed_at) <= _COINCIDENCE
                code = state.thing.unknown if is_cause else state.thing.unreadable
                yield code.found(name=name, error=state.unreadable, command=state.thing.command)
            if state.error is not None:
                yield state.thing.not_repaired.found(
                    name=name, difference=state.difference, program=state.changed_by, error=state.error
                )
            if state.is_contested:
                yield OwnCode.CONTESTED.found(name=name, program=state.changed_by)
            for code, told in state.told.items():
                if state.limits[code].is_recent(now) and not state.limits[code].is_contested:
                    yield told
