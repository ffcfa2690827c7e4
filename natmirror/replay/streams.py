"""The byte streams of a replay's legs, up to their mirrors' last acknowledgements."""

from collections import Counter
from dataclasses import dataclass, field

from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.net.packet import ACK, SYN, Malformed, Segment, parse
from natmirror.rules import Rules


class LegStreams:
    """The byte stream of each leg: the bytes that were sent, up to the last acknowledged one."""

    def __init__(self, rules: Rules) -> None:
        self._names = {endpoint_of(mirror): mirror.name for service in rules.services for mirror in service.mirrors}
        self._all: list[_Leg] = []
        self._latest: dict[tuple[Endpoint, Endpoint], _Leg] = {}

    def has(self, mirror: Endpoint, client: Endpoint) -> bool:
        """Return whether there is or was a leg between the two endpoints."""
        return (client, mirror) in self._latest

    def sent(self, segment: Segment) -> None:
        """Add a segment of a leg."""
        key = ((segment.src, segment.sport), (segment.dst, segment.dport))
        leg = self._latest.get(key)
        if segment.flags & SYN and (leg is None or leg.first_seq != seq.add(segment.seq, 1)):
            leg = self._latest[key] = _Leg(key, seq.add(segment.seq, 1))
            self._all.append(leg)
        if leg is not None and segment.payload_len:
            at = seq.diff(segment.seq, leg.first_seq)
            leg.stream[at : at + segment.payload_len] = segment.payload

    def acknowledge(self, packet: bytes) -> None:
        """Add a packet that may be a mirror's acknowledgement."""
        try:
            segment = parse(packet)
        except Malformed:
            return
        if not isinstance(segment, Segment) or not segment.flags & ACK:
            return
        leg = self._latest.get(((segment.dst, segment.dport), (segment.src, segment.sport)))
        if leg is not None:
            leg.acknowledged = max(leg.acknowledged, seq.diff(segment.ack, leg.first_seq))

    def streams(self) -> dict[str, bytes]:
        """Return each leg's acknowledged bytes, by a name for a file."""
        named: dict[str, bytes] = {}
        count: Counter[str] = Counter()
        for leg in self._all:
            client, mirror = leg.key
            name = f"{self._names.get(mirror, 'mirror')}-{show(client).replace(':', '-')}"
            count[name] += 1
            unique = name if count[name] == 1 else f"{name}-{count[name]}"
            named[unique] = bytes(leg.stream[: leg.acknowledged])
        return named


@dataclass(slots=True)
class _Leg:
    key: tuple[Endpoint, Endpoint]
    first_seq: int
    stream: bytearray = field(default_factory=bytearray)
    acknowledged: int = 0
