"""The guard around what production tells mirroring: an exception there costs copies, never a packet."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.faults import Faults, Work
from natmirror.net.endpoint import show
from natmirror.reasons import EndReason

_T = TypeVar("_T")


class End(Protocol):
    """Ends what a kind of work does for a flow, for a reason, whatever state a fault has left it in."""

    def __call__(self, work: Work, flow: MirroredFlow, reason: EndReason) -> None:
        """End it."""


class Guard:
    """Runs one flow's work; ``end`` has to be set before."""

    def __init__(self, faults: Faults) -> None:
        self.end: End
        self._faults = faults

    def run(self, work: Work, flow: MirroredFlow, do: Callable[..., _T], *arguments: object) -> _T | None:
        """Return what ``do`` gives, or None where it raises or its work is off: then the flow's part in that work is
        over."""
        if work in self._faults.off:
            self._end(work, flow, EndReason.MIRRORING_OFF)
            return None
        try:
            return do(*arguments)
        except Exception as error:
            self.failed(work, flow, error)
            return None

    def failed(self, work: Work, flow: MirroredFlow, error: Exception) -> None:
        """Count a fault, and end what it was at."""
        self._faults.note(work, show(flow.client), error)
        self._end(work, flow, EndReason.INTERNAL_ERROR)

    def _end(self, work: Work, flow: MirroredFlow, reason: EndReason) -> None:
        try:
            self.end(work, flow, reason)
        except Exception as error:  # what ends may have a mistake too: it costs no packet either
            self._faults.note(work, show(flow.client), error)
