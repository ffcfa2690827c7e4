"""A simulated world whose mirror's program ends now and then, and starts again."""

from typing import Any

from natmirror.net.build import build_reset
from natmirror.net.packet import RST, SYN
from tests.helpers.simulator import Peer, World
from tests.helpers.support import CLIENT, MASTER, segment


class RestartingMirror(World):
    """A world in which the mirror's program ends when it has got one of ``ends`` packets, and starts again ``outage``
    seconds later; meanwhile its kernel refuses connections. Each connection that it accepts is another peer."""

    def __init__(self, seed: int, stream: bytes, *, ends: set[int], outage: float, **options: Any) -> None:
        super().__init__(seed, stream, settings=", reconnect: next-segment", **options)
        self.pieces: list[bytearray] = [self.mirror.received]
        """What each of the mirror's connections has received, in their order."""
        self._mirror_weather = self.weather[id(self.mirror)]
        self._mss, self._room = options.get("mirror_mss", 1000), self.mirror.room
        self._ends, self._outage, self._starts_at = ends, outage, 0.0
        self._count_of_mirror = 0
        self._is_fresh = True
        self._old = [self.mirror]  # keeps the ids in ``weather`` unique

    def _deliver(self, packet: bytes) -> None:
        one = segment(packet)
        if one.dst == MASTER[0]:
            self._count_of_mirror += 1
            if self._count_of_mirror in self._ends:
                self._end()
            if self.now < self._starts_at or (self.mirror.reset and not one.flags & SYN):
                if not one.flags & RST:
                    self.carry(self.mirror, build_reset(one))
                return
            if self.mirror.reset:
                self._start()
        super()._deliver(packet)

    def _end(self) -> None:
        if not self.mirror.reset and self.mirror.received:
            self.mirror._emit(self.mirror._max, RST)
        self.mirror.reset = True
        self._starts_at = self.now + self._outage

    def _start(self) -> None:
        self.mirror = Peer(self, MASTER, CLIENT, self.random.getrandbits(32), to_send=b"", mss=self._mss)
        self.mirror.room = self._room
        self.weather[id(self.mirror)] = self._mirror_weather
        self._old.append(self.mirror)
        self.pieces.append(self.mirror.received)
