"""Backends that close, go down, come back, are full; and what becomes of their connections."""

import pytest

from natmirror.actions import Accept, Decision, Drop, Hook, Send
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import ConnectionCounts
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.reasons import DropReason
from natmirror.rules import Balance, parse_rules
from natmirror.rules.shards import Shard
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, assert_adds_up, packet, segment, summary

PLAIN = RULES[: RULES.index("    mirrors:")]
CLIENTS = [(bytes((10, 10, 0, last)), 40_000) for last in range(20, 60)]


def with_pool(**keys: str) -> str:
    words = "".join(f"      {key.replace('_', '-')}: {value}\n" for key, value in keys.items())
    return PLAIN.replace("    pool:\n", f"    pool:\n{words}")


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(count)]


def backend_of_syn(one: Engine, client: tuple[bytes, int], now: float = 1000.0) -> bytes | None:
    """Return the address of the backend that a client's SYN goes to, or None."""
    verdict = one.receive(packet(client, SERVICE, "S", ISS), Hook.PREROUTING, now).verdict
    if isinstance(verdict, Drop):
        assert verdict == Drop(DropReason.NO_BACKEND)
        return None
    assert isinstance(verdict, Accept)
    assert verdict.packet is not None
    return segment(verdict.packet).dst


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("balance", Balance)
def test_a_closed_backend_gets_no_new_connections(balance: str, fast: bool) -> None:
    one = engine(with_pool(balance=balance), fast=fast)
    one.set_share("openflow", "c1", 0.0)
    assert {backend_of_syn(one, client) for client in CLIENTS} == {C2[0]}
    one.set_share("openflow", "c1", 1.0)
    one.set_share("openflow", "c2", 0.0)
    assert {backend_of_syn(one, (address, 41_000)) for address, _ in CLIENTS} == {C1[0]}
    one.set_share("openflow", "c1", 0.0)
    assert {backend_of_syn(one, (address, 42_000)) for address, _ in CLIENTS} == {None}
    one.set_share("openflow", "c1", 1.0)
    one.set_share("openflow", "c2", 1.0)
    back = {backend_of_syn(one, (address, 43_000)) for address, _ in CLIENTS}
    assert back == ({C1[0]} if balance == "priority" else {C1[0], C2[0]})


@pytest.mark.parametrize("balance", Balance)
def test_with_the_c_gear_off_the_choices_are_the_same(balance: str) -> None:
    engines = [engine(with_pool(balance=balance), fast=fast) for fast in (True, False)]
    for step, (address, _) in enumerate(CLIENTS * 3):
        if step == 30:
            for one in engines:
                one.set_share("openflow", "c2", 0.0)
        if step == 60:
            for one in engines:
                one.set_share("openflow", "c2", 1.0)
        fast, slow = (backend_of_syn(one, (address, 40_000 + step)) for one in engines)
        assert fast == slow


def test_an_established_connection_keeps_its_backend() -> None:
    one = engine(PLAIN)
    connection = ClientConnection(one)
    connection.connect()
    assert connection.backend is not None
    name = "c1" if connection.backend == C1 else "c2"
    one.set_share("openflow", name, 0.0)
    assert connection.from_client("PA", b"x").dst == connection.backend_address
    assert connection.from_backend("PA", b"y").src == SERVICE[0]


def test_with_maglev_only_a_closed_backends_clients_move() -> None:
    one = engine(PLAIN)
    before = {client: backend_of_syn(one, client) for client in CLIENTS}
    one.set_share("openflow", "c1", 0.0)
    closed = {client: backend_of_syn(one, (client[0], 41_000)) for client in CLIENTS}
    one.set_share("openflow", "c1", 1.0)
    after = {client: backend_of_syn(one, (client[0], 42_000)) for client in CLIENTS}
    assert all(closed[client] == C2[0] for client in CLIENTS)
    assert before == after


def test_least_connections_counts_established_connections_by_weight() -> None:
    text = with_pool(balance="least-connections").replace("10.20.0.12}", "10.20.0.12, weight: 3}")
    one = engine(text)
    counts = [backend_of_syn(one, client) for client in CLIENTS]
    assert counts.count(C1[0]) == len(CLIENTS) // 4


def test_a_full_backend_gets_no_more_and_others_do() -> None:
    text = PLAIN.replace("10.20.0.11}", "10.20.0.11, max-connections: 3}").replace(
        "10.20.0.12}", "10.20.0.12, max-connections: 5}"
    )
    one = engine(text)
    counts = [backend_of_syn(one, client) for client in CLIENTS]
    assert (counts.count(C1[0]), counts.count(C2[0]), counts.count(None)) == (3, 5, len(CLIENTS) - 8)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("ends", ["close", "reset", "kill"])
def test_a_connection_that_has_ended_is_not_open(ends: str, fast: bool) -> None:
    """It stays in the flow table for its last packets, but makes room for another one, and costs no restart."""
    one = engine(PLAIN.replace("10.20.0.11}", "10.20.0.11, max-connections: 1}"), fast=fast)
    one.set_share("openflow", "c2", 0.0)
    connection = ClientConnection(one)
    connection.connect()
    assert backend_of_syn(one, CLIENTS[0]) is None
    if ends == "kill":
        one.kill("openflow", "c1", one.flow_ids(), connection.now)
    elif ends == "reset":
        connection.from_client("RA")
    else:
        connection.from_client("FA")
        connection.from_backend("FA")
        assert backend_of_syn(one, CLIENTS[0]) is None
        connection.from_client("A")
    snapshot = one.snapshot(connection.now)
    assert ([backend["flows"] for backend in snapshot["backends"]], snapshot["flows"]) == ([0, 0], 0)
    assert len(one.flow_ids()) == 1
    assert backend_of_syn(one, CLIENTS[0]) == C1[0]
    connection.outlive()
    assert one.snapshot(connection.now)["backends"][0]["flows"] == len(one.flow_ids()) == 0
    assert backend_of_syn(one, CLIENTS[1], connection.now) == C1[0]


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_on_the_port_of_one_that_has_ended_is_open(fast: bool) -> None:
    one = engine(PLAIN, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.from_client("RA")
    again = ClientConnection(one, iss=seq.add(ISS, 1_000_000), irs=seq.add(IRS, 1_000_000))
    again.connect()
    snapshot = one.snapshot(connection.now)
    assert (sum(backend["flows"] for backend in snapshot["backends"]), snapshot["flows"]) == (1, 1)


@pytest.mark.parametrize("fast", [True, False])
def test_a_limit_is_one_for_all_threads(fast: bool) -> None:
    text = PLAIN.replace("10.20.0.11}", "10.20.0.11, max-connections: 3}").replace(
        "10.20.0.12}", "10.20.0.12, max-connections: 5}"
    )
    shared = ConnectionCounts()
    parts = [
        Engine(parse_rules(text), key=bytes(16), fast=fast, shard=one, connection_counts=shared) for one in shards(4)
    ]

    def counts(port: int) -> list[int]:
        found = [backend_of_syn(parts[address[3] % 4], (address, port)) for address, _ in CLIENTS]
        return [found.count(who) for who in (C1[0], C2[0], None)]

    assert counts(40_000) == [3, 5, len(CLIENTS) - 8]
    for one in parts:
        one.reload(parse_rules(text.replace("max-connections: 3", "max-connections: 4")))
    assert counts(41_000) == [1, 0, len(CLIENTS) - 1], "a reload forgets no connection"
    for one in parts:
        while (due := one.next_timer()) is not None:
            one.handle_timer(due)
    assert counts(42_000) == [4, 5, len(CLIENTS) - 9]


def test_least_connections_counts_those_of_all_threads() -> None:
    text, counts = with_pool(balance="least-connections"), ConnectionCounts()
    parts = [Engine(parse_rules(text), key=bytes(16), shard=one, connection_counts=counts) for one in shards(2)]
    first = [backend_of_syn(parts[0], (bytes((10, 10, 0, 2)), port)) for port in (1, 2, 3)]
    assert first == [C1[0], C2[0], C1[0]]
    assert backend_of_syn(parts[1], (bytes((10, 10, 0, 3)), 1)) == C2[0]


def test_the_sorry_backend_serves_when_no_other_is_left() -> None:
    one = engine(with_pool(sorry="{name: sorry, address: 10.20.0.19}"))
    for name in ("c1", "c2"):
        one.set_share("openflow", name, 0.0)
    connection = ClientConnection(one)
    connection.connect()
    assert connection.backend_address == bytes((10, 20, 0, 19))
    assert connection.from_backend("PA", b"sorry").src == SERVICE[0]
    assert [backend["flows"] for backend in one.snapshot(connection.now)["backends"]] == [0, 0, 1]


def test_without_a_backend_a_client_is_refused_if_the_rules_say_so() -> None:
    one = engine(with_pool(when_none="refuse"))
    for name in ("c1", "c2"):
        one.set_share("openflow", name, 0.0)
    decision = one.receive(packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING, 1000.0)
    assert decision.verdict == Drop(DropReason.NO_BACKEND)
    assert resets(decision.sends) == [(SERVICE, CLIENT, 0, ISS + 1)]
    assert one.snapshot(1000.0)["drops"][DropReason.NO_BACKEND] == 1


def resets(sends: list[Send]) -> list[tuple[tuple[bytes, int], tuple[bytes, int], int, int]]:
    """Return the RSTs, which are all packets: source, destination, sequence number, acknowledgement."""
    found = []
    for send in sends:
        [raw] = finish(send.packet, send.segment_len)
        one = segment(raw)
        assert "R" in summary(raw)[0]
        found.append(((one.src, one.sport), (one.dst, one.dport), one.seq, one.ack))
    return found


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("rules", [PLAIN, RULES])
def test_a_dead_backends_connections_are_reset_at_both_ends(rules: str, fast: bool) -> None:
    one = engine(rules, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    if rules is RULES:
        connection.connect_mirror()
    connection.from_client("PA", b"hello")
    connection.from_backend("PA", b"welcome")
    connection.to_mirror.clear()
    assert connection.backend is not None
    name = "c1" if connection.backend == C1 else "c2"
    other = "c2" if name == "c1" else "c1"
    assert one.kill("openflow", other, one.flow_ids(), connection.now) == []
    killed = one.kill("openflow", name, one.flow_ids(), connection.now)
    to_client, to_backend = seq.add(IRS, 8), seq.add(ISS, 6)
    assert resets(killed)[:2] == [
        (SERVICE, CLIENT, to_client, to_backend),
        (CLIENT, connection.backend, to_backend, to_client),
    ]
    assert one.kill("openflow", name, one.flow_ids(), connection.now) == []
    living = ClientConnection(one, client=(CLIENT[0], 40_002))
    living.connect()
    assert living.backend == connection.backend
    assert resets(one.repeat_resets("openflow", name, one.flow_ids(), connection.now)) == resets(killed)[:2]
    assert living.from_client("PA", b"on").dst == living.backend_address, "this one was not killed"
    living.from_client("R")
    raw = packet(CLIENT, SERVICE, "PA", to_backend, to_client - 3, b"more")
    decision = one.receive(raw, Hook.PREROUTING, connection.now + 1)
    assert decision.verdict == Drop(DropReason.FLOW_RESET)
    assert resets(decision.sends) == [(SERVICE, CLIENT, to_client - 3, 0)]
    raw = packet(connection.backend, CLIENT, "PA", to_client, to_backend, b"more")
    decision = one.receive(raw, Hook.FORWARD, connection.now + 1)
    assert decision.verdict == Drop(DropReason.FLOW_RESET)
    assert resets(decision.sends) == [(CLIENT, connection.backend, to_backend, 0)]
    decision = one.receive(packet(CLIENT, SERVICE, "R", to_backend), Hook.PREROUTING, connection.now + 1)
    assert decision == Decision(Drop(DropReason.FLOW_RESET), [])
    assert_adds_up(one.snapshot(connection.now))
    one.set_share("openflow", name, 0.0)
    verdict = one.receive(packet(CLIENT, SERVICE, "S", 77), Hook.PREROUTING, connection.now + 2).verdict
    assert isinstance(verdict, Accept)
    assert verdict.packet is not None
    assert segment(verdict.packet).dst == (C2 if name == "c1" else C1)[0]
    assert len(one.flow_ids()) == 2


def test_an_unknown_backend_name_is_an_error() -> None:
    one = engine(PLAIN)
    with pytest.raises(ValueError, match="no backend c9 in openflow"):
        one.set_share("openflow", "c9", 0.0)
    with pytest.raises(ValueError, match="no backend c1 in other"):
        one.kill("other", "c1", [], 0.0)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("balance", ["maglev", "round-robin", "least-connections"])
def test_a_backend_that_returns_begins_with_a_small_share(balance: str, fast: bool) -> None:
    one = engine(with_pool(balance=balance, **({"hash": "address-port"} if balance == "maglev" else {})), fast=fast)
    counts = []
    for step, share in enumerate((0.1, 0.5, 1.0)):
        one.set_share("openflow", "c1", share)
        before = [backend["flows"] for backend in one.snapshot(1000.0)["backends"]]
        for port in range(500):
            backend_of_syn(one, ((bytes((10, 10, 0, 30))), 20_000 + 500 * step + port), 1000.0 + step)
        after = [backend["flows"] for backend in one.snapshot(1000.0)["backends"]]
        counts.append(after[0] - before[0])
    if balance == "least-connections":
        assert 40 <= counts[0] <= 50  # a tenth of c2's connections
    else:
        assert 20 <= counts[0] < counts[1] - 30 < counts[2] - 60 <= 240


# Another host


def send_elsewhere(connection: ClientConnection, count: int) -> None:
    """Let both ends send so many bytes each through another host."""
    connection.sent += count
    connection.answered += count


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_that_another_host_forwarded_meanwhile_is_picked_up(fast: bool) -> None:
    one = engine(RULES, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    connection.from_client("PA", b"before")
    connection.mirrored()
    connection.to_mirror += [
        segment(send.packet) for send in one.release_flows(one.flow_ids(), 1000.0) if isinstance(send, Send)
    ]
    assert [letters for letters, *_ in connection.mirrored()] == ["RA"]
    send_elsewhere(connection, 5000)
    assert connection.from_client("PA", b"after").dst == connection.backend_address
    assert connection.from_backend("PA", b"answer").dst == CLIENT[0]
    snapshot = one.snapshot(1000.0)
    [mirror] = snapshot["mirrors"]
    assert (mirror["legs"], mirror["legs_ended"]) == (0, {"released": 1})
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (11, {"released": 6, "picked-up": 5})
    assert_adds_up(snapshot)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [flow["state"] for flow in one.flows(1000.0)] == ["time-wait"], "its close is tracked"


@pytest.mark.parametrize("mirrors", [True, False])
def test_a_pinned_binding_outlives_a_release_to_the_other_host(mirrors: bool) -> None:
    one = engine((RULES if mirrors else PLAIN).replace("    pool:\n", "    pool:\n      balance: round-robin\n"))
    connections = [ClientConnection(one, client=client) for client in CLIENTS]
    for connection in connections:
        connection.connect()
    one.release_flows(one.flow_ids(), 1000.0)
    for connection in connections:
        send_elsewhere(connection, 3000)
        assert connection.from_client("PA", b"x").dst == connection.backend_address
    counters = one.snapshot(1000.0)["counters"]
    assert counters[EngineCounter.FLOWS_RELEASED] == len(CLIENTS)
    assert counters[EngineCounter.FLOWS_PICKED_UP] == 0


def test_a_backend_that_sends_first_shows_where_a_released_connection_belongs() -> None:
    """A connection with the same endpoints that began at the other host is bound to the backend that sends."""
    one = engine(PLAIN)
    connection = ClientConnection(one)
    connection.connect()
    one.release_flows(one.flow_ids(), 1000.0)
    send_elsewhere(connection, 3000)
    connection.backend = C2 if connection.backend == C1 else C1
    connection.from_backend("PA", b"x")
    assert connection.from_client("PA", b"y").dst == connection.backend_address


def test_half_open_and_closed_flows_are_forgotten_at_a_release() -> None:
    one = engine(RULES)
    connection = ClientConnection(one)
    connection.syn()
    one.release_flows(one.flow_ids(), 1000.0)
    assert one.flow_ids() == []
