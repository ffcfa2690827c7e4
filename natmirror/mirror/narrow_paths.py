"""The paths to mirrors: the MTUs of this host's routes, and those that routers report.

A router's report narrows one leg (tcp/path_mtu.py). It holds for the path, and so for new legs, once the legs of two
clients have been narrowed within ten minutes: one client cannot narrow the legs of others. The larger of the two MTUs
counts, because that is how far both agree.
"""

from natmirror.net.endpoint import Endpoint
from natmirror.tcp.path_mtu import MTU, NARROW_TIMEOUT, Path


class Paths:
    """The paths to the mirrors of an engine. Times are in seconds."""

    def __init__(self) -> None:
        self._mtus: dict[Endpoint, int] = {}
        self._signs: dict[Endpoint, tuple[bytes, int, float]] = {}  # the latest: client's address, MTU, time
        self._narrow: dict[Endpoint, tuple[int, float]] = {}  # confirmed: MTU, and the time until which it holds

    def set_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """Set the MTU of this host's route to a mirror, in bytes."""
        self._mtus[mirror] = mtu

    def path_to(self, mirror: Endpoint, now: float) -> Path:
        """Return the path to a mirror, for a new leg."""
        mtu = self._mtus.get(mirror, MTU)
        narrow_mtu, until = self._narrow.get(mirror, (MTU, now))
        return Path(mtu, narrow_mtu, until) if now < until else Path(mtu)

    def note_narrowed(self, mirror: Endpoint, client: bytes, mtu: int, now: float) -> None:
        """Note that a leg of the client with this address was narrowed to an MTU, in bytes."""
        other, other_mtu, at = self._signs.get(mirror, (client, MTU, now))
        if other != client and now < at + NARROW_TIMEOUT:
            self._narrow[mirror] = max(mtu, other_mtu), now + NARROW_TIMEOUT
        self._signs[mirror] = client, mtu, now
