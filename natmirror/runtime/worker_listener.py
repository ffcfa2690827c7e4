"""The receiver of a packet thread's reports."""

from typing import Protocol

from natmirror.actions import LegEnded, Order
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import Refusals
from natmirror.mirror.faults import WorkChanged


class WorkerListener(Protocol):
    """The receiver of a worker's reports. The worker calls each method in its own thread, so none of them may wait."""

    def on_ended(self, events: list[LegEnded]) -> None:
        """Legs have ended."""

    def on_orders(self, orders: list[Order]) -> None:
        """Masters have given these orders."""

    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        """Backends have refused a client's SYN, or not answered it: service and backend of each."""

    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        """Pinned bindings have changed; ``missed``: further changes were lost."""

    def on_work_changed(self, thread: int, change: WorkChanged) -> None:
        """Mirroring work was switched off or on in the thread with this number."""

    def on_over_limit(self, thread: int, refusals: Refusals) -> None:
        """Clients, or other peers, of the thread with this number have had no turn left."""

    def on_end(self) -> None:
        """The thread has ended; if it has failed, the worker's ``failure`` says why."""
