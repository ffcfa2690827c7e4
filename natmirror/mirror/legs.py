"""All legs of an engine, of copies and of sessions: opened, found, and given what mirrors and the network send."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from natmirror.actions import Send
from natmirror.fastpath import FlowRow, LegRow, LegTable
from natmirror.mirror.outgoing import Outgoing
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.icmp import IcmpError
from natmirror.net.packet import Segment
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.initial_numbers import Numbers
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.path_mtu import HEADERS_LEN, MTU

_NARROW_TIMEOUT = 600.0  # seconds; then a wider way is tried again (RFC 1191 §6.3)


class LegOwner(Protocol):
    """What a leg belongs to."""

    @property
    def mirror(self) -> Mirror:
        """Where the leg leads."""

    @property
    def leg(self) -> Leg | None:
        """The leg: what make() has given."""

    @property
    def client_is_gone(self) -> bool:
        """Whether the client's connection is over: then the leg gives way to the next one of the same port."""


@dataclass(slots=True)
class LegOutcome:
    """What has happened to a leg: it has moved, and may have ended. LegOutcomes.apply() is to be given it."""

    owner: LegOwner
    leg: Leg
    end_reason: EndReason | None
    """Why the leg has ended, where its owner has still to be told; else None."""


class Legs:
    """The legs; what they send goes to ``outgoing``.

    ``in_use`` says whether production has a connection between a mirror and a client: no leg may stand in its place.
    ``ports`` are for legs with an address of ours. ``numbers`` gives the legs their initial numbers. ``now`` is set by
    the engine before it works.
    """

    def __init__(
        self,
        table: LegTable,
        outgoing: Outgoing,
        in_use: Callable[[Endpoint, Endpoint], bool],
        ports: range,
        numbers: Numbers,
    ) -> None:
        self.now = 0.0
        self._table = table
        self._outgoing = outgoing
        self._in_use = in_use
        self._ports = ports
        self._numbers = numbers
        self._next_port = 0
        self._path_mtus: dict[Endpoint, int] = {}  # by this host's routes
        self._narrow_paths: dict[Endpoint, tuple[int, float]] = {}  # what routers said, and until when it counts
        self.living: dict[int, LegOwner] = {}
        """What each leg belongs to, by the leg's number in the table, until its owner has been told of its end."""

    def owners(self) -> list[tuple[LegOwner, Leg]]:
        """Return the living legs, and what each belongs to."""
        return [(owner, owner.leg) for owner in self.living.values() if owner.leg is not None]

    def ids(self) -> list[int]:
        """Return the numbers of the living legs; a number is used again when its leg is gone."""
        return list(self.living)

    def owner(self, leg_id: int) -> LegOwner | None:
        """Return what the leg with this number belongs to; None where there is none any more."""
        return self.living.get(leg_id)

    def owner_between(self, mirror: Endpoint, local: Endpoint) -> LegOwner | None:
        """Return what the leg between the two belongs to; None where there is none."""
        row = self._table.find(mirror, local)
        return None if row is None else self.living.get(row.id)

    def link(self, flow_row: FlowRow, legs: Iterable[Leg]) -> None:
        """Tell the C gear which legs a flow has."""
        self._table.link(flow_row, [leg.row for leg in legs])

    # Opening

    def left_over(self, mirror: Mirror, client: Endpoint) -> tuple[LegOwner, Leg] | None:
        """Return the leg that a connection which is over has left where a new one of the same client's port would have
        its own; it has to end before make()."""
        older = None if mirror.source is not None else self._find(endpoint_of(mirror), client)
        return older if older is not None and older[0].client_is_gone else None

    def make(
        self,
        owner: LegOwner,
        client: Endpoint,
        iss: int,
        now: float,
        *,
        listener: Callable[[bytes], None] | None = None,
    ) -> Leg | EndReason:
        """A leg in a client's name whose stream begins after the number ``iss``, which the mirror does not get to see,
        for open(); or why there is none. For ``listener`` see Leg."""
        mirror = endpoint_of(owner.mirror)
        local = self._local_endpoint(owner.mirror, mirror, client)
        if local is None:
            return EndReason.NO_FREE_PORT
        if self.has(mirror, local) or self._in_use(mirror, local):
            return EndReason.PORT_IN_USE
        offset = seq.add(self._numbers.first(local, mirror, now), -iss)
        path_mtu = self._path_mtu(mirror, now)
        make = partial(Leg, self._table, local, owner.mirror, iss=iss, offset=offset, listener=listener)
        return self._begin(owner, mirror, local, partial(make, path_mtu=path_mtu))

    def adopt(self, owner: LegOwner, record: LegRecord, client: Endpoint, now: float) -> Leg | EndReason:
        """A leg of another host's in a client's name, for activate(); or why there is none."""
        mirror, local, source = endpoint_of(owner.mirror), record.local_end, owner.mirror.source
        is_ours = local == client if source is None else local[0] == source.packed and local[1] in self._ports
        if not is_ours:
            return EndReason.OTHER_ADDRESS
        if self.has(mirror, local) or self._in_use(mirror, local):
            return EndReason.PORT_IN_USE
        make = partial(Leg.from_record, self._table, owner.mirror, record, path_mtu=self._path_mtu(mirror, now))
        return self._begin(owner, mirror, local, make)

    def _begin(self, owner: LegOwner, mirror: Endpoint, local: Endpoint, make: Callable[[], Leg]) -> Leg | EndReason:
        """A leg that ``make`` gives lives from now on; where it fails, the row that it has left goes."""
        try:
            leg = make()
        except Exception as error:
            self._find(mirror, local)
            if isinstance(error, MemoryError):
                return EndReason.MEMORY_FULL
            raise
        self.living[leg.row.id] = owner
        return leg

    def _local_endpoint(self, settings: Mirror, mirror: Endpoint, client: Endpoint) -> Endpoint | None:
        """Where a leg comes from: the client itself, or an address of ours with the next port that is free; None where
        none is."""
        if settings.source is None:
            return client
        for _ in self._ports:
            local = (settings.source.packed, self._ports[self._next_port])
            self._next_port = (self._next_port + 1) % len(self._ports)
            if not self.has(mirror, local):
                return local
        return None

    # What happens to them

    def has(self, mirror: Endpoint, local: Endpoint) -> bool:
        """Return whether a leg stands between the two."""
        return self._table.find(mirror, local) is not None

    def make_way(self, mirror: Endpoint, local: Endpoint) -> LegOutcome | None:
        """Production is about to have a connection between these two: a leg in its place says nothing any more."""
        found = self._find(mirror, local)
        return None if found is None else self.settle(*found, found[1].abandon(EndReason.PORT_REUSED))

    def receive(self, segment: Segment, now: float) -> LegOutcome | None:
        """Take a segment of a mirror's whose checksum is right, for a leg that stands."""
        found = self._find((segment.src, segment.sport), (segment.dst, segment.dport))
        return None if found is None else self.settle(*found, found[1].receive(segment, now))

    def icmp_error(self, error: IcmpError, now: float) -> LegOutcome | None:
        """Take an error about a segment of a leg that stands."""
        found = self._find(error.inner_dst, error.inner_src)
        if found is None:
            return None
        owner, leg = found
        if not error.is_fragmentation_needed:
            return self.settle(owner, leg, leg.unreachable(error.inner_seq))
        before = leg.segment_len
        packets = leg.path_mtu(error.mtu, error.inner_seq, now)
        if leg.segment_len < before:
            self._narrow_paths[leg.mirror] = (leg.segment_len + HEADERS_LEN, now + _NARROW_TIMEOUT)
        return self.settle(owner, leg, packets)

    def set_path_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """This host's routes say that the way to a mirror takes packets of at most ``mtu`` bytes."""
        self._path_mtus[mirror] = mtu

    def _path_mtu(self, mirror: Endpoint, now: float) -> int:
        """What is known of the way to a mirror."""
        mtu = self._path_mtus.get(mirror, MTU)
        narrow, until = self._narrow_paths.get(mirror, (MTU, 0.0))
        return min(mtu, narrow) if now < until else mtu

    def handle_timer(self, leg_id: int, now: float) -> LegOutcome | None:
        """Do what is due at the leg with this number."""
        found = self._living_at(self._table.row(leg_id))
        return None if found is None else self.settle(*found, found[1].handle_timer(now))

    def abandon(self, leg_id: int, reason: EndReason) -> LegOutcome | None:
        """End the leg with this number without a word to its mirror."""
        found = self._living_at(self._table.row(leg_id))
        return None if found is None else self.settle(*found, found[1].abandon(reason))

    def abort(self, leg_id: int, reason: EndReason) -> LegOutcome | None:
        """End the leg with this number with a RST."""
        found = self._living_at(self._table.row(leg_id))
        return None if found is None else self.settle(*found, found[1].abort(reason))

    def cut(self, owner: LegOwner, leg: Leg, reason: EndReason) -> LegOutcome | None:
        """End a leg whatever state a fault of ours has left it in, with a RST where that can still be made; never
        raises."""
        outcome = None
        with suppress(Exception):
            outcome = self.settle(owner, leg, leg.abort(reason))
        if leg.ended is None:
            leg.cut(reason)
        return LegOutcome(owner, leg, reason) if outcome is None and self._is_untold(owner, leg) else outcome

    def settle(self, owner: LegOwner, leg: Leg, packets: list[bytes]) -> LegOutcome:
        """Keep what a leg that has moved sends, and set its timer again."""
        if packets:
            self._outgoing.add([Send(packet, leg.segment_len) for packet in packets])
        leg.schedule()
        return LegOutcome(owner, leg, None if leg.ended is None or not self._is_untold(owner, leg) else leg.ended)

    def _is_untold(self, owner: LegOwner, leg: Leg) -> bool:
        return self.living.get(leg.row.id) is owner and owner.leg is leg

    def number_used(self, leg: Leg) -> None:
        """Remember how far the numbers of a leg that has ended went: the next between the same ends begins above."""
        self._numbers.note_last(leg.local, leg.mirror, leg.last_on_the_wire, self.now)

    def _find(self, mirror: Endpoint, local: Endpoint) -> tuple[LegOwner, Leg] | None:
        return self._living_at(self._table.find(mirror, local))

    def _living_at(self, row: LegRow | None) -> tuple[LegOwner, Leg] | None:
        """The leg of a row. A row that belongs to no leg, because something of ours has failed in between, is removed
        here: its ports are needed."""
        if row is None:
            return None
        owner = self.living.get(row.id)
        leg = None if owner is None else owner.leg
        if owner is not None and leg is not None and leg.ended is None and leg.row.id == row.id:
            return owner, leg
        self.living.pop(row.id, None)
        self._table.retire(row)
        return None
