"""What other hosts hear of bindings, and tell of them, when the rules change on one host or on both."""

from random import Random

import pytest

from natmirror.actions import Hook
from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, RELEASE
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.nat.services import MAX_UNLISTED
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import parse_rules
from tests.helpers.bindings import CLIENTS, UNMIRRORED, close, derived, other, strange_session
from tests.helpers.session import Session, engine
from tests.helpers.support import C1, C2, CLIENT, SERVICE, at, packet

WITHOUT = {
    C1: UNMIRRORED.replace("        - {name: c1, address: 10.20.0.11}\n", ""),
    C2: UNMIRRORED.replace("        - {name: c2, address: 10.20.0.12}\n", ""),
}
OTHER = """
  - name: other
    address: 10.10.0.100
    port: 7000
    pool: {backends: [{name: c9, address: 10.20.0.19}]}
"""
ELSEWHERE = "switches: [10.10.0.0/24]\nservices:" + OTHER
RENAMED = UNMIRRORED.replace("name: openflow", "name: renamed")
C3 = at("10.20.0.14", 6653)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Host:
    """An engine that tells changes as a thread does, and goes over to other rules as one does."""

    def __init__(self, text: str = UNMIRRORED, *, fast: bool = True, max_flows: int = 100_000) -> None:
        self.engine = engine(text, fast=fast, max_flows=max_flows)
        self.told: list[BindingChange] = []
        self.adapter = EngineAdapter(self.engine, lambda _: None, lambda changes, _: self.told.extend(changes))

    def sweep(self, how: int) -> None:
        first: int | None = 0
        while first is not None:
            first = self.adapter.sweep_bindings(first, how)

    def news(self) -> list[tuple[BindingEvent, str, Endpoint, Endpoint]]:
        self.sweep(0)
        told, self.told[:] = self.told[:], []
        return [(one.what, one.service, one.client, one.backend) for one in told]

    def go_over(self, text: str) -> list[tuple[BindingEvent, str, Endpoint, Endpoint]]:
        self.adapter.reload(parse_rules(text))
        return self.news()

    def hears(self, news: list[tuple[BindingEvent, str, Endpoint, Endpoint]]) -> int:
        """Gives how many it has refused."""
        gone = [
            (service, client, what is BindingEvent.ENDED)
            for what, service, client, _ in news
            if what is not BindingEvent.BOUND
        ]
        self.adapter.withdraw_bindings(gone)
        return self.adapter.adopt_bindings([(*ends,) for what, *ends in news if what is BindingEvent.BOUND])  # type: ignore[misc]

    def guests(self) -> dict[str, str | None]:
        return {flow["client"]: flow["backend"] for flow in self.engine.flows(1000.0) if flow["guest"]}

    def removed(self) -> list[str]:
        return [row["address"] for row in self.engine.snapshot(1000.0)["backends"] if row["removed"]]


def connected(host: Host, client: Endpoint = CLIENT, service: Endpoint = SERVICE) -> Session:
    session = Session(host.engine, client=client, service=service)
    session.connect()
    return session


def test_what_can_be_derived_no_more_is_told_and_what_can_be_again_is_withdrawn(fast: bool) -> None:
    host = Host(fast=fast)
    sessions = [connected(host, client) for client in CLIENTS]
    assert host.news() == []
    of_c1 = {("openflow", one.client, C1) for one in sessions if one.backend == C1}
    gone = host.go_over(WITHOUT[C1])
    assert {one[0] for one in gone} == {BindingEvent.BOUND}
    assert {one[1:] for one in gone} == of_c1
    assert host.engine.snapshot(1000.0)["pinned_flows"] == len(of_c1) > 0
    back = host.go_over(UNMIRRORED)
    assert {one[0] for one in back} == {BindingEvent.FORGOTTEN}
    assert {one[1:] for one in back} == of_c1
    assert host.engine.snapshot(1000.0)["pinned_flows"] == 0
    for session in sessions:
        close(session)
    assert host.news() == []


def test_the_connections_of_a_removed_service_are_told_until_it_is_back(fast: bool) -> None:
    host = Host(UNMIRRORED + OTHER, fast=fast)
    session = connected(host)
    assert host.go_over(ELSEWHERE) == [(BindingEvent.BOUND, "openflow", CLIENT, session.backend)]
    assert host.go_over(UNMIRRORED + OTHER) == [(BindingEvent.FORGOTTEN, "openflow", CLIENT, session.backend)]


def test_a_service_under_another_name_is_told_of_by_that(fast: bool) -> None:
    host = Host(fast=fast)
    session = strange_session(host.engine)
    assert [one[:2] for one in host.news()] == [(BindingEvent.BOUND, "openflow")]
    session.from_client("RA")
    assert [one[:2] for one in host.go_over(RENAMED)] == [(BindingEvent.ENDED, "openflow")], (
        "it was told by the old name"
    )
    again = Session(host.engine, client=(CLIENT[0], 7))
    again.connect()
    assert [one[:2] for one in host.news()] == [(BindingEvent.BOUND, "renamed")]


def test_a_change_is_told_before_its_numbers_are_given_anew(fast: bool) -> None:
    host = Host(fast=fast)
    session = strange_session(host.engine)
    assert len(host.news()) == 1
    session.from_client("RA")
    while (due := host.engine.next_timer()) is not None:
        host.engine.handle_timer(due)
    for number in range(3):
        host.adapter.reload(parse_rules(ELSEWHERE.replace("7000", str(7000 + number)).replace("c9", f"c{number}")))
    assert host.engine.gear.plan.services[0].port >= 7000, "the number is another service's"
    assert host.news() == [(BindingEvent.ENDED, "openflow", CLIENT, session.backend)]


@pytest.mark.parametrize("first", ["active", "standby"])
def test_connections_of_a_backend_that_both_hosts_have_removed_go_on_with_it(first: str, fast: bool) -> None:
    active, standby = Host(fast=fast), Host(fast=fast)
    standby.sweep(RELEASE)
    session = connected(active)
    assert session.backend is not None
    text = WITHOUT[session.backend]
    if first == "standby":
        assert standby.go_over(text) == []
    news = active.go_over(text)
    if first == "active":
        assert standby.hears(news) == 0, "it can derive it itself, until now"
        assert standby.go_over(text) == []
    assert standby.hears(news) == 0
    assert len(standby.guests()) == 1
    assert len(standby.removed()) == 1
    kept = standby.adapter.prune()
    assert [(service.name, backend and endpoint_of(backend)) for service, backend in kept] == [
        ("openflow", session.backend)
    ], "whose packets have to come here"
    standby.sweep(CLAIM_ALL)
    session.engine = standby.engine
    assert session.from_client("PA", b"on").dst == session.backend_address
    assert session.from_backend("PA", b"and on").src == SERVICE[0]
    later = connected(standby, client=(CLIENT[0], 40_002))
    assert later.backend == other(session.backend)
    session.from_client("RA")
    while (due := standby.engine.next_timer()) is not None:
        standby.engine.handle_timer(due)
    assert standby.adapter.prune() == []
    assert standby.removed() == []


def test_a_backend_that_comes_to_the_other_host_first_is_the_one_of_the_rules_later(fast: bool) -> None:
    host = Host(fast=fast)
    assert host.hears([(BindingEvent.BOUND, "openflow", CLIENT, C3)]) == 0
    assert host.guests() == {"10.10.0.11:40001": "10.20.0.14:6653"}
    host.go_over(UNMIRRORED + "        - {name: c3, address: 10.20.0.14}\n")
    assert host.removed() == []
    rows = {row["name"]: row["flows"] for row in host.engine.snapshot(1000.0)["backends"]}
    assert rows == {"c1": 0, "c2": 0, "c3": 1}


def test_a_guest_of_a_removed_backend_stays_until_the_other_host_says_so(fast: bool) -> None:
    host = Host(fast=fast)
    assert host.hears([(BindingEvent.BOUND, "openflow", CLIENT, other(derived()))]) == 0
    assert host.go_over(WITHOUT[other(derived())]) == []
    assert len(host.guests()) == len(host.removed()) == 1
    host.adapter.prune()
    assert len(host.guests()) == 1
    host.hears([(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))])
    host.adapter.prune()
    assert host.guests() == {}
    assert host.removed() == []


def test_guests_of_a_service_stay_there_where_one_at_another_place_has_its_name_now(fast: bool) -> None:
    text = UNMIRRORED.replace("10.20.0.11}", "10.20.0.11, port: 6653}").replace(
        "10.20.0.12}", "10.20.0.12, port: 6653}"
    )
    host = Host(text, fast=fast)
    bound = (BindingEvent.BOUND, "openflow", CLIENT, other(derived()))
    assert host.hears([bound]) == 0
    assert host.go_over(text.replace("    port: 6653", "    port: 6654")) == []
    assert host.hears([bound]) == 0, "as it is told when all is told anew"
    session = Session(host.engine)
    session.sent, session.answered = 1000, 2000
    assert session.from_client("PA", b"on").dst == other(derived())[0]
    host.hears([(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))])
    assert host.engine.flows(1000.0) == []
    assert host.adapter.prune() == []


def test_a_standby_does_not_tell_what_it_alone_knows_when_the_rules_change(fast: bool) -> None:
    host = Host(fast=fast)
    old, alive = connected(host), connected(host, client=(CLIENT[0], 40_002))
    assert old.backend is not None
    host.sweep(RELEASE)
    assert host.go_over(WITHOUT[old.backend]) == []
    host.sweep(ANNOUNCE)
    assert host.news() == [], "the active host tells, if they are still there"
    bound = (BindingEvent.BOUND, "openflow", alive.client, old.backend)
    assert host.hears([bound]) == 0
    assert list(host.guests()) == ["10.10.0.11:40002"]
    host.sweep(CLAIM_ALL)
    assert host.news() == [bound]


def test_what_a_standby_alone_knows_moves_no_connection_that_came_later(fast: bool) -> None:
    host = Host(fast=fast)
    session = connected(host)
    assert session.backend is not None
    host.sweep(RELEASE)
    host.go_over(WITHOUT[session.backend])
    host.sweep(CLAIM_ALL)
    session.sent, session.answered = 1 << 20, 1 << 21  # the same port, but another connection that began elsewhere
    assert session.from_client("PA", b"later").dst == other(session.backend)[0]


@pytest.mark.parametrize("place", [at("10.20.0.99", 0), SERVICE], ids=["port", "service"])
def test_what_can_be_nobodys_backend_is_refused(place: Endpoint) -> None:
    host = Host()
    assert host.hears([(BindingEvent.BOUND, "openflow", CLIENT, place)]) == 1
    assert host.removed() == []


def test_only_so_many_backends_are_known_from_other_hosts_alone() -> None:
    host = Host()
    news = [
        (BindingEvent.BOUND, "openflow", client, at(f"10.21.0.{number}", 1))
        for number, client in enumerate(CLIENTS * 3)
    ]
    assert host.hears(news) == len(news) - MAX_UNLISTED
    assert len(host.removed()) <= MAX_UNLISTED


# Any order of events


class Both:
    """Two hosts that share their bindings; the first of ``hosts`` is the active one."""

    def __init__(self, *, fast: bool) -> None:
        self.hosts = [Host(fast=fast), Host(fast=fast)]
        self.texts = [UNMIRRORED, UNMIRRORED]
        self.records: dict[tuple[str, Endpoint], tuple[Host, Endpoint]] = {}
        self.sessions: dict[Endpoint, Session] = {}
        self.hosts[1].sweep(RELEASE)

    def deliver(self) -> None:
        """What each has to tell, through the store, as redis_store.py has it."""
        for host, peer in (self.hosts, self.hosts[::-1]):
            for what, service, client, backend in host.news():
                owner, value = self.records.get((service, client), (None, None))
                if what is BindingEvent.BOUND:
                    self.records[service, client] = host, backend
                elif owner is host if what is BindingEvent.FORGOTTEN else value == backend:
                    del self.records[service, client]
                else:
                    continue
                peer.hears([(what, service, client, backend)])

    def synchronise(self) -> None:
        """What sharing.py does after a reload and at a change of role."""
        for host in self.hosts:
            others = [
                (BindingEvent.BOUND, *key, value) for key, (owner, value) in self.records.items() if owner is not host
            ]
            assert host.hears(others) == 0
            own = [key for key, (owner, _) in self.records.items() if owner is host]
            host.told.clear()
            host.sweep(ANNOUNCE)
            put = {(one.service, one.client) for one in host.told if one.what is BindingEvent.BOUND}
            self.deliver()
            for key in set(own) - put if host is self.hosts[0] else ():
                del self.records[key]
                self.hosts[1].adapter.withdraw_bindings([(*key, False)])

    def go_over(self, place: int, text: str) -> None:
        self.texts[place] = text
        self.hosts[place].adapter.reload(parse_rules(text))
        self.deliver()
        self.synchronise()
        self.hosts[place].adapter.prune()

    def open(self, client: Endpoint, *, iss: int) -> None:
        if client in self.sessions:
            self.end(client)
        self.sessions[client] = Session(self.hosts[0].engine, client=client, iss=iss)
        self.sessions[client].connect()
        self.deliver()

    def end(self, client: Endpoint) -> None:
        if (session := self.sessions.pop(client, None)) is not None:
            session.from_client("RA")
            self.wait(session.now + TIMEOUTS[State.RESET])

    def move(self) -> None:
        """The other host becomes the active one."""
        self.go_over(1, self.texts[0])
        self.hosts.reverse()
        self.hosts[1].sweep(RELEASE)
        self.hosts[0].sweep(CLAIM_ALL)
        self.deliver()
        self.synchronise()
        for session in self.sessions.values():
            session.engine = self.hosts[0].engine
        self.all_go_on()

    def wait(self, now: float) -> None:
        for host in self.hosts:
            while (due := host.engine.next_timer()) is not None and due <= now:
                host.engine.handle_timer(now)
        self.deliver()

    def all_go_on(self) -> None:
        for session in self.sessions.values():
            assert session.from_client("PA", b"x").dst == session.backend_address
            assert session.from_backend("PA", b"y").src == SERVICE[0]


POOLS = [
    UNMIRRORED,
    WITHOUT[C1],
    WITHOUT[C2],
    UNMIRRORED + "        - {name: c3, address: 10.20.0.14}\n",
    UNMIRRORED.replace("10.20.0.11}", "10.20.0.11, weight: 3}"),
    UNMIRRORED.replace("pool:\n", "pool:\n      balance: round-robin\n"),
]


@pytest.mark.parametrize("seed", range(12))
def test_no_connection_moves_whatever_rules_come_to_which_host_first(seed: int, fast: bool) -> None:
    random = Random(seed)
    both = Both(fast=fast)
    for number in range(40):
        what = random.choice(["open", "open", "open", "end", "active", "standby", "move"])
        if what == "open":
            both.open(random.choice(CLIENTS[:12]), iss=1000 * number)
        elif what == "end" and both.sessions:
            both.end(random.choice(list(both.sessions)))
        elif what == "move":
            both.move()
        elif what != "end":
            both.go_over(what == "standby", random.choice(POOLS))
        both.all_go_on()
    for client in CLIENTS:
        both.end(client)
    for later in (1e6, 2e6):
        both.move()
        both.wait(later)
    assert both.records == {}
    assert [host.engine.flows(1e9) for host in both.hosts] == [[], []]


def test_a_flood_to_a_service_that_was_removed_is_not_told_and_leaves_room_for_others(fast: bool) -> None:
    host = Host(fast=fast, max_flows=20)
    connected(host)
    assert [what for what, *_ in host.go_over(ELSEWHERE)] == [BindingEvent.BOUND], "its service's rules are gone"
    for client in CLIENTS:
        flood = Session(host.engine, client=client)
        flood.passed(packet(client, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert host.news() == []
    connected(host, service=at("10.10.0.100", 7000))
    shown = host.engine.snapshot(1000.0)
    assert (shown["flows"], shown["pinned_flows"]) == (20, 1)
    assert [flow["service"] for flow in host.engine.flows(1000.0)].count("other") == 1


def test_a_flood_is_not_told_when_other_rules_would_send_it_elsewhere(fast: bool) -> None:
    host = Host(fast=fast, max_flows=20)
    [gone, *_] = [client for client in CLIENTS if derived(client) == C1]
    connected(host, gone)
    for client in CLIENTS:
        if client != gone:
            Session(host.engine, client=client).passed(packet(client, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert [client for *_, client, _ in host.go_over(WITHOUT[C1])] == [gone]
    for client in CLIENTS:
        connected(host, client=(client[0], 7))
    assert gone in [change[2] for change in host.go_over(UNMIRRORED)], "its connection is there still"
