"""The door to the C gear: the tables of flows and legs, and process() over them. Beside the queues' codec nothing else
imports it.

Rows are C structs, ``nm_flow`` and ``nm_leg``: Python reads and writes the very numbers of C. A row is not to be
touched after its removal.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from natmirror._ffi import ffi, lib
from natmirror.actions import Send
from natmirror.net.endpoint import Endpoint

ACCEPT, MODIFIED, CONSUMED, PUNT = int(lib.NM_ACCEPT), int(lib.NM_MODIFIED), int(lib.NM_CONSUMED), int(lib.NM_PUNT)
"""What process() says: let it pass; let it pass as it was rewritten in place; drop it, it was a mirror's for its leg;
from PUNT on: Python is to decide, for a reason."""

PUNTS = {
    int(getattr(lib, name)): name.removeprefix("NM_PUNT_").lower()
    for name in dir(lib)
    if name.startswith("NM_PUNT_") and name != "NM_PUNT_REASONS"
}
"""The reasons why a packet is punted, by what process() says."""

MIRRORED, WATCHED, DIRECT, LOOSE, HELD, WAITING, GAPPED, TAPPED, KNOWN, UNANSWERED, READ, REPLY_GAPPED, KILLED = (
    int(lib.NM_MIRRORED),
    int(lib.NM_WATCHED),
    int(lib.NM_DIRECT),
    int(lib.NM_LOOSE),
    int(lib.NM_HELD),
    int(lib.NM_WAITING),
    int(lib.NM_GAPPED),
    int(lib.NM_TAPPED),
    int(lib.NM_KNOWN),
    int(lib.NM_UNANSWERED),
    int(lib.NM_READ),
    int(lib.NM_REPLY_GAPPED),
    int(lib.NM_KILLED),
)
"""Flags of a flow's row, see flow_table.h."""

UNDERIVED, SHARED, GUEST = int(lib.NM_UNDERIVED), int(lib.NM_SHARED), int(lib.NM_GUEST)
"""What a flow's ``sharing`` says, see flow_table.h."""

BOUND, FORGOTTEN, ENDED = int(lib.NM_BOUND), int(lib.NM_FORGOTTEN), int(lib.NM_ENDED)
"""The kinds of changes that take_changes() gives, see flow_table.h."""

TELL, CLAIM_SEEN, CLAIM_ALL, LEND, QUIET = (
    int(lib.NM_SWEEP_TELL),
    int(lib.NM_SWEEP_CLAIM_SEEN),
    int(lib.NM_SWEEP_CLAIM_ALL),
    int(lib.NM_SWEEP_LEND),
    int(lib.NM_SWEEP_QUIET),
)
"""What a sweep does, see _fastpath.h."""

STEADY, SACK, SAMPLING, MEASURED = (
    int(lib.NM_LEG_STEADY),
    int(lib.NM_LEG_SACK),
    int(lib.NM_LEG_SAMPLING),
    int(lib.NM_LEG_MEASURED),
)
"""Flags of a leg's row, see leg_table.h."""

READ_ORIG, READ_REPLY, READ_MIRROR = int(lib.NM_READ_ORIG), int(lib.NM_READ_REPLY), int(lib.NM_READ_MIRROR)
"""The kinds of what is to be read that C knows: of a client, of its backend, of a leg's mirror."""
SOURCE_MESSAGES = int(lib.NM_SOURCE_MESSAGES)
"""The ``source`` of a leg that carries messages of ours."""

NEVER = float("inf")
"""The time of what is not going to happen."""

NO_BACKEND = int(lib.NM_NO_BACKEND)
"""A flow's backend_id where its service has no pool."""

_IPV4 = 4
_IDS_AT_ONCE = 4096
_NO_LEG = int(lib.NM_NO_LEG)
NO_FLOW = int(lib.NM_NO_FLOW)
"""A leg's flow_id once its flow is gone."""


class Memory:
    """What all legs together hold back for their mirrors: bytes taken, of a ``limit``. Any thread may take and give."""

    def __init__(self, limit: int) -> None:
        self.budget = ffi.new("nm_budget *", {"limit": limit})

    @property
    def limit(self) -> int:
        """Bytes that may be taken; what is over a limit that has been lowered stays until it is given back."""
        return int(self.budget.limit)

    @limit.setter
    def limit(self, limit: int) -> None:
        self.budget.limit = limit

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self.budget.used)

    def take(self, count: int) -> bool:
        """Take ``count`` bytes, if they are there."""
        return bool(lib.nm_budget_take(self.budget, count))

    def give(self, count: int) -> None:
        """Give ``count`` bytes back."""
        lib.nm_budget_give(self.budget, count)


class Loads:
    """How many connections each backend has in all engines that share this, whose reloads come one after the other."""

    def __init__(self) -> None:
        self._counts: WeakValueDictionary[tuple[Endpoint, Endpoint], Any] = WeakValueDictionary()

    def of(self, service: Endpoint, backend: Endpoint) -> Any:
        """A backend's count, ``uint32_t *``, for put_backend(): it goes when nobody has it any more."""
        return self._counts.setdefault((service, backend), ffi.new("uint32_t *"))


@dataclass(frozen=True, slots=True)
class PlannedService:
    """How new connections of a service are made: ``table`` holds numbers of backends, and is empty for a service
    without a pool."""

    endpoint: Endpoint
    flags: int
    """Of its flows: WATCHED, TAPPED."""
    table: "array[int]" = field(default_factory=lambda: array("H"))
    derived: "array[int]" = field(default_factory=lambda: array("H"))
    """The same, for clients whose backend nobody knows; empty: each has to be told."""
    in_turn: bool = False
    """One entry of the table after the other; else the one that the client's hash says."""
    with_port: bool = False
    """The client's port counts for the hash."""
    is_held: bool = False
    """Mirrors may hold its clients back."""
    needs_python: bool = False
    """Python chooses for each new connection, or says why there is none."""


class Plan:
    """What the C gear knows of clients, services and backends, to open flows by itself.

    Services and backends have numbers, from 0 on, that whoever puts them here gives them. The gear points into it: it
    has to live as long as the gear is used.
    """

    def __init__(self, gear: Any) -> None:
        self.services = ffi.new("nm_service[]", 1)
        """The rows ``nm_service``; each put() may move them."""
        self.backends = ffi.new("nm_backend[]", 1)
        """The rows ``nm_backend``, likewise."""
        self._gear = gear
        self._tables: dict[int, Any] = {}
        self._derived: dict[int, Any] = {}
        self.put_networks([])
        self._show()

    def _show(self) -> None:
        plan = self._gear.plan
        plan.services, plan.service_count = self.services, len(self.services)
        plan.backends, plan.backend_count = self.backends, len(self.backends)

    def put_networks(self, networks: Sequence[tuple[int, int]]) -> None:
        """The networks of clients: address and mask."""
        self._networks = ffi.new("nm_network[]", list(networks) or 1)
        self._gear.plan.networks, self._gear.plan.network_count = self._networks, len(networks)

    def put_service(self, number: int, service: PlannedService) -> None:
        """A service in place of what had its number: its count of flows stays, and whose turn it is."""
        self.services = _with_room(self.services, number)
        self._show()
        row = self.services[number]
        address, row.port = service.endpoint
        row.address[0 : len(address)] = address
        row.family, row.flags, row.with_port = _IPV4, service.flags, service.with_port
        row.in_turn, row.is_held = service.in_turn, service.is_held
        derived = self._derived[number] = _numbers(service.derived)
        row.derived, row.derived_len = derived, len(derived)
        self.set_table(number, service.table, needs_python=service.needs_python)

    def put_backend(self, number: int, service_id: int, endpoint: Endpoint, load: Any = ffi.NULL) -> None:
        """A backend of a service, under a number that was free; ``load``, of Loads, is the caller's to keep. NULL:
        only those of this gear are counted."""
        self.backends = _with_room(self.backends, number)
        self._show()
        address, port = endpoint
        self.backends[number] = {"port": port, "service_id": service_id, "everywhere": load}
        self.backends[number].address[0 : len(address)] = address

    def set_mark(self, number: int, mark: int) -> None:
        """The mark by which the kernel translates a backend's packets; 0: it does not, we do."""
        self.backends[number].mark = mark

    def clear_service(self, number: int) -> None:
        """The number of a service without flows is free."""
        self.services[number] = {}
        self._tables.pop(number, None)
        self._derived.pop(number, None)

    def clear_backend(self, number: int) -> None:
        """The number of a backend without flows, which stands in no table, is free."""
        self.backends[number] = {}

    def set_table(self, number: int, table: "array[int]", *, needs_python: bool) -> None:
        """From now on a service's new connections go by this table of numbers of backends, 16 bits each."""
        row, fresh = self.services[number], _numbers(table)
        row.table, row.table_len, row.needs_python = fresh, len(table), needs_python
        row.turn %= max(1, len(table))
        self._tables[number] = fresh

    def suspect(self, service_id: int, client: bytes, by: int) -> None:
        """Count the client (address bytes) of a service, by 1 or -1, among those for which Python chooses."""
        at = lib.nm_plan_suspect(ffi.addressof(self._gear, "plan"), service_id, _IPV4, client)
        at[0] += by


def _numbers(table: "array[int]") -> Any:
    """For C, which points into it."""
    fresh = ffi.new("uint16_t[]", len(table))
    ffi.memmove(fresh, table, len(table) * table.itemsize)
    return fresh


def _with_room(rows: Any, number: int) -> Any:
    """An array with a row of this number, and what was in the old one."""
    if number < len(rows):
        return rows
    larger = ffi.new(ffi.typeof(rows), 2 * number)
    ffi.memmove(larger, rows, ffi.sizeof(rows))
    return larger


class Gear:
    """Both tables, and process()."""

    def __init__(self, max_flows: int, memory: Memory, key: bytes) -> None:
        """Room for ``max_flows`` flows; legs hold what ``memory`` has; ``key``, 16 bytes, keys the hashes."""
        if len(key) != 16:
            raise ValueError(f"the key has {len(key)} bytes, not 16")
        gear = lib.nm_gear_new(max_flows, memory.budget, key)
        if gear == ffi.NULL:
            raise MemoryError(f"no memory for {max_flows} flows")
        budget = memory.budget  # lives as long as the tables that point to it: they give their bytes back to it
        self.handle = ffi.gc(gear, lambda gear: lib.nm_gear_free(gear) if budget else None)
        """The C struct, for the loop in C."""
        self.flows = FlowTable(self.handle)
        self.legs = LegTable(self.handle)

    @property
    def counters(self) -> Any:
        """What process() has counted: the C struct ``nm_counters``."""
        return self.handle.counters

    def punts(self) -> dict[str, int]:
        """How many packets were punted, by reason."""
        return {reason: int(self.handle.counters.punts[number]) for number, reason in PUNTS.items()}

    def process(self, packet: bytearray, hook: int, checksum: int, now: float) -> int:
        """Decide one packet, rewritten in place where the answer is MODIFIED; what is punted was not touched.

        What legs send because of it waits for take_sends().
        """
        return int(lib.nm_process(self.handle, ffi.from_buffer(packet), len(packet), hook, checksum, now))

    def acknowledge(self, now: float) -> list[Send]:
        """The acknowledgements that are due for legs in their steady state, up to one with something else to do."""
        lib.nm_gear_acknowledge(self.handle, now)
        return self.take_sends()

    def leg_sums(self, mirrors: int) -> Sequence[Any]:
        """What the living legs of each mirror come to, by its number: C structs ``nm_leg_sums``."""
        sums = ffi.new("nm_leg_sums[]", mirrors)
        lib.nm_legs_add_up(self.handle.legs, self.handle.flows, sums, mirrors)
        return list(sums)

    def client_bytes(self, accounts: int) -> list[int]:
        """What clients have sent on the living flows of each account, by its number."""
        found = ffi.new("uint64_t[]", accounts)
        lib.nm_flows_add_up(self.handle.flows, found, accounts)
        return list(found)

    def take_sends(self) -> list[Send]:
        """What legs have sent in process() since the last call."""
        out = self.handle.out
        if not out.count:
            return []
        raw = ffi.buffer(out.bytes, out.used)
        sends = [Send(raw[one.at : one.at + one.len], one.segment_len) for one in out.sends[0 : out.count]]
        lib.nm_out_clear(ffi.addressof(self.handle, "out"))
        return sends

    def add_read(self, kind: int, of: int, data: bytes = b"") -> bool:
        """Put something behind what is to be read, of a kind, and of a flow or somebody else by number; False where
        there is no memory for it."""
        return bool(lib.nm_read_add(ffi.addressof(self.handle, "read"), kind, of, data, len(data)))

    @property
    def has_read(self) -> bool:
        """Whether something is to be read."""
        return bool(self.handle.read.count)

    def take_read(self) -> list[tuple[int, int, bytes]]:
        """What is to be read since the last call, in its order: kind, whose, data."""
        read = self.handle.read
        if not read.count:
            return []
        raw = ffi.buffer(read.bytes, read.used) if read.used else b""
        found = [(one.kind, one.of, raw[one.at : one.at + one.len]) for one in read.sends[0 : read.count]]
        lib.nm_out_clear(ffi.addressof(self.handle, "read"))
        return found


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
        return lib.nm_gear_insert(self._gear, _IPV4, *client, service_id, backend_id, direct) or None

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
        lib.nm_flows_tell(self._flows, self._changes)

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
        lib.nm_flow_lend(self._flows, row)

    def sweep(self, first: int, most: int, how: int, now: float) -> int | None:
        """Go through some rows from a number on: see nm_gear_sweep(). The number to go on with, None at the end."""
        following = int(lib.nm_gear_sweep(self._gear, first, most, how, now))
        return None if following == NO_FLOW else following

    def set_timeouts(self, timeouts: Sequence[float]) -> None:
        """After how many seconds without a packet a flow is forgotten, by its state; the last: how many seconds after
        its SYN a flow that is still unanswered is due for the first time."""
        lib.nm_flows_set_timeouts(self._flows, list(timeouts))

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
        return lib.nm_flow_find_orig(self._flows, _IPV4, *client, *service) or None

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Any | None:
        """The row of a packet from the backend to the client."""
        return lib.nm_flow_find_reply(self._flows, _IPV4, *backend, *client) or None


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
        row = lib.nm_leg_insert(self._legs, _IPV4, *mirror, *local)
        if row == ffi.NULL:
            raise MemoryError("no memory for another leg")
        return row

    def find(self, mirror: Endpoint, local: Endpoint) -> Any | None:
        """The row of the leg between the two ends."""
        return lib.nm_leg_find(self._legs, _IPV4, *mirror, *local) or None

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
        flow.first_leg, *following = [*(row.id for row in rows), _NO_LEG]
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


def siphash(key: bytes, data: bytes) -> int:
    """Return the 64-bit SipHash-2-4 of ``data`` under a key of 16 bytes, the published hash behind the balancing tables
    (Aumasson, Bernstein: "SipHash: a fast short-input PRF", INDOCRYPT 2012)."""
    return int(lib.nm_siphash(key, data, len(data)))


def subkey(key: bytes, purpose: bytes) -> bytes:
    """Derive a key of 16 bytes that serves one purpose alone."""
    return b"".join(siphash(key, purpose + half).to_bytes(8, "little") for half in (b"\0", b"\1"))


def fill_maglev(size: int, backends: Sequence[tuple[int, int, int, int]]) -> "array[int]":
    """A table of ``size`` slots, a prime number, from the preferences of backends whose turns follow each other: the
    slot that each prefers most, the way to the next, its weight, and what its slots hold."""
    table = array("H", bytes(2 * size))
    rows = ffi.new("nm_maglev_backend[]", len(backends))
    for row, preferences in zip(rows, backends, strict=True):
        row.slot, row.skip, row.weight, row.place = preferences
    lib.nm_maglev_fill(ffi.from_buffer("uint16_t[]", table), size, rows, len(backends))
    return table


def share_maglev(whole: "array[int]", shares: Sequence[float]) -> "array[int]":
    """The table where each place takes this share of its part, from 0 to 1; empty where all are 0."""
    table = array("H", whole)
    ends = [ffi.from_buffer("uint16_t[]", one) for one in (table, whole)]
    some = lib.nm_maglev_share(*ends, len(whole), [round(share * lib.NM_MAGLEV_WHOLE) for share in shares])
    return table if some else array("H")
