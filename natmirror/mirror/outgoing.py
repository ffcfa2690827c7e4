"""The one place where what an engine is to send is gathered during a call: the engine drains it once, at its end."""

from collections.abc import Iterable

from natmirror.actions import Send


class Outgoing:
    """Packets to be sent, in the order in which they were made.

    They are gathered and not returned. A leg sends eight calls below the engine: lists would be made and joined in each
    of these for every packet, and what legs have sent before a fault of ours would be lost with it on its way up.
    """

    def __init__(self) -> None:
        self._sends: list[Send] = []

    def add(self, sends: Iterable[Send]) -> None:
        """Put packets behind those that are here."""
        self._sends += sends

    def drain(self) -> list[Send]:
        """Return what was gathered since the last call."""
        sends, self._sends = self._sends, []
        return sends
