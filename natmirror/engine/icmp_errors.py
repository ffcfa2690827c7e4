"""The verdict on ICMP errors, by the connection that an error is about.

An error about a leg goes to the leg and is dropped. An error about a NATed connection is translated, with its inner
header. All others pass unchanged.
"""

from natmirror.actions import FOR_LEG, Accept, Drop, Verdict
from natmirror.engine.counters import Counters, EngineCounter
from natmirror.engine.mirror_endpoints import MirrorEndpoints
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net import icmp
from natmirror.net.endpoint import endpoint_of
from natmirror.net.icmp import IcmpError
from natmirror.net.packet import Datagram
from natmirror.reasons import DropReason
from natmirror.rules.shards import shard_of_error


class IcmpErrors:
    """The part of an engine that decides on ICMP errors."""

    def __init__(
        self,
        services: ServiceTable,
        mirrors: MirrorEndpoints,
        nat: Nat,
        mirroring: GuardedMirroring,
        counters: Counters,
    ) -> None:
        self._services = services
        self._mirrors = mirrors
        self._nat = nat
        self._mirroring = mirroring
        self._counters = counters

    def receive(self, datagram: Datagram, *, to_service: bool) -> Verdict:
        """Return the verdict on a datagram on its way to a service, or else to a client."""
        error = icmp.parse_error(datagram)
        if error is None:
            return Accept()
        if self._mirroring.has_leg(error.inner_dst, error.inner_src, otherwise=False):
            self._counters.count(EngineCounter.ICMP_ERRORS_FOR_LEGS)
            self._mirroring.icmp_error(error)
            return FOR_LEG
        return self._to_service(error) if to_service else self._to_client(error)

    def shard_of(self, datagram: Datagram, count: int) -> int | None:
        """Return the number of the engine, of ``count``, that decides on a datagram to a service or to this host; None
        if any engine may."""
        error = icmp.parse_error(datagram)
        if error is None:
            return None
        sources = set() if self._services.at(error.inner_src) else self._mirrors.sources
        return shard_of_error(error, sources, count)

    def _to_service(self, error: IcmpError) -> Verdict:
        """Return the verdict on an error about a packet of the service: its backend gets it."""
        service = self._services.at(error.inner_src)
        if service is None or service.pool is None or error.inner_dst[0] not in self._services.clients:
            return Accept()
        flow = self._nat.find_orig(error.inner_dst, error.inner_src)
        backend = flow.backend if flow is not None else None
        there = endpoint_of(backend or self._services.derived_backend(service, error.inner_dst))
        self._counters.count(EngineCounter.ICMP_ERRORS_TRANSLATED)
        return Accept(icmp.translate(error, outer_dst=there[0], inner_src=there))

    def _to_client(self, error: IcmpError) -> Verdict:
        """Return the verdict on an error about a packet of the client."""
        client, there = error.inner_src, error.inner_dst
        if client[0] not in self._services.clients:
            return Accept()
        flow = self._nat.find_reply(there, client)
        if flow is not None and flow.is_direct:
            return Accept()
        services = [flow.service] if flow is not None else self._services.services_of(there)
        if len(services) == 1 and services[0].pool is not None:
            self._counters.count(EngineCounter.ICMP_ERRORS_TRANSLATED)
            here = endpoint_of(services[0])
            return Accept(icmp.translate(error, outer_src=here[0], inner_dst=here))
        mirror = self._mirrors.at.get(there)
        if mirror is not None and not mirror.direct and not services:
            self._counters.drop(DropReason.ICMP_WITHOUT_LEG)
            return Drop(DropReason.ICMP_WITHOUT_LEG)
        return Accept()
