"""The byte streams of a replay's legs, up to their mirrors' last acknowledgements."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from natmirror.errors import CaptureError
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.net.packet import ACK, SYN, Segment, segment_of
from natmirror.rules import Rules


class StreamStore(Protocol):
    """A place for the bytes that mirrors have acknowledged."""

    def begin(self, name: str) -> None:
        """Begin the empty stream of a new leg."""

    def append(self, name: str, data: bytes) -> None:
        """Add bytes to a stream."""


class StreamsInMemory(dict[str, bytearray]):
    """Streams by name, for tests and for captures that are known to be small."""

    def begin(self, name: str) -> None:
        self[name] = bytearray()

    def append(self, name: str, data: bytes) -> None:
        self[name] += data


class StreamFiles:
    """Streams as files in a directory. CaptureError where one cannot be written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptureError(f"{directory}: {error.strerror}") from None

    def begin(self, name: str) -> None:
        self._write(name, "wb", b"")

    def append(self, name: str, data: bytes) -> None:
        self._write(name, "ab", data)

    def _write(self, name: str, mode: str, data: bytes) -> None:
        path = self._directory / f"{name}.bin"
        try:
            with path.open(mode) as file:
                file.write(data)
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}") from None


class NoStreams:
    """Streams that are not wanted."""

    def begin(self, name: str) -> None:
        pass

    def append(self, name: str, data: bytes) -> None:
        pass


class LegStreams:
    """The byte stream of each leg: the bytes that were sent, up to the last acknowledged one.

    Each leg has a name of its own: ``mirror-address-port``, then a number if there were others of that name.
    """

    def __init__(self, rules: Rules, store: StreamStore) -> None:
        self._names = {endpoint_of(mirror): mirror.name for service in rules.services for mirror in service.mirrors}
        self._store = store
        self._latest: dict[tuple[Endpoint, Endpoint], _Leg] = {}
        self._count: Counter[str] = Counter()

    @property
    def begun(self) -> int:
        """The number of legs so far."""
        return self._count.total()

    def has(self, mirror: Endpoint, client: Endpoint) -> bool:
        """Return whether there is or was a leg between the two endpoints."""
        return (client, mirror) in self._latest

    def sent(self, segment: Segment) -> None:
        """Add a segment of a leg."""
        key = ((segment.src, segment.sport), (segment.dst, segment.dport))
        leg = self._latest.get(key)
        if segment.flags & SYN:
            first_seq = seq.add(segment.seq, 1)
            if leg is None or leg.is_answered or leg.next_seq != first_seq:  # else it is a retransmission
                self._latest[key] = _Leg(self._begin(*key), first_seq)
        elif leg is not None:
            leg.is_answered = True
            at = seq.diff(segment.seq, leg.next_seq)
            data = segment.payload[max(-at, 0) :]
            leg.waiting[max(at, 0) : max(at, 0) + len(data)] = data

    def acknowledge(self, packet: bytes) -> bool:
        """Add a packet that may be a mirror's acknowledgement, and return whether it belongs to a leg."""
        segment = segment_of(packet)
        if segment is None or not segment.flags & ACK:
            return False
        leg = self._latest.get(((segment.dst, segment.dport), (segment.src, segment.sport)))
        if leg is None:
            return False
        data = bytes(leg.waiting[: max(seq.diff(segment.ack, leg.next_seq), 0)])
        if data:
            self._store.append(leg.name, data)
            del leg.waiting[: len(data)]
            leg.next_seq = seq.add(leg.next_seq, len(data))
        return True

    def _begin(self, client: Endpoint, mirror: Endpoint) -> str:
        """Return the name of a new leg, and begin its stream."""
        name = f"{self._names.get(mirror, 'mirror')}-{show(client).replace(':', '-')}"
        self._count[name] += 1
        unique = name if self._count[name] == 1 else f"{name}-{self._count[name]}"
        self._store.begin(unique)
        return unique


@dataclass(slots=True)
class _Leg:
    name: str
    next_seq: int
    """The sequence number of the first byte that the mirror has not acknowledged."""
    is_answered: bool = False
    """The mirror has answered the SYN, so that a further SYN begins another leg."""
    waiting: bytearray = field(default_factory=bytearray)
    """Bytes that were sent and are not acknowledged."""
