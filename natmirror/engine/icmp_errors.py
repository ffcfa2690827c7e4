"""ICMP errors on their way: whose they are, and what becomes of them.

A leg's is heeded and consumed; one about a NATed connection is translated, inner header too; all others pass.
"""

from collections.abc import Mapping

from natmirror.actions import Accept, Drop, Verdict
from natmirror.engine.counters import Counters
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net import icmp
from natmirror.net.icmp import IcmpError
from natmirror.net.packet import Datagram, Endpoint, endpoint_of
from natmirror.rules import Mirror
from natmirror.rules.shards import shard_of_error


class IcmpErrors:
    """The errors that an engine meets; ``sources`` are addresses of ours that legs come from.

    What legs send because of them waits for ``mirroring.take_sends()``.
    """

    def __init__(
        self,
        registry: ServiceTable,
        mirrors: Mapping[Endpoint, Mirror],
        sources: set[bytes],
        nat: Nat,
        mirroring: GuardedMirroring,
        stats: Counters,
    ) -> None:
        self._registry = registry
        self._mirrors = mirrors
        self._sources = sources
        self._nat = nat
        self._mirroring = mirroring
        self._stats = stats

    def receive(self, datagram: Datagram, now: float, *, to_service: bool) -> Verdict:
        """The verdict on a datagram that goes to a service, or else to a client."""
        error = icmp.parse_error(datagram)
        if error is None:
            return Accept()
        if self._mirroring.has_leg(error.inner_dst, error.inner_src, otherwise=False):
            self._stats.count("icmp_consumed")
            self._mirroring.icmp_error(error, now)
            return Drop("consumed")
        return self._to_service(error) if to_service else self._to_client(error)

    def shard_of(self, datagram: Datagram, count: int) -> int | None:
        """Which of ``count`` engines a datagram to a service or to this host is for; None where any of them will do."""
        error = icmp.parse_error(datagram)
        if error is None:
            return None
        sources = set() if self._registry.at(error.inner_src) else self._sources
        return shard_of_error(error, sources, count)

    def _to_service(self, error: IcmpError) -> Verdict:
        """An error about what the service seemed to send, on its way to the backend that sent it."""
        service = self._registry.at(error.inner_src)
        if service is None or service.pool is None or not self._registry.is_client(error.inner_dst[0]):
            return Accept()
        flow = self._nat.find_orig(error.inner_dst, error.inner_src)
        backend = flow.backend if flow is not None else None
        there = endpoint_of(backend or self._registry.derived_backend(service, error.inner_dst))
        self._stats.count("icmp_translated")
        return Accept(icmp.translate(error, outer_dst=there[0], inner_src=there))

    def _to_client(self, error: IcmpError) -> Verdict:
        """An error about what the client sent."""
        client, there = error.inner_src, error.inner_dst
        if not self._registry.is_client(client[0]):
            return Accept()
        flow = self._nat.find_reply(there, client)
        if flow is not None and flow.direct:
            return Accept()
        services = [flow.service] if flow is not None else self._registry.services_of(there)
        if len(services) == 1 and services[0].pool is not None:
            self._stats.count("icmp_translated")
            here = endpoint_of(services[0])
            return Accept(icmp.translate(error, outer_src=here[0], inner_dst=here))
        mirror = self._mirrors.get(there)
        if mirror is not None and not mirror.direct and not services:
            self._stats.drop("icmp-without-leg")
            return Drop("icmp-without-leg")
        return Accept()
