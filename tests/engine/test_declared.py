"""All that an engine shows is declared, in both gears, whatever traffic it has seen."""

from pathlib import Path

import pytest

from natmirror.engine.engine import Engine
from natmirror.engine.shown import Snapshot, SwitchDecisions
from natmirror.mirror.shown import FlowEntry
from natmirror.openflow.messages import Type
from natmirror.replay.replay import Replay
from natmirror.rules import load_rules
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.declared import assert_declared
from tests.helpers.openflow_sessions import AGAIN, TLS, introduced, packet_in, request
from tests.helpers.support import CLIENT

CAPTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.yaml"))


def assert_shown_is_declared(one: Engine, now: float) -> None:
    assert_declared(Snapshot, one.snapshot(now))
    assert_declared(list[FlowEntry], one.flows(now) + one.lingering(now))
    assert_declared(list[SwitchDecisions], [kept.show(now) for kept in one.decisions(one.flow_ids())])


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("rules", CAPTURES, ids=lambda path: path.stem)
def test_an_engine_shows_only_declared_fields_after_a_capture(rules: Path, fast: bool) -> None:
    run = Replay(load_rules(rules), rules.with_suffix(".pcap"), fast=fast)
    for number, step in enumerate(run.steps()):
        if number % 50 == 0:
            assert_shown_is_declared(run._engine, step.at)
    assert_shown_is_declared(run._engine, run._now)


@pytest.mark.parametrize("fast", [False, True])
def test_an_engine_shows_only_declared_fields_of_sessions(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    connection, master = introduced(one)
    connection.from_client("PA", packet_in(1) + packet_in(2))
    master.say(request(Type.FLOW_MOD, 9, bytes(40)), request(Type.PACKET_OUT, 10, bytes(16)))
    connection.from_backend("PA", request(Type.FLOW_MOD, 11, bytes(40)) + request(Type.PACKET_OUT, 12, bytes(16)))
    encrypted = ClientConnection(one, client=(CLIENT[0], 40_002))
    encrypted.connect()
    encrypted.from_client("PA", TLS)
    assert_shown_is_declared(one, connection.now)
    shown = [kept.show(connection.now) for kept in one.decisions(one.flow_ids())]
    [decisions] = [found for found in shown if found["master"]["latest"]]
    assert [one["type"] for one in decisions["master"]["latest"]] == ["flow_mod", "packet_out"]
    connection.from_client("R")
    assert_shown_is_declared(one, connection.now)
