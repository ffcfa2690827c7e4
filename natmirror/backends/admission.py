"""Admission: each backend's share of the new connections, from its health and the operator's overrides.

Panic. If no second target answered either when a backend went down, this host's network may be what has failed. Then
the backend's connections are not reset until two intervals have shown how many of the pool go down with it. If these
are more than the pool's ``panic`` of those that were up, and the pool has had two or more up, the pool is in panic:
none of these backends' connections are reset, and without a sorry server they get new ones, until one of them is up
again. The others then have as long again to come up, and _RETURN_TIME at least, before their connections are reset.

No I/O, no clock: the caller passes results of checks and commands with their times, and the methods return changes.
"""

from dataclasses import dataclass

from natmirror.backends.shown import AdmissionEntry, BackendState
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.rules import Backend, Override, OverrideKind, Overrides, Rules, Service, WhenDown, WhenNone

_REPEATS = (1.0, 5.0)  # seconds after which connections are reset again: a RST may be lost, and is not acknowledged
_STEPS = 20  # steps of a slow start
_WINDOW = 2  # intervals
_RETURN_TIME = 3.0  # seconds: the kernel asks for a neighbour's address once a second, and then it takes some checks
_MIN_PANIC = 2  # backends that were up; one alone tells nothing of this host


@dataclass(frozen=True, slots=True)
class Share:
    """A backend's new share: the fraction, 0 to 1, of its normal part of new connections. ``weight`` says how large
    that part is, if a command has changed it; None: as large as in the rules."""

    service: str
    backend: str
    share: float
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """A backend's connections have to be reset."""

    service: str
    backend: str
    is_repeated: bool = False
    """Whether this only repeats the RSTs of connections that were reset before."""


@dataclass(frozen=True, slots=True)
class Panic:
    """A pool's panic has begun or ended."""

    service: str
    has_begun: bool


AdmissionChange = Share | Kill | Panic


@dataclass(slots=True)
class _Member:
    """A backend and its state."""

    service: Service
    backend: Backend
    is_up: bool = True
    reason: str = ""
    """Why the backend is down; empty while it is up."""
    since: float = 0.0
    """When it went up or down, in seconds."""
    drain: Override | None = None
    """The command that has drained it."""
    drained_at: float = 0.0
    """When that was."""
    drain_until: float | None = None
    """When a drained backend's remaining connections are reset; None: never, or they have been."""
    weight: int | None = None
    """The weight that a command has given it; None: that of the rules holds."""
    is_isolated: bool = False
    """Whether it is down, no second target answered when it went down, and its connections were not reset."""
    reset_at: float | None = None
    """When an isolated backend's connections are reset unless its pool is in panic; None: never, or not isolated."""
    is_in_panic: bool = False
    started_at: float | None = None
    """When its slow start began; None where there is none."""
    share: float = 1.0


class Admission:
    """The admission of the rules' backends. Methods that take ``now`` (seconds) return the changes."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.overrides = Overrides()
        """The overrides that follow() has set."""
        self._members = {
            (service.name, backend.name): _Member(service, backend, since=now)
            for service in rules.services
            if service.pool is not None
            for backend in service.pool.backends
        }
        self._removed: dict[tuple[str, str], float] = {}
        """Backends that were removed from the rules while draining, with the time when their connections are reset."""
        self._repeats: list[tuple[float, Kill]] = []

    def reload(self, rules: Rules, now: float) -> list[AdmissionChange]:
        """Use these rules from now on; follow() has to come afterwards. Backends that keep name and endpoint keep their
        health and their drain; new ones begin with a slow start. The deadline of a drain holds for removed backends,
        too."""
        before, self._members = self._members, {}
        for key, fresh in Admission(rules, now)._members.items():
            member = before.get(key, fresh)
            if endpoint_of(member.backend) != endpoint_of(fresh.backend):
                member = fresh
            member.service, member.backend = fresh.service, fresh.backend
            if not _is_checked(member):
                member.is_up, member.reason = True, ""
                member.is_isolated, member.is_in_panic, member.reset_at = False, False, None
            if member is fresh or not _slow_start(member):
                self._begin_slow_start(member, now)
            self._members[key] = member
        self._removed |= {key: one.drain_until for key, one in before.items() if one.drain_until is not None}
        self._removed = {key: until for key, until in self._removed.items() if key not in self._members}
        return [change for member in self._members.values() for change in self._set_share(member, now)]

    def shares(self) -> list[AdmissionChange]:
        """Return each backend's share."""
        return [
            Share(service, backend, member.share, member.weight) for (service, backend), member in self._members.items()
        ]

    def set_health(
        self,
        service: str,
        backend: str,
        *,
        is_up: bool,
        reason: str,
        now: float,
        place: Endpoint | None = None,
        is_isolated: bool = False,
    ) -> list[AdmissionChange]:
        """Set a backend up or down; ``is_isolated``: no second target answered when it went down.

        ValueError where there is no such backend, or its checks no longer go to this ``place``: then the result is
        about the backend's former endpoint.
        """
        member = self._member(service, backend)
        if place is not None and (place != endpoint_of(member.backend) or not _is_checked(member)):
            raise ValueError(f"backend {backend} of {service} is no longer checked at {show(place)}")
        if member.is_up == is_up:
            return []
        member.is_up, member.reason, member.since = is_up, "" if is_up else reason, now
        self._begin_slow_start(member, now)
        member.is_isolated = is_isolated and not is_up
        member.reset_at = now + _window(member) if member.is_isolated else None
        panic = self._end_panic(member, now) if is_up else self._begin_panic(member.service, now)
        changes = self._update_share(member, now)
        if not is_up and not member.is_isolated:
            changes += self._reset(member, now)
        return changes + panic

    def follow(self, overrides: Overrides, now: float, today: float) -> list[AdmissionChange]:
        """Drain the backends, and give them the weights, that these overrides say, and no others. ``today`` is ``now``
        in seconds since 1970, as overrides have it."""
        self.overrides = overrides
        changes: list[AdmissionChange] = []
        for key, member in self._members.items():
            drain, weight = (overrides.get(kind, *key) for kind in (OverrideKind.DRAIN, OverrideKind.WEIGHT))
            was_drained = member.drain is not None
            if drain != member.drain:
                member.drain = drain
                until = None if drain is None else drain.until
                member.drain_until = None if until is None else now + until - today
                member.drained_at = now if drain is None else now + drain.at - today
            if was_drained and drain is None:
                self._begin_slow_start(member, now)
            before, member.weight = member.weight, None if weight is None else weight.weight
            changes += self._update_share(member, now) if before == member.weight else self._set_share(member, now)
        return changes

    def is_open(self, service: str, backend: str) -> bool:
        """Return whether a backend gets new connections; ValueError where there is no such backend."""
        return self._member(service, backend).share > 0

    def after_drain(self, service: str, *, was_open: bool, until: str = "natmirror undrain") -> str:
        """Return where new connections of a service go now that a backend is drained or removed, as the end of a
        sentence. ``was_open``: that backend has got new connections until now; ``until``: what gives them to one."""
        members = [member for member in self._members.values() if member.service.name == service]
        open_ones = [member.backend.name for member in members if member.share > 0]
        if open_ones:
            return f"new ones go to {', '.join(open_ones)}"
        pool = members[0].service.pool
        assert pool is not None, "a member is in a pool"
        which = f"it was the last open backend of {service}" if was_open else f"no backend of {service} is open"
        if pool.sorry is not None:
            return f"{which}: new ones go to the sorry server {pool.sorry.name}"
        fate = "refused" if pool.when_none is WhenNone.REFUSE else "dropped"
        return f"{which}: new ones are {fate} until {until}"

    def endpoints(self, service: str, backend: str) -> tuple[Endpoint, Endpoint]:
        """Return the endpoints of a service and of a backend; ValueError where there is no such backend."""
        member = self._member(service, backend)
        return endpoint_of(member.service), endpoint_of(member.backend)

    def after_undrain(self, service: str, backend: str) -> str:
        """Return whether a backend gets new connections, as a sentence."""
        member = self._member(service, backend)
        if not self._takes_any(member):
            return f"{service}/{backend} is drained no more, but it is down: {member.reason}"
        slow = f", in a slow start of {_slow_start(member):g} s" if member.started_at is not None else ""
        return f"{service}/{backend} gets new connections{slow}"

    def current_kills(self) -> list[AdmissionChange]:
        """Return a Kill for each backend that is down now and whose connections are reset when it goes down."""
        return [
            Kill(service, backend)
            for (service, backend), member in self._members.items()
            if not member.is_up and not member.is_isolated and _resets(member)
        ]

    def tick(self, now: float) -> list[AdmissionChange]:
        """Return the changes that are due by ``now``."""
        changes: list[AdmissionChange] = []
        for (service, backend), member in self._members.items():
            if member.drain_until is not None and now >= member.drain_until:
                member.drain_until = None
                changes += self._kill(service, backend, now)
            if member.reset_at is not None and now >= member.reset_at:
                member.is_isolated, member.reset_at = False, None
                changes += self._reset(member, now)
            changes += self._update_share(member, now)
        for key in [key for key, until in self._removed.items() if now >= until]:
            del self._removed[key]
            changes += self._kill(*key, now)
        changes += [kill for at, kill in self._repeats if now >= at]
        self._repeats = [(at, kill) for at, kill in self._repeats if now < at]
        return changes

    def next_tick(self, now: float) -> float | None:
        """Return the time at which tick() is due, in seconds, or None."""
        due = [member.drain_until for member in self._members.values() if member.drain_until is not None]
        due += [member.reset_at for member in self._members.values() if member.reset_at is not None]
        due += [*self._removed.values(), *(at for at, _ in self._repeats)]
        for member in self._members.values():
            if member.started_at is not None and self._takes_any(member):
                due.append(now + _slow_start(member) / _STEPS)
        return min(due, default=None)

    def show(self, now: float) -> dict[tuple[str, str], AdmissionEntry]:
        """Return each backend's state, by service and name, as values for JSON."""
        return {
            key: {
                "state": _state(member),
                "healthy": member.is_up if _is_checked(member) else None,
                "reason": member.reason,
                "state_seconds": round(now - (member.since if member.drain is None else member.drained_at), 3),
                "share": member.share,
                "weight": member.backend.weight if member.weight is None else member.weight,
                "weight_in_rules": member.backend.weight,
            }
            for key, member in self._members.items()
        }

    def _member(self, service: str, backend: str) -> _Member:
        try:
            return self._members[service, backend]
        except KeyError:
            raise ValueError(f"there is no backend {backend} in {service}") from None

    @staticmethod
    def _takes_any(member: _Member) -> bool:
        has_sorry = member.service.pool is not None and member.service.pool.sorry is not None
        return (member.is_up or (member.is_in_panic and not has_sorry)) and member.drain is None

    def _members_of(self, service: Service) -> list[_Member]:
        return [member for (name, _), member in self._members.items() if name == service.name]

    def _begin_panic(self, service: Service, now: float) -> list[AdmissionChange]:
        """Put a pool's isolated backends into panic if enough of them went down within the window."""
        pool, members = service.pool, self._members_of(service)
        assert pool is not None, "a member is in a pool"
        fallen = [one for one in members if one.is_isolated and (one.is_in_panic or now - one.since <= _window(one))]
        were_up = len(fallen) + sum(one.is_up for one in members)
        if were_up < _MIN_PANIC or len(fallen) <= pool.panic * were_up:
            return []
        had_begun = any(one.is_in_panic for one in members)
        for one in fallen:
            one.is_in_panic, one.reset_at = True, None
        changes = [change for one in fallen for change in self._update_share(one, now)]
        return changes if had_begun else [*changes, Panic(service.name, has_begun=True)]

    def _end_panic(self, risen: _Member, now: float) -> list[AdmissionChange]:
        """End the panic of a pool of which a backend has come up."""
        if not risen.is_in_panic:
            return []
        panicking = [one for one in self._members_of(risen.service) if one.is_in_panic]
        for one in panicking:
            one.is_in_panic, one.reset_at = False, None if one.is_up else now + max(_window(one), _RETURN_TIME)
        changes = [change for one in panicking if one is not risen for change in self._update_share(one, now)]
        return [*changes, Panic(risen.service.name, has_begun=False)]

    def _reset(self, member: _Member, now: float) -> list[AdmissionChange]:
        """Reset the connections of a backend that is down, if the rules say so."""
        return self._kill(member.service.name, member.backend.name, now) if _resets(member) else []

    def _kill(self, service: str, backend: str, now: float) -> list[AdmissionChange]:
        self._repeats += [(now + after, Kill(service, backend, is_repeated=True)) for after in _REPEATS]
        return [Kill(service, backend)]

    def _begin_slow_start(self, member: _Member, now: float) -> None:
        member.started_at = now if self._takes_any(member) and _slow_start(member) else None

    def _update_share(self, member: _Member, now: float) -> list[AdmissionChange]:
        before = member.share
        changes = self._set_share(member, now)
        return [] if member.share == before else changes

    def _set_share(self, member: _Member, now: float) -> list[AdmissionChange]:
        share = 1.0 if self._takes_any(member) else 0.0
        if share and member.started_at is not None:
            progress = (now - member.started_at) / _slow_start(member)
            share = min(1.0, (int(progress * _STEPS) + 1) / _STEPS)
            if share == 1.0:
                member.started_at = None
        member.share = share
        return [Share(member.service.name, member.backend.name, share, member.weight)]


def _state(member: _Member) -> BackendState:
    if member.drain is not None:
        return BackendState.DRAINING
    if not _is_checked(member):
        return BackendState.UNCHECKED
    if member.is_in_panic:
        return BackendState.PANIC
    return BackendState.UP if member.is_up else BackendState.DOWN


def _resets(member: _Member) -> bool:
    assert member.service.pool is not None, "a member is in a pool"
    return member.service.pool.when_down is WhenDown.RESET


def _window(member: _Member) -> float:
    """Return the time within which backends that fail for the same cause go down, in seconds."""
    assert member.service.pool is not None, "a member is in a pool"
    assert member.service.pool.health is not None, "a backend without checks stays up"
    return _WINDOW * member.service.pool.health.interval


def _is_checked(member: _Member) -> bool:
    assert member.service.pool is not None, "a member is in a pool"
    return member.service.pool.health is not None


def _slow_start(member: _Member) -> float:
    assert member.service.pool is not None, "a member is in a pool"
    return member.service.pool.slow_start
