"""All legs of an engine, whoever they belong to: opened, found, told what mirrors and the network do, written off."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Protocol

from natmirror.actions import Send
from natmirror.fastpath import LegRow, LegTable
from natmirror.net import seq
from natmirror.net.icmp import IcmpError
from natmirror.net.packet import Endpoint, Segment, endpoint_of
from natmirror.rules import Mirror
from natmirror.tcp.initial_numbers import Numbers
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.path_mtu import HEADERS_LEN, MTU

NO_FREE_PORT = "no-free-port"
NO_MEMORY = "memory-full"
PORT_IN_USE = "port-in-use"
OTHER_ADDRESS = "other-address"
HANDED_OVER = "handed-over"

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

    def leg_ended(self, leg: Leg, reason: str) -> None:
        """The leg is over."""

    def leg_moved(self) -> None:
        """The leg has done something."""


class Legs:
    """What its methods make legs send waits for take_sends().

    ``in_use`` says whether production has a connection between a mirror and a client: no leg may stand in its place.
    ``ports`` are for legs with an address of ours. ``numbers`` gives the legs their initial numbers. ``now`` is set by
    the engine before it works.
    """

    def __init__(
        self, table: LegTable, in_use: Callable[[Endpoint, Endpoint], bool], ports: range, numbers: Numbers
    ) -> None:
        self.now = 0.0
        self._table = table
        self._in_use = in_use
        self._ports = ports
        self._numbers = numbers
        self._next_port = 0
        self._path_mtus: dict[Endpoint, int] = {}  # by this host's routes
        self._narrow_paths: dict[Endpoint, tuple[int, float]] = {}  # what routers said, and until when it counts
        self._living: dict[int, LegOwner] = {}  # by the leg's number in the table
        self._sends: list[Send] = []

    def take_sends(self) -> list[Send]:
        """What is to be sent since the last call."""
        sends, self._sends = self._sends, []
        return sends

    def send(self, sends: Iterable[Send]) -> None:
        """Something else that is to be sent."""
        self._sends += sends

    def owners(self) -> list[tuple[LegOwner, Leg]]:
        """The living legs, and what each belongs to."""
        return [(owner, owner.leg) for owner in self._living.values() if owner.leg is not None]

    def ids(self) -> list[int]:
        """The numbers of the living legs; a number is given anew when its leg is gone."""
        return list(self._living)

    def owner(self, leg_id: int) -> LegOwner | None:
        """What the leg with this number belongs to; None where there is none any more."""
        return self._living.get(leg_id)

    def owner_between(self, mirror: Endpoint, local: Endpoint) -> LegOwner | None:
        """What the leg between the two belongs to; None where there is none."""
        row = self._table.find(mirror, local)
        return None if row is None else self._living.get(row.id)

    # Opening

    def make(
        self,
        owner: LegOwner,
        client: Endpoint,
        iss: int,
        now: float,
        *,
        listener: Callable[[bytes], None] | None = None,
    ) -> Leg | str:
        """A leg in a client's name whose stream begins after the number ``iss``, which the mirror does not get to see,
        for open(); or why there is none. For ``listener`` see Leg."""
        mirror = endpoint_of(owner.mirror)
        local = self._local_endpoint(owner.mirror, mirror, client)
        if local is None:
            return NO_FREE_PORT
        older = self._find(mirror, local)
        if older is not None and older[0].client_is_gone:
            self.end(*older, "port-reused")
        if self.has(mirror, local) or self._in_use(mirror, local):
            return PORT_IN_USE
        offset = seq.add(self._numbers.first(local, mirror, now), -iss)
        path_mtu = self._path_mtu(mirror, now)
        make = partial(Leg, self._table, local, owner.mirror, iss=iss, offset=offset, listener=listener)
        return self._begin(owner, mirror, local, partial(make, path_mtu=path_mtu))

    def adopt(self, owner: LegOwner, record: LegRecord, client: Endpoint, now: float) -> Leg | str:
        """A leg of another host's in a client's name, for activate(); or why there is none."""
        mirror, local, source = endpoint_of(owner.mirror), record.local_end, owner.mirror.source
        is_ours = local == client if source is None else local[0] == source.packed and local[1] in self._ports
        if not is_ours:
            return OTHER_ADDRESS
        if self.has(mirror, local) or self._in_use(mirror, local):
            return PORT_IN_USE
        make = partial(Leg.from_record, self._table, owner.mirror, record, path_mtu=self._path_mtu(mirror, now))
        return self._begin(owner, mirror, local, make)

    def _begin(self, owner: LegOwner, mirror: Endpoint, local: Endpoint, make: Callable[[], Leg]) -> Leg | str:
        """A leg that ``make`` gives lives from now on; where it fails, the row that it has left goes."""
        try:
            leg = make()
        except Exception as error:
            self._find(mirror, local)
            if isinstance(error, MemoryError):
                return NO_MEMORY
            raise
        self._living[leg.row.id] = owner
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
        """Whether a leg stands between the two."""
        return self._table.find(mirror, local) is not None

    def make_way(self, mirror: Endpoint, local: Endpoint) -> None:
        """Production is about to have a connection between these two: a leg in its place says nothing any more."""
        self._do(mirror, local, lambda leg: leg.abandon("port-reused"))

    def receive(self, segment: Segment, now: float) -> None:
        """A believed segment of a mirror's, for a leg that stands."""
        mirror, local = (segment.src, segment.sport), (segment.dst, segment.dport)
        self._do(mirror, local, lambda leg: leg.receive(segment, now))

    def icmp_error(self, error: IcmpError, now: float) -> None:
        """An error about a segment of a leg that stands."""
        if not error.is_fragmentation_needed:
            self._do(error.inner_dst, error.inner_src, lambda leg: leg.unreachable(error.inner_seq))
            return

        def narrow(leg: Leg) -> list[bytes]:
            before = leg.segment_len
            packets = leg.path_mtu(error.mtu, error.inner_seq, now)
            if leg.segment_len < before:
                self._narrow_paths[leg.mirror] = (leg.segment_len + HEADERS_LEN, now + _NARROW_TIMEOUT)
            return packets

        self._do(error.inner_dst, error.inner_src, narrow)

    def set_path_mtu(self, mirror: Endpoint, mtu: int) -> None:
        """This host's routes say that the way to a mirror takes packets of at most ``mtu`` bytes."""
        self._path_mtus[mirror] = mtu

    def _path_mtu(self, mirror: Endpoint, now: float) -> int:
        """What is known of the way to a mirror."""
        mtu = self._path_mtus.get(mirror, MTU)
        narrow, until = self._narrow_paths.get(mirror, (MTU, 0.0))
        return min(mtu, narrow) if now < until else mtu

    def handle_timer(self, leg_id: int, now: float) -> None:
        """The deadline of the leg with this number has come."""
        if (found := self._living_at(self._table.row(leg_id))) is not None:
            self.settle(*found, found[1].handle_timer(now))

    def abandon(self, leg_id: int, reason: str) -> None:
        """End the leg with this number without a word to its mirror."""
        if (found := self._living_at(self._table.row(leg_id))) is not None:
            self.settle(*found, found[1].abandon(reason))

    def abort(self, leg_id: int, reason: str) -> None:
        """End the leg with this number with a RST."""
        if (found := self._living_at(self._table.row(leg_id))) is not None:
            self.settle(*found, found[1].abort(reason))

    def end(self, owner: LegOwner, leg: Leg, reason: str) -> None:
        """End a leg with a RST on behalf of another connection: what raises there counts for that one, but the leg is
        over, and its owner knows it."""
        try:
            self.settle(owner, leg, leg.abort(reason))
        except Exception:
            self.cut(owner, leg, reason)
            raise

    def cut(self, owner: LegOwner, leg: Leg, reason: str) -> None:
        """End a leg whatever state a fault of ours has left it in, with a RST where that can still be made; never
        raises."""
        with suppress(Exception):
            self.settle(owner, leg, leg.abort(reason))
        if leg.ended is None:
            leg.cut(reason)
        if self._living.get(leg.row.id) is owner and owner.leg is leg:
            del self._living[leg.row.id]
            with suppress(Exception):
                self._numbers.note_last(leg.local, leg.mirror, leg.last_on_the_wire, self.now)
            with suppress(Exception):
                owner.leg_ended(leg, reason)

    def settle(self, owner: LegOwner, leg: Leg, packets: list[bytes]) -> None:
        """After a leg has moved: keep what it sends, set its timer anew, or write it off."""
        self._sends += [Send(packet, leg.segment_len) for packet in packets]
        leg.schedule()
        if leg.ended is not None and self._living.get(leg.row.id) is owner and owner.leg is leg:
            del self._living[leg.row.id]
            try:
                self._numbers.note_last(leg.local, leg.mirror, leg.last_on_the_wire, self.now)
            finally:  # or its owner would never learn of its end
                owner.leg_ended(leg, leg.ended)
        owner.leg_moved()

    def _find(self, mirror: Endpoint, local: Endpoint) -> tuple[LegOwner, Leg] | None:
        return self._living_at(self._table.find(mirror, local))

    def _living_at(self, row: LegRow | None) -> tuple[LegOwner, Leg] | None:
        """The leg of a row. A row that belongs to no leg, because something of ours has failed in between, is removed
        here: its ports are needed."""
        if row is None:
            return None
        owner = self._living.get(row.id)
        leg = None if owner is None else owner.leg
        if owner is not None and leg is not None and leg.ended is None and leg.row.id == row.id:
            return owner, leg
        self._living.pop(row.id, None)
        self._table.retire(row)
        return None

    def _do(self, mirror: Endpoint, local: Endpoint, do: Callable[[Leg], list[bytes]]) -> None:
        found = self._find(mirror, local)
        if found is not None:
            self.settle(*found, do(found[1]))
