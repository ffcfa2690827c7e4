"""The statistics that a master gets out of its own model, as os-ken reads them."""

from struct import pack
from typing import Any

import pytest

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import ALL_TABLES
from natmirror.openflow.bodies.statistics import encode_table_stats
from natmirror.openflow.bodies.values import FlowStatsReply, FlowStatsRequest, TableStats
from natmirror.openflow.messages import V10, V13, V15, Multipart, Type, build, parse
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.statistics import aggregate_bodies, flow_bodies, table_bodies
from tests.helpers.flow_tables import apply, fields, flow_mod, order, production, result_of
from tests.helpers.openflow import ALL, multipart, understood

ANY = FlowStatsRequest(ALL_TABLES, ())


def _model(version: int) -> ProductionModel:
    model = production(version)
    order(model, flow_mod(match=fields(in_port=1), instructions=apply(2), cookie=5, idle_timeout=7), 1.0)
    order(model, flow_mod(match=fields(in_port=2), instructions=apply(3), priority=9), 2.0)
    return model


def _read(version: int, kind: int, bodies: tuple[bytes, ...]) -> list[Any]:
    parts = [understood(multipart(version, 1, kind, body)).body for body in bodies]
    return [one for part in parts for one in (part if isinstance(part, list) else [part])]


@pytest.mark.parametrize("version", ALL)
def test_each_rule_is_an_entry(version: int) -> None:
    model = _model(version)
    bodies = result_of(flow_bodies(model, Multipart.FLOW, ANY, 4.5))
    entries = sorted(_read(version, Multipart.FLOW, bodies), key=lambda one: int(one.priority))
    assert [(one.priority, one.cookie, one.idle_timeout) for one in entries] == [(1, 5, 7), (9, 0, 0)]
    if version < V15:
        assert [one.duration_sec + one.duration_nsec / 1e9 for one in entries] == [3.5, 2.5]
    reply = decode(parse(multipart(version, 1, Multipart.FLOW, bodies[0])))
    assert isinstance(reply, FlowStatsReply)
    assert {(one.match, one.instructions) for one in reply.flows} == {
        (rule.key.match, rule.instructions) for rule in model.state.rules.values()
    }


@pytest.mark.parametrize("version", ALL)
def test_a_request_may_ask_for_some_rules(version: int) -> None:
    model = _model(version)

    def asked(**which: Any) -> int:
        request = FlowStatsRequest(which.pop("table", 0), which.pop("match", ()), **which)
        (body,) = result_of(aggregate_bodies(model, request))
        count = _flow_count(version, body)
        bodies = result_of(flow_bodies(model, Multipart.FLOW, request, 9.0))
        assert len(_read(version, Multipart.FLOW, bodies)) == count
        return count

    assert asked() == 2
    assert asked(match=fields(in_port=1)) == 1
    assert asked(out_port=3) == 1
    assert asked(out_port=4) == 0
    assert asked(table=1) == 0
    if version > V10:
        assert asked(cookie=4, cookie_mask=4) == 1
        assert asked(out_group=4) == 0


def _flow_count(version: int, body: bytes) -> int:
    reply = decode(parse(multipart(version, 1, Multipart.AGGREGATE, body)))
    return reply.flows  # type: ignore[union-attr, return-value]


def test_many_rules_have_several_parts() -> None:
    model = production()
    for number in range(2000):
        order(model, flow_mod(match=fields(eth_dst=number), instructions=apply(2)), 0.0)
    bodies = result_of(flow_bodies(model, Multipart.FLOW, ANY, 1.0))
    assert len(bodies) > 1
    assert all(len(build(V13, Type.MULTIPART_REPLY, 1, pack("!8x") + body)) <= 0xFFFF for body in bodies)
    assert sum(len(_read(V13, Multipart.FLOW, (body,))) for body in bodies) == 2000
    assert result_of(flow_bodies(model, Multipart.FLOW, FlowStatsRequest(7, ()), 1.0)) == (b"",)


@pytest.mark.parametrize("version", ALL)
def test_tables_have_the_models_numbers(version: int) -> None:
    model = _model(version)
    like = encode_table_stats(version, TableStats(0, 44, 55, 66, "classifier", 1000, 1))
    like += encode_table_stats(version, TableStats(1, 44, 55, 66))
    bodies = table_bodies(model, [like], 2)
    assert bodies is not None
    entries = _read(version, Multipart.TABLE, bodies)
    assert [(one.table_id, one.active_count, one.lookup_count) for one in entries] == [(0, 2, 0), (1, 0, 0)]
    alone = table_bodies(model, [], 3)
    assert (alone is None) == (version == V10)
    if alone is not None:
        assert [one.active_count for one in _read(version, Multipart.TABLE, alone)] == [2, 0, 0]
