"""Decodes and encodes the statistics of flows and tables: 1.0.0 §5.3.5, 1.3.5 §7.3.5, 1.5.1 §7.3.5.

natmirror builds the replies for masters, from its own tables.
"""

from struct import Struct
from typing import Any

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.instructions import decode_instructions, encode_instructions
from natmirror.openflow.bodies.matches import decode_match, encode_match
from natmirror.openflow.bodies.oxs import Stats, decode_stats, encode_stats, split_duration
from natmirror.openflow.bodies.v10_matches import V10_MATCH_LEN, decode_v10_match, encode_v10_match
from natmirror.openflow.bodies.v10_ports import widen_port
from natmirror.openflow.bodies.values import (
    AggregateStats,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    TableStats,
    TableStatsReply,
)
from natmirror.openflow.messages import V10, V14, V15, Multipart

_BILLION = 1_000_000_000
_V10_ENTRY_HEAD, _V10_ENTRY = Struct("!HBx"), Struct("!IIHHH6xQQQ")
_ENTRY, _V15_DESC, _V15_STATS = Struct("!HBxIIHHHHH2xQQQ"), Struct("!H2xBxHHHHHQ"), Struct("!H2xBBH")
_V10_REQUEST, _REQUEST = Struct("!BxH"), Struct("!B3xII4xQQ")
_AGGREGATE = Struct("!QQI4x")
_V10_TABLE, _TABLE = Struct("!B3x32sIIIQQ"), Struct("!B3xIQQ")


def decode_flow_stats(version: int, multipart: int, body: bytes, *, has_more: bool) -> FlowStatsReply:
    """Decode a part of a reply with the statistics of flows."""
    if version == V15:
        decode = _decode_v15_desc if multipart == Multipart.FLOW else _decode_v15_stats
    else:
        decode = _decode_v10_entry if version == V10 else _decode_entry
    found: list[FlowStats] = []
    at, end = 0, len(body)
    while at < end:
        length = int.from_bytes(body[at : at + 2], "big")
        if length < 8 or at + length > end:
            raise MalformedBody(f"the statistics of a flow have {length} bytes")
        found.append(decode(version, body[at : at + length]))
        at += length
    return FlowStatsReply(tuple(found), has_more)


def _decode_v10_entry(version: int, raw: bytes) -> FlowStats:
    _, table = _V10_ENTRY_HEAD.unpack_from(raw)
    match = decode_v10_match(raw, _V10_ENTRY_HEAD.size)
    at = _V10_ENTRY_HEAD.size + V10_MATCH_LEN
    seconds, nanoseconds, priority, idle, hard, cookie, packets, octets = _V10_ENTRY.unpack_from(raw, at)
    instructions = decode_instructions(version, raw[at + _V10_ENTRY.size :])
    duration = seconds + nanoseconds / _BILLION
    return FlowStats(table, priority, match, instructions, cookie, idle, hard, 0, 0, duration, packets, octets)


def _decode_entry(version: int, raw: bytes) -> FlowStats:
    _, table, seconds, nanoseconds, priority, idle, hard, flags, importance, cookie, packets, octets = (
        _ENTRY.unpack_from(raw)
    )
    match, at = decode_match(raw, _ENTRY.size)
    instructions = decode_instructions(version, raw[at:])
    importance = importance if version >= V14 else 0
    duration = seconds + nanoseconds / _BILLION
    return FlowStats(
        table, priority, match, instructions, cookie, idle, hard, flags, importance, duration, packets, octets
    )


def _decode_v15_desc(version: int, raw: bytes) -> FlowStats:
    _, table, priority, idle, hard, flags, importance, cookie = _V15_DESC.unpack_from(raw)
    match, at = decode_match(raw, _V15_DESC.size)
    stats, at = decode_stats(raw, at)
    instructions = decode_instructions(version, raw[at:])
    return FlowStats(
        table,
        priority,
        match,
        instructions,
        cookie,
        idle,
        hard,
        flags,
        importance,
        stats.duration,
        stats.packets,
        stats.bytes,
    )


def _decode_v15_stats(version: int, raw: bytes) -> FlowStats:
    _, table, _, priority = _V15_STATS.unpack_from(raw)
    match, at = decode_match(raw, _V15_STATS.size)
    stats, _ = decode_stats(raw, at)
    return FlowStats(table, priority, match, (), duration=stats.duration, packets=stats.packets, bytes=stats.bytes)


def encode_flow_stats(version: int, multipart: int, flow: FlowStats) -> bytes:
    """Return the entry of one flow in a reply. ValueError where the version cannot express it."""
    match = encode_v10_match(flow.match) if version == V10 else encode_match(flow.match)
    seconds, nanoseconds = split_duration(flow.duration)
    times = flow.idle_timeout, flow.hard_timeout
    counters = flow.cookie, flow.packets, flow.bytes
    instructions = encode_instructions(version, flow.instructions)
    if version == V10:
        length = _V10_ENTRY_HEAD.size + len(match) + _V10_ENTRY.size + len(instructions)
        head = _V10_ENTRY_HEAD.pack(length, flow.table) + match
        return head + _V10_ENTRY.pack(seconds, nanoseconds, flow.priority, *times, *counters) + instructions
    if version < V15:
        length = _ENTRY.size + len(match) + len(instructions)
        numbers = flow.priority, *times, flow.flags, flow.importance, *counters
        return _ENTRY.pack(length, flow.table, seconds, nanoseconds, *numbers) + match + instructions
    stats = encode_stats(Stats(flow.duration, flow.packets, flow.bytes), of_flow=True)
    if multipart == Multipart.FLOW_STATS:
        return _V15_STATS.pack(_V15_STATS.size + len(match) + len(stats), flow.table, 0, flow.priority) + match + stats
    length = _V15_DESC.size + len(match) + len(stats) + len(instructions)
    head = _V15_DESC.pack(length, flow.table, flow.priority, *times, flow.flags, flow.importance, flow.cookie)
    return head + match + stats + instructions


def decode_flow_stats_request(version: int, multipart: int, body: bytes) -> FlowStatsRequest:
    """Decode a request for the statistics of flows, or for their sums."""
    is_aggregate = multipart == Multipart.AGGREGATE
    if version == V10:
        match = decode_v10_match(body, 0)
        table, port = _V10_REQUEST.unpack_from(body, V10_MATCH_LEN)
        return FlowStatsRequest(table, match, widen_port(port), is_aggregate=is_aggregate)
    table, port, group, cookie, mask = _REQUEST.unpack_from(body)
    match, _ = decode_match(body, _REQUEST.size)
    return FlowStatsRequest(table, match, port, group, cookie & mask, mask, is_aggregate)


def decode_aggregate_stats(version: int, body: bytes) -> AggregateStats:
    """Decode a reply with the sums over flows."""
    if version < V15:
        return AggregateStats(*_AGGREGATE.unpack_from(body))
    stats, _ = decode_stats(body, 0)
    return AggregateStats(stats.packets, stats.bytes, stats.flows)


def encode_aggregate_stats(version: int, sums: AggregateStats) -> bytes:
    """Return the body of a reply with the sums over flows."""
    if version < V15:
        return _AGGREGATE.pack(sums.packets, sums.bytes, sums.flows)
    return encode_stats(Stats(0.0, sums.packets, sums.bytes, sums.flows), of_flow=False)


def decode_table_stats(version: int, body: bytes, *, has_more: bool) -> TableStatsReply:
    """Decode a part of a reply with the statistics of tables."""
    layout = _V10_TABLE if version == V10 else _TABLE
    if len(body) % layout.size:
        raise MalformedBody("the statistics of a table are cut off")
    return TableStatsReply(tuple(map(_v10_table if version == V10 else _table, layout.iter_unpack(body))), has_more)


def _v10_table(fields: tuple[Any, ...]) -> TableStats:
    table, name, wildcards, max_entries, active, lookups, matched = fields
    text = name.partition(b"\0")[0].decode("ascii", "replace")
    return TableStats(table, active, lookups, matched, text, max_entries, wildcards)


def _table(fields: tuple[Any, ...]) -> TableStats:
    return TableStats(*fields)


def encode_table_stats(version: int, one: TableStats) -> bytes:
    """Return the entry of one table in a reply."""
    if version > V10:
        return _TABLE.pack(one.table, one.active, one.lookups, one.matched)
    name = one.name.encode("ascii", "replace")
    return _V10_TABLE.pack(one.table, name, one.wildcards, one.max_entries, one.active, one.lookups, one.matched)
