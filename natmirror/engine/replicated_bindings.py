"""Reports changes of pinned bindings, which another host cannot derive, and adopts the bindings that it reports.

Theory. Maglev over the whole pool derives the same backend for a client on every host. A binding that differs is
pinned: another scheduler chose the backend, or the derived one was drained or dead, or the pool has changed since. It
is shared with other hosts while its connection is established. A binding that another host has reported becomes a
*guest*: a flow that waits for its packets to come here, and stays for as long as that host reports it. Packets that
change its state make it a flow of our own, and so does CLAIM_ALL. Both gears report the same changes, because the rows
in C log them.
"""

from dataclasses import dataclass
from enum import IntEnum

from natmirror import fastpath
from natmirror.fastpath import CLAIM_ALL, RELEASE, STANDBY
from natmirror.fastpath.flow_flags import is_guest
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Service

_MAX_REPORT_DELAY = 10.0  # seconds; every report arrives sooner


class BindingEvent(IntEnum):
    """The kind of a change of a binding."""

    BOUND = fastpath.BOUND
    """Its connection is established, or has moved to this host: other hosts need the binding."""
    FORGOTTEN = fastpath.FORGOTTEN
    """This host has forgotten it, but its connection may continue on another host."""
    ENDED = fastpath.ENDED
    """Its connection has ended."""


@dataclass(frozen=True, slots=True)
class BindingChange:
    """A change of the binding of a service's client to a backend."""

    event: BindingEvent
    service: str
    client: Endpoint
    backend: Endpoint


class ReplicatedBindings:
    """The pinned bindings of one engine. ``now`` is greater than 0."""

    def __init__(self, services: ServiceTable, nat: Nat, mirroring: GuardedMirroring) -> None:
        self._nat = nat
        self._mirroring = mirroring
        self._services = services
        self._is_released = False  # another host forwards this host's packets

    def log_changes(self, most: int) -> None:
        """Keep up to ``most`` changes for take_changes() from now on; more are counted as missed."""
        self._nat.table.log_changes(most)

    def take_changes(self) -> tuple[list[BindingChange], bool]:
        """Return the changes since the last call, in order, and whether some were missed."""
        rows, missed = self._nat.table.take_changes()
        return [self._change(*row) for row in rows], bool(missed)

    def _change(self, kind: int, client: Endpoint, service_id: int, backend_id: int) -> BindingChange:
        service, backend = self._services.service(service_id), self._services.backend(backend_id)
        return BindingChange(BindingEvent(kind), service.name, client, endpoint_of(backend))

    def sweep(self, first: int, most: int, how: int, now: float) -> int | None:
        """Go through up to ``most`` flows from number ``first`` on; return the number to continue with, or None at the
        end.

        ANNOUNCE reports the shared bindings again, CLAIM_SEEN claims guests whose packets pass here, CLAIM_ALL claims
        all guests, and RELEASE makes this host's flows guests of the host that is active now.
        """
        if how & (RELEASE | CLAIM_ALL):
            self._is_released = bool(how & RELEASE)
        return self._nat.table.sweep(first, most, how | (STANDBY if self._is_released else 0), now)

    def adopt(self, service: str, client: Endpoint, backend: Endpoint, now: float) -> bool:
        """Adopt a binding that another host has reported. The latest report wins, except over a connection opened here
        less than 10 s ago. Return False if the binding does not fit the rules, or the table is full."""
        known = self._service(service, client)
        if known is None or client[0] not in self._services.clients:
            return False
        flow, there = self._nat.find_orig(client, endpoint_of(known)), self._services.reported_backend(known, backend)
        if there is None:
            return False
        if flow is not None and flow.backend == there:
            self._nat.release(flow)
            return True
        if flow is not None and not flow.is_picked_up and now - flow.row.created_at < _MAX_REPORT_DELAY:
            return True
        if not self._services.is_removed(known) and self._services.derived_backend(known, client) == there:
            if flow is not None:
                self._nat.forget(flow)
            return True
        adopted = self._nat.adopt(known, client, there, now, is_ours=False)
        if adopted is not None and known.mirrors:
            self._mirroring.picked_up(self._nat.keep_object(adopted), backend)
        return adopted is not None

    def withdraw(self, service: str, client: Endpoint, now: float, *, ended: bool) -> None:
        """Forget a guest that the other host has withdrawn, because it forgot it or because its connection ``ended``. A
        guest that it only forgot becomes a flow of our own if its packets pass here."""
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
        """Return the service with the name. If there are several, prefer one, perhaps removed, with a flow of the
        client."""
        named = self._services.services_named(name)
        with_flow = (service for service in named if self._nat.find_orig(client, endpoint_of(service)) is not None)
        return next(with_flow, named[0] if named else None)
