"""The C gear: the tables of flows and legs, the plan, and the decision about a packet."""

from collections import Counter
from dataclasses import dataclass

from natmirror._ffi import ffi, lib
from natmirror.actions import Send
from natmirror.fastpath.client_limits import ClientTable
from natmirror.fastpath.client_memory import ClientMemory
from natmirror.fastpath.constants import NEVER, NO_HOLDER
from natmirror.fastpath.drop_reasons import DROPS
from natmirror.fastpath.held_bytes import HeldBytes
from natmirror.fastpath.looks import Look
from natmirror.fastpath.memory import Memory
from natmirror.fastpath.punt_reasons import PUNTS, PuntReason
from natmirror.fastpath.rows import Array, CountersRow, FlowRow, GearRow
from natmirror.fastpath.service_rows import TrafficRow
from natmirror.fastpath.sum_rows import AccountSums, BehindRow, LegSums, TimesRow
from natmirror.fastpath.tables import FlowTable, LegTable
from natmirror.histograms import HistogramEntry, histogram
from natmirror.reasons import DropReason

Behind = tuple[float, int]
"""Since when the oldest unacknowledged byte of a leg has been buffered, and the leg's number."""

_NO_TIMES: TimesRow = ffi.new("nm_times *")


@dataclass(frozen=True, slots=True)
class Refusals:
    """Packets of peers that had no turn left: C decided them without Python."""

    peers: int
    packets: int
    address: bytes
    """The address of the peer with most of the packets."""
    most: int
    """That peer's packets."""


class Gear:
    """The C gear of one engine."""

    def __init__(self, max_flows: int, memory: Memory, key: bytes) -> None:
        """Make room for ``max_flows`` flows. Legs take their buffers from ``memory``. ``key``, 16 bytes, keys the
        hashes."""
        if len(key) != 16:
            raise ValueError(f"the key has {len(key)} bytes, not 16")
        gear = lib.nm_gear_new(max_flows, memory.budget, key)
        if gear == ffi.NULL:
            raise MemoryError(f"no memory for {max_flows} flows")
        budget = memory.budget  # lives as long as the tables that point to it: they give their bytes back to it
        self.handle: GearRow = ffi.gc(gear, lambda gear: lib.nm_gear_free(gear) if budget else None)
        """The C struct, for the loop in C."""
        self.memory = ClientMemory(self.handle, memory)
        """The memory of the engine's clients."""
        self.flows = FlowTable(self.handle)
        self.clients = ClientTable(self.handle)
        self.legs = LegTable(self.handle, self.memory)
        self._begin_at: Array[float] = ffi.new("double[]", 0)

    @property
    def counters(self) -> CountersRow:
        return self.handle.counters

    def drops(self) -> Counter[DropReason]:
        """Return the packets that C has dropped, by reason, without the reasons that have none."""
        return +Counter({reason: self.handle.counters.drops[number] for number, reason in DROPS.items()})

    def over_limit(self) -> dict[PuntReason, int]:
        """Return the number of packets that C would have punted, but whose peers had no turn left, by reason."""
        return {reason: self.handle.counters.over_limit[number] for number, reason in PUNTS.items()}

    def take_refusals(self) -> Refusals | None:
        """Return the peers that have had no turn left since the last call, or None."""
        found = lib.nm_turns_take_refusals(self.handle.turns)
        return Refusals(found.peers, found.packets, bytes(found.address), found.most) if found.peers else None

    def punts(self) -> dict[PuntReason, int]:
        """Return the number of packets that C has punted, by reason."""
        return {reason: self.handle.counters.punts[number] for number, reason in PUNTS.items()}

    def process(self, packet: bytearray, hook: int, checksum: int, now: float) -> int:
        """Decide one packet: return ACCEPT, MODIFIED (rewritten in place), CONSUMED, a number of DROPS, or one from
        PUNT on.

        A punted packet is unchanged. take_sends() returns the packets that legs send because of this one.
        """
        return lib.nm_process(self.handle, ffi.from_buffer(packet), len(packet), hook, checksum, now)

    def acknowledge(self, now: float) -> list[Send]:
        """Return the delayed acknowledgements that are due, of legs in their steady state.

        Stop at the first leg that needs Python.
        """
        lib.nm_legs_acknowledge(self.handle.legs, ffi.addressof(self.handle, "out"), now)
        return self.take_sends()

    def leg_sums(self, mirrors: int) -> Array[LegSums]:
        """Return the sums over the open legs of each mirror, by its number."""
        sums: Array[LegSums] = ffi.new("nm_leg_sums[]", mirrors)
        lib.nm_legs_add_up(self.handle.legs, self.handle.flows, sums, mirrors)
        return sums  # a list of its structs would not keep their memory

    def legs_behind(self, then: float, after: Behind | None, most: int) -> list[Behind]:
        """Return at most ``most`` legs whose oldest unacknowledged byte has waited since ``then`` or longer, the
        longest first: those behind ``after``, or from the first one on."""
        found: Array[BehindRow] = ffi.new("nm_behind[]", most)
        last = ffi.NULL if after is None else ffi.new("nm_behind *", list(after))
        count = lib.nm_legs_behind(self.handle.legs, then, last, found, most)
        return [(one.since, one.id) for one in found[0:count]]

    def mirror_times(self, mirror: int) -> tuple[HistogramEntry, HistogramEntry]:
        """Return how old a mirror's oldest byte was at each of its acknowledgements, and its round trips."""
        times = lib.nm_legs_times(self.handle.legs, mirror)
        both = (times.lags, times.round_trips) if times else (_NO_TIMES, _NO_TIMES)
        lags, round_trips = (histogram(lib.nm_time_bounds, one.counts, one.sum) for one in both)
        return lags, round_trips

    def hold(self, row: FlowRow, most: int) -> HeldBytes:
        """Return the held bytes of a flow, which may be ``most``."""
        return HeldBytes(self.handle, self.memory, row, most)

    def account_sums(self, accounts: int, services: int) -> tuple[Array[AccountSums], list[int]]:
        """Return the sums over the flows of each account, by its number; and the connections without an account of
        each service, by its number."""
        sums: Array[AccountSums] = ffi.new("nm_account_sums[]", accounts)
        without: Array[int] = ffi.new("uint32_t[]", services)
        lib.nm_flows_add_up(self.handle.flows, sums, accounts, without, services)
        return sums, list(without)

    def traffic(self, services: int) -> Array[TrafficRow]:
        """Return the traffic of each service, by its number."""
        traffic: Array[TrafficRow] = ffi.new("nm_traffic[]", services)
        lib.nm_flows_traffic(self.handle.flows, traffic, services)
        return traffic

    def look(self, number: int, services: int) -> Look:
        """Begin a look at the flows of this number of services; ``number`` counts looks from 1 on."""
        return Look(self.handle, number, services)

    def set_begin_at(self, account: int, when: float) -> None:
        """Set when copies of an account's flows may begin again; NEVER, as at first: not until this changes."""
        if account >= len(self._begin_at):
            more = account + 1 - len(self._begin_at)
            self._begin_at = ffi.new("double[]", [*self._begin_at, *[NEVER] * more])
            self.handle.begin_at, self.handle.begin_count = self._begin_at, len(self._begin_at)
        self._begin_at[account] = when

    def take_sends(self) -> list[Send]:
        """Return the packets that legs have sent from C since the last call."""
        out = self.handle.out
        if not out.count:
            return []
        raw = ffi.buffer(out.bytes, out.used)
        sends = [Send(raw[one.at : one.at + one.len], one.segment_len) for one in out.sends[0 : out.count]]
        lib.nm_out_clear(ffi.addressof(self.handle, "out"))
        return sends

    def add_read(self, kind: int, of: int, data: bytes = b"", holder: int = NO_HOLDER) -> bool:
        """Append data of a kind for the flow or reader with this number, for take_read() to return.

        Return False without memory for it.
        """
        return bool(lib.nm_read_add(ffi.addressof(self.handle, "read"), kind, of, holder, data, len(data)))

    @property
    def has_read(self) -> bool:
        return bool(self.handle.read.count)

    def take_read(self) -> list[tuple[int, int, bytes, int]]:
        """Return the data added since the last call, in order: kind, number of the flow or reader, data, holder."""
        read = self.handle.read
        if not read.count:
            return []
        raw = ffi.buffer(read.bytes, read.used) if read.used else b""
        sends = read.sends[0 : read.count]
        found = [(one.kind, one.owner, raw[one.at : one.at + one.len], one.holder) for one in sends]
        lib.nm_out_clear(ffi.addressof(self.handle, "read"))
        return found
