"""What holds in an engine whatever its peers do: after each step cheap checks, now and then all, and at the end."""

import math
from collections import Counter
from itertools import pairwise
from sys import getsizeof

from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.engine.shown import Snapshot
from natmirror.fastpath import NEVER, NO_BACKEND, NO_HOLDER, FlowRow, LegRow
from natmirror.fastpath.constants import NO_LEG
from natmirror.fastpath.flow_flags import LIMITED, LOOSE, is_direct, is_guest
from natmirror.fastpath.flow_states import State
from natmirror.fastpath.tables import LEG_COST
from natmirror.mirror.sessions.read_queue import _ENTRY_COST
from natmirror.mirror.shown import FlowEntry
from natmirror.net import seq
from natmirror.openflow.directory import SWITCH_COST
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.reassembler import _PIECE_COST, MAX_RUNS
from tests.helpers.declared import assert_declared
from tests.helpers.hostile.host import Host
from tests.helpers.support import TIMEOUTS, assert_adds_up

_CHUNK_LEN = 4096  # bytes: legs take memory in chunks of this size
_MAX_CWND = 1 << 30
_LISTED = 512 | 2048 | 0x40000  # the flags of half open, closed and idle flows, which are in lists
_NONE = 0xFFFF_FFFF  # the end of these lists


def check_step(host: Host) -> None:
    """Assert that no call has failed behind the door, and that the memory is within the account."""
    for engine in host.engines:
        for one in engine.faults.take_news():
            raise getattr(one, "error", AssertionError(str(one)))
        assert not engine.faults.counts
        memory = engine._sessions.directory._memory
        assert 0 <= memory.used <= memory.limit, "the account is overdrawn"


def check(host: Host) -> None:
    """Assert all that holds at any moment."""
    check_step(host)
    for engine in host.engines:
        _check_flows(engine, host.now)
        _check_legs(engine)
        _check_streams(engine)
        _check_account(engine)
    _check_reports(host)


def check_declared(host: Host) -> None:
    """Assert that all that is shown is declared."""
    engine = host.engines[0]
    assert_declared(Snapshot, engine.snapshot(host.now))
    assert_declared(list[FlowEntry], engine.flows(host.now))


def check_end(host: Host) -> None:
    """Assert that nothing is left, after all connections have ended and all timers have expired."""
    check(host)
    for engine in host.engines:
        assert host.next_timer() is None
        assert not engine._gear.flows.ids() and not len(engine._gear.flows)
        assert not engine._legs.living and not len(engine._gear.legs)
        assert not engine._mirroring.streams and not engine._nat._objects and not engine._gear.has_read
        assert not engine._mirroring._backpressure._throttles
        sessions = engine._sessions
        assert not sessions._of_flows and not sessions._connections and not sessions._opened
        assert not sessions._open_sessions.by_number and not sessions._open_sessions._claims._of_switches
        for mirror in engine.snapshot(host.now)["mirrors"]:
            assert mirror["legs"] == mirror["pending_bytes"] == 0
        assert not sessions._judges._sessions and not engine.statements.held
        engine.judges.prune(())
        assert not engine.judges._connections and not engine.judge_memory.used and not engine.judge_memory.holders
        assert not engine.judges._waiting_len
        directory = sessions.directory
        assert not directory.seen(), "a connection that has ended is known"
        for datapath in list(directory._datapaths.values()):
            directory.forget(datapath)
        assert directory._memory.used == directory._used == 0, "memory was not given back"


# Flows


def _check_flows(engine: Engine, now: float) -> None:
    table, services = engine._gear.flows, engine._gear.handle.plan.services
    rows = {number: row for number in table.ids() if (row := table.row(number)) is not None}
    assert len(rows) == len(table)
    of_service: Counter[int] = Counter()
    of_backend: Counter[int] = Counter()
    closed: Counter[int] = Counter()
    for number, row in rows.items():
        assert row.id == number
        _check_flow(engine, row, now)
        if not is_direct(row):
            of_service[row.service_id] += 1
            of_backend[row.backend_id] += row.backend_id != NO_BACKEND
            closed[row.service_id] += row.state >= State.TIME_WAIT and not is_guest(row)
        if row.flags & _LISTED:
            for other, back in ((row.older, "newer"), (row.newer, "older")):
                assert other == _NONE or getattr(rows[other], back) == number, "a list of flows is broken"
    _check_clients(engine, list(rows.values()), now)
    assert engine._gear.flows.next_due() == min((row.due.due_at for row in rows.values()), default=NEVER)
    for number in of_service:
        assert (services[number].flows, services[number].closed) == (of_service[number], closed[number])
    for number in of_backend:
        assert of_backend[number] == 0 or engine._gear.handle.plan.backends[number].flows == of_backend[number]


def _check_clients(engine: Engine, rows: list[FlowRow], now: float) -> None:
    """Assert that each client of a service with limits has as many connections as its flows say; half open ones count
    for a while only."""
    count_open: Counter[tuple[int, bytes]] = Counter()
    half_open: Counter[tuple[int, bytes]] = Counter()
    for row in rows:
        client = row.service_id, bytes(row.client[0:4])
        is_strict = row.flags & LIMITED and not row.flags & LOOSE and not is_direct(row) and not is_guest(row)
        counted = is_strict and row.state < State.TIME_WAIT
        assert row.counted == (0 if not counted else 1 if row.state <= State.SYN_RECEIVED else 2)
        count_open[client] += row.counted == 2
        half_open[client] += row.counted == 1 and row.created_at // 10 >= now // 10 - 1
    for key in count_open:
        used = engine._gear.clients.use(*key, now).connections
        assert used == count_open[key] + half_open[key]


def _check_flow(engine: Engine, row: FlowRow, now: float) -> None:
    table = engine._gear.flows
    client, service, backend = (
        (bytes(row.client[0:4]), row.client_port),
        (bytes(row.service[0:4]), row.service_port),
        (bytes(row.backend[0:4]), row.backend_port),
    )
    for found in (table.find_orig(client, service), table.find_reply(backend, client)):
        assert found is not None and found.id == row.id, "an index of flows is broken"
    assert row.state in list(State)
    assert row.due.queued_at <= row.due.due_at
    assert is_guest(row) or row.due.due_at <= now + max(TIMEOUTS.values())
    assert row.seen_at <= now
    for half in (row.orig, row.reply):
        assert half.bytes < 1 << 40, "bytes were counted below zero"
    if row.first_leg != NO_LEG:
        leg = engine._gear.legs.row(row.first_leg)
        assert leg is not None and leg.flow_id == row.id


# Legs


def _check_legs(engine: Engine) -> None:
    table, flows = engine._gear.legs, engine._gear.flows
    legs = {leg.row.id: leg for _, leg in engine._legs.owners()}
    assert legs.keys() == engine._legs.living.keys() and len(legs) == len(table)
    for number, leg in legs.items():
        row = leg.row
        assert row.id == number and leg.ended is None and leg.state is not LegState.CLOSED
        found = table.find(leg.mirror_endpoint, leg.local_endpoint)
        assert found is not None and found.id == number, "the index of legs is broken"
        _check_leg(row, leg.state)
        assert leg.acked_bytes <= leg.sent_bytes or leg.resumption is not None
        flow = flows.row(row.flow_id)
        assert flow is None or number in _legs_of(engine, flow), "a leg is not in its flow's list"
    assert table.next_due() == min((leg.row.due.due_at for leg in legs.values()), default=NEVER)


def _legs_of(engine: Engine, flow: FlowRow) -> list[int]:
    found, number = [], flow.first_leg
    while number != NO_LEG:
        row = engine._gear.legs.row(number)
        assert row is not None and row.flow_id == flow.id and number not in found
        found.append(number)
        number = row.next_of_flow
    return found


def _check_leg(row: LegRow, state: LegState) -> None:
    assert seq.le(row.snd_una, row.snd_nxt) and seq.le(row.snd_nxt, row.snd_max), "a leg's numbers are out of order"
    ring = row.ring
    assert ring.count <= ring.capacity and ring.offset < _CHUNK_LEN
    assert ring.offset + row.buffered <= ring.count * _CHUNK_LEN
    assert not row.buffered or ring.offset == row.buffer_seq % _CHUNK_LEN
    if state not in (LegState.SYN_SENT, LegState.RESUMING):
        assert 0 < row.cwnd <= _MAX_CWND and row.window <= row.max_window
    assert row.rto > 0 and row.due.queued_at <= row.due.due_at
    marks = [row.mark_end[number] for number in range(row.mark_count)]
    assert all(seq.lt(one, other) for one, other in pairwise(marks))
    if marks:
        assert marks[-1] == seq.add(row.buffer_seq, row.buffered)
    if state is not LegState.RESUMING:
        fin = row.snd_max == seq.add(row.buffer_seq, row.buffered + 1)
        assert fin or seq.le(row.snd_max, seq.add(row.buffer_seq, row.buffered)), "more was sent than was written"


def _check_streams(engine: Engine) -> None:
    for flow, stream in engine._mirroring.streams.items():
        assert engine._nat.has_object(flow), "a stream has outlived its flow"
        for copy in stream.copies:
            assert copy.missing_bytes >= 0, "a mirror has more bytes than its client has sent"
        for reassembler in (stream.reassembler, stream.replies):
            if reassembler is not None:
                pieces = sum(map(len, reassembler._pieces))
                assert reassembler.waiting_bytes == pieces and reassembler._runs <= MAX_RUNS
                assert list(reassembler._starts) == sorted(reassembler._starts)


def _check_account(engine: Engine) -> None:
    """Assert that the account has exactly what is held, for each client, and that none holds more than its part."""
    sessions, memory = engine._sessions, engine._gear.memory
    known: Counter[int] = Counter()
    for datapath in sessions.directory._datapaths.values():
        known[datapath.holder] += SWITCH_COST + datapath.used
    assert known.total() == sessions.directory._used
    held = known.copy()
    flows = [row for number in engine._gear.flows.ids() if (row := engine._gear.flows.row(number)) is not None]
    legs = [leg.row.ring for _, leg in engine._legs.owners()]
    for ring in [*legs, *(row.held for row in flows)]:
        held[ring.holder] += ring.count * _CHUNK_LEN
    for ring in legs:
        held[ring.holder] += LEG_COST
    for flow in engine._nat._objects.values():
        new = None if flow.new_syn is None else flow.new_syn.data
        held[engine._gear.memory.holder_of(flow.client[0])] += sum(map(getsizeof, filter(None, (flow.syn_data, new))))
    for stream in engine._mirroring.streams.values():
        for reassembler in (stream.reassembler, stream.replies):
            if reassembler is not None:
                held[reassembler._row.held.holder] += reassembler.waiting_bytes + _PIECE_COST * len(reassembler._pieces)
    of_sessions = [master.connection for master, _ in sessions._open_sessions.by_number.values()]
    connections = [*sessions._connections.values(), *sessions._opened, *of_sessions]
    for connection in {id(one): one for one in connections}.values():
        held[connection.holder] += connection.fixed + connection.counted
    for *_, data, holder in sessions._read_queue._waiting:
        held[holder] += len(data) + _ENTRY_COST if data else 0
    held.update(engine.statements.held)
    assert held.total() == memory.used, "the account is not what is held"
    for holder, used in held.items():
        assert engine._gear.handle.holders.used[holder] == used, "a client's account is not what it holds"
        assert used <= memory.client_limit or holder == NO_HOLDER, "a client holds more than its part"


# Reports


def _check_reports(host: Host) -> None:
    """Assert that ledgers add up, and that both gears show the same."""
    host.both(lambda engine: _shown(engine, host.now))
    flows = host.both(lambda engine: engine.flows(host.now))
    legs = [leg for flow in flows + host.both(lambda engine: engine.lingering(host.now)) for leg in flow["legs"]]
    for mirror in host.engines[0].snapshot(host.now)["mirrors"]:
        named = [leg for leg in legs if leg["mirror"] == mirror["name"]]
        assert mirror["legs"] <= len(named)
        assert math.isfinite(mirror["lag_seconds"])


def _shown(engine: Engine, now: float) -> Snapshot:
    snapshot = engine.snapshot(now)
    assert_adds_up(snapshot)
    del snapshot["counters"][EngineCounter.PACKETS_DECIDED_IN_C]
    snapshot["packets_decided_in_python"].clear()
    return snapshot
