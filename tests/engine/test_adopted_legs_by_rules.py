"""Which legs of a record a host adopts, by its own rules and by what it knows of the connection."""

from typing import Any

import pytest

from natmirror.actions import Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.net import seq
from natmirror.reasons import DropReason
from natmirror.rules.shards import Shard
from tests.helpers.client_connection import ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.leg_records import (
    NOW,
    RECORD,
    SPARE,
    TWO,
    adopted_connection,
    answer,
    due,
    end_reasons,
    established,
    mirror_of,
    sealed,
    sent_to_mirror,
)
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet


def test_two_mirrors_may_have_different_positions(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    far = {**leg, "mirror": "spare", "address": "10.20.0.14:6653", "snd_una": seq.add(ISS, 9)}
    one.replicated_legs.adopt(sealed({**RECORD, "client_una": seq.add(ISS, 5), "legs": [leg, far]}), NOW)
    connection = ClientConnection(one)
    connection.sent, connection.answered = 10, 5
    assert sorted(due(connection)) == [("A", 4, 4, b""), ("A", 8, 4, b"")]
    raw = packet(SPARE, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 9))
    assert connection.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    connection.from_client("PA", b"456789xyz", at=4)
    assert due(connection) == [("PA", 9, 4, b"89xyz")]
    answer(connection, 5)
    assert due(connection) == [("PA", 5, 4, b"456789xyz")]
    snapshot = one.snapshot(connection.now)
    assert_adds_up(snapshot)
    assert [mirror["client_bytes"] for mirror in snapshot["mirrors"]] == [9, 9]
    connection.from_client("PA", b"!", at=13)
    assert sorted(sent_to_mirror(connection)) == [("PA", 14, 4, b"!")] * 2


def test_a_mirror_that_does_not_answer_delays_the_other_and_costs_it_no_byte(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    one.replicated_legs.adopt(
        sealed({**RECORD, "legs": [leg, {**leg, "mirror": "spare", "address": "10.20.0.14:6653"}]}), NOW
    )
    connection = ClientConnection(one)
    connection.sent, connection.answered = 10, 5
    connection.from_client("PA", b"abc")
    due(connection)
    answer(connection, 11)
    for _ in range(10):
        sent = due(connection, 5.0)
        if sent and sent[-1][3]:
            break
    assert (sent[-1], end_reasons(connection)) == (("PA", 11, 4, b"abc"), ["resume-timeout"])


@pytest.mark.parametrize(
    ("rules", "change", "reason"),
    [
        (RULES, {"local": "10.20.0.1:10240"}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {"local": "10.20.0.1:80"}, "other-address"),
        (RULES, {"mirror": "another"}, "picked-up"),
        (RULES, {"address": "10.20.0.13:99"}, "picked-up"),
        (RULES.replace("10.20.0.13}", "10.20.0.11}"), {"address": "10.20.0.11:6653"}, "mirror-is-backend"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.99/32]}"), {}, "not-selected"),
    ],
)
def test_a_leg_that_cannot_go_on_leaves_the_connection_with_its_backend(
    rules: str, change: dict[str, Any], reason: str
) -> None:
    connection = adopted_connection(rules=rules, **change)
    assert due(connection) == []
    assert connection.from_client("PA", b"abc").dst == at("10.20.0.11", 6653)[0]
    assert mirror_of(connection)["lost_bytes"] == {reason: 3}


def test_a_leg_from_an_address_of_this_host_goes_on_from_there(fast: bool) -> None:
    connection = adopted_connection(
        fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), local="10.20.0.1:10240"
    )
    due(connection)
    raw = packet(MASTER, at("10.20.0.1", 10240), "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11))
    assert connection.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    connection.from_client("PA", b"abc")
    due(connection)
    assert connection.engine.flows(connection.now)[0]["legs"][0]["sent_bytes"] == 3


def test_clients_of_another_thread_are_refused() -> None:
    one = engine(shard=Shard(0, 2))
    with pytest.raises(ValueError, match="belongs to another thread"):
        one.replicated_legs.adopt(sealed(RECORD), NOW)


def test_a_full_table_is_counted() -> None:
    one = engine(max_flows=1)
    established(one)
    one.replicated_legs.adopt(sealed({**RECORD, "client": "10.10.0.12:40001"}), NOW)
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_UNTRACKED] == 1


def test_an_adopted_connection_is_not_half_open() -> None:
    one = engine(max_flows=4)
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    for port in range(50_000, 50_020):
        one.receive(packet((CLIENT[0], port), SERVICE, "S", 1), Hook.PREROUTING, NOW)
    assert "10.10.0.11:40001" in [flow["client"] for flow in one.flows(NOW)]


@pytest.mark.parametrize("last", [11, 12])
def test_a_connection_that_was_picked_up_before_its_record_came_goes_on_with_it(fast: bool, last: int) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.backend = at("10.20.0.11", 6653)
    connection.sent, connection.answered = 10, 5
    connection.from_client("PA", b"abc")
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_PICKED_UP] == 1
    one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
    assert due(connection) == [("A", 4, 4, b"")]
    answer(connection, 14)  # the first host has sent these bytes as well
    assert due(connection) == []
    connection.backend = at(f"10.20.0.{last}", 6653)
    connection.from_client("PA", b"def")
    assert sent_to_mirror(connection) == [("PA", 14, 4, b"def")]
    mirror = mirror_of(connection)
    assert (mirror["lost_bytes"], mirror["pending_bytes"]) == ({"picked-up": 3}, 3)
    assert len(one.flow_ids()) == 1
