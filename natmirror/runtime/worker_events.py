"""The workers' reports, passed on to the parts of the run that need them."""

import logging
import time
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count

from natmirror.actions import LegEnded, Order
from natmirror.api import times
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath import Refusals
from natmirror.mirror.faults import WorkChanged
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.output_files import OrderFiles
from natmirror.runtime.shared_state import SharedState
from natmirror.runtime.shown import EndedLeg

log = logging.getLogger("natmirror")

_MAX_ENDED_LEGS = 200


class WorkerEvents:
    """The WorkerListener of all workers, which call its methods in their threads. ``wake`` wakes the main thread."""

    def __init__(
        self,
        backends: BackendControl,
        order_files: OrderFiles,
        shared: SharedState | None,
        ring: EventRing,
        wake: Callable[[], None],
    ) -> None:
        self._backends = backends
        self._order_files = order_files
        self._shared = shared
        self._ring = ring
        self._wake = wake
        self._ended_legs: deque[tuple[int, float, LegEnded]] = deque(maxlen=_MAX_ENDED_LEGS)
        self._numbers = count(1)

    def on_ended(self, events: list[LegEnded]) -> None:
        """Keep the latest legs that have ended for the API. MirrorWatch logs what goes wrong, once for all legs."""
        for event in events:
            log.debug("leg ended: %s", event)
            self._ended_legs.append((next(self._numbers), time.time(), event))

    def on_orders(self, orders: list[Order]) -> None:
        """Record masters' orders."""
        self._order_files.add(orders)

    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        """Check backends soon that have failed a client's SYN: service and backend of each."""
        for service, backend in failed:
            self._backends.syn_failed(service, backend)

    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        """Share changes of pinned bindings with the other host."""
        if self._shared is not None:
            self._shared.report_bindings(changes, missed)

    def on_work_changed(self, thread: int, change: WorkChanged) -> None:
        """Tell of mirroring work that was switched off or on."""
        kind, severity = EventKind.MIRRORING_ON, EventSeverity.INFO
        if change.is_off:
            kind, severity = EventKind.MIRRORING_OFF, EventSeverity.ERROR
        self._ring.add(kind, severity, f"packet thread {thread}: {change}", code=change.work or "all")

    def on_over_limit(self, thread: int, refusals: Refusals) -> None:
        """Tell of clients that have had no turn left."""
        text = (
            f"packet thread {thread}: {IPv4Address(refusals.address)} takes more than its share of this thread:"
            f" {refusals.most} of its packets were dropped, or passed without mirroring, and"
            f" {refusals.packets - refusals.most} of {refusals.peers - 1} other hosts; limit-per-client in the rules"
            " can drop such packets in the kernel"
        )
        warning = EventSeverity.WARNING
        self._ring.add(EventKind.LIMIT_REACHED, warning, text, code="over-limit", count=refusals.packets)

    def on_end(self) -> None:
        """Have the main thread check which worker has ended."""
        self._wake()

    def ended_legs(self) -> list[tuple[int, EndedLeg]]:
        """Return the legs that ended last, as values for JSON, each with its number; from any thread."""
        return [(number, _shown(at, event)) for number, at, event in list(self._ended_legs)]


def _shown(at: float, event: LegEnded) -> EndedLeg:
    return {
        "ended_at": times.show(at),
        "client": event.client,
        "service": event.service,
        "mirror": event.mirror,
        "reason": event.reason,
        "client_bytes": event.client_bytes,
        "acked_bytes": event.acked_bytes,
        "ended_by": event.ended_by,
    }
