"""The tables of flows and of legs.

Rows are C structs, ``nm_flow`` and ``nm_leg``: Python reads and writes the very numbers of C. A row is not to be
touched after its removal.
"""

from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import IPV4, NO_FLOW, NO_LEG
from natmirror.net.packet import Endpoint

_IDS_AT_ONCE = 4096


class FlowTable:
    """Flows by their two tuples."""

    def __init__(self, gear: Any) -> None:
        self._gear = gear
        self._flows = gear.flows

    def __len__(self) -> int:
        return int(lib.nm_flow_count(self._flows))

    def insert(self, client: Endpoint, service_id: int, backend_id: int, *, direct: bool = False) -> Any | None:
        """A new row with its service's flags and all numbers zero; None when the table is full or has one of the two
        tuples already. ``direct``: of a client that talks to the backend itself."""
        return lib.nm_gear_insert(self._gear, IPV4, *client, service_id, backend_id, direct) or None

    def remove(self, row: Any) -> None:
        """Take a row out; its number is used again."""
        lib.nm_gear_remove(self._gear, row)

    def victim(self, *, for_embryonic: bool) -> Any | None:
        """The row that is to go so that a new flow has room, which begins with a handshake or is established; None
        where none has to, or none may."""
        return lib.nm_flows_victim(self._flows, for_embryonic) or None

    def row(self, number: int) -> Any | None:
        """The row with this number; None where it is free."""
        return lib.nm_flow_by_id(self._flows, number) or None

    def ids(self) -> list[int]:
        """The numbers of all rows."""
        found: list[int] = []
        some, count = ffi.new("uint32_t[]", _IDS_AT_ONCE), _IDS_AT_ONCE
        while count == _IDS_AT_ONCE:
            count = lib.nm_flow_ids(self._flows, found[-1] + 1 if found else 0, some, _IDS_AT_ONCE)
            found += list(some[0:count])
        return found

    def shared(self) -> int:
        """How many have a backend that cannot be derived, of those that are neither being opened nor over."""
        return int(lib.nm_flows_shared(self._flows))

    def tell_changes(self, most: int) -> None:
        """From now on keep up to ``most`` changes for take_changes()."""
        self._rows = ffi.new("nm_change[]", most)
        self._changes = ffi.new("nm_changes *", {"rows": self._rows, "max": most})
        lib.nm_flows_log_changes(self._flows, self._changes)

    def take_changes(self) -> tuple[list[tuple[int, Endpoint, int, int]], int]:
        """Since the last call, in their order: kind, client, and the numbers of service and backend; and how many more
        there were."""
        changes = self._changes
        rows = self._rows[0 : changes.count]
        found = [(one.kind, (bytes(one.client[0:4]), one.client_port), one.service_id, one.backend_id) for one in rows]
        missed, changes.count, changes.missed = int(changes.missed), 0, 0
        return found, missed

    def end(self, row: Any) -> None:
        """A flow is over for certain, whoever else knows of it."""
        lib.nm_flow_end(self._flows, row)

    def lend(self, row: Any) -> None:
        """A flow's packets pass another host from now on."""
        lib.nm_flow_hand_over(self._flows, row)

    def sweep(self, first: int, most: int, how: int, now: float) -> int | None:
        """Go through some rows from a number on: see nm_gear_sweep(). The number to go on with, None at the end."""
        following = int(lib.nm_gear_sweep(self._gear, first, most, how, now))
        return None if following == NO_FLOW else following

    def touch(self, row: Any, now: float, *, moved: bool) -> None:
        """A packet of the flow has passed; ``moved`` says that it changed the flow's state, and so its timeout."""
        lib.nm_flow_touch(self._flows, row, now, moved)

    def next_due(self) -> float:
        """When the next flow may have to be forgotten, or NEVER."""
        return float(lib.nm_flows_next_due(self._flows))

    def due(self, now: float) -> Any | None:
        """The row that is due first, if it is by now: it stays so until it is touched or removed. Rows that are due and
        of which Python knows nothing go by themselves, not all at once."""
        return lib.nm_gear_expire(self._gear, now) or None

    def find_orig(self, client: Endpoint, service: Endpoint) -> Any | None:
        """The row of a packet from the client to the service."""
        return lib.nm_flow_find_orig(self._flows, IPV4, *client, *service) or None

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Any | None:
        """The row of a packet from the backend to the client."""
        return lib.nm_flow_find_reply(self._flows, IPV4, *backend, *client) or None


class LegTable:
    """Legs by their ends, with the bytes that they hold and the times when they are due."""

    def __init__(self, gear: Any) -> None:
        self._gear = gear  # keeps the table alive
        self._legs = gear.legs

    def __len__(self) -> int:
        return int(lib.nm_legs_count(self._legs))

    def insert(self, mirror: Endpoint, local: Endpoint) -> Any:
        """A new row with all numbers zero and no deadline; MemoryError where there is none left.

        Between the two ends there may be none yet.
        """
        row = lib.nm_leg_insert(self._legs, IPV4, *mirror, *local)
        if row == ffi.NULL:
            raise MemoryError("no memory for another leg")
        return row

    def find(self, mirror: Endpoint, local: Endpoint) -> Any | None:
        """The row of the leg between the two ends."""
        return lib.nm_leg_find(self._legs, IPV4, *mirror, *local) or None

    def retire(self, row: Any) -> Any:
        """Take a row out, with all that it holds, if it is still in; its number is used again. Gives a copy of what it
        was."""
        left = ffi.new("nm_leg *")  # first: without memory for it the row stays where it is
        if row.family:
            lib.nm_leg_remove(self._legs, row)
        left[0] = row[0]
        return left

    def row(self, number: int) -> Any | None:
        """The row with this number, which once was a leg's; None where it is free."""
        row = lib.nm_leg_by_id(self._legs, number)
        return row if row.family else None

    def link(self, flow: Any, rows: list[Any]) -> None:
        """These are a flow's legs from now on, in this order."""
        flow.first_leg, *following = [*(row.id for row in rows), NO_LEG]
        for row, number in zip(rows, following, strict=True):
            row.next_of_flow = number

    def append(self, row: Any, data: bytes, now: float) -> bool:
        """Hold ``data`` behind what is held; False where there is no memory for it."""
        if not lib.nm_leg_reserve(self._legs, row, len(data)):
            return False
        lib.nm_leg_append(row, data, len(data), now)
        return True

    def drop(self, row: Any, count: int, ack: int) -> None:
        """Let the first ``count`` bytes go; everything before ``ack`` is acknowledged."""
        lib.nm_leg_drop(self._legs, row, count, ack)

    def clear(self, row: Any) -> None:
        """Let all bytes go."""
        lib.nm_leg_clear(self._legs, row)

    def copy(self, row: Any, offset: int, count: int) -> bytes:
        """``count`` of the bytes held, from ``offset`` on."""
        data = bytearray(count)
        lib.nm_leg_copy(row, offset, ffi.from_buffer(data), count)
        return bytes(data)

    def set_due(self, row: Any, when: float) -> None:
        """The leg is due at ``when``; NEVER cancels that."""
        lib.nm_leg_set_due(self._legs, row, when)

    def next_due(self) -> float:
        """When the next leg is due, or NEVER."""
        return float(lib.nm_legs_next_due(self._legs))

    def take_due(self, now: float) -> int | None:
        """The number of a leg that is due, the earliest first, which has no deadline any more; None where none is."""
        row = lib.nm_legs_take_due(self._legs, now)
        return int(row.id) if row != ffi.NULL else None
