"""What docs/scaling.md says of a connection whose packets pass several natmirrors: two engines that share nothing."""

import pytest

from natmirror.actions import Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import DropReason
from tests.helpers.session import ISS, MIRROR_ISS, Session, engine
from tests.helpers.support import CLIENT, MASTER, SERVICE, assert_adds_up, at, packet, told

CLIENTS = [at(f"10.10.0.{number}", 40001) for number in range(10, 90)]


@pytest.fixture(params=[True, False], ids=["c", "python"])
def hosts(request: pytest.FixtureRequest) -> tuple[Engine, Engine]:
    return engine(fast=request.param), engine(fast=request.param)


def begin(one: Engine, client: Endpoint = CLIENT) -> Session:
    session = Session(one, client=client)
    session.connect()
    return session


def test_a_connection_that_comes_to_another_host_goes_on_with_its_backend(hosts: tuple[Engine, Engine]) -> None:
    for client in CLIENTS:
        session = begin(hosts[0], client)
        session.engine = hosts[1]
        moved = session.from_client("PA", b"still there?")
        assert (moved.dst, moved.dport) == session.backend
        answer = session.from_backend("PA", b"yes")
        assert (answer.src, answer.sport) == SERVICE


def test_what_was_opened_under_a_drained_backend_is_broken_elsewhere_unless_its_backend_speaks_first(
    hosts: tuple[Engine, Engine],
) -> None:
    """The simulation's *broken alone*: exactly those that the rules alone would send to another."""
    hosts[0].set_share("openflow", "c1", 0.0)
    sessions = [begin(hosts[0], client) for client in CLIENTS]
    hosts[0].set_share("openflow", "c1", 1.0)
    told_first: list[Session] = []
    broken: list[Session] = []
    for session in sessions:
        session.engine = hosts[1]
        derived = Session(engine(), client=session.client).syn()
        if (derived.dst, derived.dport) != session.backend and len(told_first) < 10:
            told_first.append(session)
            assert (session.from_backend("PA", b"hello").src, SERVICE[1]) == SERVICE
        moved = session.from_client("PA", b"still there?")
        if (moved.dst, moved.dport) != session.backend:
            assert (moved.dst, moved.dport) == (derived.dst, derived.dport)
            broken.append(session)
    assert len(told_first) == 10
    assert not set(map(id, told_first)) & set(map(id, broken))
    assert 15 < len(broken) < 45, "about half of all"


def test_a_connection_that_comes_back_meets_its_old_binding(hosts: tuple[Engine, Engine]) -> None:
    """Whatever happened meanwhile: a host knows it for two hours."""
    hosts[0].set_share("openflow", "c1", 0.0)
    sessions = [begin(hosts[0], client) for client in CLIENTS]
    hosts[0].set_share("openflow", "c1", 1.0)
    for session in sessions:
        session.engine = hosts[1]
        session.from_backend("PA", b"hello")
        session.from_client("PA", b"x" * 1000)
        session.engine = hosts[0]
        session.now += 7000
        back = session.from_client("PA", b"here again")
        assert (back.dst, back.dport) == session.backend
        answer = session.from_backend("PA", b"welcome")
        assert (answer.src, answer.sport) == SERVICE


def test_a_new_connection_whose_answer_comes_through_another_host_does_not_come_about(
    hosts: tuple[Engine, Engine],
) -> None:
    """The other host takes it for one that the client has opened with the backend itself."""
    session = Session(hosts[0])
    session.syn()
    session.engine = hosts[1]
    answer = session.syn_ack()
    assert (answer.src, answer.sport) == session.backend, "the client knows no such connection"
    assert hosts[1].snapshot(session.now)["counters"][EngineCounter.DIRECT_CONNECTIONS] == 1


def test_an_established_connection_lives_while_its_directions_pass_different_hosts(
    hosts: tuple[Engine, Engine],
) -> None:
    session = begin(hosts[0])
    for _ in range(3):
        session.engine = hosts[0]
        request = session.from_client("PA", b"request")
        assert (request.dst, request.dport) == session.backend
        session.engine = hosts[1]
        answer = session.from_backend("PA", b"answer")
        assert (answer.src, answer.sport) == SERVICE
    for host in hosts:
        assert_adds_up(host.snapshot(session.now))


def test_a_connection_that_comes_to_another_host_is_copied_no_more(hosts: tuple[Engine, Engine]) -> None:
    session = begin(hosts[0])
    session.connect_mirror()
    session.from_client("PA", b"copied")
    session.from_mirror("A", 1, 7)
    session.engine = hosts[1]
    session.mirrored()
    session.from_client("PA", b"not copied")
    session.from_backend("A")
    assert session.mirrored() == []
    [old], [new] = (host.snapshot(session.now)["mirrors"] for host in hosts)
    assert (old["acked_bytes"], old["legs"], old["legs_ended"]) == (6, 1, {}), "it waits for a client that is elsewhere"
    assert (new["legs"], new["lost_bytes"]) == (0, {"picked-up": 10})


def test_what_a_mirror_says_to_a_host_without_its_leg_resets_it(hosts: tuple[Engine, Engine]) -> None:
    session = begin(hosts[0])
    session.connect_mirror()
    answer = packet(MASTER, CLIENT, "PA", seq.add(MIRROR_ISS, 1), seq.add(ISS, 1), b"hello")
    decision = hosts[1].receive(answer, Hook.PREROUTING, session.now, Checksum.VALID)
    assert decision.verdict == Drop(DropReason.MIRROR_WITHOUT_LEG)
    [reset] = decision.sends
    assert told(reset.packet)[0] == "R"
