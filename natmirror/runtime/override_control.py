"""The operator's commands that hold until they are taken back: drains, weights and pauses.

They are one value, the overrides (rules/overrides.py). A command changes the value, and set() has all parts follow it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from natmirror.api import times
from natmirror.errors import HostError
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.rules import (
    Backend,
    Balance,
    Mirror,
    Override,
    OverrideKind,
    Overrides,
    Pool,
    Reconnect,
    Rules,
    Service,
    place_of,
)
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_file import OverrideFile
from natmirror.runtime.shown import CommandAnswer, OverrideEntry

_MAX_NAMES = 20  # known names that an error lists

Obey = Callable[[Mapping[str, Any]], str]
"""Obeys a command in the main thread; returns what it has done, as a sentence. ValueError where the rules have no such
backend or mirror."""


class OverrideControl:
    """The overrides that hold. They belong to the main thread, which reads ``mailbox``; any thread may read ``value``.

    ``rules`` are those of the file. ``file`` keeps some overrides over a restart, ``ring`` gets the events.
    """

    def __init__(
        self,
        rules: Rules,
        backends: BackendControl,
        engines: Sequence[EngineProxy],
        mailbox: Mailbox,
        ring: EventRing,
        file: OverrideFile,
        today: Callable[[], float] = time.time,
    ) -> None:
        self.value = Overrides()
        """The overrides that hold."""
        self._rules = rules
        self._backends = backends
        self._engines = engines
        self._mailbox = mailbox
        self._ring = ring
        self._file = file
        self._today = today

    # Changes

    def restore(self) -> None:
        """Set the overrides of earlier runs, before the workers start."""
        kept = self._file.restore()
        fitting = kept.fitting(self._rules)
        self._report_dropped(kept, fitting)
        self._set(fitting)
        self._file.save(fitting)

    def reload(self, rules: Rules) -> Rules:
        """Follow other rules of the file: drop the overrides whose backends and mirrors they lack. Return the rules for
        the engines; the backends have to follow them and ``value``."""
        before, self.value = self.value, self.value.fitting(rules)
        self._rules = rules
        self._report_dropped(before, self.value)
        self._file.save(self.value)
        return self.value.applied(rules)

    def dropped_by(self, rules: Rules) -> list[str]:
        """Return a line for each override that a reload of these rules would drop; from any thread."""
        value = self.value
        return [f"- command: {_text(one)}" for one in _lost(value, value.fitting(rules))]

    def _set(self, value: Overrides) -> None:
        """Have all parts follow the value."""
        before, self.value = self.value.applied(self._rules), value
        rules = value.applied(self._rules)
        if rules != before:
            for engine in self._engines:
                engine.reload(rules)
        self._backends.follow(value)

    def _report_dropped(self, before: Overrides, after: Overrides) -> None:
        for one in _lost(before, after):
            text = f"{_text(one)}: dropped, because the rules no longer have {one.name} at {one.place}"
            self._add(EventKind.OVERRIDE_DROPPED, one, text, EventSeverity.WARNING)

    # Commands

    def command(self, obey: Obey, arguments: dict[str, Any]) -> "Future[CommandAnswer]":
        """Have the main thread obey a command; from any thread. The future has the answer once the file has what the
        command wants to be kept."""
        answer: Future[CommandAnswer] = Future()
        self._mailbox.post(partial(self._obey, answer, obey, arguments))
        return answer

    def _obey(self, answer: "Future[CommandAnswer]", obey: Obey, arguments: dict[str, Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            if arguments.get("persist") and not self._file.is_there:
                raise ValueError(
                    "there is no directory to keep it in: run natmirror by its unit, which has StateDirectory=, or set"
                    " STATE_DIRECTORY"
                )
            done = obey(arguments)
            saving = self._file.save(self.value)
        except Exception as error:
            answer.set_exception(error)
            return
        if saving is None:
            answer.set_result({"done": done})
        else:
            saving.add_done_callback(partial(_answer_when_saved, answer, done))

    def drain(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …, "deadline": seconds or null, "persist": …}``."""
        service, _, backend = self._backend(arguments)
        deadline = arguments.get("deadline")
        until = None if deadline is None else self._today() + deadline
        one = self._made(OverrideKind.DRAIN, service, backend, arguments, until=until)
        was_open = self._backends.is_open(service.name, backend.name)
        self._set(self.value.including(one))
        count = self._backends.connections(service.name, backend.name)
        fate = "they stay until they end" if deadline is None else f"reset in {deadline:g} s unless they end before"
        left = f"connections left: {count} ({fate})" if count else "no connections left"
        follows = self._backends.after_drain(service.name, was_open=was_open)
        self._add(EventKind.BACKEND_DRAINED, one, f"{one.subject} is drained by a command; {left}; {follows}")
        return f"{one.subject} gets no new connections; {left}; {follows}{_lasts(one)}"

    def undrain(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …}``."""
        service, _, backend = self._backend(arguments)
        self._end(OverrideKind.DRAIN, service.name, backend.name, EventKind.BACKEND_UNDRAINED, "is drained no more")
        return self._backends.after_undrain(service.name, backend.name)

    def weigh(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …, "weight": number or null, "persist": …}``; null stands for the weight of
        the rules."""
        service, pool, backend = self._backend(arguments)
        weight = arguments["weight"]
        if pool.balance is Balance.PRIORITY:
            raise ValueError(
                f"{service.name} has balance: priority, in which weights have no effect: the first open backend gets"
                " all new connections"
            )
        subject = f"{service.name}/{backend.name}"
        if weight is None:
            text = f"has the weight of the rules again: {backend.weight}"
            self._end(OverrideKind.WEIGHT, service.name, backend.name, EventKind.WEIGHT_CHANGED, text)
            return f"{subject} has the weight of the rules: {backend.weight}"
        one = self._made(OverrideKind.WEIGHT, service, backend, arguments, weight=weight)
        self._set(self.value.including(one))
        text = f"{subject} has weight {weight} for new connections, instead of {backend.weight} in the rules"
        self._add(EventKind.WEIGHT_CHANGED, one, text)
        return f"{text}; open connections stay where they are{_lasts(one)}"

    def pause(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "mirror": …, "persist": …}``."""
        service, mirror = self._mirror(arguments)
        before = self.value.get(OverrideKind.PAUSE, service.name, mirror.name)
        one = self._made(OverrideKind.PAUSE, service, mirror, arguments)
        if before is not None:  # it has been paused since then
            one = replace(one, at=before.at)
        self._set(self.value.including(one))
        text = f"mirror {one.subject} is paused: its copies have ended, and no new ones begin"
        if before is None:
            self._add(EventKind.MIRROR_PAUSED, one, f"{text} until natmirror mirror resume")
        return f"{text} until natmirror mirror resume {one.subject}{_lasts(one)}"

    def resume(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "mirror": …}``."""
        service, mirror = self._mirror(arguments)
        subject = f"mirror {service.name}/{mirror.name}"
        if self.value.get(OverrideKind.PAUSE, service.name, mirror.name) is None:
            return f"{subject} was not paused"
        self._end(OverrideKind.PAUSE, service.name, mirror.name, EventKind.MIRROR_RESUMED, "is paused no more")
        if mirror.reconnect is Reconnect.NEVER:
            return f"{subject} gets copies of new connections again; those that are open now stay without one"
        return f"{subject} gets copies again: of new connections, and of open ones from a later message on"

    def _made(
        self,
        kind: OverrideKind,
        service: Service,
        subject: Backend | Mirror,
        arguments: Mapping[str, Any],
        *,
        weight: int | None = None,
        until: float | None = None,
    ) -> Override:
        is_kept = bool(arguments.get("persist"))
        return Override(kind, service.name, subject.name, place_of(subject), self._today(), is_kept, weight, until)

    def _end(self, kind: OverrideKind, service: str, name: str, event: EventKind, text: str) -> None:
        """Take an override back, if there is one, and tell so."""
        if (one := self.value.get(kind, service, name)) is not None:
            self._set(self.value.without(one.key))
            what = "mirror " if one.is_of_mirror else ""
            self._add(event, one, f"{what}{one.subject} {text}: a command has ended what another one had set")

    def _add(self, kind: EventKind, one: Override, text: str, severity: EventSeverity = EventSeverity.INFO) -> None:
        backend, mirror = (None, one.name) if one.is_of_mirror else (one.name, None)
        self._ring.add(kind, severity, text, service=one.service, backend=backend, mirror=mirror)

    # Names

    def _backend(self, arguments: Mapping[str, Any]) -> tuple[Service, Pool, Backend]:
        """Return the backend that a command names. ValueError where the rules have none of that name."""
        service = self._service(arguments["service"])
        if service.pool is None:
            raise ValueError(f"service {service.name} has no pool, so that it has no backends")
        for backend in service.pool.backends:
            if backend.name == arguments["backend"]:
                return service, service.pool, backend
        known = _known(backend.name for backend in service.pool.backends)
        raise ValueError(f"there is no backend {arguments['backend']:.50} in {service.name}: it has {known}")

    def _mirror(self, arguments: Mapping[str, Any]) -> tuple[Service, Mirror]:
        """Return the mirror that a command names. ValueError where the rules have none of that name."""
        service = self._service(arguments["service"])
        for mirror in service.mirrors:
            if mirror.name == arguments["mirror"]:
                return service, mirror
        known = f"it has {_known(mirror.name for mirror in service.mirrors)}" if service.mirrors else "it has none"
        raise ValueError(f"there is no mirror {arguments['mirror']:.50} in {service.name}: {known}")

    def _service(self, name: str) -> Service:
        for service in self._rules.services:
            if service.name == name:
                return service
        raise ValueError(
            f"there is no service {name:.50}: there are {_known(one.name for one in self._rules.services)}"
        )

    # The API

    def show(self) -> list[OverrideEntry]:
        """Return the overrides that hold as values for JSON, the oldest first; from any thread."""
        return [_shown(one) for one in sorted(self.value, key=lambda one: one.at)]


def _answer_when_saved(answer: "Future[CommandAnswer]", done: str, saving: "Future[None]") -> None:
    if (error := saving.exception()) is None:
        answer.set_result({"done": done})
    else:
        answer.set_exception(HostError(f"{done}. But the file does not say so yet: {error}; natmirror tries again"))


def _lost(before: Overrides, after: Overrides) -> list[Override]:
    return [one for one in before if one.key not in after.by_key]


def _text(one: Override) -> str:
    """Return what an override says, in a few words."""
    match one.kind:
        case OverrideKind.WEIGHT:
            return f"{one.subject} has weight {one.weight}"
        case OverrideKind.DRAIN:
            return f"{one.subject} is drained"
        case OverrideKind.PAUSE:
            return f"mirror {one.subject} is paused"


def _lasts(one: Override) -> str:
    """Return how long an override holds, as the end of a sentence."""
    return "; it holds over a restart, too" if one.is_kept else ""


def _known(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - _MAX_NAMES
    return ", ".join(found[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _shown(one: Override) -> OverrideEntry:
    return {
        "kind": one.kind,
        "service": one.service,
        "backend": None if one.is_of_mirror else one.name,
        "mirror": one.name if one.is_of_mirror else None,
        "weight": one.weight,
        "resets_at": None if one.until is None else times.show(one.until),
        "since": times.show(one.at),
        "kept": one.is_kept,
    }
