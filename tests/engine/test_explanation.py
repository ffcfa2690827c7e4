"""What an engine foretells of a client's new connection is what it does then, and asking changes nothing."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.engine.explained import ConnectionEntry, FailureKind, NewConnectionEntry, Obstacle
from natmirror.mirror.faults import Work
from natmirror.mirror.shown import CopyWait
from natmirror.nat.failed_attempts import AVOID_TIMEOUT
from natmirror.nat.new_connections import Opening
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.reasons import DropReason, EndReason
from natmirror.rules import (
    Backend,
    Balance,
    HashInput,
    Mirror,
    MirrorProtocol,
    PerClient,
    Pool,
    Rules,
    Service,
    WhenNone,
    parse_rules,
)
from natmirror.rules.units import Rate
from tests.helpers.client_connection import IRS, ISS, KEY, ClientConnection, engine
from tests.helpers.declared import assert_declared
from tests.helpers.support import C1, CLIENT, RULES, SERVICE, at, packet, segment

NETWORK = IPv4Network("10.10.0.0/24")
CLIENTS = [f"10.10.0.{last}" for last in (11, 12, 13, 14)] + ["10.99.0.1"]
AUDIT = RULES + "      - {name: audit, address: 10.20.0.14, only: [10.10.0.0/28], reconnect: next-segment}\n"


def asked(one: Engine, client: Endpoint = CLIENT, now: float = 1000.0, *, with_port: bool = True) -> NewConnectionEntry:
    [found] = one.explanation.foresee(client[0], client[1] if with_port else None, "openflow", now)
    return found


def open_ones(one: Engine, client: Endpoint = CLIENT, now: float = 1000.0) -> list[ConnectionEntry]:
    return one.explanation.connections(one.explanation.ids_of(client), now)


def obstacles(found: NewConnectionEntry) -> dict[str, list[Obstacle]]:
    return {one["backend"]: one["obstacles"] for one in found["pool"]}


# Random rules, states and clients


@st.composite
def random_rules(draw: st.DrawFn) -> Rules:
    balance = draw(st.sampled_from(Balance))
    backends = tuple(
        Backend(
            f"c{number}",
            IPv4Address("10.20.0.10") + number,
            6653,
            draw(st.sampled_from((1, 1, 3))) if balance is not Balance.PRIORITY else 1,
            draw(st.sampled_from((None, None, 1))),
        )
        for number in range(1, draw(st.integers(1, 4)) + 1)
    )
    pool = Pool(
        balance,
        draw(st.sampled_from(HashInput)) if balance is Balance.MAGLEV else HashInput.ADDRESS,
        backends,
        draw(st.sampled_from((None, None, Backend("sorry", IPv4Address("10.20.0.30"), 6653)))),
        draw(st.sampled_from(WhenNone)),
    )
    mirrors = tuple(
        Mirror(
            f"m{number}",
            IPv4Address("10.20.0.10") + draw(st.sampled_from((1, 20 + number, 20 + number))),
            6653,
            sample=draw(st.sampled_from((1.0, 0.5))),
            only=draw(st.sampled_from(((), (IPv4Network("10.10.0.12/31"),)))),
            protocol=draw(st.sampled_from(MirrorProtocol)),
        )
        for number in range(draw(st.integers(0, 2)))
    )
    watched = draw(st.booleans())
    limits = draw(st.sampled_from((None, None, PerClient(2), PerClient(new_connections=Rate(3, "s")))))
    service = Service(
        *("openflow", IPv4Address("10.10.0.100"), 6653, None if watched else pool, mirrors),
        per_client=None if watched else limits,
    )
    return Rules("", (NETWORK,), (service,))


STEPS = st.one_of(
    st.tuples(st.just("share"), st.integers(1, 4), st.sampled_from((0.0, 0.05, 0.5, 1.0))),
    st.tuples(st.just("wait"), st.just(0), st.sampled_from((0.5, 1.0, 12.0, 31.0))),
    st.tuples(st.just("refused"), st.integers(0, 3), st.just(0.0)),
    st.tuples(st.just("accepted"), st.integers(0, 4), st.just(0.0)),
    st.tuples(st.just("unanswered"), st.integers(0, 3), st.just(0.0)),
    st.tuples(st.just("off"), st.just(0), st.just(0.0)),
)


@dataclass
class World:
    """Two engines with the same packets, of which the first one is asked before each connection, the other never; and
    one that knows only the rules."""

    rules: Rules
    fast: bool
    now: float = 1000.0
    port: int = 40_000
    engines: list[Engine] = field(init=False)

    def __post_init__(self) -> None:
        *self.engines, self.fresh = [Engine(self.rules, key=KEY, fast=self.fast) for _ in range(3)]

    def receive(self, raw: bytes, hook: Hook) -> Accept | Drop:
        decisions = [one.receive(raw, hook, self.now) for one in self.engines]
        assert decisions[0] == decisions[1], "asking has changed something"
        verdict = decisions[0].verdict
        assert isinstance(verdict, Accept | Drop)
        return verdict

    def do(self, step: tuple[str, int, float]) -> None:
        kind, number, value = step
        if kind == "share":
            for one in self.engines:
                if any(entry["name"] == f"c{number}" for entry in one.snapshot(self.now)["backends"]):
                    one.set_share("openflow", f"c{number}", value)
        elif kind == "wait":
            self.now += value
            for one in self.engines:
                one.handle_timer(self.now)
        elif kind == "off":
            for one in self.engines:
                one.faults.switch_off(Work.SESSION)
        else:
            self.connect(CLIENTS[number], kind)

    def connect(self, address: str, kind: str) -> None:
        """Have a client connect, and compare what becomes of that with what was foretold."""
        self.port += 1
        client = at(address, self.port)
        service = self.rules.services[0]
        asking = self.engines[0]
        found = asked(asking, client, self.now)
        assert asked(asking, client, self.now) == found
        assert_declared(NewConnectionEntry, found)
        verdict = self.receive(packet(client, SERVICE, "S", ISS), Hook.PREROUTING)
        there = endpoint_of(service)
        match found["opening"]:
            case Opening.DROPPED | Opening.REFUSED:
                assert verdict == Drop(DropReason.NO_BACKEND)
                return
            case Opening.CLIENT_FULL:
                assert verdict == Drop(DropReason.CLIENT_MAX_CONNECTIONS)
                return
            case Opening.CLIENT_TOO_FAST:
                assert verdict == Drop(DropReason.CLIENT_NEW_CONNECTIONS)
                return
            case Opening.NO_CLIENT:
                assert verdict == Accept() and not open_ones(asking, client, self.now)
                return
            case Opening.WATCHED:
                assert verdict == Accept() and found["backend"] is None
            case _:
                assert found["opening"] is Opening.TO_BACKEND
                assert isinstance(verdict, Accept) and verdict.packet is not None
                there = segment(verdict.packet).dst, segment(verdict.packet).dport
                assert [one["backend"] for one in found["pool"] if one["address"] == show(there)] == [found["backend"]]
        self.explain_pool(found)
        self.answer(client, there, kind, found)

    def explain_pool(self, found: NewConnectionEntry) -> None:
        """Assert that each backend that gets the connection has no obstacle, and that a first choice which does not get
        it has one."""
        free = {name for name, some in obstacles(found).items() if not some}
        pool = self.rules.services[0].pool
        if pool is None or found["backend"] == (pool.sorry and pool.sorry.name):
            return
        assert found["backend"] in free
        assert found["first_choice"] in (None, found["backend"]) or found["first_choice"] not in free

    def answer(self, client: Endpoint, there: Endpoint, kind: str, found: NewConnectionEntry) -> None:
        hook = Hook.OUTPUT if there == SERVICE else Hook.FORWARD
        if kind == "refused":
            self.receive(packet(there, client, "RA", 0, ISS + 1), hook)
        elif kind == "unanswered":
            self.now += 1.0
            for one in self.engines:
                one.handle_timer(self.now)
        else:
            self.receive(packet(there, client, "SA", IRS, ISS + 1), hook)
            [waiting] = open_ones(self.engines[0], client, self.now)
            assert {one["reason"] for one in waiting["copies"]} <= {CopyWait.HANDSHAKE}
            self.receive(packet(client, SERVICE, "A", ISS + 1, IRS + 1), Hook.PREROUTING)
            [made] = open_ones(self.engines[0], client, self.now)
            assert_declared(ConnectionEntry, made)
            self.restart(client, made)
            wanted = {one["mirror"]: one["reason"] for one in found["copies"]}
            got = {one["mirror"]: one["reason"] for one in made["copies"]}
            assert got.keys() == wanted.keys()
            assert all(got[name] == why for name, why in wanted.items() if why is not None)
            assert not {got[name] for name, why in wanted.items() if why is None} & {*wanted.values()} - {None}

    def restart(self, client: Endpoint, made: ConnectionEntry) -> None:
        """Assert that a host which knows only the rules has the client's data go where the explanation says."""
        data = packet(client, SERVICE, "PA", ISS + 1, IRS + 1, b"x")
        assert isinstance(self.fresh.receive(data, Hook.PREROUTING, self.now).verdict, Accept)
        [goes_on] = open_ones(self.fresh, client, self.now)
        assert goes_on["backend"] == made["derived_backend"]
        assert made["pinned"] == (goes_on["backend"] != made["backend"])


@pytest.mark.parametrize("gear", ["fast", "slow"])
@given(rules=random_rules(), steps=st.lists(STEPS, max_size=25))
def test_a_new_connection_goes_where_the_explanation_says(
    gear: str, rules: Rules, steps: list[tuple[str, int, float]]
) -> None:
    world = World(rules, fast=gear == "fast")
    for step in steps:
        world.do(step)
    for address in CLIENTS:
        world.connect(address, "accepted")


# Words


def test_a_refused_syn_keeps_a_client_away_for_a_while(fast: bool) -> None:
    one = engine(fast=fast)
    first = asked(one)["first_choice"]
    assert first is not None and asked(one)["backend"] == first
    connection = ClientConnection(one)
    connection.syn()
    assert connection.backend is not None
    connection.passed(packet(connection.backend, CLIENT, "RA", 0, ISS + 1), Hook.FORWARD)
    found = asked(one, now=connection.now + 12)
    assert found["backend"] != first and obstacles(found)[first] == [Obstacle.FAILED]
    [failure] = [one["failure"] for one in found["pool"] if one["failure"] is not None]
    assert failure == {"kind": FailureKind.REFUSED, "failed_seconds": 12.0, "avoided_seconds": AVOID_TIMEOUT - 12}
    after = asked(one, now=connection.now + AVOID_TIMEOUT)
    assert after["backend"] == first and obstacles(after)[first] == []


def test_a_backend_that_comes_back_gets_a_client_only_when_its_share_covers_the_slot(fast: bool) -> None:
    one = engine(fast=fast)
    first = asked(one)["first_choice"]
    assert first is not None
    one.set_share("openflow", first, 0.0)
    assert obstacles(asked(one))[first] == [Obstacle.CLOSED]
    one.set_share("openflow", first, 0.05)
    clients = [at(f"10.10.0.{last}", 40_001) for last in range(1, 250)]
    found = [one for one in (asked(one, client) for client in clients) if one["first_choice"] == first]
    waiting = [obstacles(one)[first] for one in found]
    assert 0.9 * len(waiting) < waiting.count([Obstacle.SLOW_START]) < len(waiting)
    one.set_share("openflow", first, 1.0)
    assert asked(one)["backend"] == first


def test_a_connection_stays_with_its_backend_when_its_first_choice_is_back(fast: bool) -> None:
    one = engine(fast=fast)
    first = asked(one)["first_choice"]
    assert first is not None
    one.set_share("openflow", first, 0.0)
    connection = ClientConnection(one)
    connection.establish()
    one.set_share("openflow", first, 1.0)
    [found] = open_ones(one)
    assert found["pinned"] and found["derived_backend"] == first and found["backend"] != first
    assert [(copy["mirror"], copy["copied"], copy["reason"]) for copy in found["copies"]] == [("master", True, None)]


def test_with_hashed_ports_the_backend_depends_on_the_port() -> None:
    one = engine(RULES.replace("    pool:\n", "    pool:\n      hash: address-port\n"))
    assert (asked(one, with_port=False)["needs_port"], asked(one, with_port=False)["backend"]) == (True, None)
    assert (asked(one)["needs_port"], asked(one)["backend"]) == (False, asked(one)["first_choice"])


def test_a_copy_that_waits_says_why_it_ended_and_when_it_may_begin_again(fast: bool) -> None:
    one = engine(AUDIT, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    raw = packet(at("10.20.0.14", 6653), CLIENT, "RA", 0, ISS + 1)
    assert connection.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    [found] = open_ones(one, now=connection.now)
    copies = {copy["mirror"]: copy for copy in found["copies"]}
    assert copies["master"]["copied"] and not copies["audit"]["copied"]
    assert (copies["audit"]["reason"], copies["audit"]["ended_as"]) == (EndReason.RECONNECTING, EndReason.REFUSED)
    assert copies["audit"]["begins_in_seconds"] == 1.0
    assert open_ones(one, now=connection.now + 5)[0]["copies"][1]["begins_in_seconds"] == 0.0


def test_a_connection_that_is_picked_up_or_older_than_its_mirror_says_so(fast: bool) -> None:
    plain = RULES[: RULES.index("    mirrors:")]
    one = engine(plain, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    one.reload(parse_rules(RULES))
    other = ClientConnection(one, client=at("10.10.0.12", 40_001))
    other.from_client("PA", b"hello")
    [older], [picked_up] = open_ones(one), open_ones(one, other.client)
    assert [copy["reason"] for copy in (*older["copies"], *picked_up["copies"])] == [
        EndReason.MIRROR_ADDED,
        EndReason.PICKED_UP,
    ]
    assert not older["picked_up"] and picked_up["picked_up"] and picked_up["unconfirmed"]


def test_a_direct_connection_and_one_past_the_service_are_told(fast: bool) -> None:
    two = (
        RULES
        + """  - name: other
    address: 10.10.0.101
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]}
"""
    )
    one = engine(two, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    [found] = one.explanation.foresee(CLIENT[0], CLIENT[1], "other", connection.now)
    assert found["opening"] is Opening.PAST_SERVICE
    verdict = connection.take(packet(CLIENT, at("10.10.0.101", 6653), "S", ISS), Hook.PREROUTING)
    assert verdict == Drop(DropReason.PAST_SERVICE)
    plain = engine(fast=fast)
    direct = ClientConnection(plain)
    direct.take(packet(C1, CLIENT, "SA", IRS, ISS + 1), Hook.FORWARD)
    [told] = open_ones(plain)
    assert told["direct"] and told["backend"] == "c1" and told["copies"] == []


def test_a_full_table_has_no_room_for_another_connection(fast: bool) -> None:
    one = engine(fast=fast, max_flows=1)
    ClientConnection(one).establish()
    other = at("10.10.0.12", 40_001)
    found = asked(one, other)
    assert found["opening"] is Opening.NO_ROOM
    assert [copy["reason"] for copy in found["copies"]] == [EndReason.FLOW_TABLE_FULL]
    verdict = one.receive(packet(other, SERVICE, "S", ISS), Hook.PREROUTING, 1000.0).verdict
    assert isinstance(verdict, Accept) and open_ones(one, other) == []
