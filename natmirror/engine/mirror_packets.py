"""The verdict on a mirror's packets: they are for legs, and reach no client."""

from natmirror.actions import FOR_LEG, Accept, Drop, Send, Verdict
from natmirror.engine.counters import Counters, EngineCounter
from natmirror.engine.mirror_endpoints import MirrorEndpoints
from natmirror.engine.replicated_legs import ReplicatedLegs
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.mirror.outgoing import Outgoing
from natmirror.nat.services import ServiceTable
from natmirror.net.build import build_reset
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import RST, Segment
from natmirror.reasons import DropReason


class MirrorPackets:
    """The part of an engine that decides on packets from mirrors to clients, or to addresses of this host."""

    def __init__(
        self,
        services: ServiceTable,
        mirrors: MirrorEndpoints,
        mirroring: GuardedMirroring,
        replicated_legs: ReplicatedLegs,
        outgoing: Outgoing,
        counters: Counters,
    ) -> None:
        self._services = services
        self._mirrors = mirrors
        self._mirroring = mirroring
        self._replicated_legs = replicated_legs
        self._outgoing = outgoing
        self._counters = counters

    def is_for_leg(self, segment: Segment) -> bool:
        """Return whether a packet is a mirror's, and for a leg or to the addresses of one."""
        ends = (segment.src, segment.sport), (segment.dst, segment.dport)
        if ends[0] not in self._mirrors.at:
            return False
        is_ours = segment.dst in self._mirrors.sources or segment.dst in self._services.clients
        return is_ours or self._mirroring.has_leg(*ends, otherwise=False)

    def receive(self, segment: Segment, now: float) -> Verdict:
        """Return the verdict on a mirror's packet for a leg, or to the addresses of one."""
        mirror, local = (segment.src, segment.sport), (segment.dst, segment.dport)
        if not self._mirroring.has_leg(mirror, local, otherwise=True):
            return self._without_leg(segment, mirror)
        if not segment.checksum_ok():
            return self._drop(DropReason.MIRROR_BAD_CHECKSUM)
        self._counters.count(EngineCounter.MIRROR_PACKETS)
        self._mirroring.from_mirror(segment, now)
        return FOR_LEG

    def _without_leg(self, segment: Segment, mirror: Endpoint) -> Verdict:
        """Return the verdict on a mirror's packet for which there is no leg. The active host answers with a RST; on a
        standby the other host may have the leg."""
        is_production = self._services.services_of(mirror) or self._mirrors.at[mirror].direct
        if is_production or segment.dst in self._mirrors.sources:
            return Accept()
        if self._replicated_legs.is_active and not segment.flags & RST and segment.checksum_ok():
            self._outgoing.add([Send(build_reset(segment))])
        return self._drop(DropReason.MIRROR_WITHOUT_LEG)

    def _drop(self, reason: DropReason) -> Drop:
        self._counters.drop(reason)
        return Drop(reason)
