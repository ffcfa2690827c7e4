"""Says why a replay mirrored nothing: what in the capture came nearest to it, and what to change.

It counts the capture's packets by their addresses, in bounded memory.
"""

from collections import Counter
from ipaddress import IPv4Address

from natmirror.actions import Accept, Action
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.net.packet import ACK, SYN, Segment, parse, segment_of
from natmirror.net.prefixes import ClientNetworks
from natmirror.replay.capture import CUT_SHORT
from natmirror.rules import Rules

_MAX_KINDS = 4096
_MAX_CLIENTS = 65_536


class _Frequent(Counter[Endpoint]):
    """How often each of the most frequent endpoints came. Rare ones are forgotten when there are too many."""

    def note(self, endpoint: Endpoint) -> None:
        """Count an endpoint."""
        self[endpoint] += 1
        if len(self) > _MAX_KINDS:
            kept = self.most_common(_MAX_KINDS // 2)
            self.clear()
            self.update(dict(kept))


class Explanation:
    """What a replay has seen of the capture's TCP packets."""

    def __init__(self, rules: Rules) -> None:
        self._clients = ClientNetworks(rules.switches)
        self._services = {endpoint_of(service): bool(service.mirrors) for service in rules.services}
        self._service_addresses = {address for address, _ in self._services}
        self._backends = {
            endpoint_of(backend) for service in rules.services if service.pool for backend in service.pool.members
        }
        self._has_mirrors = any(self._services.values())
        self._chosen: dict[Endpoint, Endpoint] = {}  # by client: the backend that the rules choose for its SYN
        self._segments = 0
        self._requests = 0
        self._syns = 0
        self._unmirrored = 0
        self._behind = 0
        self._replies = 0
        self._other_backends = _Frequent()
        self._strangers = _Frequent()
        self._other_ports = _Frequent()
        self._destinations = _Frequent()

    def note(self, packet: bytes) -> None:
        """Count a packet of the capture."""
        segment = segment_of(packet)
        if segment is None:
            return
        self._segments += 1
        source, destination = (segment.src, segment.sport), (segment.dst, segment.dport)
        is_client = segment.src in self._clients
        self._destinations.note(destination)
        if destination in self._services:
            if not is_client:
                self._strangers.note((segment.src, 0))
            elif not self._services[destination]:
                self._unmirrored += 1
            else:
                self._requests += 1
                self._syns += segment.flags & (SYN | ACK) == SYN
        elif source in self._backends or source in self._services:
            chosen = self._chosen.get(destination, source)
            self._replies += chosen == source
            if chosen != source and segment.flags & SYN and source in self._backends:
                self._other_backends.note(source)
        elif is_client and destination in self._backends:
            self._behind += 1
        elif segment.dst in self._service_addresses:
            self._other_ports.note(destination)

    def note_verdict(self, packet: bytes, action: Action) -> None:
        """Note which backend the engine has chosen for a client's SYN."""
        if isinstance(action, Accept) and action.packet is not None and len(self._chosen) < _MAX_CLIENTS:
            before, after = parse(packet), parse(action.packet)
            if isinstance(before, Segment) and isinstance(after, Segment) and before.flags & (SYN | ACK) == SYN:
                self._chosen[(before.src, before.sport)] = (after.dst, after.dport)

    def why(self, skipped: Counter[str], bad_checksums: int) -> str:
        """Return why no leg began, as one line: the first reason that applies."""
        if not self._has_mirrors:
            return "no service of the rules has a mirror"
        if not self._segments:
            return "the capture has no TCP packet over IPv4 that natmirror can read"
        if not self._requests:
            packets = _count(self._segments, "TCP packet")
            return f"{packets}, none from a client to a service of the rules that has a mirror; {self._nearest()}"
        requests = f"{_count(self._requests, 'packet')} from clients to services"
        if not self._syns:
            return (
                f"{requests}, none of them a SYN: the connections began before the capture, and natmirror copies a"
                " connection only from its beginning"
            )
        if bad_checksums:
            return (
                f"{_count(bad_checksums, 'packet')} with a wrong TCP checksum, which natmirror does not copy; if the"
                " capturing host leaves checksums to its network card, capture with ethtool -K DEVICE tx off, or on"
                " another host"
            )
        if self._other_backends:
            [(backend, count)] = self._other_backends.most_common(1)
            return (
                f"other backends answered than those that the rules choose: {show(backend)} answered"
                f" {_count(count, 'SYN')}; leave the others out of the rules"
            )
        if not self._replies:
            chosen = ", ".join(sorted({show(backend) for backend in self._chosen.values()})[:3])
            expected = f" ({chosen})" if chosen else ""
            return f"{requests}, but no answers from their backends{expected}: capture both sides (tcpdump -i any)"
        if skipped[CUT_SHORT]:
            return f"{_count(skipped[CUT_SHORT], 'packet')} cut short, among them parts of handshakes"
        return "no client completed its handshake with a service, or its mirrors leave it out (only, sample)"

    def _nearest(self) -> str:
        """Return what came nearest to a packet from a client to a mirrored service."""
        if self._strangers:
            address, count = self._strangers.most_common(1)[0]
            return (
                f"{_count(self._strangers.total(), 'packet')} to services came from addresses outside switches, most of"
                f" them from {IPv4Address(address[0])} ({count:,})"
            )
        if self._unmirrored:
            return f"{_count(self._unmirrored, 'packet')} went from clients to services without mirrors"
        if self._behind:
            return (
                f"{_count(self._behind, 'packet')} went from clients to backends, as behind a load balancer: capture"
                " before it, too (tcpdump -i any)"
            )
        if self._replies:
            return f"{_count(self._replies, 'packet')} went the other way: capture both directions"
        there, count = (self._other_ports or self._destinations).most_common(1)[0]
        hint = ", a service's address but not its port" if self._other_ports else ""
        return f"most go to {show(there)} ({count:,}){hint}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
