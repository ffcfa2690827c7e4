"""Legs that pass from one host to another: the records of those here, and going on with those of another host.

Theory. The host that forwards packets reports its records again and again, as leg_record.py has them. When another host
takes over, it adopts the records that were reported last. There the client's stream is picked up, and each mirror says
itself how far it has come (resumption.py). Bytes that the mirror lacks and no host holds any more end the leg.

The ledger of the host that takes over counts a connection's bytes from the first one that the record says a mirror has
not acknowledged. What lies before is the first host's.
"""

from collections.abc import Iterable
from typing import Any

from natmirror.engine.counters import Counters, EngineCounter
from natmirror.fastpath.flow_flags import is_finished, is_killed
from natmirror.fastpath.flow_states import State
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flows import Flow, Nat
from natmirror.nat.services import ServiceTable
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of, parse_endpoint, show
from natmirror.rules import Backend, Service
from natmirror.rules.shards import Shard, shard_of_client
from natmirror.tcp import leg_record
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord, LegRecord
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.record_masks import Masks

_Key = tuple[str, Endpoint]  # service and client


class ReplicatedLegs:
    """The engine's part of a pair."""

    def __init__(
        self,
        shard: Shard,
        services: ServiceTable,
        nat: Nat,
        mirroring: GuardedMirroring,
        counters: Counters,
        faults: Faults,
        masks: Masks,
    ) -> None:
        """Records are masked with ``masks``."""
        self._masks = masks
        self._shard = shard
        self._services = services
        self._nat = nat
        self._mirroring = mirroring
        self._counters = counters
        self._faults = faults
        self._reported: dict[_Key, tuple[MirroredFlow, tuple[int, ...]]] = {}  # with the numbers that were reported
        self._gone: dict[_Key, None] = {}
        self.is_active = True
        """Whether this host passes the packets."""

    # Reporting

    def ids(self) -> list[int]:
        """Return the numbers of the flows with living legs, for records() in slices."""
        mirrored = dict.fromkeys(flow for flow, stream in self._mirroring.streams.items() if stream.alive())
        for key in [key for key, (flow, _) in self._reported.items() if flow not in mirrored]:
            self._forget(key)
        return [int(flow.row.id) for flow in mirrored]

    def records(self, ids: Iterable[int], *, everything: bool = False) -> list[dict[str, Any]]:
        """Return what another host needs to go on with those of these flows that have established legs of raw bytes:
        small plain values that JSON can hold, with the keys of leg_record.FlowRecord. Flows on which nothing has moved
        since they were reported last are left out, unless ``everything`` is wanted.

        Positions are as old as the record, which does no harm: adopt() asks the mirror. Only the numbers of what was
        reported are kept.
        """
        found = []
        for flow in self._nat.by_ids(ids):
            try:
                record = self._record_of(flow, everything=everything)
            except Exception as error:  # the other connections are reported all the same
                self._faults.note(Work.TAKEOVER, show(flow.client), error)
                continue
            if record is not None:
                found.append(record.plain(self._masks))
        return found

    def _record_of(self, flow: Flow, *, everything: bool) -> FlowRecord | None:
        stream = self._mirroring.streams.get(flow)
        if stream is None or any(leg.state is LegState.RESUMING for _, leg in stream.alive()):
            return None  # the record of the other host holds
        key, legs = (flow.service.name, flow.client), _lasting(stream)
        if not legs:
            self._forget(key)
            return None
        numbers = _numbers(flow, legs)
        if not everything and self._reported.get(key) == (flow, numbers):
            return None
        self._reported[key] = flow, numbers
        self._gone.pop(key, None)
        return _record(flow, legs)

    def take_withdrawn(self) -> list[tuple[str, str]]:
        """Return service and client, as in the records, of the records that hold no more since the last call: a leg has
        ended, or the connection is closing. The next round of ids() and records() finds each; report it before a later
        record of the same key."""
        gone, self._gone = self._gone, {}
        return [(service, show(client)) for service, client in gone]

    def _forget(self, key: _Key) -> None:
        if self._reported.pop(key, None) is not None:
            self._gone[key] = None

    # Going on

    def adopt(self, record: dict[str, Any], now: float) -> None:
        """Take a connection and its legs from another host's record, in place of what is known of them here, unless
        legs live here; in the engine that the client belongs to (shards.shard_of_client()).

        The flow is bound to the record's backend; its legs are ``resuming``. After release() they stand by until
        take_over(), or until a packet of theirs comes, and a later record of the same connection replaces the one
        before. Without release() they go on at once, and Engine.handle_timer() is due to ask their mirrors. ValueError
        where the record is malformed, does not fit the rules, or is about an older connection than the one that is
        known here; then nothing has changed.
        """
        self._faults.now = now
        one = leg_record.parse(record, self._masks)
        service = self._services.service_named(one.service)
        if one.client_end[0] not in self._services.clients:
            raise ValueError(f"client: {one.client} is none of the clients")
        if shard_of_client(one.client, self._shard.count) != self._shard.number:
            raise ValueError(f"client: {one.client} is another thread's")
        if not service.mirrors:
            raise ValueError(f"legs: the service {one.service} has no mirrors")
        if (one.backend is None) != (service.pool is None):
            raise ValueError(f"backend: found {one.backend}, the service {one.service} has other rules")
        for leg in one.legs:
            if leg.our_scale != SCALE:
                raise ValueError(f"our_scale: expected {SCALE}, found {leg.our_scale}")
        flow = self._nat.find_orig(one.client_end, endpoint_of(service))
        if flow is not None and self._keep_known(flow, one, now):
            return
        backend = None if one.backend is None else self._backend(service, parse_endpoint(one.backend))
        if flow is not None and (flow.backend != backend or is_killed(flow.row)):
            self._nat.forget(flow)
            flow = None
        if flow is None:
            flow = self._nat.adopt(service, one.client_end, backend, now, is_ours=self.is_active)
        else:
            self._mirroring.forget(flow)
            flow.service = service  # as it is now: it may have other mirrors
            self._nat.adopt_existing(flow, now, is_ours=self.is_active)
        if flow is None:
            self._counters.count(EngineCounter.FLOWS_UNTRACKED)
            return
        self._mirroring.adopt(self._nat.keep_object(flow), one, now)
        if self.is_active:
            self._mirroring.activate(flow, now)

    def withdraw(self, service: str, client: str) -> None:
        """Forget an adopted connection that still stands by: its record holds no more. ValueError where there is no
        such service, or ``client`` is no address with a port."""
        flow = self._nat.find_orig(parse_endpoint(client), endpoint_of(self._services.service_named(service)))
        stream = None if flow is None else self._mirroring.streams.get(flow)
        if flow is not None and stream is not None and stream.state is StreamState.STANDBY:
            self._nat.forget(flow)

    def release(self) -> None:
        """Leave the packets to another host, from now on or from the start: all legs end as ``handed-over``, and send
        nothing more. From then on adopted legs stand by, and what mirrors send to no leg is not answered."""
        if self.is_active:
            self.is_active = False
            self._mirroring.leave()

    def take_over(self, now: float) -> None:
        """Forward the packets from now on: adopted legs go on, and Engine.handle_timer() asks each mirror. Adopt all
        records first: from now on mirrors whose legs are not known here are reset."""
        self._faults.now = now
        self.is_active = True
        left = [int(flow.row.id) for flow, stream in self._mirroring.streams.items() if stream.is_handed_over]
        for flow in self._nat.by_ids(left):
            try:
                self._pick_up_again(flow, now)
            except Exception as error:  # the other connections are to go on all the same
                self._faults.note(Work.TAKEOVER, show(flow.client), error)
        for known in list(self._mirroring.streams):
            self._mirroring.activate(known, now)

    def _pick_up_again(self, flow: Flow, now: float) -> None:
        """Pick up a connection that comes back, and that no host has reported since: it has other numbers."""
        self._mirroring.forget(flow)
        if flow.state is not State.ESTABLISHED or is_killed(flow.row):
            return
        self._nat.adopt_existing(flow, now, is_ours=True)
        if flow.service.mirrors:
            self._mirroring.picked_up(flow, None if flow.backend is None else endpoint_of(flow.backend))

    def _backend(self, service: Service, place: Endpoint) -> Backend:
        backend = self._services.reported_backend(service, place)
        if backend is None:
            raise ValueError(f"backend: {service.name} can have none at {show(place)}")
        return backend

    def _keep_known(self, flow: Flow, one: FlowRecord, now: float) -> bool:
        """Return whether what is known here of a record's connection stays; a connection that stands by takes the later
        numbers."""
        backend = None if flow.backend is None else show(endpoint_of(flow.backend))
        stream = self._mirroring.streams.get(flow)
        if stream is not None and stream.state is StreamState.STANDBY:
            if backend == one.backend and self._mirroring.renew(flow, one):
                self._nat.renew(flow, now)
                return True
        elif stream is not None and stream.is_handed_over:
            pass  # what is known here is older than the record
        elif not flow.is_picked_up and flow.row.iss != one.iss:
            raise ValueError(f"{one.client} has opened a new connection")
        elif flow.row.reply.packets and backend != one.backend:
            raise ValueError(f"{one.client} is served by {backend}, not {one.backend}")
        elif stream is not None and stream.alive():
            return True  # its legs know better
        return False


def _lasting(stream: MirroredStream) -> list[tuple[str, Leg]]:
    """Return the legs of a connection that neither end has begun to close, each with its mirror's name."""
    row = stream.flow.row
    if row.state != State.ESTABLISHED or is_finished(row.orig):
        return []
    return [(copy.mirror.name, leg) for copy, leg in stream.alive() if leg.state is LegState.ESTABLISHED]


def _numbers(flow: Flow, legs: list[tuple[str, Leg]]) -> tuple[int, ...]:
    """What changes in a record."""
    numbers = [number for _, leg in legs for number in (leg.row.id, leg.row.snd_una, leg.row.rcv_nxt, leg.row.mss)]
    return (flow.row.orig.end, flow.row.reply.ack, *numbers)


def _record(flow: Flow, legs: list[tuple[str, Leg]]) -> FlowRecord:
    return FlowRecord(
        service=flow.service.name,
        client=show(flow.client),
        backend=None if flow.backend is None else show(endpoint_of(flow.backend)),
        iss=int(flow.row.iss),
        client_nxt=seq.latest(flow.row.orig.end, flow.row.reply.ack),
        client_una=int(flow.row.reply.ack),
        backend_scale=int(flow.row.reply.scale),
        legs=tuple(_leg_record(mirror, leg) for mirror, leg in legs),
    )


def _leg_record(mirror: str, leg: Leg) -> LegRecord:
    row = leg.row
    return LegRecord(
        mirror=mirror,
        address=show(leg.mirror),
        local=show(leg.local),
        scale=int(row.scale),
        our_scale=SCALE,
        mss=int(row.mss),
        sack=leg.speaks_sack,
        rcv_nxt=int(row.rcv_nxt),
        snd_una=int(row.snd_una),
        offset=int(row.seq_offset),
    )
