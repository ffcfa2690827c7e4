"""Bindings that another host could not derive: reported when they come and go, and accepted from other hosts.

Theory. Maglev over the whole pool gives every host the same backend for a client. A binding that differs is *shared*
while its connection is established: it was made under a drained or dead backend, before the pool changed, or by
another scheduler. What comes from another host is a *guest*: it is there for the moment when its packets pass here, and
until then it stays as long as the other host says so. Packets of a guest that change its state make it our own, and so
does CLAIM_ALL. Both gears report the same, since rows in C log it when they change their state or go.
"""

from dataclasses import dataclass
from enum import IntEnum

from natmirror import fastpath
from natmirror.fastpath import CLAIM_ALL, RELEASE, STANDBY
from natmirror.fastpath.flow_flags import is_guest
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flows import Flow, Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Service

_YOUNG = 10.0  # seconds: longer than a report is ever on its way


class BindingEvent(IntEnum):
    """What has become of a binding."""

    BOUND = fastpath.BOUND
    """Report it: its connection is established, or goes on here now."""
    FORGOTTEN = fastpath.FORGOTTEN
    """It is no longer known here, but its connection may live on elsewhere."""
    ENDED = fastpath.ENDED
    """Its connection is over."""


@dataclass(frozen=True, slots=True)
class BindingChange:
    """What has become of the binding of a service's client, and the backend of both."""

    what: BindingEvent
    service: str
    client: Endpoint
    backend: Endpoint


class ReplicatedBindings:
    """Those of one engine. ``now`` as everywhere; it is greater than 0."""

    def __init__(self, services: ServiceTable, nat: Nat, mirroring: GuardedMirroring) -> None:
        self._nat = nat
        self._mirroring = mirroring
        self._services = services
        self._is_released = False  # another host passes our packets

    def log_changes(self, most: int) -> None:
        """Keep up to ``most`` changes for take_changes() from now on."""
        self._nat.table.log_changes(most)

    def take_changes(self) -> tuple[list[BindingChange], bool]:
        """Return what has changed since the last call, in order, and whether there was no room for some."""
        rows, missed = self._nat.table.take_changes()
        return [self._change(*row) for row in rows], bool(missed)

    def _change(self, kind: int, client: Endpoint, service_id: int, backend_id: int) -> BindingChange:
        service, backend = self._services.service(service_id), self._services.backend(backend_id)
        return BindingChange(BindingEvent(kind), service.name, client, endpoint_of(backend))

    def sweep(self, first: int, most: int, how: int, now: float) -> int | None:
        """Go through some of the flows, from a number on, and return the next number, or None at the end: ANNOUNCE
        reports again what is shared, CLAIM_SEEN makes guests our own whose packets pass here, CLAIM_ALL all guests, and
        RELEASE makes our own flows guests of the host that is active now."""
        if how & (RELEASE | CLAIM_ALL):
            self._is_released = bool(how & RELEASE)
        return self._nat.table.sweep(first, most, how | (STANDBY if self._is_released else 0), now)

    def adopt(self, service: str, client: Endpoint, backend: Endpoint, now: float) -> bool:
        """Take a binding that another host has reported. The latest report wins, except over a connection opened here
        less than 10 s ago. Return False where it means nothing here, or there is no room."""
        known = self._service(service, client)
        if known is None or client[0] not in self._services.clients:
            return False
        flow, there = self._nat.find_orig(client, endpoint_of(known)), self._services.reported_backend(known, backend)
        if there is None:
            return False
        if flow is not None and flow.backend == there:
            self._nat.release(flow)
            return True
        if flow is not None and not flow.is_picked_up and now - flow.row.created_at < _YOUNG:
            return True
        if not self._services.is_removed(known) and self._services.derived_backend(known, client) == there:
            if flow is not None:
                self._nat.forget(flow)
            return True
        taken = self._nat.adopt(known, client, there, now, is_ours=False)
        if taken is not None and known.mirrors:
            self._mirroring.picked_up(self._nat.keep_object(taken), backend)
        return taken is not None

    def withdraw(self, service: str, client: Endpoint, now: float, *, ended: bool) -> None:
        """Forget a guest that another host does not know any more, or whose connection has ``ended``. One that was only
        forgotten there becomes our own if its packets pass here."""
        flow = self._find_guest(service, client)
        if flow is None:
            return
        if flow.row.seen_at > 0 and not ended:
            self._nat.touch(flow, now)
        else:
            self._nat.forget(flow)

    def _find_guest(self, service: str, client: Endpoint) -> Flow | None:
        known = self._service(service, client)
        flow = None if known is None else self._nat.find_orig(client, endpoint_of(known))
        return flow if flow is not None and is_guest(flow.row) else None

    def _service(self, name: str, client: Endpoint) -> Service | None:
        """Return the service with the name; of several the one with a flow of the client: it may have been removed."""
        named = self._services.services_named(name)
        knowing = (service for service in named if self._nat.find_orig(client, endpoint_of(service)) is not None)
        return next(knowing, named[0] if named else None)
