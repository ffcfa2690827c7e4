"""Masters that send all they can while they are compared with production: the session and production go on, the memory
stays within its account, and what is not followed any more is said."""

from random import Random
from struct import pack

import pytest

from natmirror.openflow.bodies.actions import encode_actions
from natmirror.openflow.bodies.elements import ALL_TABLES
from natmirror.openflow.bodies.values import FlowCommand
from natmirror.openflow.messages import V13, Type, build, hello
from natmirror.openflow.tables.state import MAX_ENTRIES
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.comparison import flow_mod_message, frame, packet_in
from tests.helpers.flow_tables import apply, fields, flow_mod, output
from tests.helpers.openflow import features
from tests.helpers.openflow_sessions import Master
from tests.helpers.support import RULES, assert_adds_up

ON = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow, verdict: on, warm-up: 0s}")
_PIECE_LEN = 60_000


def connected(memory: str = "1GiB") -> Master:
    """Return the master of a switch, which is compared with production."""
    connection = ClientConnection(engine(f"mirror-memory: {memory}\n{ON}"))
    connection.connect()
    connection.from_client("PA", hello(V13, 1))
    connection.from_backend("PA", hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", features(V13, 5))
    master = Master(connection)
    master.take()
    master.say(hello(V13, 1), build(V13, Type.FEATURES_REQUEST, 7))
    return master


def say(master: Master, messages: list[bytes], times: int = 1) -> None:
    """Have a master send messages in large segments."""
    data = b"".join(messages)
    for _ in range(times):
        for at in range(0, len(data), _PIECE_LEN):
            master.say(data[at : at + _PIECE_LEN])


def not_followed_of(master: Master) -> set[str]:
    """Assert that all goes on, and let the time pass; return why the tables of a side are not followed."""
    connection = master.connection
    one = connection.judged
    for _ in range(10):
        connection.now += 1.0
        one.handle_timer(connection.now)
        one.read_sessions(connection.now)
    assert not one.statements.held
    assert one.court_memory.used <= one.court_memory.limit
    before = len(master.stream)
    connection.from_backend("A")
    connection.from_client("PA", packet_in(frame()).raw)
    connection.from_backend("A")
    master.take()
    assert len(master.stream) > before
    assert not master.ended
    snapshot = one.snapshot(connection.now)
    assert_adds_up(snapshot)
    assert not one.faults.counts
    memory = snapshot["mirror_memory"]
    assert memory["used_bytes"] <= memory["limit_bytes"]
    assert memory["largest_client_bytes"] <= memory["client_limit_bytes"] // 4 + (1 << 20)
    sums = one.comparisons.get("openflow", "master")
    assert sums is not None
    return {str(reason) for reason in sums.since(0.0).tables.not_followed}


def test_a_hundred_thousand_rules() -> None:
    master = connected()
    rules = [flow_mod_message(flow_mod(match=fields(eth_dst=number), instructions=apply(2))) for number in range(5000)]
    assert len(rules) > MAX_ENTRIES
    say(master, [one.raw for one in rules], times=20)
    assert not_followed_of(master) == {"too-many-rules"}


def test_many_rules_and_little_memory() -> None:
    master = connected("16MiB")
    rules = [flow_mod_message(flow_mod(match=fields(eth_dst=number), instructions=apply(2))) for number in range(4000)]
    say(master, [one.raw for one in rules])
    assert not_followed_of(master) == {"no-memory"}


def test_ten_thousand_deletions_that_all_differ() -> None:
    master = connected()
    rules = [flow_mod(match=fields(eth_dst=number), instructions=apply(2)) for number in range(1000)]
    draw = Random(1)
    say(master, [flow_mod_message(one).raw for one in rules])
    matches = [fields(eth_dst=(0, draw.getrandbits(47) << 1 | 1), in_port=number + 1) for number in range(10_000)]
    deletions = [flow_mod(FlowCommand.DELETE, match=match, table=ALL_TABLES) for match in matches]
    say(master, [flow_mod_message(one).raw for one in deletions])
    assert not_followed_of(master) == set()


def test_huge_groups() -> None:
    master = connected()
    actions = encode_actions(V13, output(*range(1, 100)))
    bucket = pack("!HHII4x", 16 + len(actions), 1, 0xFFFF_FFFF, 0xFFFF_FFFF) + actions
    buckets = bucket * (65_000 // len(bucket))
    groups = [build(V13, Type.GROUP_MOD, number, pack("!HBxI", 0, 1, number) + buckets) for number in range(1, 100)]
    say(master, groups)
    assert not_followed_of(master) <= {"no-memory", "unknown-order"}


@pytest.mark.parametrize("kind", [Type.FLOW_MOD, Type.GROUP_MOD, Type.METER_MOD, Type.PACKET_OUT])
def test_large_messages_of_any_bytes(kind: Type) -> None:
    master = connected()
    say(master, [build(V13, kind, 1, Random(seed).randbytes(60_000)) for seed in range(30)])
    assert not_followed_of(master) <= {"unknown-order"}
