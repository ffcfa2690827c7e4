"""Watches by looks at flows whether production passes this host, and judges whether another host might do better.

Whatever stops production (a route, a neighbour, another program's rule, a filter that natmirror cannot read), traffic
shows it. A service is **silent** if clients wait while none of its backends acknowledges or sends anything. Clients are
**unreachable** if they go on sending, but acknowledge nothing of what the backends have sent. Both end with the first
data that is acknowledged. A handshake ends them only where no connection waits: a filter may let small packets pass,
and no data. A service **hardly passes** if hardly a client goes on, whatever packet gets through now and then.

**What can be forged?** Anyone can send SYNs in any client's name. A backend ignores some of them (those with an MD5
signature, for example), and no client acknowledges the SYN-ACKs to the others. So where clients have established
connections, only these count: two clients have to wait or to be unreachable, or the only one. A forger would need the
numbers of those connections. SYNs without an answer count only where no client has such a connection to lose, and are a
warning and no more if they come from one address, or if the checks say that a backend is up. SYN-ACKs without an
acknowledgement are a warning too, because a flood of forged SYNs looks the same, and so are new connections that all
fail while others go on.

A client that has connections can leave out bytes, which its backend awaits in vain. So it is clients that count, not
their flows: a service hardly passes if four fifths of the *groups* of clients (looks.h) are stuck. And connections with
two backends have to wait or to be unreachable, or with the only one that has any: a single backend may be down.

**Is it this host?** The backends may all be down, and every host would say the same. If a pair or a fleet gives its
addresses away for that, no host has them. So this host is *blamed*, and unfit, only if

- no other service passes here: else this host works, and so most likely does its network;
- the service has passed here before, since this host became active or was last blamed; if not, only after PATIENCE. A
  host outside a pair, which has been active from its start, needs no proof of that until it has been blamed once.

So an outage that one host alone sees moves the addresses within seconds. One that both see moves them once, and then
every five minutes, in search of a host that does better. That costs nothing, as nothing passes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from natmirror.fastpath import SEVERAL, ServiceLook, Tally
from natmirror.findings import Finding, PathCode
from natmirror.rules import Pool

_LOOKS = 3
"""Looks in a row, a second apart, until a failure is certain; at the first one, an end may just have sent something."""
_STUCK_SHARE = 4
"""A service hardly passes if so many groups of clients are stuck for each one that goes on, or more."""
_MIN_TRIES = 2
"""A single SYN may be lost."""
# Seconds
_FORGOTTEN_AFTER = 60.0
"""A failure ends if no client calls for so long. TCP repeats a SYN after 33 s at most, before it gives up."""
_PASSES_AFTER = 1.5
"""Another service that passes so long after one has failed has not failed with it; packets may have been under way."""
_RESTART_TIME = 5.0
"""So long the checks may find all backends down before this host is blamed: a backend may only be restarting."""
PATIENCE = 300.0
"""So long a host keeps its addresses though a service does not pass that has never passed here."""
_NEVER = float("-inf")


@dataclass(slots=True)
class _Trouble:
    """One kind of trouble of a service, from look to look."""

    looks: int = 0
    """Looks in a row that have shown it."""
    since: float = 0.0
    """The time of the first of them."""
    shown_at: float = 0.0
    lasts: bool = False
    """Whether it is certain."""
    client: bytes = b""
    """The address of a client that has it."""

    def follow(self, tally: Tally, now: float, *, is_over: bool, is_certain: bool) -> None:
        """Take what a look shows: the flows that have this trouble, whether it is over, and whether it is certain after
        enough looks."""
        if tally.flows and not is_over:
            self.since = self.since if self.looks else now
            self.looks, self.shown_at, self.client = self.looks + 1, now, tally.client or self.client
            self.lasts |= is_certain and self.looks >= _LOOKS
        elif is_over or not self.lasts or now - self.shown_at >= _FORGOTTEN_AFTER:
            self.looks, self.lasts = 0, False


@dataclass(slots=True)
class _Service:
    """A service, as the looks have shown it."""

    silence: _Trouble = field(default_factory=_Trouble)
    scarcity: _Trouble = field(default_factory=_Trouble)
    """The service hardly passes."""
    newcomers: _Trouble = field(default_factory=_Trouble)
    """New connections fail, while others go on."""
    calls: _Trouble = field(default_factory=_Trouble)
    """SYNs without an answer, where no client has a connection."""
    deafness: _Trouble = field(default_factory=_Trouble)
    greetings: _Trouble = field(default_factory=_Trouble)
    tries: int = 0
    """Calls of clients since the calls are in vain."""
    have_several_called: bool = False
    """Whether two addresses have called in vain."""
    passed_at: float = _NEVER
    """The last look that has shown that a client gets answers."""
    up_at: float = _NEVER
    """The last look at which a backend was up, by its checks."""
    is_up: bool = False
    """Whether a backend is up, by its checks."""
    down_since: float | None = None

    def follow(self, look: ServiceLook, is_up: bool | None, now: float) -> None:
        """Take a look. ``is_up``: whether the checks say that a backend is up; None: they say nothing."""
        if _passes(look):
            self.passed_at = now
        self.is_up = is_up is True
        if is_up:
            self.up_at = now
        self.down_since = None if is_up is not False else now if self.down_since is None else self.down_since
        # Silence. Calls of this look do not count yet: the last SYN may be too young for an answer.
        have_greeted = look.answered + look.reached > 0
        is_certain = self.tries >= _MIN_TRIES and not look.open.clients
        self.calls.follow(look.calling, now, is_over=have_greeted, is_certain=is_certain)
        self.tries = self.tries + look.tries if self.calls.looks else 0
        have_called = self.have_several_called or look.calling.clients >= SEVERAL
        self.have_several_called = self.calls.looks > 0 and have_called
        in_vain = look.waiting + Tally(look.asking)
        in_vain += look.calling if self.silence.lasts else Tally()
        is_certain = _are_most(look.waiting, look.open)
        has_data = look.answered_data + look.reached_data > 0
        is_over = has_data or (have_greeted and not look.waiting.flows + look.asking)
        self.silence.follow(in_vain, now, is_over=is_over, is_certain=is_certain)
        # Unreachable clients, and handshakes. Those of new connections show that clients are still unreachable.
        unreached = look.unreached + Tally(look.telling)
        unreached += look.greeted if self.deafness.lasts else Tally()
        is_certain = _are_most(look.unreached, look.open)
        is_over = look.reached_data > 0 or (look.reached > 0 and not look.unreached.flows + look.telling)
        self.deafness.follow(unreached, now, is_over=is_over, is_certain=is_certain)
        is_certain = look.greeted.flows >= _MIN_TRIES
        self.greetings.follow(look.greeted, now, is_over=look.reached > 0, is_certain=is_certain)
        # What passes now and then
        is_over = _goes_on(look) or (has_data and not look.stuck.flows)
        self.scarcity.follow(look.stuck, now, is_over=is_over, is_certain=_are_most(look.stuck, look.open))
        is_certain = look.unconnected.flows >= _MIN_TRIES and _are_most(look.unconnected, look.open)
        new = look.unconnected + Tally(look.connecting)
        self.newcomers.follow(new, now, is_over=look.connected > 0, is_certain=is_certain)

    def silent(self) -> _Trouble | None:
        """Return what shows that the service is silent; None if it is not, or if the SYNs alone may be to blame."""
        if self.silence.lasts:
            return self.silence
        return self.calls if self.calls.lasts and self.have_several_called and not self.is_up else None

    def failure(self) -> _Trouble | None:
        """Return the trouble of traffic that shows that the service does not pass."""
        return self.silent() or next((one for one in (self.deafness, self.scarcity) if one.lasts), None)

    def failed_at(self, now: float) -> tuple[float, float] | None:
        """Return when the service has failed, and when it last passed, by the same kind of evidence; None if it has
        not."""
        if failure := self.failure():
            return failure.since, self.passed_at
        if self.down_since is None or now - self.down_since < _RESTART_TIME:
            return None
        return self.down_since, max(self.passed_at, self.up_at)

    def passed_after(self, at: float, *, by_traffic: bool) -> bool:
        return (self.passed_at if by_traffic else max(self.passed_at, self.up_at)) >= at


class ServiceWatch:
    """Follows the looks at one host's flows. Time is an argument, in seconds of any steady clock. ``is_patient``: the
    host may have got the addresses because another one has failed."""

    def __init__(self, now: float, *, is_patient: bool) -> None:
        self.blamed: frozenset[str] = frozenset()
        """The services for which this host is to blame, as far as is known."""
        self._services: dict[str, _Service] = {}
        self._since = now
        self._is_patient = is_patient

    def take(
        self,
        looks: Mapping[str, ServiceLook],
        pools: Mapping[str, Pool],
        up: Mapping[str, bool],
        now: float,
    ) -> list[Finding]:
        """Return what is wrong after a look at all flows. ``up``: for services whose checks tell it, whether a backend
        is up."""
        self._services = {name: self._services.get(name, _Service()) for name in pools}
        for name, service in self._services.items():
            service.follow(looks.get(name, ServiceLook()), up.get(name), now)
        was_blamed, self.blamed = bool(self.blamed), frozenset(self._blamed(now))
        if was_blamed and not self.blamed:
            self._since, self._is_patient = now, True
        return [one for name, service in self._services.items() for one in _findings(name, pools[name], service)]

    def _blamed(self, now: float) -> Iterator[str]:
        for name, service in self._services.items():
            failed = service.failed_at(now)
            if failed is None:
                continue
            failed_at, passed_at = failed
            by_traffic = service.failure() is not None
            others = [other for other in self._services.values() if other is not service]
            if any(other.passed_after(failed_at + _PASSES_AFTER, by_traffic=by_traffic) for other in others):
                continue
            has_passed = not self._is_patient or passed_at >= self._since
            if has_passed or now - max(failed_at, self._since) >= PATIENCE:
                yield name


def _goes_on(look: ServiceLook) -> bool:
    """Return whether more than a fifth of the groups of clients go on."""
    return look.passing_groups * _STUCK_SHARE > look.stuck_groups


def _passes(look: ServiceLook) -> bool:
    """Return whether the service passes: backends answer, and clients get that, as a client may also acknowledge what
    another host has passed. Handshakes suffice where nothing waits."""
    if look.answered_data and look.reached_data:
        return _goes_on(look) or not look.stuck_groups
    waits = look.asking + look.telling + look.stuck.flows
    return look.answered > 0 and look.reached > 0 and not waits


def _are_most(some: Tally, of: Tally) -> bool:
    """Return whether these are the flows of two clients, or of the only one, and the same of backends."""
    return 0 < some.clients >= min(of.clients, SEVERAL) and some.backends >= min(of.backends, SEVERAL)


def _findings(name: str, pool: Pool, service: _Service) -> Iterator[Finding]:
    silent = service.silent()
    if silent or service.calls.lasts:
        code = PathCode.SERVICE_SILENT if silent else PathCode.SYNS_UNANSWERED
        client = IPv4Address((silent or service.calls).client)
        yield code.found(service=name, client=client, host=pool.backends[0].address)
    elif service.scarcity.lasts and not service.deafness.lasts:
        client = IPv4Address(service.scarcity.client)
        yield PathCode.SERVICE_HARDLY_PASSES.found(service=name, client=client, host=pool.backends[0].address)
    elif service.newcomers.lasts and not service.deafness.lasts:
        client = IPv4Address(service.newcomers.client)
        yield PathCode.NO_NEW_CONNECTIONS.found(service=name, client=client)
    if service.deafness.lasts:
        client = IPv4Address(service.deafness.client)
        yield PathCode.CLIENTS_UNREACHABLE.found(service=name, client=client, host=client)
    elif service.greetings.lasts:
        client = IPv4Address(service.greetings.client)
        yield PathCode.HANDSHAKES_INCOMPLETE.found(service=name, client=client, host=client)
