"""A listener for a worker in a test."""

from threading import Event

from natmirror.actions import LegEnded, Order
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import Refusals
from natmirror.mirror.faults import WorkChanged


class Listener:
    """A WorkerListener that notes whether the worker has ended, and which clients are over their limit."""

    def __init__(self) -> None:
        self.ended = Event()
        self.refusals: list[Refusals] = []

    def on_ended(self, events: list[LegEnded]) -> None:
        pass

    def on_orders(self, orders: list[Order]) -> None:
        pass

    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        pass

    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        pass

    def on_work_changed(self, thread: int, change: WorkChanged) -> None:
        pass

    def on_over_limit(self, thread: int, refusals: Refusals) -> None:
        self.refusals.append(refusals)

    def on_end(self) -> None:
        self.ended.set()
