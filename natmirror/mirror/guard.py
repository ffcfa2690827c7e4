"""The guard around production's calls of mirroring: an exception there costs copies, never a packet."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.faults import Faults, Work
from natmirror.net.endpoint import show
from natmirror.reasons import EndReason

_T = TypeVar("_T")


class EndWork(Protocol):
    """A function that ends a kind of work for one flow, whatever state a fault has left it in."""

    def __call__(self, work: Work, flow: MirroredFlow, reason: EndReason) -> None: ...


class Guard:
    """Runs mirroring's work for flows; ``end`` has to be set before run() is called."""

    def __init__(self, faults: Faults) -> None:
        self.end: EndWork
        self._faults = faults

    def run(self, work: Work, flow: MirroredFlow, do: Callable[..., _T], *arguments: object) -> _T | None:
        """Return what ``do`` returns. Where it raises, or its work is off, end that work for the flow and return
        None."""
        if work in self._faults.off:
            self._end(work, flow, EndReason.MIRRORING_OFF)
            return None
        try:
            return do(*arguments)
        except Exception as error:
            self.failed(work, flow, error)
            return None

    def failed(self, work: Work, flow: MirroredFlow, error: Exception) -> None:
        """Count a fault, and end its work for the flow."""
        self._faults.note(work, show(flow.client), error)
        self._end(work, flow, EndReason.INTERNAL_ERROR)

    def _end(self, work: Work, flow: MirroredFlow, reason: EndReason) -> None:
        try:
            self.end(work, flow, reason)
        except Exception as error:  # ending may fail too: this costs no packet either
            self._faults.note(work, show(flow.client), error)
