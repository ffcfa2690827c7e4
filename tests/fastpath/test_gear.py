"""The C gear compared with the Python reference: same verdicts, same bytes, same numbers."""

from array import array
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror._ffi import ffi, lib
from natmirror.fastpath import (
    ACCEPT,
    MODIFIED,
    NEVER,
    NO_BACKEND,
    PUNT,
    Clients,
    FlowRow,
    FlowTable,
    Gear,
    Memory,
    Plan,
    PlannedService,
)
from natmirror.fastpath.flow_flags import (
    DIRECT,
    FEEDS_LEGS,
    HALF_RECORDED,
    LOOSE,
    ORIG_GAP,
    PICKED_UP,
    SERVICE_MIRRORED,
    STRIPS_MPTCP,
    THROTTLED,
    VOUCHED,
    WATCHED,
    has_silent_client,
)
from natmirror.fastpath.flow_states import Event, State
from natmirror.fastpath.tables import LEG_COST
from natmirror.net import seq
from natmirror.net.build import rewrite
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import FIN, RST, SYN, URG, Malformed, Segment, parse
from natmirror.tcp import tracker
from natmirror.tcp.acceptance import is_taken as takes
from natmirror.tcp.acceptance import is_urgent
from tests.helpers.siphash import siphash
from tests.helpers.support import C1, CLIENT, SERVICE, at, packet, track

KEY = bytes(range(16))
PREROUTING, FORWARD, OUTPUT = 0, 2, 3
HALF_FIELDS = ("bytes", "packets", "end", "ack", "edge", "scale", "flags")
ELSEWHERE = at("192.0.2.9", 9)
PICKED_UP_FLAGS = (
    PICKED_UP,
    PICKED_UP | LOOSE,
    PICKED_UP | LOOSE | WATCHED,
    PICKED_UP | LOOSE | VOUCHED,
)

OPTIONS = st.sampled_from(
    [
        *(b"", bytes(4), bytes(40), b"\1\3\3\7", b"\1\3\3\17", b"\3\4\1\1"),
        *(b"\x1e\4\1\1", b"\1\x1e\4\1\1\1\1\1", b"\x1e\4\x10\0\x1e\4\1\1", b"\1\1\x1e\2"),  # MPTCP
    ]
)

numbers = st.one_of(
    st.integers(0, 0xFFFF_FFFF), st.integers(0xFFFF_FF00, 0xFFFF_FFFF), st.integers(0, 0x100), st.just(0x8000_0000)
)
halves = st.fixed_dictionaries(
    {
        "bytes": st.integers(0, 1 << 40),
        "packets": st.integers(0, 1000),
        "end": numbers,
        "ack": numbers,
        "edge": numbers,
        "scale": st.sampled_from([*range(15), 255]),
        "flags": st.builds(int.__or__, st.integers(0, 15), st.sampled_from([0, 0, HALF_RECORDED])),
    }
)


def numbers_of(row: FlowRow) -> dict[str, object]:
    """Return the fields of a row that process() may change."""
    found: dict[str, object] = {"seen_at": row.seen_at, "state": row.state, "flags": row.flags}
    for name in ("orig", "reply"):
        for field in HALF_FIELDS:
            found[f"{name}.{field}"] = getattr(getattr(row, name), field)
    return found


def gear(max_flows: int = 4, memory: Memory | None = None) -> Gear:
    return Gear(max_flows, memory or Memory(1 << 20), KEY)


def planned(
    one: Gear,
    *services: PlannedService,
    backends: Sequence[tuple[int, Endpoint]] = ((0, C1),),
    clients: str = "0.0.0.0/32",
) -> Plan:
    """Give a gear services whose clients are in a network. By default that is SERVICE, with C1 as its pool or
    WATCHED, for clients that do not exist, so that no SYN opens a flow."""
    network = IPv4Network(clients)
    plan = Plan(one.handle)
    for number, service in enumerate(
        services or (PlannedService(SERVICE, array("H", [0])), PlannedService(SERVICE, is_watched=True))
    ):
        plan.put_service(number, service)
    for number, (service_id, backend) in enumerate(backends):
        plan.put_backend(number, service_id, backend)
    plan.put_networks([(int(network.network_address), int(network.netmask))])
    return plan


def set_up(one: Gear, orig: dict[str, int], reply: dict[str, int], state: int, flags: int) -> FlowRow:
    """Insert the flow to which the packets of these tests belong."""
    row = one.flows.insert(CLIENT, *((1, NO_BACKEND) if flags & WATCHED else (0, 0)))
    assert row is not None
    for half, values in ((row.orig, orig), (row.reply, reply)):
        for field, value in values.items():
            setattr(half, field, value)
    row.state, row.flags, row.seen_at = state, flags, 1.0
    return row


def reference(
    flows: FlowTable, row: FlowRow, raw: bytes, hook: int, checksum: Checksum, now: float
) -> tuple[int, bytes]:
    """Return the result that process() must have, by the Python code."""
    try:
        parsed = parse(raw, checksum)
    except Malformed:
        return PUNT, raw
    if not isinstance(parsed, Segment) or len(parsed.raw) != len(raw):
        return PUNT, raw
    source, destination = (parsed.src, parsed.sport), (parsed.dst, parsed.dport)
    there = SERVICE if row.flags & WATCHED else C1
    is_orig = hook == PREROUTING
    if (source, destination) != ((CLIENT, SERVICE) if is_orig else (there, CLIENT)):
        return ACCEPT, raw  # no client's
    if hook == OUTPUT and not row.flags & WATCHED:
        return PUNT, raw
    if is_orig and has_silent_client(row):
        return PUNT, raw
    if is_orig and row.flags & DIRECT:
        return ACCEPT, raw  # no client's of the service that has the same endpoint
    if row.state != State.ESTABLISHED or parsed.flags & (SYN | FIN | RST):
        return reference_of_control(flows, row, parsed, raw, now, is_orig=is_orig)
    is_taken = parsed.checksum_ok() and takes(row, parsed, from_client=is_orig)
    if row.flags & FEEDS_LEGS and is_taken and is_orig and parsed.flags & URG and is_urgent(row, parsed):
        return PUNT, raw  # the copies end
    if is_taken and (
        (row.flags & FEEDS_LEGS and parsed.payload_len and is_orig) or shows_mptcp(row, parsed, is_orig=is_orig)
    ):
        return PUNT, raw  # the client's data waits until a gap is filled; data with an MPTCP option ends the copies
    if row.flags & THROTTLED and not is_orig:
        return PUNT, raw
    if row.flags & DIRECT:
        row.seen_at = now
        row.reply.packets += 1
        return ACCEPT, raw
    if parsed.checksum_ok() and row.flags & LOOSE:
        event = track(row, parsed, from_client=is_orig)
        flows.touch(row, now, moved=event is not None)
    elif parsed.checksum_ok():
        tracker.update(row, parsed, from_client=is_orig, is_taken=is_taken)
        row.seen_at = now
    if row.flags & WATCHED:
        return ACCEPT, raw
    return MODIFIED, rewrite(parsed, source=None if is_orig else SERVICE, destination=C1 if is_orig else None)


def reference_of_control(
    flows: FlowTable, row: FlowRow, parsed: Segment, raw: bytes, now: float, *, is_orig: bool
) -> tuple[int, bytes]:
    """Return the same for packets that open or close flows."""
    syn, reset = parsed.flags & SYN, parsed.flags & RST
    if row.flags & DIRECT:
        return PUNT, raw
    if parsed.checksum_ok():
        if (syn and (is_orig or row.state != State.SYN_SENT)) or (reset and row.state == State.SYN_SENT):
            return PUNT, raw
        if row.flags & SERVICE_MIRRORED and not syn and needs_mirroring(row, parsed, is_orig=is_orig):
            return PUNT, raw
        event = track(row, parsed, from_client=is_orig)
        if event is not None or not reset:
            flows.touch(row, now, moved=event is not None or bool(syn and is_orig))
    if row.flags & WATCHED:
        return ACCEPT, raw
    source, destination = (None, C1) if is_orig else (SERVICE, None)
    strips = bool(syn and row.flags & STRIPS_MPTCP)
    return MODIFIED, rewrite(parsed, source=source, destination=destination, strips_mptcp=strips)


def shows_mptcp(row: FlowRow, parsed: Segment, *, is_orig: bool) -> bool:
    """Return whether new data of a flow with legs shows that the connection is not plain TCP."""
    receiver = row.reply if is_orig else row.orig
    is_new = not receiver.flags & lib.NM_HALF_ACK or seq.lt(receiver.ack, seq.add(parsed.seq, parsed.payload_len))
    return bool(row.flags & FEEDS_LEGS and parsed.payload_len and parsed.mptcp() and is_new)


def needs_mirroring(row: FlowRow, parsed: Segment, *, is_orig: bool) -> bool:
    """Return whether a packet changes the state of a flow with mirrors, or brings its legs something."""
    trial = ffi.new("nm_flow *")
    ffi.memmove(trial, row, ffi.sizeof("nm_flow"))
    event = track(trial, parsed, from_client=is_orig)
    if event is not None:
        return not (event is Event.RST and row.state == State.SYN_RECEIVED)
    is_data = parsed.seq_len > 0 and not parsed.flags & RST
    if is_data and (row.state < State.ESTABLISHED or shows_mptcp(row, parsed, is_orig=is_orig)):
        return True
    if is_orig:
        return bool(is_data or parsed.flags & URG) and takes(row, parsed, from_client=True)
    is_fin_acked = row.reply.flags & lib.NM_HALF_ACK and row.reply.ack == row.orig.end
    return bool(row.held_len or (row.orig.flags & lib.NM_HALF_FIN and not is_fin_acked))


@given(st.data())
def test_c_does_the_same_as_the_reference(data: st.DataObject) -> None:
    copied = FEEDS_LEGS | ORIG_GAP
    flags = data.draw(
        st.sampled_from(
            [0, STRIPS_MPTCP, SERVICE_MIRRORED | copied, WATCHED, WATCHED | copied, DIRECT, *PICKED_UP_FLAGS]
        )
    )
    state = data.draw(st.sampled_from([2, 2, 2, 2, 0, 1, 3, 4, 5]))
    orig, reply = data.draw(halves), data.draw(halves)
    gears = [gear(), gear()]
    plans = [planned(gear) for gear in gears]
    rows = [set_up(gear, orig, reply, state, flags) for gear in gears]
    for step in range(data.draw(st.integers(1, 4))):
        hook = data.draw(st.sampled_from([PREROUTING, FORWARD, OUTPUT]))
        there = SERVICE if flags & WATCHED else C1
        ends = (CLIENT, SERVICE) if hook == PREROUTING else (there, CLIENT)
        source, destination = data.draw(st.sampled_from([ends] * 6 + [(ELSEWHERE, ends[1])]))
        near = [number for half in (rows[0].orig, rows[0].reply) for number in (half.edge, half.end, half.ack)]
        number = data.draw(st.one_of(numbers, st.sampled_from(near)))
        ack = data.draw(st.one_of(numbers, st.sampled_from(near)))
        letters = data.draw(st.sampled_from(["A", "PA", "A", "P", "FA", "PFA", "S", "SA", "R", "RA"]))
        size = data.draw(st.integers(0, 40))
        raw = bytearray(
            packet(
                source,
                destination,
                letters,
                seq.add(number, data.draw(st.integers(-3, 3))),
                seq.add(ack, data.draw(st.integers(-3, 3))),
                data.draw(st.binary(min_size=size, max_size=size)),
                window=data.draw(st.integers(0, 0xFFFF)),
                options=data.draw(OPTIONS),
            )
        )
        if data.draw(st.booleans()):
            raw[36:38] = data.draw(st.binary(min_size=2, max_size=2))
        for index, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=2)
        ):
            if data.draw(st.booleans()):
                raw[index] = value
        cut = data.draw(st.sampled_from([len(raw)] * 5 + list(range(0, len(raw), 7))))
        checksum = data.draw(st.sampled_from(Checksum))
        expected, bytes_expected = reference(gears[1].flows, rows[1], bytes(raw[:cut]), hook, checksum, 2.0 + step)
        buffer = raw[:cut]
        assert min(gears[0].process(buffer, hook, checksum, 2.0 + step), PUNT) == expected
        assert bytes(buffer) == bytes_expected
        assert numbers_of(rows[0]) == numbers_of(rows[1])
    assert [plan.backends[0].flows for plan in plans] == [int(not flags & WATCHED)] * 2


@pytest.mark.parametrize("content", [b"\xff", b"\x00", bytes(range(256))])
@pytest.mark.parametrize("sizes", [range(140), range(65_440, 65_496)])
def test_a_sum_left_to_hardware_is_computed_over_any_length(sizes: range, content: bytes) -> None:
    one = gear()
    _plan = planned(one)  # the gear does not keep it
    row = set_up(one, {}, {}, State.ESTABLISHED, 0)
    for size in sizes:
        payload = (content * (size // len(content) + 1))[:size]
        raw = bytearray(packet(CLIENT, SERVICE, "PA", 1, 1, payload))
        raw[36:38] = b"\x12\x34"
        buffer, parsed = bytearray(raw), parse(bytes(raw), Checksum.PARTIAL)
        assert isinstance(parsed, Segment)
        assert one.process(buffer, PREROUTING, Checksum.PARTIAL, 2.0) == MODIFIED
        assert bytes(buffer) == rewrite(parsed, destination=C1)
    assert row.orig.packets == len(sizes)


@given(st.binary(max_size=100), st.sampled_from([PREROUTING, FORWARD, OUTPUT]), st.sampled_from(Checksum))
def test_bytes_that_are_no_packet_are_punted_unchanged(raw: bytes, hook: int, checksum: Checksum) -> None:
    one = gear()
    _plan = planned(one)  # the gear does not keep it
    one.flows.insert(CLIENT, 0, 0)
    buffer = bytearray(raw)
    assert one.process(buffer, hook, checksum, 1.0) >= PUNT
    assert buffer == raw


def test_an_empty_buffer_is_punted() -> None:
    assert gear().process(bytearray(), PREROUTING, 0, 1.0) >= PUNT


def test_a_freed_number_of_the_plan_matches_no_packet() -> None:
    one = gear()
    plan = planned(one)
    plan.clear_backend(0)
    plan.clear_service(0)
    backend, service = plan.backends[0], plan.services[0]
    assert (backend.port, bytes(backend.address[0:4])) == (0, bytes(4))
    assert (service.port, service.family, service.derived_len) == (0, 0, 0)


def number_of(address: str) -> int:
    return int(IPv4Address(address))


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        (Clients(), range(4500)),
        (Clients(number_of("10.10.0.7"), number_of("255.255.255.255")), range(7, 4500, 8)),
        (Clients(number_of("10.10.0.4"), number_of("255.255.255.252")), [n for n in range(4500) if n % 8 >= 4]),
        (Clients(number_of("10.10.0.3"), number_of("255.255.255.255"), 3011), [3011]),
        (Clients(number_of("10.10.0.4"), number_of("255.255.255.255"), 3011), []),
        (Clients(port=4499), [4499]),
    ],
)
def test_the_flows_of_some_clients_are_found_step_by_step(clients: Clients, expected: Iterable[int]) -> None:
    one = gear(max_flows=4600)
    plan = planned(one)
    for port in range(4500):
        assert one.flows.insert(at(f"10.10.0.{port % 8}", port), 0, port % len(plan.backends)) is not None
    found: list[int] = []
    following: int | None = 0
    steps = 0
    while following is not None:
        some, after = one.flows.ids_of(clients, following, 1000)
        assert after is None or after - following <= 2048, "no packet passes meanwhile"
        found, following, steps = found + some, after, steps + 1
    rows = map(one.flows.row, found)
    assert [row.client_port for row in rows if row is not None] == list(expected)
    assert steps >= 3
    assert one.flows.ids_of(clients, 1 << 31, 1) == ([], None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 1), st.integers(0, 3)), max_size=60))
def test_the_table_behaves_as_two_dictionaries(steps: list[tuple[bool, int, int, int]]) -> None:
    one, size = gear(), 4
    table = one.flows
    backends = [at(f"10.20.0.{number}", 1) for number in range(4)]
    services = [PlannedService(at("10.10.0.100", port), array("H", range(4 * port, 4 * port + 4))) for port in range(2)]
    plan = planned(one, *services, backends=[(port, backend) for port in range(2) for backend in backends])
    rows: dict[int, tuple[Any, Any, Any, Any]] = {}
    for adding, client_port, service_port, backend in steps:
        client, service = at("10.10.0.1", client_port), at("10.10.0.100", service_port)
        there = backends[backend]
        held = next((row for row in rows.values() if row[1:3] == (client, service)), None)
        if adding:
            row = table.insert(client, service_port, 4 * service_port + backend)
            is_taken = any(
                other[1:3] == (client, service) or (other[1], other[3]) == (client, there) for other in rows.values()
            )
            assert (row is None) == (is_taken or len(rows) == size)
            if row is not None:
                rows[row.id] = (row, client, service, there)
        elif held is not None:
            del rows[held[0].id]
            table.remove(held[0])
        assert len(table) == len(rows) == sum(row.flows for row in plan.services) == len(table.ids())
        assert [table.row(number) for number in table.ids()] == [rows[number][0] for number in sorted(rows)]
    for row, client, service, there in rows.values():
        assert table.find_orig(client, service) == row
        assert table.find_reply(there, client) == row
    assert table.find_orig(ELSEWHERE, ELSEWHERE) is None
    assert table.find_reply(ELSEWHERE, ELSEWHERE) is None


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        Gear(4, Memory(1), bytes(15))


def test_a_row_is_small() -> None:
    from natmirror._ffi import ffi

    assert ffi.sizeof("nm_flow") <= 512


# SipHash


def test_siphash_gives_the_vector_of_the_paper() -> None:
    assert siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=40))
def test_siphash_is_the_same_in_c(key: bytes, data: bytes) -> None:
    assert lib.nm_siphash(key, data, len(data)) == siphash(key, data)


# Deadlines and buffers


def test_an_empty_table_has_no_deadline() -> None:
    one = gear()
    assert one.flows.due(NEVER) is None
    assert one.legs.take_due(NEVER) is None
    assert one.flows.next_due() == one.legs.next_due() == NEVER


def test_deadlines_come_in_the_order_of_their_times() -> None:
    one = gear()
    rows = [one.legs.insert(C1, at("10.10.0.1", port)) for port in range(1, 9)]
    times = [5.0, 1.0, 7.0, NEVER, 3.0, 2.0, 6.0, 4.0]
    for row, when in zip(rows, times, strict=True):
        one.legs.set_due(row, when)
    one.legs.set_due(rows[0], 0.5)  # earlier
    one.legs.set_due(rows[1], 8.0)  # later
    one.legs.set_due(rows[2], NEVER)
    assert one.legs.next_due() == 0.5
    due = []
    while (number := one.legs.take_due(6.0)) is not None:
        due.append(number)
    assert due == [rows[index].id for index in (0, 5, 4, 7, 6)]
    assert one.legs.next_due() == 8.0


def test_a_leg_with_an_empty_buffer_takes_no_memory() -> None:
    memory = Memory(1 << 20)
    one = gear(memory=memory)
    row = one.legs.insert(C1, CLIENT)
    data = bytes(range(256)) * 512
    assert one.legs.append(row, data, 1.0)
    assert one.legs.copy(row, 5000, 9000) == data[5000:14_000]
    assert memory.used == LEG_COST + len(data)
    one.legs.drop(row, 100_000, row.buffer_seq + 100_000)
    assert one.legs.copy(row, 0, 100) == data[100_000:100_100]
    one.legs.drop(row, len(data) - 100_000, row.buffer_seq)
    assert (memory.used, row.ring.capacity) == (LEG_COST, 0)
    assert one.legs.append(row, b"again", 2.0)
    assert one.legs.copy(row, 0, 5) == b"again"


def test_no_memory_beyond_the_limit_is_given() -> None:
    memory = Memory(LEG_COST + 8192)
    one = gear(memory=memory)
    row = one.legs.insert(C1, CLIENT)
    assert not one.legs.append(row, bytes(8193), 1.0)
    assert memory.used == LEG_COST
    assert one.legs.append(row, bytes(8192), 1.0)
    one.legs.retire(row)
    assert memory.used == 0


def test_the_sums_of_legs_keep_their_memory() -> None:
    assert ffi.typeof(gear().leg_sums(2)).kind == "array", "a list's structs would not keep the array's memory"
