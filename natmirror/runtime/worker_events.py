"""The workers' reports, passed on to the parts of the run that need them."""

import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from natmirror.actions import LegEnded, Order
from natmirror.api import times
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.output_files import OrderFiles
from natmirror.runtime.shared_state import SharedState
from natmirror.runtime.shown import EndedLeg

log = logging.getLogger("natmirror")

_MAX_ENDED_LEGS = 200


class WorkerEvents:
    """The WorkerListener of all workers, which call its methods in their threads. ``wake`` wakes the main thread."""

    def __init__(
        self, backends: BackendControl, order_files: OrderFiles, shared: SharedState | None, wake: Callable[[], None]
    ) -> None:
        self._backends = backends
        self._order_files = order_files
        self._shared = shared
        self._wake = wake
        self._ended_legs: deque[tuple[int, float, LegEnded]] = deque(maxlen=_MAX_ENDED_LEGS)
        self._numbers = count(1)

    def on_ended(self, events: list[LegEnded]) -> None:
        """Log legs that have ended, and keep the latest ones for the API."""
        for event in events:
            log.info("leg ended: %s", event)  # the log formats it only if it does not suppress it
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
    }
