"""Statistics of flows and tables: what is encoded is decoded again, by us and by os-ken, and OpenFlow's own layouts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import Action, Instruction, MalformedBody, MatchField
from natmirror.openflow.bodies.statistics import encode_aggregate_stats, encode_flow_stats, encode_table_stats
from natmirror.openflow.bodies.v10_matches import decode_v10_match
from natmirror.openflow.bodies.values import (
    AggregateStats,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    TableStats,
    TableStatsReply,
    TableStatsRequest,
)
from natmirror.openflow.messages import V10, V14, V15, Multipart, parse
from tests.helpers.openflow import ALL, KITS, multipart, understood
from tests.helpers.openflow_bodies import LATER, instructions, matches, value

everywhere = pytest.mark.parametrize("version", ALL)
ANY = 0xFFFF_FFFF
OUTPUT = (Instruction("apply_actions", ((Action("output", (2,)),),)),)


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


def flows(version: int) -> st.SearchStrategy[FlowStats]:
    """Draw the statistics of a flow of a version."""
    v10 = version == V10
    return st.builds(
        FlowStats,
        table=numbers(8),
        priority=numbers(16),
        match=st.binary(min_size=40, max_size=40).map(lambda raw: decode_v10_match(raw, 0)) if v10 else matches,
        instructions=instructions(version),
        cookie=numbers(64),
        idle_timeout=numbers(16),
        hard_timeout=numbers(16),
        flags=st.just(0) if v10 else numbers(5),
        importance=numbers(16) if version >= V14 else st.just(0),
        duration=numbers(20).map(lambda number: number / 8),
        packets=numbers(64),
        bytes=numbers(64),
    )


@given(st.sampled_from(ALL).flatmap(lambda version: st.tuples(st.just(version), st.lists(flows(version), max_size=3))))
def test_the_statistics_of_flows_survive_their_encoding(case: tuple[int, list[FlowStats]]) -> None:
    version, written = case
    body = b"".join(encode_flow_stats(version, Multipart.FLOW, flow) for flow in written)
    assert value(multipart(version, 1, Multipart.FLOW, body)) == FlowStatsReply(tuple(written))


def test_the_statistics_of_1_5_may_leave_the_instructions_out() -> None:
    flow = FlowStats(1, 2, (MatchField("in_port", 1),), OUTPUT, duration=5.5, packets=6, bytes=7)
    body = encode_flow_stats(V15, Multipart.FLOW_STATS, flow)
    expected = FlowStats(1, 2, (MatchField("in_port", 1),), (), duration=5.5, packets=6, bytes=7)
    assert value(multipart(V15, 1, Multipart.FLOW_STATS, body, more=True)) == FlowStatsReply((expected,), has_more=True)


@everywhere
def test_os_ken_reads_the_statistics_of_a_flow(version: int) -> None:
    match = (MatchField("eth_dst", 0x020000000001), MatchField("in_port", 1))
    flow = FlowStats(0, 2, match, OUTPUT, 3, 4, 5, duration=6.5, packets=7, bytes=8)
    body = encode_flow_stats(version, Multipart.FLOW, flow)
    (found,) = understood(multipart(version, 1, Multipart.FLOW, body)).body
    assert (found.priority, found.cookie, found.idle_timeout, found.hard_timeout) == (2, 3, 4, 5)
    if version == V10:
        assert (found.match.in_port, found.actions[0].port) == (1, 2)
    else:
        assert (found.match["in_port"], found.match["eth_dst"]) == (1, "02:00:00:00:00:01")
        assert found.instructions[0].actions[0].port == 2
    if version < V15:
        assert (found.duration_sec, found.duration_nsec, found.packet_count, found.byte_count) == (6, 500_000_000, 7, 8)


@everywhere
def test_the_sums_over_flows(version: int) -> None:
    sums = AggregateStats(5, 6, 7)
    raw = multipart(version, 1, Multipart.AGGREGATE, encode_aggregate_stats(version, sums))
    assert value(raw) == sums
    if version < V15:
        found = understood(raw).body
        found = found[0] if isinstance(found, list) else found
        assert (found.packet_count, found.byte_count, found.flow_count) == (5, 6, 7)


@everywhere
def test_the_statistics_of_tables(version: int) -> None:
    of_1_0: dict[str, Any] = (
        {"name": "classifier", "max_entries": 1000, "wildcards": 0x3F_FFFF} if version == V10 else {}
    )
    tables = TableStats(0, 5, 6, 7, **of_1_0), TableStats(1, 8, 9, 10)
    body = b"".join(encode_table_stats(version, one) for one in tables)
    raw = multipart(version, 1, Multipart.TABLE, body)
    assert value(raw) == TableStatsReply(tables)
    assert [one.active_count for one in understood(raw).body] == [5, 8]
    with pytest.raises(MalformedBody):
        value(multipart(version, 1, Multipart.TABLE, body[:-1]))


@everywhere
def test_requests(version: int) -> None:
    kit = KITS[version]
    fields: dict[str, Any] = {"flags": 0, "match": kit.parser.OFPMatch(in_port=1), "table_id": 3, "out_port": 4}
    if version != V10:
        fields |= {"out_group": 5, "cookie": 6, "cookie_mask": 4}
    name = "OFPFlowDescStatsRequest" if version == V15 else "OFPFlowStatsRequest"
    later: dict[str, Any] = {} if version == V10 else {"out_group": 5, "cookie": 4, "cookie_mask": 4}
    match = (MatchField("in_port", 1),)
    assert value(kit.make(name, 1, **fields)) == FlowStatsRequest(3, match, 4, **later)
    aggregate = value(kit.make("OFPAggregateStatsRequest", 1, **fields))
    assert aggregate == FlowStatsRequest(3, match, 4, **later, is_aggregate=True)
    assert value(kit.make("OFPTableStatsRequest", 1, flags=0)) == TableStatsRequest()


@pytest.mark.parametrize("version", LATER)
def test_an_entry_of_a_wrong_length_is_malformed(version: int) -> None:
    body = encode_flow_stats(version, Multipart.FLOW, FlowStats(0, 1, (), ()))
    for bad in (b"\0\0" + body[2:], b"\xff\xff" + body[2:], body + b"\0"):
        with pytest.raises(MalformedBody):
            decode(parse(multipart(version, 1, Multipart.FLOW, bad)))
