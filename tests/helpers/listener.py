"""A listener for a worker in a test."""

from threading import Event

from natmirror.actions import LegEnded, Order
from natmirror.engine.replicated_bindings import BindingChange


class Listener:
    """A WorkerListener that only notes whether the worker has ended."""

    def __init__(self) -> None:
        self.ended = Event()

    def on_ended(self, events: list[LegEnded]) -> None:
        pass

    def on_orders(self, orders: list[Order]) -> None:
        pass

    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        pass

    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        pass

    def on_end(self) -> None:
        self.ended.set()
