"""The operator's commands that hold until they are taken back: drains, weights and pauses.

They are one value, the overrides (rules/overrides.py). A command changes the value, and set() has all parts follow it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

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
from natmirror.rules.override_history import Entry, OverrideHistory
from natmirror.rules.overrides import OverrideKey, has_subject
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_file import OverrideFile
from natmirror.runtime.override_words import known, lost, shown, text_of, why_dropped
from natmirror.runtime.shown import CommandAnswer, OverrideEntry

_BACK = {OverrideKind.ADD: "backend remove", OverrideKind.REMOVE: "backend add"}
"""The commands that take a change of a pool's backends back."""

Change = Callable[[Overrides], Overrides]
"""Changes the overrides that hold."""
Later = Mapping[OverrideKey, Override | None]
"""What other hosts have set later than this one; None: ended."""
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
        restored: Overrides,
        today: Callable[[], float] = time.time,
    ) -> None:
        """``restored`` are those of earlier runs. The engines and ``backends`` begin with the rules to which those that
        fit are applied."""
        self._restored = restored
        self.value = restored.fitting(rules)
        """The overrides that hold."""
        self._rules = rules
        self._backends = backends
        self._engines = engines
        self._mailbox = mailbox
        self._ring = ring
        self._file = file
        self._today = today
        self._history = OverrideHistory()
        self._keeping: Future[None] = Future()  # the latest event
        self._keeping.set_result(None)
        self.share: Callable[[list[Entry]], None] = _share_nothing
        """Shares what commands have changed with the other host."""
        self.adopt_pools: Callable[[Later], None] = _adopt_nothing
        """Follows what commands on the other host have changed in pools."""

    # Changes

    def start(self) -> None:
        """Give the backends the shares and weights of earlier runs, before the workers start."""
        self._report_dropped(self._restored, self.value)
        self._backends.follow(self.value)
        self._file.save(self.value)

    @property
    def rules(self) -> Rules:
        """The rules that run: those of the file, with what the overrides change in them; for any thread."""
        return self.value.applied(self._rules)

    def reload(self, rules: Rules, change: Change) -> Rules:
        """Follow other rules of the file, and a change of the overrides that fits them; report which of them are
        dropped. Return the rules for the engines; the backends have to follow them and ``value``."""
        before, self.value = self.value, change(self.value)
        was, self._rules = self._rules, rules
        if rules is not was:
            self._report_dropped(before, self.value)
        self._file.save(self.value)
        return self.rules

    def foresee(self, rules: Rules) -> Rules:
        """Return the rules that would run after a reload of these; from any thread."""
        return self.value.fitting(rules).applied(rules)

    def dropped_by(self, rules: Rules) -> list[str]:
        """Return a line for each override that a reload of these rules would drop; from any thread."""
        value = self.value
        return [f"- command: {text_of(one)}" for one in lost(value, value.fitting(rules))]

    def beside(self, rules: Rules) -> list[str]:
        """Return a line for each backend that a command has added to these rules or removed, and how to take that back;
        from any thread."""
        found = (one for one in self.value.fitting(rules) if one.kind in _BACK)
        return [f"{text_of(one)} by a command, until natmirror {_BACK[one.kind]}" for one in found]

    def _set(self, value: Overrides) -> None:
        """Have all parts follow the value."""
        before, self.value = self.value.applied(self._rules), value
        rules = value.applied(self._rules)
        if rules != before:
            for engine in self._engines:
                engine.reload(rules)
        self._backends.follow(value)

    def _change(self, value: Overrides) -> None:
        """Have all parts follow a command, those of the other host, too."""
        before = self.value
        self._set(value)
        self.note(before, value)

    def note(self, before: Overrides, after: Overrides) -> None:
        """Note what a command has changed, and share it with the other host."""
        self.share(self._history.note(before, after, self._today()))

    # The other host

    def entries(self) -> list[Entry]:
        """Return the overrides that hold, and the ends of others, for the other host; from any thread."""
        return self._history.entries(self.value)

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Have other hosts' entries hold here, as far as they are later and fit the rules; from any thread."""
        self._mailbox.post(partial(self._adopt, entries))

    def _adopt(self, entries: Sequence[Entry]) -> None:
        if earlier := self._history.earlier(self.value, entries):
            self.share(earlier)  # the store has the entry that was written last, and a later one has to stay
        later = self._history.later(self.value, entries)
        pools = {key: one for key, one in later.items() if key[0] in _BACK}
        before, value = self.value, self.value.changed_by({key: later[key] for key in later.keys() - pools.keys()})
        fitting = value.fitting(self._rules)
        if fitting.by_key != before.by_key:
            self._set(fitting)
            self.report_adopted(before)
            self._file.save(self.value)
        if pools:
            self.adopt_pools(pools)

    def report_adopted(self, before: Overrides) -> None:
        """Add events about what another host's commands have changed since the overrides ``before``."""
        for one in (one for one in self.value if before.by_key.get(one.key) != one):
            self.add_event(EventKind.OVERRIDE_ADOPTED, one, f"{text_of(one)}, by a command on the other host")
        for one in lost(before, self.value):
            text = f"{text_of(one)}: a command on the other host has ended that"
            self.add_event(EventKind.OVERRIDE_ADOPTED, one, text)

    def _report_dropped(self, before: Overrides, after: Overrides) -> None:
        for one in lost(before, after):
            is_expected = one.kind in _BACK and has_subject(self._rules, one) == (one.kind is OverrideKind.ADD)
            severity = EventSeverity.INFO if is_expected else EventSeverity.WARNING
            text = f"{text_of(one)}: that holds no more, because {why_dropped(one, self._rules)}"
            self.add_event(EventKind.OVERRIDE_DROPPED, one, text, severity)

    # Commands

    def command(self, obey: Obey, arguments: dict[str, Any]) -> "Future[CommandAnswer]":
        """Have the main thread obey a command; from any thread. The future has the answer once the file has what the
        command wants to be kept, and that of events has its event."""
        answer: Future[CommandAnswer] = Future()
        self._mailbox.post(partial(self._obey, answer, obey, arguments))
        return answer

    def _obey(self, answer: "Future[CommandAnswer]", obey: Obey, arguments: dict[str, Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            self.check(arguments)
            done = obey(arguments)
            saving = self._file.save(self.value)
        except Exception as error:
            answer.set_exception(error)
            return
        if saving is None:
            answer.set_result({"done": done})
        else:
            keeping, tell = self._keeping, partial(_answer_when_saved, answer, done, saving)
            saving.add_done_callback(lambda _: keeping.add_done_callback(tell))

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError where a command wants to be kept, and there is no place for that."""
        if arguments.get("persist") and not self._file.is_there:
            raise ValueError(
                "there is no directory to keep it in: run natmirror by its unit, which has StateDirectory=, or set"
                " STATE_DIRECTORY"
            )

    def wait_until_kept(self, timeout: float, *, with_event: bool) -> None:
        """Wait until the file has what is to be kept, and that of events the latest event; not in the main thread.
        HostError where the former cannot be written, TimeoutError where that takes longer."""
        self._file.wait_until_saved(timeout)
        if with_event:
            wait([self._keeping], timeout)

    def next_at(self, key: OverrideKey) -> float:
        """Return the time of a command that is given now, in seconds since 1970."""
        return self._history.next_at(self.value, key, self._today())

    def connections(self, service: str, backend: str) -> int:
        """Return the number of a backend's connections now."""
        return self._backends.connections(service, backend)

    def is_open(self, service: str, backend: str) -> bool:
        """Return whether a backend gets new connections."""
        return self._backends.is_open(service, backend)

    def after_removal(self, service: str, *, was_open: bool) -> str:
        """Return where new connections of a service go now that a backend is removed, as the end of a sentence."""
        return self._backends.after_drain(service, was_open=was_open, until="another one opens")

    def drain(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …, "deadline": seconds or null, "persist": …}``."""
        service, _, backend = self.backend(arguments)
        deadline = arguments.get("deadline")
        until = None if deadline is None else self._today() + deadline
        one = self._made(OverrideKind.DRAIN, service, backend, arguments, until=until)
        was_open = self._backends.is_open(service.name, backend.name)
        self._change(self.value.including(one))
        count = self._backends.connections(service.name, backend.name)
        fate = "they stay until they end" if deadline is None else f"reset in {deadline:g} s unless they end before"
        left = f"connections left: {count} ({fate})" if count else "no connections left"
        follows = self._backends.after_drain(service.name, was_open=was_open)
        self.add_event(EventKind.BACKEND_DRAINED, one, f"{one.subject} is drained by a command; {left}; {follows}")
        return f"{one.subject} gets no new connections; {left}; {follows}{self._holds(one)}"

    def undrain(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …}``."""
        service, _, backend = self.backend(arguments)
        self._end(OverrideKind.DRAIN, service.name, backend.name, EventKind.BACKEND_UNDRAINED, "is drained no more")
        return self._backends.after_undrain(service.name, backend.name) + self.reach()

    def weigh(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "backend": …, "weight": number or null, "persist": …}``; null stands for the weight of
        the rules."""
        service, pool, backend = self.backend(arguments)
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
            return f"{subject} has the weight of the rules: {backend.weight}{self.reach()}"
        one = self._made(OverrideKind.WEIGHT, service, backend, arguments, weight=weight)
        self._change(self.value.including(one))
        is_added = self.value.get(OverrideKind.ADD, service.name, backend.name) is not None
        source = "that it was added with" if is_added else "in the rules"
        text = f"{subject} has weight {weight} for new connections, instead of {backend.weight} {source}"
        self.add_event(EventKind.WEIGHT_CHANGED, one, text)
        return f"{text}; open connections stay where they are{self._holds(one)}"

    def pause(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "mirror": …, "persist": …}``."""
        service, mirror = self._mirror(arguments)
        before = self.value.get(OverrideKind.PAUSE, service.name, mirror.name)
        one = self._made(OverrideKind.PAUSE, service, mirror, arguments)
        self._change(self.value.including(one))
        text = f"mirror {one.subject} is paused: its copies have ended, and no new ones begin"
        if before is None:
            self.add_event(EventKind.MIRROR_PAUSED, one, f"{text} until natmirror mirror resume")
        return f"{text} until natmirror mirror resume {one.subject}{self._holds(one)}"

    def resume(self, arguments: Mapping[str, Any]) -> str:
        """Obey ``{"service": …, "mirror": …}``."""
        service, mirror = self._mirror(arguments)
        subject = f"mirror {service.name}/{mirror.name}"
        if self.value.get(OverrideKind.PAUSE, service.name, mirror.name) is None:
            return f"{subject} was not paused"
        self._end(OverrideKind.PAUSE, service.name, mirror.name, EventKind.MIRROR_RESUMED, "is paused no more")
        if mirror.reconnect is Reconnect.NEVER:
            which = "of new connections; those that are open now stay without one"
        else:
            which = "of new connections, and of open ones from a later message on"
        return f"{subject} gets copies again: {which}{self.reach()}"

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
        at = self.next_at((kind, service.name, subject.name))
        is_kept = bool(arguments.get("persist"))
        return Override(kind, service.name, subject.name, place_of(subject), at, is_kept, weight, until)

    def _end(self, kind: OverrideKind, service: str, name: str, event: EventKind, text: str) -> None:
        """Take an override back, if there is one, and tell so."""
        if (one := self.value.get(kind, service, name)) is not None:
            self._change(self.value.without(one.key))
            what = "mirror " if one.is_of_mirror else ""
            self.add_event(event, one, f"{what}{one.subject} {text}: a command has ended what another one had set")

    def _holds(self, one: Override) -> str:
        """Return where and how long an override holds, as the end of a sentence."""
        return ("; it holds over a restart, too" if one.is_kept else "") + self.reach()

    def reach(self) -> str:
        """Return whether the other host of a pair follows a command, as the end of a sentence."""
        pair = self._rules.ha
        if pair is None:
            return ""
        if pair.state is None:
            return "; the other host of the pair does not know of it: give it the same command"
        return "; the other host follows through the shared state"

    def add_event(
        self, kind: EventKind, one: Override, text: str, severity: EventSeverity = EventSeverity.INFO
    ) -> None:
        """Add an event about what a command has set, and keep it over a crash from now on, as the command may be."""
        backend, mirror = (None, one.name) if one.is_of_mirror else (one.name, None)
        self._ring.add(kind, severity, text, service=one.service, backend=backend, mirror=mirror)
        self._keeping = self._ring.keep_now()

    # Names

    def backend(self, arguments: Mapping[str, Any]) -> tuple[Service, Pool, Backend]:
        """Return the backend that a command names. ValueError where the rules have none of that name."""
        service = self.service(arguments["service"])
        if service.pool is None:
            raise ValueError(f"service {service.name} has no pool, so that it has no backends")
        for backend in service.pool.backends:
            if backend.name == arguments["backend"]:
                return service, service.pool, backend
        names = known(backend.name for backend in service.pool.backends)
        raise ValueError(f"there is no backend {arguments['backend']:.50} in {service.name}: it has {names}")

    def _mirror(self, arguments: Mapping[str, Any]) -> tuple[Service, Mirror]:
        """Return the mirror that a command names. ValueError where the rules have none of that name."""
        service = self.service(arguments["service"])
        for mirror in service.mirrors:
            if mirror.name == arguments["mirror"]:
                return service, mirror
        names = f"it has {known(mirror.name for mirror in service.mirrors)}" if service.mirrors else "it has none"
        raise ValueError(f"there is no mirror {arguments['mirror']:.50} in {service.name}: {names}")

    def service(self, name: str) -> Service:
        """Return the service of that name. ValueError where the rules have none."""
        services = self.rules.services
        for service in services:
            if service.name == name:
                return service
        raise ValueError(f"there is no service {name:.50}: there are {known(one.name for one in services)}")

    # The API

    def show(self) -> list[OverrideEntry]:
        """Return the overrides that hold as values for JSON, the oldest first; from any thread."""
        found = (shown(one) for one in sorted(self.value, key=lambda one: one.at))
        return [{**entry, "kept": entry["kept"] and self._file.is_there} for entry in found]


def _share_nothing(_: list[Entry]) -> None:
    """No state is shared."""


def _adopt_nothing(_: Later) -> None:
    """No state is shared."""


def _answer_when_saved(answer: "Future[CommandAnswer]", done: str, saving: "Future[None]", _: "Future[None]") -> None:
    if (error := saving.exception()) is None:
        answer.set_result({"done": done})
    else:
        answer.set_exception(HostError(f"{done}. But the file does not say so yet: {error}; natmirror tries again"))
