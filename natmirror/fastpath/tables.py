"""The tables of flows and legs.

A row is a C struct (rows.py): Python reads and writes C's own memory. Do not use a row after its removal.
"""

from collections.abc import Mapping
from typing import NamedTuple

from natmirror._ffi import ffi, lib
from natmirror.fastpath.client_memory import ClientMemory
from natmirror.fastpath.constants import CHUNK_LEN, IPV4, NO_FLOW, NO_HOLDER, NO_LEG
from natmirror.fastpath.flow_states import Event, State
from natmirror.fastpath.rows import Array, ChangeRow, ChangesRow, FlowRow, GearRow, LegRow, NetworkRow
from natmirror.net.endpoint import Endpoint

_IDS_AT_ONCE = 4096
_LEG_LEN = ffi.sizeof("nm_leg")
LEG_COST = _LEG_LEN + 1200
"""Bytes of a leg besides its buffer: its row, and Python's objects."""
_TRACKED = {
    number | taken: (event, bool(taken))
    for taken in (0, lib.NM_TRACKED_TAKEN)
    for number, event in (*((int(event), event) for event in Event), (lib.NM_EVENTS, None))
}
"""What the results of nm_flow_track() mean."""


class Clients(NamedTuple):
    """Some clients: those of a network, its address and mask as numbers. By default, all."""

    address: int = 0
    mask: int = 0
    port: int = 0
    """A port of theirs; 0: all ports."""


class FlowTable:
    """The flows, found by client and service or by backend and client."""

    def __init__(self, gear: GearRow) -> None:
        self._gear = gear
        self._flows = gear.flows

    def __len__(self) -> int:
        return lib.nm_flow_count(self._flows)

    def insert(self, client: Endpoint, service_id: int, backend_id: int, *, direct: bool = False) -> FlowRow | None:
        """Return a new row with its service's flags and all numbers zero.

        Return None if the table is full or has one of the two tuples. ``direct``: the client talks to the backend
        directly.
        """
        return lib.nm_gear_insert(self._gear, IPV4, *client, service_id, backend_id, direct) or None

    def remove(self, row: FlowRow) -> None:
        """Remove a row; its number may be reused."""
        lib.nm_gear_remove(self._gear, row)

    def victim(self, now: float, *, for_half_open: bool) -> FlowRow | None:
        """Return the row to evict for a new flow, or None if none has to be evicted, or none may.

        ``for_half_open``: the new flow begins half open; else it is established.
        """
        return lib.nm_flows_victim(self._flows, for_half_open, now) or None

    def is_crowded(self, now: float) -> bool:
        """Return whether the next new flow evicts another one or finds no room."""
        return bool(lib.nm_flows_is_crowded(self._flows, now))

    def has_room(self, now: float) -> bool:
        """Return whether a new flow that begins half open finds room, if need be in place of another one."""
        return not self.is_crowded(now) or self.victim(now, for_half_open=True) is not None

    def row(self, number: int) -> FlowRow | None:
        """Return the row with this number, or None if the number is free."""
        return lib.nm_flow_by_id(self._flows, number) or None

    def ids(self) -> list[int]:
        """Return the numbers of all rows. The number of a removed row may be reused."""
        found: list[int] = []
        while some := self.ids_from(found[-1] + 1 if found else 0, _IDS_AT_ONCE):
            found += some
        return found

    def ids_from(self, first: int, most: int) -> list[int]:
        """Return the numbers of the next rows from number ``first`` on, at most ``most`` of them."""
        some: Array[int] = ffi.new("uint32_t[]", most)
        return list(some[0 : lib.nm_flow_ids(self._flows, first, some, most)])

    def ids_of(self, clients: Clients, first: int, most: int) -> tuple[list[int], int | None]:
        """Return the numbers of at most ``most`` flows of these clients, of the next some thousand rows from number
        ``first`` on; and the number to go on with, or None at the end."""
        some: Array[int] = ffi.new("uint32_t[]", most)
        following: Array[int] = ffi.new("uint32_t *", first)
        network: NetworkRow = ffi.new("nm_network *", {"address": clients.address, "mask": clients.mask})
        count = lib.nm_flow_ids_of(self._flows, network, clients.port, following, some, most)
        return list(some[0:count]), None if following[0] == NO_FLOW else following[0]

    def clients(self, most: int) -> tuple[dict[bytes, bool], bool]:
        """Return the addresses of at most ``most`` clients, each with whether it has certainly got a backend's answer;
        and whether these are all clients."""
        addresses, answered = bytearray(4 * most), bytearray(most)
        is_cut: Array[int] = ffi.new("int *")
        buffers = ffi.from_buffer(addresses), ffi.from_buffer(answered)
        count = lib.nm_flow_clients(self._flows, *buffers, most, is_cut)
        clients = {bytes(addresses[4 * at : 4 * at + 4]): bool(answered[at]) for at in range(count)}
        return clients, not is_cut[0]

    def announced(self) -> int:
        """Return the number of pinned flows that are established or closing."""
        return lib.nm_flows_announced(self._flows)

    def log_changes(self, most: int) -> None:
        """Log up to ``most`` changes for take_changes() from now on."""
        self._rows: Array[ChangeRow] = ffi.new("nm_change[]", most)
        self._changes: ChangesRow = ffi.new("nm_changes *", {"rows": self._rows, "max": most})
        lib.nm_flows_log_changes(self._flows, self._changes)

    def take_changes(self) -> tuple[list[tuple[int, Endpoint, int, int]], int]:
        """Return the changes since the last call, and the number of further changes for which there was no room.

        A change is its kind, the client, and the numbers of service and backend.
        """
        changes = self._changes
        rows = self._rows[0 : changes.count]
        found = [(one.kind, (bytes(one.client[0:4]), one.client_port), one.service_id, one.backend_id) for one in rows]
        missed, changes.count, changes.missed = changes.missed, 0, 0
        return found, missed

    def end(self, row: FlowRow) -> None:
        """Mark a flow as ended for all hosts."""
        lib.nm_flow_end(self._flows, row)

    def release(self, row: FlowRow) -> None:
        """Release a flow to another host, which passes its packets from now on."""
        lib.nm_flow_release(self._flows, row)

    def sweep(self, first: int, most: int, how: int, now: float) -> int | None:
        """Sweep at most ``most`` rows from number ``first`` on: renew their deadlines by the present timeouts, check
        again whether each flow is pinned, and do what ``how`` says (ANNOUNCE and the like).

        Return the number to continue with, or None at the end.
        """
        following = lib.nm_gear_sweep(self._gear, first, most, how, now)
        return None if following == NO_FLOW else following

    @staticmethod
    def track(row: FlowRow, packet: bytes, *, from_client: bool) -> tuple[Event | None, bool]:
        """Update a flow's numbers and state by a whole TCP packet whose checksum is right.

        Return the event that changed the state, or None; and whether the packet's receiver takes it, False for a SYN or
        RST. tcp/following.py has the counterpart.
        """
        return _TRACKED[lib.nm_flow_track(row, packet, len(packet), from_client)]

    def touch(self, row: FlowRow, now: float, *, moved: bool) -> None:
        """Note that a packet of the flow has passed; ``moved``: it has changed the state, and so the timeout."""
        lib.nm_flow_touch(self._flows, row, now, moved)

    def keep(self, row: FlowRow, now: float) -> None:
        """Keep a row that is due: it is due again after another timeout, and until a packet passes it may be
        evicted."""
        lib.nm_flow_keep(self._flows, row, now)

    def set_timeouts(self, by_state: Mapping[State, float]) -> None:
        """Set the seconds from a flow's last packet to its expiry, for all states. Flows follow with sweep(), or when
        they are due."""
        lib.nm_flows_set_timeouts(self._flows, [by_state[state] for state in State])

    def next_due(self) -> float:
        """Return the time at which the next flow may expire, or NEVER."""
        return lib.nm_flows_next_due(self._flows)

    def due(self, now: float) -> FlowRow | None:
        """Return the first row that is due by now, or None. It stays due until it is touched or removed.

        Remove the rows that are due and that C may remove, a bounded number with each call.
        """
        return lib.nm_gear_expire(self._gear, now) or None

    def find_orig(self, client: Endpoint, service: Endpoint) -> FlowRow | None:
        """Return the row of a packet from the client to the service, or None."""
        return lib.nm_flow_find_orig(self._flows, IPV4, *client, *service) or None

    def find_reply(self, backend: Endpoint, client: Endpoint) -> FlowRow | None:
        """Return the row of a packet from the backend to the client, or None."""
        return lib.nm_flow_find_reply(self._flows, IPV4, *backend, *client) or None


class LegTable:
    """The legs, found by their two endpoints, with their buffers and deadlines."""

    def __init__(self, gear: GearRow, memory: ClientMemory) -> None:
        self._gear = gear  # keeps the table alive
        self._legs = gear.legs
        self._memory = memory

    def __len__(self) -> int:
        return lib.nm_legs_count(self._legs)

    def insert(self, mirror: Endpoint, local: Endpoint, holder: int = NO_HOLDER) -> LegRow:
        """Return a new row with all numbers zero and no deadline. Raise MemoryError without memory, which counts for
        the client ``holder``.

        There must be no other row between the two endpoints.
        """
        if not self._memory.take_urgently(holder, LEG_COST):
            raise MemoryError("the client may not hold another leg")
        row = lib.nm_leg_insert(self._legs, IPV4, *mirror, *local)
        if row == ffi.NULL:
            self._memory.give(holder, LEG_COST)
            raise MemoryError("no memory for another leg")
        row.ring.holder = holder
        return row

    def find(self, mirror: Endpoint, local: Endpoint) -> LegRow | None:
        """Return the row of the leg between the two endpoints, or None."""
        return lib.nm_leg_find(self._legs, IPV4, *mirror, *local) or None

    def retire(self, row: LegRow) -> LegRow:
        """Remove a row with its buffer, if it is still in the table, and return a copy of it. Its number may be
        reused."""
        left: LegRow = ffi.new("nm_leg *")  # first: without memory for the copy, the row stays in the table
        if row.family:
            holder = row.ring.holder
            lib.nm_leg_remove(self._legs, row)
            self._memory.give(holder, LEG_COST)
        ffi.memmove(left, row, _LEG_LEN)
        return left

    def row(self, number: int) -> LegRow | None:
        """Return the row with this number, or None if it is free. The number must have been in use at some time."""
        row = lib.nm_leg_by_id(self._legs, number)
        return row if row.family else None

    def link(self, flow: FlowRow, rows: list[LegRow]) -> None:
        """Make these the flow's legs, in this order."""
        flow.first_leg, *following = [*(row.id for row in rows), NO_LEG]
        for row, number in zip(rows, following, strict=True):
            row.next_of_flow = number

    def append(self, row: LegRow, data: bytes, now: float) -> bool:
        """Append ``data`` to the leg's buffer; return False without memory for it, even if what waits is given up."""
        if not lib.nm_leg_reserve(self._legs, row, len(data)):
            room = len(data) + 2 * CHUNK_LEN
            if not (self._memory.make_room(row.ring.holder, room) and lib.nm_leg_reserve(self._legs, row, len(data))):
                return False
        lib.nm_leg_append(row, data, len(data), now)
        return True

    def drop(self, row: LegRow, count: int, ack: int) -> None:
        """Drop the first ``count`` bytes; everything before ``ack`` is acknowledged."""
        lib.nm_leg_drop(self._legs, row, count, ack)

    def note_lag(self, row: LegRow, now: float) -> None:
        """Note the age of the leg's oldest byte, before an acknowledgement drops it."""
        lib.nm_leg_note_lag(self._legs, row, now)

    def note_round_trip(self, row: LegRow, seconds: float) -> None:
        """Note a round trip that the leg has measured."""
        lib.nm_leg_note_round_trip(self._legs, row, seconds)

    def clear(self, row: LegRow) -> None:
        """Drop all bytes."""
        lib.nm_leg_clear(self._legs, row)

    def copy(self, row: LegRow, offset: int, count: int) -> bytes:
        """Return ``count`` buffered bytes, from ``offset`` on."""
        data = bytearray(count)
        lib.nm_leg_copy(row, offset, ffi.from_buffer(data), count)
        return bytes(data)

    def set_due(self, row: LegRow, when: float) -> None:
        """Set the leg's deadline; NEVER cancels it."""
        lib.nm_leg_set_due(self._legs, row, when)

    def next_due(self) -> float:
        """Return the next deadline, or NEVER."""
        return lib.nm_legs_next_due(self._legs)

    def take_due(self, now: float) -> int | None:
        """Return the number of the first leg that is due by now and cancel its deadline, or return None."""
        row = lib.nm_legs_take_due(self._legs, now)
        return row.id if row != ffi.NULL else None
