"""Which hook of netfilter a captured packet would have met, by its addresses; or why it is left out."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from natmirror.actions import Hook
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.icmp import IcmpError, parse_error
from natmirror.net.packet import Datagram, Malformed, Segment, parse
from natmirror.net.prefixes import ClientNetworks
from natmirror.rules import Rules

_REWRITTEN, _STRANGE, _OF_A_MIRROR, _OTHER_SIDE = "already rewritten", "none of ours", "of a mirror", "seen before"

_TTL_AT, _HEADER_CHECKSUM_AT = 8, 10
_FORWARDING_TIME = 1.0
"""Seconds that a packet takes at most from one side of the host to the other."""


class HookFinder:
    """Finds the hook that each packet would have met, by its addresses.

    A capture of both sides of the host shows most packets twice. One that was rewritten is recognised by its addresses;
    one that passed unchanged by its hop count, all that forwarding changes (RFC 1812 §5.3.1).

    ``has_leg`` answers whether a leg stands, or stood, between a mirror and a client: only that tells a mirror's
    packets from production's where the mirror is a backend too. ``from_mirrors``: the mirrors' own packets count.
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
        """Return the hook, or why the packet is left out."""
        try:
            parsed = parse(packet)
        except Malformed as malformed:
            return malformed.reason
        hook = self._of_segment(parsed) if isinstance(parsed, Segment) else self._of_datagram(parsed)
        return _OTHER_SIDE if isinstance(hook, Hook) and self._recent.knows(parsed.raw, now) else hook

    def _of_segment(self, segment: Segment) -> Hook | str:
        source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
        if segment.src in self._clients and destination in self._pooled:
            return Hook.PREROUTING
        if segment.src in self._clients and (destination in self._backends or destination in self._mirrors):
            return _REWRITTEN
        if segment.dst not in self._clients:
            return _STRANGE
        if source in self._mirrors and (source not in self._backends or self._has_leg(source, destination)):
            return Hook.PREROUTING if self._from_mirrors else _OF_A_MIRROR
        if source in self._backends:
            return Hook.FORWARD
        if source in self._pooled:
            return _REWRITTEN if self._pooled[source] else Hook.OUTPUT
        return _STRANGE

    def _of_datagram(self, datagram: Datagram) -> Hook | str:
        error = parse_error(datagram)
        if error is None:
            return _STRANGE
        if datagram.dst in self._clients:
            return self._of_error_to_client(error)
        if datagram.dst in self._addresses:
            return Hook.PREROUTING
        return _REWRITTEN if error.inner_src in self._backends and error.inner_dst[0] in self._clients else _STRANGE

    def _of_error_to_client(self, error: IcmpError) -> Hook | str:
        there = error.inner_dst
        if self._pooled.get(there):
            return _REWRITTEN
        of_a_mirror = there in self._mirrors and (there not in self._backends or self._has_leg(there, error.inner_src))
        return _OF_A_MIRROR if of_a_mirror and not self._from_mirrors else Hook.FORWARD


class _RecentPackets:
    """Packets of the last second, to recognise one that has been forwarded meanwhile.

    A repetition by its sender has the same hop count as the first, and is not taken for it.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def knows(self, packet: bytes, now: float) -> bool:
        """Return whether the packet has been seen one hop earlier; else remember it."""
        while self._seen and now - next(iter(self._seen.values()))[1] > _FORWARDING_TIME:
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
