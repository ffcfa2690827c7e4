"""The door to the C gear: the tables of flows and legs, and process() over them. Beside the queues' codec nothing else
imports it.

Rows are C structs, ``nm_flow`` and ``nm_leg``: Python reads and writes the very numbers of C. A row is not to be
touched after its removal.
"""

from collections.abc import Sequence
from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.actions import Send
from natmirror.packet import Endpoint

ACCEPT, MODIFIED, CONSUMED, PUNT = int(lib.NM_ACCEPT), int(lib.NM_MODIFIED), int(lib.NM_CONSUMED), int(lib.NM_PUNT)
"""What process() says: let it pass; let it pass as it was rewritten in place; drop it, it was a mirror's for its leg;
from PUNT on: Python is to decide, for a reason."""

PUNTS = {
    int(getattr(lib, name)): name.removeprefix("NM_PUNT_").lower()
    for name in dir(lib)
    if name.startswith("NM_PUNT_") and name != "NM_PUNT_REASONS"
}
"""The reasons why a packet is punted, by what process() says."""

MIRRORED, WATCHED, DIRECT, LOOSE, HELD, WAITING, GAPPED, TAPPED = (
    int(lib.NM_MIRRORED),
    int(lib.NM_WATCHED),
    int(lib.NM_DIRECT),
    int(lib.NM_LOOSE),
    int(lib.NM_HELD),
    int(lib.NM_WAITING),
    int(lib.NM_GAPPED),
    int(lib.NM_TAPPED),
)
"""Flags of a flow's row, see _flows.h."""

STEADY, SACK, SAMPLING, MEASURED = (
    int(lib.NM_LEG_STEADY),
    int(lib.NM_LEG_SACK),
    int(lib.NM_LEG_SAMPLING),
    int(lib.NM_LEG_MEASURED),
)
"""Flags of a leg's row, see _legs.h."""

NEVER = float("inf")
"""The time of what is not going to happen."""

_IPV4 = 4
_NO_LEG = int(lib.NM_NO_LEG)


class Memory:
    """What all legs together hold back for their mirrors: bytes taken, of a ``limit``. Any thread may take and give."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.budget = ffi.new("nm_budget *", {"limit": limit})

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

    def take_news(self) -> list[int]:
        """The numbers of flows that backends have accepted in process() since the last call."""
        count = self.handle.news_count
        self.handle.news_count = 0
        return list(self.handle.news[0:count]) if count else []

    def take_sends(self) -> list[Send]:
        """What legs have sent in process() since the last call."""
        out = self.handle.out
        if not out.count:
            return []
        raw = ffi.buffer(out.bytes, out.used)
        sends = [Send(raw[one.at : one.at + one.len], one.segment_len) for one in out.sends[0 : out.count]]
        lib.nm_out_clear(ffi.addressof(self.handle, "out"))
        return sends


class FlowTable:
    """Flows by their two tuples."""

    def __init__(self, gear: Any) -> None:
        self._gear = gear  # keeps the table alive
        self._flows = gear.flows

    def __len__(self) -> int:
        return int(lib.nm_flow_count(self._flows))

    def insert(self, client: Endpoint, service: Endpoint, backend: Endpoint) -> Any | None:
        """A new row with all numbers zero; None when the table is full or has one of the two tuples already."""
        return lib.nm_flow_insert(self._flows, _IPV4, *client, *service, *backend) or None

    def remove(self, row: Any) -> None:
        """Take a row out; its number is used again."""
        lib.nm_flow_remove(self._flows, row)

    def set_timeouts(self, timeouts: Sequence[float]) -> None:
        """After how many seconds without a packet a flow is forgotten, by its state."""
        lib.nm_flows_set_timeouts(self._flows, list(timeouts))

    def touch(self, row: Any, now: float, *, moved: bool) -> None:
        """A packet of the flow has passed; ``moved`` says that it changed the flow's state, and so its timeout."""
        lib.nm_flow_touch(self._flows, row, now, moved)

    def next_due(self) -> float:
        """When the next flow may have to be forgotten, or NEVER."""
        return float(lib.nm_flows_next_due(self._flows))

    def take_due(self, now: float) -> int | None:
        """The number of a flow that is to be forgotten by now; None where there is none."""
        row = lib.nm_flows_take_due(self._flows, now)
        return int(row.id) if row != ffi.NULL else None

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

    def retire(self, row: Any) -> Any:
        """Take a row out, with all that it holds; its number is used again. Gives a copy of what it was."""
        lib.nm_leg_remove(self._legs, row)
        return ffi.new("nm_leg *", row[0])

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
