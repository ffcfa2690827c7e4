"""Legs of a pair: records of this host's legs, and legs that are adopted from the other host's records.

Theory. The active host reports records of its legs (leg_record.py) again and again. The standby host adopts them. When
it takes over it continues the legs of the latest records: it picks up the client's stream, and asks each mirror which
bytes it has (resumption.py). A leg ends if its mirror lacks bytes that neither host still holds.

When hosts change over, bytes of a client may pass the first host and their acknowledgement the second one. Then the
first holds them in vain, and the second's next record reports them as missing. The first host, which keeps its legs for
RELEASE_DELAY, takes that as the acknowledgement and delivers them; the second learns it from the mirror.

The host that takes over counts a connection's bytes in its ledger from the first byte that, by the record, a mirror has
not acknowledged. The bytes before it are in the other host's ledger.
"""

from collections.abc import Iterable
from typing import Any

from natmirror.engine.counters import Counters, EngineCounter
from natmirror.fastpath.flow_flags import is_finished, is_killed, is_unconfirmed, may_lack_versions
from natmirror.fastpath.flow_states import State
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.guarded import GuardedMirroring
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of, parse_endpoint, show
from natmirror.rules import Backend, Service
from natmirror.rules.shards import Shard, shard_of_client
from natmirror.tcp import leg_record, tracker
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord, LegRecord
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.record_masks import Masks

_Key = tuple[str, Endpoint]  # service and client
_LASTING = (LegState.ESTABLISHED, LegState.RESUMING)


class ReplicatedLegs:
    """The legs that one engine shares with the other host of a pair."""

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
        """``masks`` hide the sequence numbers in records."""
        self._masks = masks
        self._shard = shard
        self._services = services
        self._nat = nat
        self._mirroring = mirroring
        self._counters = counters
        self._faults = faults
        self._reported: dict[_Key, tuple[MirroredFlow, tuple[int | None, ...]]] = {}  # with the reported numbers
        self._withdrawn: dict[_Key, None] = {}
        self.is_active = True
        """Whether this host forwards the packets."""

    # Reporting

    def ids(self) -> list[int]:
        """Return the numbers of the flows with open legs, for records() in slices. The records of
        flows without any become invalid."""
        mirrored = dict.fromkeys(flow for flow, stream in self._mirroring.streams.items() if stream.alive())
        for key in [key for key, (flow, _) in self._reported.items() if flow not in mirrored]:
            self._withdraw_record(key)
        return [flow.row.id for flow in mirrored]

    def records(self, ids: Iterable[int], *, everything: bool = False) -> list[dict[str, Any]]:
        """Return the records of those of the flows with these numbers that have established legs of raw bytes, as plain
        values for JSON with the keys of leg_record.FlowRecord. Unless ``everything`` is wanted, flows whose numbers
        have not changed since their last record are left out.

        A record's positions are soon out of date. That does no harm, because the host that adopts it asks the mirror.
        """
        found = []
        for flow in self._nat.by_ids(ids):
            try:
                record = self._record_of(flow, everything=everything)
            except Exception as error:  # the other connections still have to be reported
                self._faults.note(Work.TAKEOVER, show(flow.client), error)
                continue
            if record is not None:
                found.append(record.plain(self._masks))
        return found

    def lacking_records(self) -> list[dict[str, Any]]:
        """Return the records of the connections that were found to lack bytes since the last call: the other host holds
        these bytes only for a second."""
        return self.records([flow.row.id for flow in self._mirroring.take_lacking()], everything=True)

    def _record_of(self, flow: Flow, *, everything: bool) -> FlowRecord | None:
        stream = self._mirroring.streams.get(flow)
        if stream is None:
            return None
        if not everything and any(leg.state is LegState.RESUMING for _, leg in stream.alive()):
            return None  # the other host's record is still valid
        key, legs = (flow.service.name, flow.client), _lasting(stream)
        if not legs:
            self._withdraw_record(key)
            return None
        missing_to = _missing_to(stream)
        numbers = _numbers(flow, legs, missing_to)
        if not everything and self._reported.get(key) == (flow, numbers):
            return None
        self._reported[key] = flow, numbers
        self._withdrawn.pop(key, None)
        return _record(flow, legs, missing_to)

    def take_withdrawn(self) -> list[tuple[str, str]]:
        """Return service and client of each record that has become invalid since the last call, because its legs have
        ended or the connection is closing. ids() and records() find these: report them before a later record with the
        same key."""
        withdrawn, self._withdrawn = self._withdrawn, {}
        return [(service, show(client)) for service, client in withdrawn]

    def _withdraw_record(self, key: _Key) -> None:
        if self._reported.pop(key, None) is not None:
            self._withdrawn[key] = None

    # Adopting

    def adopt(self, record: dict[str, Any], now: float) -> None:
        """Adopt a connection and its legs from another host's record. They replace what this host knows of them, unless
        it has open legs of the connection. Call the engine that has the client (shards.shard_of_client()).

        The flow is bound to the record's backend; its legs are ``resuming``. On a standby host the legs stand by until
        take_over(), or until one of their packets arrives, and a later record of the connection replaces an earlier
        one. On an active host they continue at once: Engine.handle_timer() is due, and asks their mirrors.

        Raise ValueError, and change nothing, if the record is malformed, does not fit the rules, or is about an older
        connection than the one that this host knows.
        """
        self._faults.now = now
        one = leg_record.parse(record, self._masks)
        service = self._services.service_named(one.service)
        if one.client_end[0] not in self._services.clients:
            raise ValueError(f"client: {one.client} is in no client network")
        if shard_of_client(one.client, self._shard.count) != self._shard.number:
            raise ValueError(f"client: {one.client} belongs to another thread")
        if not service.mirrors:
            raise ValueError(f"legs: the service {one.service} has no mirrors")
        if (one.backend is None) != (service.pool is None):
            raise ValueError(f"backend: found {one.backend}, but the rules of service {one.service} differ")
        for leg in one.legs:
            if leg.our_scale != SCALE:
                raise ValueError(f"our_scale: expected {SCALE}, found {leg.our_scale}")
        flow = self._nat.find_orig(one.client_end, endpoint_of(service))
        if flow is not None and self._keeps_own_flow(flow, one, now):
            return
        backend = None if one.backend is None else self._backend(service, parse_endpoint(one.backend))
        if flow is not None and (flow.backend != backend or is_killed(flow.row)):
            self._nat.forget(flow)
            flow = None
        if flow is None:
            flow = self._nat.adopt(service, one.client_end, backend, now, is_ours=self.is_active)
        else:
            self._mirroring.forget(flow)
            flow.service = service  # by the present rules: its mirrors may have changed
            self._nat.adopt_existing(flow, now, is_ours=self.is_active)
        if flow is None:
            self._counters.count(EngineCounter.FLOWS_UNTRACKED)
            return
        self._mirroring.adopt(self._nat.keep_object(flow), one, now)
        if self.is_active:
            self._mirroring.activate(flow, now)

    def deliver_missing(self, record: dict[str, Any], now: float) -> None:
        """Deliver to the mirrors the bytes that this host holds and that the other host's record reports as missing:
        they passed here, and their acknowledgement there. Deliver nothing if a leg here is not in the record, which
        then does not say how far its mirror is. Raise ValueError if the record is malformed."""
        self._mirroring.set_time(now)
        one = leg_record.parse(record, self._masks)
        flow = self._nat.find_orig(one.client_end, endpoint_of(self._services.service_named(one.service)))
        if one.missing_to is None or flow is None or not flow.row.held_len or flow.row.iss != one.iss:
            return
        stream = self._mirroring.streams.get(flow)
        recorded = {(leg.mirror, leg.local_end) for leg in one.legs}
        living = [] if stream is None else stream.alive()
        if any((copy.mirror.name, leg.local_endpoint) not in recorded for copy, leg in living):
            return
        tracker.infer_acked(flow.row, one.missing_to)
        self._mirroring.acknowledged(flow, now)

    def withdraw(self, service: str, client: str) -> None:
        """Forget an adopted connection that still stands by: the other host has withdrawn its record. Raise ValueError
        if there is no such service, or ``client`` is no endpoint."""
        flow = self._nat.find_orig(parse_endpoint(client), endpoint_of(self._services.service_named(service)))
        stream = None if flow is None else self._mirroring.streams.get(flow)
        if flow is not None and stream is not None and stream.state is StreamState.STANDBY:
            self._nat.forget(flow)

    def release(self) -> None:
        """Release all legs to another host, which forwards the packets from now on: they end as ``released`` and
        send nothing. From now on adopted legs stand by, and a mirror's packet without a leg gets no RST."""
        if self.is_active:
            self.is_active = False
            self._mirroring.release()

    def take_over(self, now: float) -> None:
        """Forward the packets from now on: adopted legs become active, and Engine.handle_timer() asks each mirror.
        Adopt all records first, because a mirror's packet without a leg is answered with a RST from now on."""
        self._faults.now = now
        self.is_active = True
        released = [flow.row.id for flow, stream in self._mirroring.streams.items() if stream.is_released]
        for flow in self._nat.by_ids(released):
            try:
                self._pick_up_again(flow, now)
            except Exception as error:  # the other connections still have to continue
                self._faults.note(Work.TAKEOVER, show(flow.client), error)
        for known in list(self._mirroring.streams):
            self._mirroring.activate(known, now)

    def _pick_up_again(self, flow: Flow, now: float) -> None:
        """Pick up a connection that this host had released and that no record replaced: its numbers have moved on."""
        self._mirroring.forget(flow)
        if flow.state is not State.ESTABLISHED or is_killed(flow.row):
            return
        self._nat.adopt_existing(flow, now, is_ours=True)
        if flow.service.mirrors:
            self._mirroring.picked_up(flow, None if flow.backend is None else endpoint_of(flow.backend))

    def _backend(self, service: Service, endpoint: Endpoint) -> Backend:
        backend = self._services.reported_backend(service, endpoint)
        if backend is None:
            raise ValueError(f"backend: service {service.name} cannot have one at {show(endpoint)}")
        return backend

    def _keeps_own_flow(self, flow: Flow, one: FlowRecord, now: float) -> bool:
        """Return whether to keep this host's own flow of a record's connection. A standby flow gets the record's
        numbers."""
        backend = None if flow.backend is None else show(endpoint_of(flow.backend))
        stream = self._mirroring.streams.get(flow)
        if stream is not None and stream.state is StreamState.STANDBY:
            if backend == one.backend and self._mirroring.renew(flow, one):
                self._nat.renew(flow, now)
                return True
        elif stream is not None and stream.is_released:
            pass  # the record is newer than our flow
        elif not flow.is_picked_up and flow.row.iss != one.iss:
            raise ValueError(f"{one.client} has opened a new connection")
        elif not is_unconfirmed(flow.row) and backend != one.backend:
            raise ValueError(f"{one.client} is served by {backend}, not {one.backend}")
        elif stream is not None and stream.alive():
            return True  # our open legs have newer numbers
        return False


def _lasting(stream: MirroredStream) -> list[tuple[str, Leg]]:
    """Return the established legs and those that are resuming, each with its mirror's name; none once either end has
    begun to close the connection."""
    row = stream.flow.row
    if row.state != State.ESTABLISHED or is_finished(row.orig):
        return []
    return [(copy.mirror.name, leg) for copy, leg in stream.alive() if leg.state in _LASTING]


def _missing_to(stream: MirroredStream) -> int | None:
    """Return the number up to which the backend has acknowledged bytes that did not pass here, if the other host may
    hold them.

    None if a version of any of them may have passed here, or of one before them that a mirror lacks: the other host may
    hold another version of it, and delivers all that it holds up to this number."""
    flow, reassembler = stream.flow, stream.reassembler
    if not stream.is_adopted or may_lack_versions(flow.row):
        return None
    if flow.passed_to is not None and seq.lt(reassembler.next, flow.passed_to):
        return None
    if any(leg.resumption is None or seq.lt(leg.row.snd_una, reassembler.next) for _, leg in stream.alive()):
        return None
    end = reassembler.gap_end(flow.row.reply.ack)
    return end if seq.lt(reassembler.next, end) else None


def _numbers(flow: Flow, legs: list[tuple[str, Leg]], missing_to: int | None) -> tuple[int | None, ...]:
    """Return the numbers by which a later record of the connection differs."""
    numbers = [number for _, leg in legs for number in (leg.row.id, leg.row.snd_una, leg.row.rcv_nxt)]
    return (flow.row.orig.end, flow.row.reply.ack, missing_to, *numbers)


def _record(flow: Flow, legs: list[tuple[str, Leg]], missing_to: int | None) -> FlowRecord:
    return FlowRecord(
        service=flow.service.name,
        client=show(flow.client),
        backend=None if flow.backend is None else show(endpoint_of(flow.backend)),
        iss=flow.row.iss,
        client_nxt=seq.latest(flow.row.orig.end, flow.row.reply.ack),
        client_una=flow.row.reply.ack,
        backend_nxt=flow.row.reply.end,
        backend_scale=flow.row.reply.scale,
        missing_to=missing_to,
        legs=tuple(_leg_record(mirror, leg) for mirror, leg in legs),
    )


def _leg_record(mirror: str, leg: Leg) -> LegRecord:
    row = leg.row
    return LegRecord(
        mirror=mirror,
        address=show(leg.mirror_endpoint),
        local=show(leg.local_endpoint),
        scale=row.scale,
        our_scale=SCALE,
        mss=row.full_mss,
        sack=leg.uses_sack,
        rcv_nxt=row.rcv_nxt,
        snd_una=row.snd_una,
        offset=row.seq_offset,
    )
