"""Typed views of the C structs that Python reads and writes.

The headers explain each field. No class implements these protocols: ``natmirror._ffi`` returns the structs themselves.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar, overload

from natmirror.fastpath.service_rows import LimitsRow, TrafficRow

T = TypeVar("T")


class Array(Protocol[T]):
    """A C array, or a pointer to the first of some values."""

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> "Array[T]": ...
    @overload
    def __setitem__(self, at: int, value: T | Mapping[str, object]) -> None: ...
    @overload
    def __setitem__(self, at: slice, value: bytes) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...


class DueRow(Protocol):
    """``nm_due``: the deadline of a row; for C only."""

    due_at: float
    queued_at: float
    place: int
    id: int


class HalfRow(Protocol):
    """``nm_half``: one direction of a connection."""

    bytes: int
    packets: int
    end: int
    ack: int
    edge: int
    next: int
    echo_at: float
    max_window: int
    stamp: int
    echo: int
    scale: int
    flags: int


class FlowRow(Protocol):
    """``nm_flow``: a connection of production."""

    orig: HalfRow
    reply: HalfRow
    created_at: float
    seen_at: float
    came_at: float
    client: Array[int]
    service: Array[int]
    backend: Array[int]
    client_port: int
    service_port: int
    backend_port: int
    family: int
    state: int
    sharing: int
    counted: int
    flags: int
    service_id: int
    backend_id: int
    account: int
    shown: int
    iss: int
    due: DueRow
    id: int
    first_leg: int
    next_orig: int
    next_reply: int
    older: int
    newer: int
    held: "RingRow"
    held_len: int
    max_held: int
    unseen: int
    break_at: int
    ahead_to: int
    looked: "LookedRow"
    proven: int


class LookedRow(Protocol):
    """``nm_looked``: a flow at the last look; for C only."""

    requests: int
    replies: int
    ack: int
    reply_end: int
    reply_ack: int
    state: int
    spoke_in: int
    heard_in: int
    passed_in: int
    waits_from: int
    unreached_from: int


class RingRow(Protocol):
    """``nm_ring``: a queue of bytes; for C only."""

    chunks: Array[Array[int]]
    capacity: int
    head: int
    count: int
    offset: int
    holder: int


class LegRow(Protocol):
    """``nm_leg``: a connection to a mirror."""

    mirror: Array[int]
    local: Array[int]
    mirror_port: int
    local_port: int
    family: int
    flags: int
    scale: int
    source: int
    seq_offset: int
    snd_una: int
    snd_nxt: int
    snd_max: int
    window: int
    max_window: int
    buffer_seq: int
    buffered: int
    max_buffer: int
    mss: int
    full_mss: int
    cwnd: int
    ssthresh: int
    cwnd_acked: int
    duplicates: int
    sample_end: int
    sample_at: float
    rto: float
    srtt: float
    rttvar: float
    rto_at: float
    progress_at: float
    sent_at: float
    heard_at: float
    written_at: float
    stall_timeout: float
    idle_timeout: float
    widen_at: float
    rcv_nxt: int
    ack_at: float
    more_at: float
    sent_bytes: int
    acked_bytes: int
    consumed_bytes: int
    retransmits: int
    timeouts: int
    ring: RingRow
    mark_at: Array[float]
    mark_end: Array[int]
    mark_count: int
    due: DueRow
    client_bytes: int
    before_bytes: int
    flow_id: int
    mirror_id: int
    reader: int
    id: int
    next_in_bucket: int
    next_of_flow: int


class Budget(Protocol):
    """``nm_budget``: the limit on the memory of mirroring."""

    used: int
    limit: int


class HoldersRow(Protocol):
    """``nm_holders``: what each client of one engine holds; for C only."""

    budget: Array[Budget]
    used: Array[int]
    key: Array[int]


class ServiceRow(Protocol):
    """``nm_service``: a service of the plan."""

    address: Array[int]
    port: int
    family: int
    hash_port: int
    round_robin: int
    may_throttle: int
    needs_python: int
    flags: int
    flows: int
    closed: int
    removed: TrafficRow
    next_entry: int
    table_len: int
    table: Array[int]
    derived_len: int
    derived: Array[int]
    limits: LimitsRow
    limited: Array["LimitedRow"]


class LimitedRow(Protocol):
    """``nm_limited``: the clients that have met a limit."""

    syns: int
    clients: int
    at: float
    client: Array[int]


class BackendRow(Protocol):
    """``nm_backend``: a backend of the plan."""

    address: Array[int]
    port: int
    flows: int
    closed: int
    total_open: Array[int]
    service_id: int
    mark: int
    connections: int


class NetworkRow(Protocol):
    """``nm_network``: a network of clients."""

    address: int
    mask: int


class MirrorRow(Protocol):
    """``nm_mirror``: a mirror whose packets reach no client."""

    address: Array[int]
    port: int


class PlanRow(Protocol):
    """``nm_plan``: services, backends, mirrors and networks of clients."""

    services: Array[ServiceRow]
    backends: Array[BackendRow]
    networks: Array[NetworkRow]
    mirrors: Array[MirrorRow]
    service_count: int
    backend_count: int
    network_count: int
    mirror_count: int
    suspects: Array[int]


class SendRow(Protocol):
    """``nm_send``: one packet, or one piece of data, in an ``nm_out``."""

    at: int
    len: int
    owner: int
    segment_len: int
    holder: int
    kind: int


class OutRow(Protocol):
    """``nm_out``: packets that legs send, or data for readers."""

    bytes: Array[int]
    sends: Array[SendRow]
    used: int
    capacity: int
    count: int
    max_count: int


class OptionsRow(Protocol):
    """``nm_options``: what C reads of a segment's TCP options."""

    tsval: int
    tsecr: int
    mptcp: int
    has_timestamps: int
    has_cookie: int
    window_scale: int


class TranslationRow(Protocol):
    """``nm_translation``: how to rewrite the last packet decided; for C only."""

    mark: int
    address: Array[int]
    port: int
    window: int
    tcp_at: int
    is_destination: int
    more: int


class CountersRow(Protocol):
    """``nm_counters``: the C gear's counters."""

    packets_decided_in_c: int
    bad_checksum_packets: int
    mirror_packets: int
    packets_without_flow: int
    flows_opened: int
    flows_evicted: int
    direct_connections: int
    drops: Array[int]
    over_limit: Array[int]
    punts: Array[int]


class FlowTableRow(Protocol):
    """``nm_flows``: the table of flows, opaque to Python."""


class LegTableRow(Protocol):
    """``nm_legs``: the table of legs, opaque to Python."""


class ChunksRow(Protocol):
    """``nm_chunks``: the memory of rings, opaque to Python."""


class TurnsRow(Protocol):
    """``nm_turns``: the peers' turns, opaque to Python."""


class GearRow(Protocol):
    """``nm_gear``: the tables, the plan, and the buffers that Python empties."""

    flows: FlowTableRow
    holders: HoldersRow
    legs: LegTableRow
    chunks: ChunksRow
    turns: TurnsRow
    plan: PlanRow
    out: OutRow
    read: OutRow
    translation: TranslationRow
    begin_at: Array[float]
    begin_count: int
    is_swamped: int
    sheds_until: float
    unseen: int
    counters: CountersRow


class ChangeRow(Protocol):
    """``nm_change``: a change of a pinned flow."""

    client: Array[int]
    client_port: int
    service_id: int
    backend_id: int
    family: int
    kind: int


class ChangesRow(Protocol):
    """``nm_changes``: the log of changes, the oldest first."""

    rows: Array[ChangeRow]
    max: int
    count: int
    missed: int


class MaglevRow(Protocol):
    """``nm_maglev_backend``: a backend's preferences among the slots of a lookup table."""

    slot: int
    skip: int
    weight: int
    share: int
    place: int
