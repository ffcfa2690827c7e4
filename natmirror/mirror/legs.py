"""All legs of an engine, of copies and of sessions: opens and finds them, and passes them segments and ICMP errors."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from natmirror.actions import Send
from natmirror.fastpath import ClientMemory, FlowRow, LegRow, LegTable
from natmirror.mirror.narrow_paths import Paths
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
from natmirror.tcp.path_mtu import HEADERS_LEN


class LegOwner(Protocol):
    """The owner of a leg: a copy or a session."""

    @property
    def mirror(self) -> Mirror: ...

    @property
    def client(self) -> Endpoint: ...

    @property
    def leg(self) -> Leg | None:
        """The leg that make() or adopt() returned."""

    @property
    def connection_has_ended(self) -> bool:
        """Whether the client's connection has ended: then a leg of the port's next connection replaces this one."""


@dataclass(slots=True)
class LegOutcome:
    """The outcome of a call to a leg, for LegOutcomes.apply(): the leg has moved, and may have ended."""

    owner: LegOwner
    leg: Leg
    end_reason: EndReason | None
    """The reason of the leg's end, if its owner is not informed of it yet; else None."""


class Legs:
    """The legs of an engine; their packets go to ``outgoing``.

    ``in_use`` says whether production has a connection between a mirror and a client: no leg may use these endpoints.
    ``ports`` are for legs with an address of ours. ``numbers`` gives the legs their initial sequence numbers. The
    engine sets ``now`` before it calls.
    """

    def __init__(
        self,
        table: LegTable,
        memory: ClientMemory,
        outgoing: Outgoing,
        in_use: Callable[[Endpoint, Endpoint], bool],
        ports: range,
        numbers: Numbers,
    ) -> None:
        self.now = 0.0
        self._table = table
        self._memory = memory
        self._outgoing = outgoing
        self._in_use = in_use
        self._ports = ports
        self._numbers = numbers
        self._next_port = 0
        self.paths = Paths()
        """What is known of the paths to the mirrors."""
        self.living: dict[int, LegOwner] = {}
        """The owner of each leg, by the leg's number in the table, until the owner is informed of the leg's end."""

    def owners(self, ids: Iterable[int] | None = None) -> list[tuple[LegOwner, Leg]]:
        """Return the open legs with these numbers, or all, with their owners."""
        owners = self.living.values() if ids is None else map(self.living.get, ids)
        return [(owner, owner.leg) for owner in owners if owner is not None and owner.leg is not None]

    def ids(self) -> list[int]:
        """Return the numbers of the open legs. The number of a removed leg may be reused."""
        return list(self.living)

    def owner(self, leg_id: int) -> LegOwner | None:
        """Return the owner of the leg with this number; None where the leg has ended."""
        return self.living.get(leg_id)

    def owner_between(self, mirror: Endpoint, local: Endpoint) -> LegOwner | None:
        """Return the owner of the leg between the two endpoints, or None."""
        row = self._table.find(mirror, local)
        return None if row is None else self.living.get(row.id)

    def link(self, flow_row: FlowRow, legs: Iterable[Leg]) -> None:
        """Set the flow's list of legs in C."""
        self._table.link(flow_row, [leg.row for leg in legs])

    # Opening

    def left_over(self, mirror: Mirror, client: Endpoint) -> tuple[LegOwner, Leg] | None:
        """Return the leg of an ended connection that still has the endpoints which a new connection of the client's
        port needs; it has to end before make()."""
        older = None if mirror.source is not None else self._find(endpoint_of(mirror), client)
        return older if older is not None and older[0].connection_has_ended else None

    def make(
        self,
        owner: LegOwner,
        client: Endpoint,
        iss: int,
        now: float,
        *,
        listener: Callable[[bytes], None] | None = None,
    ) -> Leg | EndReason:
        """Return a leg in the client's name, for open(), or the reason why there is none. Its stream begins after the
        number ``iss``, which the mirror does not see. For ``listener`` see Leg."""
        mirror = endpoint_of(owner.mirror)
        local = self._local_endpoint(owner.mirror, mirror, client)
        if local is None:
            return EndReason.NO_FREE_PORT
        if self.has(mirror, local) or self._in_use(mirror, local):
            return EndReason.PORT_IN_USE
        offset = seq.add(self._numbers.first(local, mirror, now), -iss)
        make = partial(Leg, self._table, local, owner.mirror, iss=iss, offset=offset, listener=listener)
        return self._begin(owner, mirror, local, self._limited(make, mirror, client, now))

    def adopt(self, owner: LegOwner, record: LegRecord, client: Endpoint, now: float) -> Leg | EndReason:
        """Return a standby leg from another host's record, for activate(), or the reason why there is none."""
        mirror, local, source = endpoint_of(owner.mirror), record.local_end, owner.mirror.source
        is_ours = local == client if source is None else local[0] == source.packed and local[1] in self._ports
        if not is_ours:
            return EndReason.OTHER_ADDRESS
        if self.has(mirror, local) or self._in_use(mirror, local):
            return EndReason.PORT_IN_USE
        make = partial(Leg.from_record, self._table, owner.mirror, record)
        return self._begin(owner, mirror, local, self._limited(make, mirror, client, now))

    def _limited(self, make: Callable[..., Leg], mirror: Endpoint, client: Endpoint, now: float) -> Callable[[], Leg]:
        """Add to the arguments of ``make`` what limits a leg: the path, and the client that holds its memory."""
        return partial(make, path=self.paths.path_to(mirror, now), holder=self._memory.holder_of(client[0]))

    def _begin(self, owner: LegOwner, mirror: Endpoint, local: Endpoint, make: Callable[[], Leg]) -> Leg | EndReason:
        """Add the leg that ``make`` returns to the table, and return it. If ``make`` fails, remove the row that it
        left."""
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
        """Return the leg's own endpoint: the client's, or an address of ours with the next free port; None where no
        port is free."""
        if settings.source is None:
            return client
        for _ in self._ports:
            local = (settings.source.packed, self._ports[self._next_port])
            self._next_port = (self._next_port + 1) % len(self._ports)
            if not self.has(mirror, local):
                return local
        return None

    # Segments and ICMP errors for them

    def has(self, mirror: Endpoint, local: Endpoint) -> bool:
        """Return whether there is a leg between the two endpoints."""
        return self._table.find(mirror, local) is not None

    def end_between(self, mirror: Endpoint, local: Endpoint) -> LegOutcome | None:
        """End a leg between these endpoints without a packet: production is about to have a connection there."""
        found = self._find(mirror, local)
        return None if found is None else self.collect(*found, found[1].abandon(EndReason.PORT_REUSED))

    def receive(self, segment: Segment, now: float) -> LegOutcome | None:
        """Pass a mirror's segment to its leg; the checksum is right."""
        found = self._find((segment.src, segment.sport), (segment.dst, segment.dport))
        return None if found is None else self.collect(*found, found[1].receive(segment, now))

    def icmp_error(self, error: IcmpError) -> LegOutcome | None:
        """Pass an ICMP error to the leg whose segment it is about."""
        found = self._find(error.inner_dst, error.inner_src)
        if found is None:
            return None
        owner, leg = found
        if error.is_fragmentation_needed:
            leg.note_path_mtu(error.mtu, error.inner_seq)
            return None
        return self.collect(owner, leg, leg.unreachable(error.inner_seq))

    def handle_timer(self, leg_id: int, now: float) -> LegOutcome | None:
        """Handle the timer of the leg with this number."""
        found = self._leg_of_row(self._table.row(leg_id))
        if found is None:
            return None
        owner, leg = found
        before = leg.segment_len
        packets = leg.handle_timer(now)
        if leg.segment_len < before:
            self.paths.note_narrowed(leg.mirror_endpoint, owner.client[0], leg.segment_len + HEADERS_LEN, now)
        return self.collect(owner, leg, packets)

    def abandon(self, leg_id: int, reason: EndReason) -> LegOutcome | None:
        """End the leg with this number without a packet to its mirror."""
        found = self._leg_of_row(self._table.row(leg_id))
        return None if found is None else self.collect(*found, found[1].abandon(reason))

    def abort(self, leg_id: int, reason: EndReason) -> LegOutcome | None:
        """End the leg with this number with a RST."""
        found = self._leg_of_row(self._table.row(leg_id))
        return None if found is None else self.collect(*found, found[1].abort(reason))

    def cut(self, owner: LegOwner, leg: Leg, reason: EndReason) -> LegOutcome | None:
        """End a leg in whatever state a fault has left it, with a RST where that is still possible; never
        raises."""
        outcome = None
        with suppress(Exception):
            outcome = self.collect(owner, leg, leg.abort(reason))
        if leg.ended is None:
            leg.cut(reason)
        return LegOutcome(owner, leg, reason) if outcome is None and self._is_unreported(owner, leg) else outcome

    def collect(self, owner: LegOwner, leg: Leg, packets: list[bytes]) -> LegOutcome:
        """Put the packets of a leg that has moved into ``outgoing``, set its timer, and return the outcome."""
        if packets:
            self._outgoing.add([Send(packet, leg.segment_len) for packet in packets])
        leg.schedule()
        return LegOutcome(owner, leg, None if leg.ended is None or not self._is_unreported(owner, leg) else leg.ended)

    def _is_unreported(self, owner: LegOwner, leg: Leg) -> bool:
        return self.living.get(leg.row.id) is owner and owner.leg is leg

    def note_last_number(self, leg: Leg) -> None:
        """Note the last number of a leg that has ended: the next one between the same endpoints begins above it."""
        self._numbers.note_last(leg.local_endpoint, leg.mirror_endpoint, leg.last_on_the_wire, self.now)

    def _find(self, mirror: Endpoint, local: Endpoint) -> tuple[LegOwner, Leg] | None:
        return self._leg_of_row(self._table.find(mirror, local))

    def _leg_of_row(self, row: LegRow | None) -> tuple[LegOwner, Leg] | None:
        """Return the leg of a row, with its owner. A fault may have left a row without a leg: remove it,
        because its ports are needed."""
        if row is None:
            return None
        owner = self.living.get(row.id)
        leg = None if owner is None else owner.leg
        if owner is not None and leg is not None and leg.ended is None and leg.row.id == row.id:
            return owner, leg
        self.living.pop(row.id, None)
        self._table.retire(row)
        return None
