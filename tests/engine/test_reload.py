"""A reload while connections run: which connections and legs stay, and which end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Decision, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.fastpath import Memory
from natmirror.reasons import DropReason
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import (
    C1,
    C2,
    CLIENT,
    MASTER,
    RULES,
    SERVICE,
    assert_adds_up,
    at,
    at_once,
    packet,
    segment,
    summary,
)

PLAIN = RULES[: RULES.index("    mirrors:")]
WITHOUT_C1 = RULES.replace("        - {name: c1, address: 10.20.0.11}\n", "")
WITHOUT_C2 = RULES.replace("        - {name: c2, address: 10.20.0.12}\n", "")
TWO = RULES.replace("10.20.0.13}", "10.20.0.13}\n      - {name: spare, address: 10.20.0.14}")
OTHER = """
  - name: other
    address: 10.10.0.100
    port: 7000
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
"""
ELSEWHERE = "switches: [10.10.0.0/24]\nservices:" + OTHER


def change_rules(one: Engine, text: str, now: float = 1000.0) -> list[Send]:
    """Apply rules as a thread does at a reload; return the packets that it sends."""
    rules = parse_rules(text)
    sends = one.expel(rules.switches, one.flow_ids(), now)
    one.reload(rules)
    sends += one.end_removed(one.leg_ids(), now) + one.follow_mirrors(one.flow_ids(), now)
    one.prune()
    return sends


def without_its_backend(connection: ClientConnection) -> str:
    return WITHOUT_C1 if connection.backend == C1 else WITHOUT_C2


def shown_backends(one: Engine) -> dict[str, tuple[int, bool]]:
    return {row["name"]: (row["flows"], row["removed"]) for row in one.snapshot(1000.0)["backends"]}


def names_of(connection: ClientConnection) -> tuple[str, str]:
    return ("c1", "c2") if connection.backend == C1 else ("c2", "c1")


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_stays_with_a_removed_backend(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    mine, another = names_of(connection)
    change_rules(one, without_its_backend(connection))
    assert shown_backends(one) == {another: (0, False), mine: (1, True)}
    connection.mirrored()
    assert connection.from_client("PA", b"on").dst == connection.backend_address
    assert [data for *_, data in connection.mirrored()] == [b"on"]
    assert connection.from_backend("PA", b"and on").src == SERVICE[0]
    later = ClientConnection(one, client=(CLIENT[0], 40_002))
    later.connect()
    assert later.backend == (C2 if connection.backend == C1 else C1)
    connection.from_client("R")
    end = one.next_timer()
    while end is not None and mine in shown_backends(one):
        one.handle_timer(end)
        one.prune()
        end = one.next_timer()
    assert mine not in shown_backends(one)


@pytest.mark.parametrize("fast", [True, False])
def test_a_backend_that_comes_back_into_the_rules_has_its_old_number(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    change_rules(one, without_its_backend(connection))
    change_rules(one, RULES)
    assert shown_backends(one) == {
        "c1": (int(connection.backend == C1), False),
        "c2": (int(connection.backend == C2), False),
    }
    again = ClientConnection(one, client=(CLIENT[0], 40_002))
    again.connect()
    assert again.backend == connection.backend, "Maglev hashes the client's address"


@pytest.mark.parametrize("fast", [True, False])
def test_a_removed_service_keeps_its_connections_and_refuses_new_ones(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    sent = change_rules(one, ELSEWHERE)
    assert [summary(action.packet)[0] for action in sent if isinstance(action, Send)] == ["RA"], "its leg is reset"
    assert connection.from_client("PA", b"on").dst == connection.backend_address
    assert connection.from_backend("PA", b"and on").src == SERVICE[0]
    decision = one.receive(packet((CLIENT[0], 40_002), SERVICE, "S", ISS), Hook.PREROUTING, 1000.0)
    assert decision.verdict == Drop(DropReason.NO_BACKEND)
    [reset] = decision.sends
    assert summary(reset.packet)[0] == "RA"
    connection.from_client("R")
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    assert one.prune() == []
    decision = one.receive(packet(CLIENT, SERVICE, "S", 5), Hook.PREROUTING, 2000.0)
    assert decision == Decision(Accept(), [])


@pytest.mark.parametrize("fast", [True, False])
def test_a_removed_mirror_gets_nothing_more_and_the_ledger_tells_why(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    connection.from_client("PA", b"seen")
    connection.mirrored()
    sent = change_rules(one, PLAIN)
    assert [summary(action.packet)[0] for action in sent if isinstance(action, Send)] == ["RA"]
    assert [event.reason for event in one.take_events()] == ["mirror-removed"]
    assert one.snapshot(1000.0)["mirrors"] == []
    connection.from_client("PA", b"unseen")
    assert connection.mirrored() == []
    change_rules(one, RULES)
    mirror = one.snapshot(1000.0)["mirrors"][0]
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (10, {"mirror-removed": 10})
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_packets_of_a_removed_mirror_do_not_reach_the_client(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    one.reload(parse_rules(PLAIN))
    one.end_removed(one.leg_ids(), 1000.0)
    assert connection.from_mirror("PA", 1, 1, b"late") == Drop(DropReason.MIRROR_WITHOUT_LEG)
    one.prune()
    assert connection.from_mirror("PA", 1, 1, b"later") == Accept(), "the packet is not natmirror's"


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_with_another_endpoint_is_another_and_settings_alone_change_nothing(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    assert change_rules(one, RULES.replace("10.20.0.13}", "10.20.0.13, linger: 1s, buffer: 64KiB}")) == []
    connection.from_client("PA", b"on")
    change_rules(one, RULES.replace("10.20.0.13", "10.20.0.14"))
    assert [event.reason for event in one.take_events()] == ["mirror-removed"]
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("before", Release)
def test_a_connection_keeps_the_release_mode_of_its_handshake(before: Release, fast: bool) -> None:
    after = Release.SEEN if before is Release.ACKNOWLEDGED else Release.ACKNOWLEDGED
    one = engine(f"{RULES}    release: {before}\n", fast=fast, release=Release.ACKNOWLEDGED)
    old, new = ClientConnection(one), ClientConnection(one, client=at("10.10.0.12", 40001))
    old.establish()
    change_rules(one, f"{RULES}    release: {after}\n")
    new.establish()
    for connection, mode in ((old, before), (new, after)):
        connection.from_client("PA", b"data")
        assert len(connection.mirrored()) == (mode is Release.SEEN)
        connection.from_backend("A")
        assert len(connection.mirrored()) == (mode is Release.ACKNOWLEDGED)
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_less_memory_ends_no_leg_before_it_needs_more(fast: bool) -> None:
    memory = Memory(1 << 30)
    one = Engine(at_once(parse_rules(RULES)), key=bytes(16), fast=fast, memory=memory)
    connection = ClientConnection(one)
    connection.connect()
    for _ in range(4):
        connection.from_client("PA", bytes(20_000))
        connection.from_backend("A")
    memory.limit = 1 << 20  # as natmirror.runtime.reloader does
    assert one.take_events() == []
    assert one.snapshot(1000.0)["mirrors"][0]["pending_bytes"] == 80_000
    for _ in range(4):
        connection.from_client("PA", bytes(20_000))
        connection.from_backend("A")
    assert [event.reason for event in one.take_events()] == ["memory-full"]
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("change", [(PLAIN, RULES), (RULES, PLAIN)])
def test_a_reload_during_a_handshake_is_the_same_with_both_gears(change: tuple[str, str], steps: int) -> None:
    outcomes = []
    for fast in (True, False):
        one = engine(change[0], fast=fast)
        connection = ClientConnection(one)
        said: list[Callable[[], object]] = [connection.syn, connection.syn_ack, partial(connection.from_client, "A")]
        for step in range(3):
            if step == steps:
                change_rules(one, change[1])
            said[step]()
        connection.from_client("PA", b"x")
        outcomes.append((connection.mirrored(), one.snapshot(1000.0)["flows"]))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("fast", [True, False])
def test_a_new_mirror_gets_later_connections(fast: bool) -> None:
    one = engine(PLAIN, fast=fast)
    before = ClientConnection(one)
    before.connect()
    change_rules(one, RULES)
    before.from_client("PA", b"x")
    assert before.mirrored() == []
    after = ClientConnection(one, client=(CLIENT[0], 40_002))
    after.connect()
    assert [letters for letters, *_ in after.mirrored()] == ["S"]
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_connections_of_removed_clients_are_reset(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.from_client("PA", b"x")
    connection.from_backend("PA", b"y")
    sent = change_rules(one, RULES.replace("10.10.0.0/24", "10.10.1.0/24"))
    ends = [segment(action.packet) for action in sent if isinstance(action, Send)]
    resets = {(end.src, end.dst) for end in ends if summary(end.raw)[0] == "RA"}
    assert {(SERVICE[0], CLIENT[0]), (CLIENT[0], connection.backend_address)} <= resets


@pytest.mark.parametrize("fast", [True, False])
def test_a_removed_clients_connection_is_handled_until_it_is_reset(fast: bool) -> None:
    connection = ClientConnection(engine(fast=fast))
    connection.establish()
    elsewhere = parse_rules(RULES.replace("10.10.0.0/24", "10.10.1.0/24"))
    connection.engine.reload(elsewhere)
    assert connection.from_client("PA", b"x").dst == connection.backend_address
    assert connection.from_mirror("A", 1, 2) == Drop(DropReason.FOR_LEG)
    connection.engine.expel(elsewhere.switches, connection.engine.flow_ids(), connection.now)
    late = packet(CLIENT, SERVICE, "A", ISS + 2, 1)
    assert connection.take(late, Hook.PREROUTING) == Drop(DropReason.FLOW_RESET)
    again = connection.take(packet(CLIENT, SERVICE, "S", ISS + 9), Hook.PREROUTING)
    assert again == Accept(), "a new connection is not translated"


def test_a_drained_backend_stays_so_and_a_new_one_is_open() -> None:
    one = engine(PLAIN)
    one.set_share("openflow", "c1", 0.0)
    change_rules(one, PLAIN.replace("10.20.0.12}", "10.20.0.12, weight: 3}"))
    clients = [(bytes((10, 10, 0, last)), 40_000) for last in range(20, 60)]
    for client in clients:
        connection = ClientConnection(one, client=client)
        connection.syn()
        assert connection.backend == C2
    change_rules(one, PLAIN + "        - {name: c3, address: 10.20.0.14}\n")
    found = set()
    for address, _ in clients:
        connection = ClientConnection(one, client=(address, 41_000))
        connection.syn()
        found.add(connection.backend)
    assert found == {C2, at("10.20.0.14", 6653)}


def test_setting_the_same_share_again_computes_no_table() -> None:
    one = engine(PLAIN)
    one.set_share("openflow", "c1", 0.5)
    for backend, share in (("c1", 0.5), ("c2", 1.0)):
        before = one.gear.plan.services[0].table
        one.set_share("openflow", backend, share)
        assert one.gear.plan.services[0].table == before, "no table is computed again"


@pytest.mark.parametrize("fast", [True, False])
def test_round_robin_goes_on_with_the_remaining_backends(fast: bool) -> None:
    text = PLAIN.replace("    pool:\n", "    pool:\n      balance: round-robin\n")
    one = engine(text, fast=fast)
    ClientConnection(one, client=(CLIENT[0], 40_001)).syn()
    change_rules(one, text + "        - {name: c3, address: 10.20.0.14}\n")
    found = []
    for port in range(40_002, 40_008):
        connection = ClientConnection(one, client=(CLIENT[0], port))
        connection.syn()
        found.append(connection.backend)
    assert found == [C1, C2, at("10.20.0.14", 6653)] * 2


def test_numbers_are_used_again() -> None:
    one = engine()
    for number in range(300):
        change_rules(one, RULES + OTHER.replace("7000", str(7000 + number)).replace("other", f"other-{number}"))
    assert one.gear.plan.service_count <= 4
    assert one.gear.plan.backend_count <= 8


def test_a_number_that_is_free_has_nothing_of_its_former_owner(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    change_rules(one, without_its_backend(connection))
    one.kill("openflow", names_of(connection)[0], one.flow_ids(), 1000.0)
    one.handle_timer(1020.0)
    assert one.prune() == []
    freed = [row for row in one.gear.plan.backends[0:2] if not row.port]
    assert [(row.connections, bytes(row.address)) for row in freed] == [(0, bytes(16))]
    change_rules(one, WITHOUT_C1.replace("name: c2, address: 10.20.0.12", "name: new, address: 10.20.0.19"), 1020.0)
    assert [row["connections"] for row in one.snapshot(1020.0)["backends"] if row["name"] == "new"] == [0]
    change_rules(one, ELSEWHERE, 1020.0)
    assert bytes(one.gear.plan.services[0].address) == bytes(16) and not one.gear.plan.services[0].table_len


def test_two_services_swap_their_endpoints() -> None:
    one = engine(RULES + OTHER)
    connection = ClientConnection(one)
    connection.connect()
    top, mine = RULES.split("services:\n")
    change_rules(one, f"{top}services:{OTHER}{mine}")
    assert connection.from_client("PA", b"on").dst == connection.backend_address
    assert [row["service"] for row in one.snapshot(1000.0)["backends"]] == ["other", "openflow", "openflow"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=25))
def test_any_sequence_of_reloads_is_the_same_with_both_gears_and_moves_no_connection(
    steps: list[tuple[int, int]],
) -> None:
    variants = [
        RULES,
        PLAIN,
        WITHOUT_C1,
        WITHOUT_C2,
        RULES + OTHER,
        PLAIN.replace("pool:\n", "pool:\n      hash: address-port\n"),
    ]
    engines = [engine(fast=fast) for fast in (True, False)]
    connections: list[dict[int, ClientConnection]] = [{}, {}]
    for variant, number in steps:
        seen = []
        for one, mine in zip(engines, connections, strict=True):
            change_rules(one, variants[variant])
            if number not in mine:
                mine[number] = ClientConnection(one, client=(bytes((10, 10, 0, 30 + number)), 40_000 + number))
                mine[number].connect()
            connection = mine[number]
            assert connection.from_client("PA", b"x").dst == connection.backend_address
            assert connection.from_backend("PA", b"y").src == SERVICE[0]
            seen.append((connection.backend, connection.mirrored(), one.snapshot(1000.0)["mirrors"]))
            assert_adds_up(one.snapshot(1000.0))
        assert seen[0] == seen[1]


def test_a_mirror_keeps_its_number_over_reloads() -> None:
    one = engine()
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    connection.from_client("PA", b"12345")
    two = RULES.replace("      - {name: master", "      - {name: first, address: 10.20.0.15}\n      - {name: master")
    change_rules(one, two)
    sums = {mirror["name"]: mirror["client_bytes"] for mirror in one.snapshot(1000.0)["mirrors"]}
    assert sums == {"master": 5, "first": 0}
    raw = packet(MASTER, CLIENT, "A", MIRROR_ISS + 1, (ISS + 6) & 0xFFFF_FFFF)
    one.receive(raw, Hook.PREROUTING, 1000.0)
    assert {mirror["name"]: mirror["acked_bytes"] for mirror in one.snapshot(1000.0)["mirrors"]}["master"] == 5


# Another host's legs


def two_legs() -> tuple[ClientConnection, Callable[[], dict[str, Any]]]:
    """Return a connection with two legs on another host, and a function that returns its record there."""
    one = engine(TWO)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    connection.take(packet(at("10.20.0.14", 6653), CLIENT, "SA", MIRROR_ISS, ISS + 1), Hook.PREROUTING)

    def record() -> dict[str, Any]:
        [found] = one.replicated_legs.records(one.replicated_legs.ids(), everything=True)
        return found

    return connection, record


def legs(one: Engine) -> list[str]:
    return [leg["mirror"] for flow in one.flows(1000.0) for leg in flow["legs"]]


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_whose_mirrors_were_removed_can_be_released(fast: bool) -> None:
    connection = ClientConnection(engine(fast=fast))
    connection.establish()
    change_rules(connection.engine, PLAIN)
    connection.engine.release_flows(connection.engine.flow_ids(), connection.now)
    assert not connection.engine.faults.counts
    assert connection.states == ["established"]


@pytest.mark.parametrize("fast", [True, False])
def test_another_hosts_records_of_legs_are_judged_by_the_present_rules(fast: bool) -> None:
    connection, record = two_legs()
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master"], "the rules do not name the spare one yet"
    change_rules(one, TWO)
    connection.from_client("PA", b"on")
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master", "spare"]
    change_rules(one, RULES)
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master"]
    one.replicated_legs.take_over(1001.0)
    assert [mirror["legs_adopted"] for mirror in one.snapshot(1001.0)["mirrors"]] == [1]
    assert_adds_up(one.snapshot(1001.0))


@pytest.mark.parametrize("fast", [True, False])
def test_records_of_a_service_without_mirrors_are_refused_and_leave_nothing(fast: bool) -> None:
    _, record = two_legs()
    one = engine(PLAIN, fast=fast)
    one.replicated_legs.release()
    before = one.snapshot(1000.0)
    with pytest.raises(ValueError, match="legs: the service openflow has no mirrors"):
        one.replicated_legs.adopt(record(), 1000.0)
    assert one.snapshot(1000.0) == before


@pytest.mark.parametrize("fast", [True, False])
def test_a_standby_forgets_removed_clients_without_a_reset(fast: bool) -> None:
    _, record = two_legs()
    one = engine(TWO, fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(record(), 1000.0)
    one.bindings.adopt("openflow", (CLIENT[0], 7), C1, 1000.0)
    one.bindings.adopt("openflow", (CLIENT[0], 7), C2, 1000.0)
    assert change_rules(one, TWO.replace("10.10.0.0/24", "10.10.1.0/24")) == []
    assert one.flows(1000.0) == []
    assert one.handle_timer(1001.0) == [], "no packet to the mirrors: it would reach the other host's legs"
    assert_adds_up(one.snapshot(1000.0))
