"""The monitor: a thread that checks the backends of pools with ``health``, and reports changes.

It touches no packet, engine or queue. A check costs the packet threads only Python's interpreter lock, for a few
hundred microseconds.
"""

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from natmirror.backends.health import BackendHealth
from natmirror.backends.host_view import HostView, Target
from natmirror.backends.probes import MAX_LATE, PROBES, Outcome, Probe
from natmirror.backends.second_target import RARELY, SOON, answering, counted, first_answering, pause_after
from natmirror.backends.shown import BackendState, HealthEntry
from natmirror.errors import HostError
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.rules import Backend, Health, Rules
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

_STOP_TIMEOUT = 0.9
_MAX_FAILED_SYNS = 1024
_MAX_OTHERS = 4  # backends that are asked whether it is this host's network that fails
_CUT_OFF_LINGERS = 3.0
"""Seconds for which this host may still reach no one once it has its route or carrier back: the kernel sends no packet
until it has seen the carrier, up to 1 s later, and then may have to wait for its next ARP requests, 1 s apart."""


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A backend has gone up or down."""

    service: str
    backend: Backend
    is_up: bool
    reason: str
    is_isolated: bool = False
    """Whether no second target answered either when the backend went down."""


Changed = Callable[[HealthChange], None]


@dataclass(slots=True, eq=False)
class _Watched:
    """A backend with health checks."""

    service: str
    backend: Backend
    settings: Health
    health: BackendHealth
    mirrors: tuple[Endpoint, ...] = ()
    """The mirrors of its service."""
    has_others: bool = False
    """Whether its pool has other backends."""
    seconds: float | None = None
    """The duration of its last check."""
    inconclusive: str = ""
    """Why the last check said nothing about the backend; empty if it said something."""
    cut_off_at: float = float("-inf")
    """When this host was last seen to lack its route or carrier, in seconds."""
    is_silent: bool = False
    """Whether the last check that said something failed because not a single packet came back."""
    second_targets: Sequence[Target] = ()
    """The second targets that have lately answered."""
    answered: Sequence[Target] = ()
    """Those that answered after the last check that passed."""
    late_targets: Sequence[Target] = ()
    """Those of them that did not answer when they were last asked, but did before."""
    known_targets: Sequence[Target] | None = None
    """All second targets, which are asked next."""
    ask_at: float = 0.0
    """When to find and ask them again, in seconds."""
    ask_pause: float = SOON
    """The time between the last two questions, in seconds."""
    is_hastened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its next check may be due earlier than before."""


class Monitor:
    """The health checks of all backends, from start() to stop().

    ``changed`` is called in the monitor's thread when a backend goes up or down; its exceptions are logged. At first
    all backends are up. ``told`` is called there when a check says nothing about its backend, if the one before did or
    had another reason, and when a check says something again. ``host`` says whether this host is why a check failed.
    """

    def __init__(self, rules: Rules, changed: Changed, told: Callable[[], None], host: HostView) -> None:
        self._changed = changed
        self._told = told
        self._host = host
        self._lock = threading.Lock()  # for status(); packet threads never wait for it
        self._failed_syns: deque[tuple[_Watched, float]] = deque(maxlen=_MAX_FAILED_SYNS)
        self._is_waking = False
        self._thread: threading.Thread | None = None
        self._tasks: dict[_Watched, asyncio.Task[None]] = {}
        self._watched = _to_watch(rules, {})

    def start(self) -> None:
        """Start the thread, if there is something to check and it does not run yet; always from the same thread.
        HostError where the host has no descriptor or thread left."""
        if not self._watched or self._thread is not None:
            return
        try:
            self._loop = asyncio.new_event_loop()
            self._checks = self._loop.create_task(self._check_all())
            thread = NamedThread(self._run, "health")
            thread.start()
        except (OSError, RuntimeError) as error:
            raise HostError(f"cannot start the health checks: {error}") from None
        self._thread = thread

    def reload(self, rules: Rules) -> None:
        """Use these rules from now on. Backends that keep name and endpoint keep their health. If there was nothing to
        check before, the caller has to call start()."""
        with self._lock:
            self._watched = _to_watch(rules, self._watched)
        if self._thread is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._match_tasks)

    def stop(self) -> None:
        """End all checks and their programs within a second, without further reports."""
        if self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._checks.cancel)
            self._thread.join(_STOP_TIMEOUT)

    def status(self) -> list[HealthEntry]:
        """Return each backend's health as values for JSON, in the order of the rules; from any thread."""
        with self._lock:
            now = time.monotonic()
            return [self._shown(watched, now) for watched in self._watched.values()]

    def silent(self) -> set[tuple[str, str]]:
        """Return the service and the name of each backend that is down because its host answers nothing; from any
        thread."""
        with self._lock:
            return {key for key, one in self._watched.items() if one.is_silent and not one.health.is_up}

    def syn_failed(self, service: str, backend: str) -> None:
        """Note that a backend refused or did not answer a client's SYN; from any thread, without waiting.

        Backends without checks are ignored.
        """
        watched = self._watched.get((service, backend))
        if watched is None or self._thread is None:
            return
        self._failed_syns.append((watched, time.monotonic()))
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take_failed_syns)

    # In the monitor's thread

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._checks)
        self._loop.close()

    async def _check_all(self) -> None:
        self._match_tasks()
        try:
            await asyncio.get_running_loop().create_future()  # until stop()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _match_tasks(self) -> None:
        """Start and cancel tasks, so that each watched backend has one."""
        wanted = set(self._watched.values())
        for watched in self._tasks.keys() - wanted:
            self._tasks.pop(watched).cancel()
        for watched in wanted - self._tasks.keys():
            self._tasks[watched] = self._loop.create_task(self._watch(watched))

    async def _watch(self, watched: _Watched) -> None:
        while True:
            while (left := watched.health.next_check() - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await watched.is_hastened.wait()
                watched.is_hastened.clear()
            try:
                await self._check(watched)
            except Exception:
                log.exception("health of %s/%s: internal error in a check", watched.service, watched.backend.name)
                self._enter_outcome(watched, Outcome(None, "internal error"))

    async def _check(self, watched: _Watched) -> None:
        probe = PROBES[watched.settings.check](watched.backend, watched.settings, self._host.bind)
        second_target = self._asked_if_last(watched)
        try:
            began_at = time.monotonic()
            outcome = await probe.outcome()
            watched.seconds = time.monotonic() - began_at
            outcome = await self._blame(watched, probe, outcome)
            if outcome.ok is False and second_target is None:  # clients' failed SYNs may have counted meanwhile
                second_target = self._asked_if_last(watched)
            if self._enter_outcome(watched, outcome):
                is_isolated = not outcome.ok and second_target is not None and await second_target is None
                self._report(watched, is_isolated=is_isolated)
            if outcome.ok:
                until = min(began_at + watched.settings.timeout, watched.health.next_check())
                with suppress(OSError):  # a timeout too
                    async with asyncio.timeout_at(until):
                        await probe.close()
                await self._ask_second_targets(watched, until)
            else:
                watched.answered = watched.second_targets
        finally:
            probe.abort()
            if second_target is not None:
                second_target.cancel()
                await asyncio.wait([second_target])

    def _asked_if_last(self, watched: _Watched) -> asyncio.Task[Target | None] | None:
        """Ask second targets whether the network works, if the backend goes down should its check fail. None if it does
        not, or if there is nothing to ask."""
        if not (watched.has_others and watched.second_targets and watched.health.may_fall()):
            return None
        asking = first_answering(watched.second_targets, watched.settings.timeout, self._host.bind)
        return self._loop.create_task(asking)

    async def _blame(self, watched: _Watched, probe: Probe, outcome: Outcome) -> Outcome:
        """Return the outcome of a check after a look at this host, which may be why it failed. A backend that dies may
        take its route or carrier with it: so the check has failed all the same if another host answers while this host
        is still cut off. Otherwise its route or carrier may have come back meanwhile, or just before."""
        is_cut_off = probe.has_no_route
        if outcome.ok is False and probe.source is not None:
            probe.abort()
            here, there = probe.source, endpoint_of(watched.backend)
            why = await asyncio.to_thread(self._host.why_cut_off, there)
            is_cut_off = why is not None
            if why is None:
                why = await asyncio.to_thread(self._host.why_dropped, here, there)
            outcome = Outcome(None, why) if why else outcome
        if is_cut_off:
            watched.cut_off_at = time.monotonic()
        elif outcome.is_silence and time.monotonic() < watched.cut_off_at + _CUT_OFF_LINGERS:
            return Outcome(None, f"{outcome.reason}, and this host has only just got its route or carrier back")
        answered = await self._other_answering(watched) if is_cut_off else None
        if answered and await asyncio.to_thread(self._host.why_cut_off, endpoint_of(watched.backend)):
            return Outcome(False, f"{outcome.reason}, while {answered} answers")
        return outcome

    async def _other_answering(self, watched: _Watched) -> str | None:
        """Return what answers while this host is cut off from a backend, or None: another backend of its pool, a mirror
        if the pool has no other, or a second target. Backends that this host cannot check either are not asked."""
        others = [one for one in self._watched.values() if one.service == watched.service and one is not watched]
        others = sorted((one for one in others if not one.inconclusive), key=lambda one: not one.health.is_up)
        targets: dict[Target, str] = {target: _show_target(target) for target in watched.second_targets}
        if not watched.has_others:
            targets |= {mirror: _show_target(mirror) for mirror in watched.mirrors}
        targets |= {endpoint_of(one.backend): one.backend.name for one in others[:_MAX_OTHERS]}
        found = await first_answering(list(targets), watched.settings.timeout, self._host.bind)
        return None if found is None else targets[found]

    async def _ask_second_targets(self, watched: _Watched, until: float) -> None:
        """Find out from time to time, while the checks pass, which second targets answer: one that never does tells
        nothing. An answer counts once the next check has passed, because the network may have failed meanwhile."""
        watched.second_targets = watched.answered
        now = time.monotonic()
        if now < watched.ask_at:
            return
        try:
            if watched.known_targets is None:  # asked after the next check: to find them takes a part of the timeout
                address = watched.backend.address
                watched.known_targets = await asyncio.to_thread(self._host.second_targets, address, watched.mirrors)
            elif now < until:
                known, before = watched.known_targets, watched.answered
                answered = await answering(known, until - now, self._host.bind)
                if time.monotonic() > until + MAX_LATE:
                    return  # this host was too busy to hear them: they are asked again after the next check
                watched.ask_pause = pause_after(watched.ask_pause, before, answered, known)
                watched.answered, watched.late_targets = counted(before, answered, known, watched.late_targets)
                watched.known_targets, watched.ask_at = None, now + watched.ask_pause
        except Exception:
            watched.ask_at = now + RARELY
            log.exception("health of %s/%s: cannot ask a second target", watched.service, watched.backend.name)

    def _enter_outcome(self, watched: _Watched, outcome: Outcome) -> bool:
        """Count a check; return whether it has changed the backend's state."""
        now, health, before, has_changed = time.monotonic(), watched.health, watched.inconclusive, False
        with self._lock:
            if outcome.ok is None:
                health.inconclusive(now)
            else:
                has_changed = health.result(outcome.ok, outcome.reason, now)
                watched.is_silent = outcome.is_silence
            watched.inconclusive = outcome.reason if outcome.ok is None else ""
        if watched.inconclusive != before:
            self._told()
        return has_changed

    def _take_failed_syns(self) -> None:
        self._is_waking = False
        while self._failed_syns:
            watched, at = self._failed_syns.popleft()
            with self._lock:
                watched.health.syn_failed(at)
            watched.is_hastened.set()

    def _report(self, watched: _Watched, *, is_isolated: bool) -> None:
        health = watched.health
        try:
            self._changed(HealthChange(watched.service, watched.backend, health.is_up, health.reason, is_isolated))
        except Exception:
            log.exception("health of %s/%s: cannot report a change", watched.service, watched.backend.name)

    def _shown(self, watched: _Watched, now: float) -> HealthEntry:
        health = watched.health
        return {
            "service": watched.service,
            "backend": watched.backend.name,
            "check": watched.settings.check,
            "state": BackendState.UP if health.is_up else BackendState.DOWN,
            "state_seconds": round(max(0.0, now - health.since_at), 3),
            "reason": health.reason,
            "checks": health.checks,
            "failed_checks": health.failures,
            "inconclusive_checks": health.inconclusive_checks,
            "inconclusive_reason": watched.inconclusive,
            "failed_syns": health.failed_syns,
            "last_check_seconds": None if watched.seconds is None else round(watched.seconds, 6),
        }


def _show_target(target: Target) -> str:
    return show(target) if isinstance(target, tuple) else str(target)


def _to_watch(rules: Rules, before: dict[tuple[str, str], _Watched]) -> dict[tuple[str, str], _Watched]:
    """Return the backends to check, by service and name; those that were checked before keep their health."""
    found: dict[tuple[str, str], _Watched] = {}
    now = time.monotonic()
    for service in rules.services:
        settings = None if service.pool is None else service.pool.health
        if service.pool is None or settings is None:
            continue
        for backend in service.pool.backends:
            key = service.name, backend.name
            old = before.get(key)
            if old is None or (old.backend.address, old.backend.port) != (backend.address, backend.port):
                found[key] = _Watched(service.name, backend, settings, BackendHealth(settings, now, random.random))
            elif old.settings == settings:  # a backend's weight and limit do not affect its checks
                found[key] = old
            else:
                old.health.change(settings, now)
                found[key] = _Watched(service.name, backend, settings, old.health, seconds=old.seconds)
                found[key].cut_off_at = old.cut_off_at
            found[key].mirrors = tuple(map(endpoint_of, service.mirrors))
            found[key].has_others = len(service.pool.backends) > 1
    return found
