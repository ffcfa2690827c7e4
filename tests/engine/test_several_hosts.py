"""What docs/scaling.md says of a connection whose packets pass several hosts: two engines that share nothing."""

import pytest

from natmirror.actions import Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import DropReason
from tests.helpers.client_connection import ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, SERVICE, assert_adds_up, at, packet, summary

CLIENTS = [at(f"10.10.0.{number}", 40001) for number in range(10, 90)]


@pytest.fixture(params=[True, False], ids=["c", "python"])
def hosts(request: pytest.FixtureRequest) -> tuple[Engine, Engine]:
    return engine(fast=request.param), engine(fast=request.param)


def begin(one: Engine, client: Endpoint = CLIENT) -> ClientConnection:
    connection = ClientConnection(one, client=client)
    connection.connect()
    return connection


def test_a_connection_that_comes_to_another_host_goes_on_with_its_backend(hosts: tuple[Engine, Engine]) -> None:
    for client in CLIENTS:
        connection = begin(hosts[0], client)
        connection.engine = hosts[1]
        moved = connection.from_client("PA", b"still there?")
        assert (moved.dst, moved.dport) == connection.backend
        answer = connection.from_backend("PA", b"yes")
        assert (answer.src, answer.sport) == SERVICE


def test_a_connection_opened_during_a_drain_breaks_elsewhere_unless_its_backend_sends_first(
    hosts: tuple[Engine, Engine],
) -> None:
    """The simulation's *broken alone*: exactly the connections whose derived backend is another one."""
    hosts[0].set_share("openflow", "c1", 0.0)
    connections = [begin(hosts[0], client) for client in CLIENTS]
    hosts[0].set_share("openflow", "c1", 1.0)
    told_first: list[ClientConnection] = []
    broken: list[ClientConnection] = []
    for connection in connections:
        connection.engine = hosts[1]
        derived = ClientConnection(engine(), client=connection.client).syn()
        if (derived.dst, derived.dport) != connection.backend and len(told_first) < 10:
            told_first.append(connection)
            assert (connection.from_backend("PA", b"hello").src, SERVICE[1]) == SERVICE
        moved = connection.from_client("PA", b"still there?")
        if (moved.dst, moved.dport) != connection.backend:
            assert (moved.dst, moved.dport) == (derived.dst, derived.dport)
            broken.append(connection)
    assert len(told_first) == 10
    assert not set(map(id, told_first)) & set(map(id, broken))
    assert 15 < len(broken) < 45, "about half of all"


def test_a_connection_that_comes_back_finds_its_old_binding(hosts: tuple[Engine, Engine]) -> None:
    """Whatever happened meanwhile: a host keeps a flow for two hours."""
    hosts[0].set_share("openflow", "c1", 0.0)
    connections = [begin(hosts[0], client) for client in CLIENTS]
    hosts[0].set_share("openflow", "c1", 1.0)
    for connection in connections:
        connection.engine = hosts[1]
        connection.from_backend("PA", b"hello")
        connection.from_client("PA", b"x" * 1000)
        connection.engine = hosts[0]
        connection.now += 7000
        back = connection.from_client("PA", b"here again")
        assert (back.dst, back.dport) == connection.backend
        answer = connection.from_backend("PA", b"welcome")
        assert (answer.src, answer.sport) == SERVICE


def test_a_handshake_whose_answer_passes_another_host_fails(
    hosts: tuple[Engine, Engine],
) -> None:
    """The other host takes it for the client's direct connection to the backend."""
    connection = ClientConnection(hosts[0])
    connection.syn()
    connection.engine = hosts[1]
    answer = connection.syn_ack()
    assert (answer.src, answer.sport) == connection.backend, "the client has no such connection"
    assert hosts[1].snapshot(connection.now)["counters"][EngineCounter.DIRECT_CONNECTIONS] == 1


def test_an_established_connection_lives_if_its_directions_pass_different_hosts(
    hosts: tuple[Engine, Engine],
) -> None:
    connection = begin(hosts[0])
    for _ in range(3):
        connection.engine = hosts[0]
        request = connection.from_client("PA", b"request")
        assert (request.dst, request.dport) == connection.backend
        connection.engine = hosts[1]
        answer = connection.from_backend("PA", b"answer")
        assert (answer.src, answer.sport) == SERVICE
    for host in hosts:
        assert_adds_up(host.snapshot(connection.now))


def test_a_connection_that_comes_to_another_host_is_no_longer_copied(hosts: tuple[Engine, Engine]) -> None:
    connection = begin(hosts[0])
    connection.connect_mirror()
    connection.from_client("PA", b"copied")
    connection.from_mirror("A", 1, 7)
    connection.engine = hosts[1]
    connection.mirrored()
    connection.from_client("PA", b"not copied")
    connection.from_backend("A")
    assert connection.mirrored() == []
    [old], [new] = (host.snapshot(connection.now)["mirrors"] for host in hosts)
    assert (old["acked_bytes"], old["legs"], old["legs_ended"]) == (6, 1, {}), (
        "the leg waits for a client whose packets pass elsewhere"
    )
    assert (new["legs"], new["lost_bytes"]) == (0, {"picked-up": 10})


def test_a_mirrors_packet_at_a_host_without_its_leg_is_answered_with_a_reset(hosts: tuple[Engine, Engine]) -> None:
    connection = begin(hosts[0])
    connection.connect_mirror()
    answer = packet(MASTER, CLIENT, "PA", seq.add(MIRROR_ISS, 1), seq.add(ISS, 1), b"hello")
    decision = hosts[1].receive(answer, Hook.PREROUTING, connection.now, Checksum.VALID)
    assert decision.verdict == Drop(DropReason.MIRROR_WITHOUT_LEG)
    [reset] = decision.sends
    assert summary(reset.packet)[0] == "R"
