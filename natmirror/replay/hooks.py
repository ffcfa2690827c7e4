"""Finds the netfilter hook of a captured packet from its addresses, or the reason to skip the packet."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from natmirror.actions import Hook
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.icmp import IcmpError, parse_error
from natmirror.net.packet import Datagram, Malformed, Segment, parse
from natmirror.net.prefixes import ClientNetworks
from natmirror.rules import Rules

_REWRITTEN = "already rewritten"
_UNRELATED = "unrelated"
_FROM_MIRROR = "from a mirror"
_SEEN = "already seen"

_TTL_AT, _HEADER_CHECKSUM_AT = 8, 10
_FORWARDING_TIME = 1.0
"""Limit in seconds on the time between the captures of a packet on both sides of the host."""
_MAX_RECENT = 1 << 18  # packets; about 50 MB


class HookFinder:
    """Finds the hook at which each packet would have been queued, from its addresses.

    A capture of both sides of the host has most packets twice. A rewritten packet is recognised by its addresses, an
    unchanged one by its TTL: forwarding changes nothing else (RFC 1812 §5.3.1).

    ``has_leg`` says whether there is, or was, a leg between a mirror and a client: where the mirror is a backend too,
    only this distinguishes its packets from production's. ``from_mirrors``: the mirrors' own packets are replayed.
    """

    def __init__(self, rules: Rules, *, from_mirrors: bool, has_leg: Callable[[Endpoint, Endpoint], bool]) -> None:
        self._clients = ClientNetworks(rules.switches)
        self._pooled = {endpoint_of(service): service.pool is not None for service in rules.services}
        self._addresses = {address for address, _ in self._pooled}
        self._backends = {
            endpoint_of(backend) for service in rules.services if service.pool for backend in service.pool.backends
        }
        self._mirrors = {endpoint_of(mirror) for service in rules.services for mirror in service.mirrors}
        self._from_mirrors = from_mirrors
        self._has_leg = has_leg
        self._recent = _RecentPackets()

    def hook(self, packet: bytes, now: float) -> Hook | str:
        """Return the packet's hook, or the reason to skip it."""
        try:
            parsed = parse(packet)
        except Malformed as malformed:
            return malformed.reason
        hook = self._of_segment(parsed) if isinstance(parsed, Segment) else self._of_datagram(parsed)
        return _SEEN if isinstance(hook, Hook) and self._recent.knows(parsed.raw, now) else hook

    def _of_segment(self, segment: Segment) -> Hook | str:
        source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
        if segment.src in self._clients and destination in self._pooled:
            return Hook.PREROUTING
        if segment.src in self._clients and (destination in self._backends or destination in self._mirrors):
            return _REWRITTEN
        if segment.dst not in self._clients:
            return _UNRELATED
        if source in self._mirrors and (source not in self._backends or self._has_leg(source, destination)):
            return Hook.PREROUTING if self._from_mirrors else _FROM_MIRROR
        if source in self._backends:
            return Hook.FORWARD
        if source in self._pooled:
            return _REWRITTEN if self._pooled[source] else Hook.OUTPUT
        return _UNRELATED

    def _of_datagram(self, datagram: Datagram) -> Hook | str:
        error = parse_error(datagram)
        if error is None:
            return _UNRELATED
        if datagram.dst in self._clients:
            return self._of_error_to_client(error)
        if datagram.dst in self._addresses:
            return Hook.PREROUTING
        return _REWRITTEN if error.inner_src in self._backends and error.inner_dst[0] in self._clients else _UNRELATED

    def _of_error_to_client(self, error: IcmpError) -> Hook | str:
        there = error.inner_dst
        if self._pooled.get(there):
            return _REWRITTEN
        from_mirror = there in self._mirrors and (there not in self._backends or self._has_leg(there, error.inner_src))
        return _FROM_MIRROR if from_mirror and not self._from_mirrors else Hook.FORWARD


class _RecentPackets:
    """The packets of the last second, to recognise them once they are forwarded.

    A retransmission has the same TTL as the first packet, so it cannot be confused with the forwarded packet.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def knows(self, packet: bytes, now: float) -> bool:
        """Return whether the packet was seen with a TTL one higher; else remember it."""
        while self._seen and (
            now - next(iter(self._seen.values()))[1] > _FORWARDING_TIME or len(self._seen) > _MAX_RECENT
        ):
            self._seen.popitem(last=False)
        ttl = packet[_TTL_AT]
        constant = packet[:_TTL_AT] + packet[_TTL_AT + 1 : _HEADER_CHECKSUM_AT] + packet[_HEADER_CHECKSUM_AT + 2 :]
        key = hashlib.blake2b(constant, digest_size=16).digest()
        seen = self._seen.get(key)
        if seen is not None and seen[0] == ttl + 1:
            return True
        self._seen[key] = (ttl, now)
        self._seen.move_to_end(key)
        return False
