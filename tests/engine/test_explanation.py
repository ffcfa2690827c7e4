"""What an engine foretells of a client's new connection is what it does then, and asking changes nothing."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.engine.explained import ConnectionEntry, NewConnectionEntry, Obstacle
from natmirror.mirror.faults import Work
from natmirror.mirror.shown import CopyWait
from natmirror.nat.new_connections import Opening
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.reasons import DropReason
from natmirror.rules import (
    Backend,
    Balance,
    HashInput,
    Mirror,
    MirrorProtocol,
    Pool,
    Rules,
    Service,
    WhenNone,
)
from tests.helpers.client_connection import IRS, ISS, KEY
from tests.helpers.declared import assert_declared
from tests.helpers.support import CLIENT, RULES, SERVICE, at, packet, segment

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
    return Rules(
        "", (NETWORK,), (Service("openflow", IPv4Address("10.10.0.100"), 6653, None if watched else pool, mirrors),)
    )


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
    """Two engines with the same packets. The first one is asked before each connection, the other never."""

    rules: Rules
    fast: bool
    now: float = 1000.0
    port: int = 40_000
    engines: list[Engine] = field(init=False)

    def __post_init__(self) -> None:
        self.engines = [Engine(self.rules, key=KEY, fast=self.fast) for _ in range(2)]

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
            wanted = {one["mirror"]: one["reason"] for one in found["copies"]}
            got = {one["mirror"]: one["reason"] for one in made["copies"]}
            assert got.keys() == wanted.keys()
            assert all(got[name] == why for name, why in wanted.items() if why is not None)
            assert not {got[name] for name, why in wanted.items() if why is None} & {*wanted.values()} - {None}


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
