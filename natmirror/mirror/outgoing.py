"""The packets that an engine's call produces: the engine drains them once, at the end of the call."""

from collections.abc import Iterable

from natmirror.actions import Send


class Outgoing:
    """Packets to be sent, in the order in which they were made.

    They are gathered here and not returned. A leg sends eight calls below the engine: returning them would make and
    join lists in each call for every packet, and an exception on the way up would lose the packets sent before it.
    """

    def __init__(self) -> None:
        self._sends: list[Send] = []

    def add(self, sends: Iterable[Send]) -> None:
        """Append packets."""
        self._sends += sends

    def drain(self) -> list[Send]:
        """Return the packets added since the last call."""
        sends, self._sends = self._sends, []
        return sends
