"""Bindings that are shared with other hosts, when the rules change on one host or on both."""

from random import Random

import pytest

from natmirror.actions import Hook
from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, RELEASE
from natmirror.fastpath.flow_states import State
from natmirror.nat.services import MAX_UNLISTED
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import parse_rules
from tests.helpers.bindings import CLIENTS, UNMIRRORED, close, derived, other, pinned_connection
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, SERVICE, TIMEOUTS, at, packet

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
    """An engine that reports changes and applies rules as a thread does."""

    def __init__(self, text: str = UNMIRRORED, *, fast: bool = True, max_flows: int = 100_000) -> None:
        self.engine = engine(text, fast=fast, max_flows=max_flows)
        self.reported: list[BindingChange] = []
        self.adapter = EngineAdapter(self.engine, lambda _: None, lambda changes, _: self.reported.extend(changes))

    def sweep(self, how: int) -> None:
        first: int | None = 0
        while first is not None:
            first = self.adapter.sweep_bindings(first, how)

    def take_changes(self) -> list[tuple[BindingEvent, str, Endpoint, Endpoint]]:
        self.sweep(0)
        reported, self.reported[:] = self.reported[:], []
        return [(one.event, one.service, one.client, one.backend) for one in reported]

    def change_rules(self, text: str) -> list[tuple[BindingEvent, str, Endpoint, Endpoint]]:
        self.adapter.reload(parse_rules(text))
        return self.take_changes()

    def adopt(self, changes: list[tuple[BindingEvent, str, Endpoint, Endpoint]]) -> int:
        """Adopt reported bindings; return how many were refused."""
        gone = [
            (service, client, what is BindingEvent.ENDED)
            for what, service, client, _ in changes
            if what is not BindingEvent.BOUND
        ]
        self.adapter.withdraw_bindings(gone)
        return self.adapter.adopt_bindings([(*ends,) for what, *ends in changes if what is BindingEvent.BOUND])  # type: ignore[misc]

    def guests(self) -> dict[str, str | None]:
        return {flow["client"]: flow["backend"] for flow in self.engine.flows(1000.0) if flow["guest"]}

    def removed(self) -> list[str]:
        return [row["address"] for row in self.engine.snapshot(1000.0)["backends"] if row["removed"]]


def connected(host: Host, client: Endpoint = CLIENT, service: Endpoint = SERVICE) -> ClientConnection:
    connection = ClientConnection(host.engine, client=client, service=service)
    connection.connect()
    return connection


def test_a_reload_reports_bindings_that_become_pinned_and_withdraws_those_that_become_derived(fast: bool) -> None:
    host = Host(fast=fast)
    connections = [connected(host, client) for client in CLIENTS]
    assert host.take_changes() == []
    of_c1 = {("openflow", one.client, C1) for one in connections if one.backend == C1}
    gone = host.change_rules(WITHOUT[C1])
    assert {one[0] for one in gone} == {BindingEvent.BOUND}
    assert {one[1:] for one in gone} == of_c1
    assert host.engine.snapshot(1000.0)["pinned_flows"] == len(of_c1) > 0
    back = host.change_rules(UNMIRRORED)
    assert {one[0] for one in back} == {BindingEvent.FORGOTTEN}
    assert {one[1:] for one in back} == of_c1
    assert host.engine.snapshot(1000.0)["pinned_flows"] == 0
    for connection in connections:
        close(connection)
    assert host.take_changes() == []


def test_the_connections_of_a_removed_service_are_shared_until_it_is_back(fast: bool) -> None:
    host = Host(UNMIRRORED + OTHER, fast=fast)
    connection = connected(host)
    assert host.change_rules(ELSEWHERE) == [(BindingEvent.BOUND, "openflow", CLIENT, connection.backend)]
    assert host.change_rules(UNMIRRORED + OTHER) == [(BindingEvent.FORGOTTEN, "openflow", CLIENT, connection.backend)]


def test_a_renamed_service_is_reported_by_its_new_name(fast: bool) -> None:
    host = Host(fast=fast)
    connection = pinned_connection(host.engine)
    assert [one[:2] for one in host.take_changes()] == [(BindingEvent.BOUND, "openflow")]
    connection.from_client("RA")
    assert [one[:2] for one in host.change_rules(RENAMED)] == [(BindingEvent.ENDED, "openflow")], (
        "the binding was reported by its old name"
    )
    again = ClientConnection(host.engine, client=(CLIENT[0], 7))
    again.connect()
    assert [one[:2] for one in host.take_changes()] == [(BindingEvent.BOUND, "renamed")]


def test_a_change_is_reported_before_its_numbers_are_used_again(fast: bool) -> None:
    host = Host(fast=fast)
    connection = pinned_connection(host.engine)
    assert len(host.take_changes()) == 1
    connection.from_client("RA")
    while (due := host.engine.next_timer()) is not None:
        host.engine.handle_timer(due)
    for number in range(2):
        host.adapter.reload(parse_rules(ELSEWHERE.replace("7000", str(7000 + number)).replace("c9", f"c{number}")))
    assert host.engine.gear.plan.services[0].port >= 7000, "another service has the number"
    assert host.take_changes() == [(BindingEvent.ENDED, "openflow", CLIENT, connection.backend)]


@pytest.mark.parametrize("first", ["active", "standby"])
def test_connections_of_a_backend_that_both_hosts_have_removed_go_on_with_it(first: str, fast: bool) -> None:
    active, standby = Host(fast=fast), Host(fast=fast)
    standby.sweep(RELEASE)
    connection = connected(active)
    assert connection.backend is not None
    text = WITHOUT[connection.backend]
    if first == "standby":
        assert standby.change_rules(text) == []
    changes = active.change_rules(text)
    if first == "active":
        assert standby.adopt(changes) == 0, "the binding is still derived here"
        assert standby.change_rules(text) == []
    assert standby.adopt(changes) == 0
    assert len(standby.guests()) == 1
    assert len(standby.removed()) == 1
    kept = standby.adapter.prune()
    assert [(service.name, backend and endpoint_of(backend)) for service, backend in kept] == [
        ("openflow", connection.backend)
    ], "now its packets come here"
    standby.sweep(CLAIM_ALL)
    connection.engine = standby.engine
    assert connection.from_client("PA", b"on").dst == connection.backend_address
    assert connection.from_backend("PA", b"and on").src == SERVICE[0]
    later = connected(standby, client=(CLIENT[0], 40_002))
    assert later.backend == other(connection.backend)
    connection.from_client("RA")
    while (due := standby.engine.next_timer()) is not None:
        standby.engine.handle_timer(due)
    assert standby.adapter.prune() == []
    assert standby.removed() == []


def test_a_backend_that_another_host_reports_first_is_that_of_the_rules_later(fast: bool) -> None:
    host = Host(fast=fast)
    assert host.adopt([(BindingEvent.BOUND, "openflow", CLIENT, C3)]) == 0
    assert host.guests() == {"10.10.0.11:40001": "10.20.0.14:6653"}
    host.change_rules(UNMIRRORED + "        - {name: c3, address: 10.20.0.14}\n")
    assert host.removed() == []
    rows = {row["name"]: row["flows"] for row in host.engine.snapshot(1000.0)["backends"]}
    assert rows == {"c1": 0, "c2": 0, "c3": 1}


def test_a_guest_of_a_removed_backend_stays_until_the_other_host_withdraws_it(fast: bool) -> None:
    host = Host(fast=fast)
    assert host.adopt([(BindingEvent.BOUND, "openflow", CLIENT, other(derived()))]) == 0
    assert host.change_rules(WITHOUT[other(derived())]) == []
    assert len(host.guests()) == len(host.removed()) == 1
    host.adapter.prune()
    assert len(host.guests()) == 1
    host.adopt([(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))])
    host.adapter.prune()
    assert host.guests() == {}
    assert host.removed() == []


def test_guests_stay_with_their_service_after_its_name_went_to_another(fast: bool) -> None:
    text = UNMIRRORED.replace("10.20.0.11}", "10.20.0.11, port: 6653}").replace(
        "10.20.0.12}", "10.20.0.12, port: 6653}"
    )
    host = Host(text, fast=fast)
    bound = (BindingEvent.BOUND, "openflow", CLIENT, other(derived()))
    assert host.adopt([bound]) == 0
    assert host.change_rules(text.replace("    port: 6653", "    port: 6654")) == []
    assert host.adopt([bound]) == 0, "as if all bindings were reported again"
    connection = ClientConnection(host.engine)
    connection.sent, connection.answered = 1000, 2000
    assert connection.from_client("PA", b"on").dst == other(derived())[0]
    host.adopt([(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))])
    assert host.engine.flows(1000.0) == []
    assert host.adapter.prune() == []


def test_a_standby_does_not_report_what_only_it_knows_when_the_rules_change(fast: bool) -> None:
    host = Host(fast=fast)
    old, alive = connected(host), connected(host, client=(CLIENT[0], 40_002))
    assert old.backend is not None
    host.sweep(RELEASE)
    assert host.change_rules(WITHOUT[old.backend]) == []
    host.sweep(ANNOUNCE)
    assert host.take_changes() == [], "the active host reports those that still exist"
    bound = (BindingEvent.BOUND, "openflow", alive.client, old.backend)
    assert host.adopt([bound]) == 0
    assert list(host.guests()) == ["10.10.0.11:40002"]
    host.sweep(CLAIM_ALL)
    assert host.take_changes() == [bound]


def test_what_only_a_standby_knows_moves_no_later_connection(fast: bool) -> None:
    host = Host(fast=fast)
    connection = connected(host)
    assert connection.backend is not None
    host.sweep(RELEASE)
    host.change_rules(WITHOUT[connection.backend])
    host.sweep(CLAIM_ALL)
    connection.sent, connection.answered = (
        1 << 20,
        1 << 21,
    )  # the same port, but another connection, which began elsewhere
    assert connection.from_client("PA", b"later").dst == other(connection.backend)[0]


@pytest.mark.parametrize("place", [at("10.20.0.99", 0), SERVICE], ids=["port", "service"])
def test_an_endpoint_that_cannot_be_a_backend_is_refused(place: Endpoint) -> None:
    host = Host()
    assert host.adopt([(BindingEvent.BOUND, "openflow", CLIENT, place)]) == 1
    assert host.removed() == []


def test_unlisted_backends_are_limited() -> None:
    host = Host()
    changes = [
        (BindingEvent.BOUND, "openflow", client, at(f"10.21.0.{number}", 1))
        for number, client in enumerate(CLIENTS * 3)
    ]
    assert host.adopt(changes) == len(changes) - MAX_UNLISTED
    assert len(host.removed()) <= MAX_UNLISTED


# Any order of events


class TwoHosts:
    """Two hosts that share their bindings; the first in ``hosts`` is active."""

    def __init__(self, *, fast: bool) -> None:
        self.hosts = [Host(fast=fast), Host(fast=fast)]
        self.texts = [UNMIRRORED, UNMIRRORED]
        self.records: dict[tuple[str, Endpoint], tuple[Host, Endpoint]] = {}
        self.connections: dict[Endpoint, ClientConnection] = {}
        self.hosts[1].sweep(RELEASE)

    def deliver(self) -> None:
        """Pass the hosts' reports through the store, by the rules of redis_store.py."""
        for host, peer in (self.hosts, self.hosts[::-1]):
            for what, service, client, backend in host.take_changes():
                owner, value = self.records.get((service, client), (None, None))
                if what is BindingEvent.BOUND:
                    self.records[service, client] = host, backend
                elif owner is host if what is BindingEvent.FORGOTTEN else value == backend:
                    del self.records[service, client]
                else:
                    continue
                peer.adopt([(what, service, client, backend)])

    def synchronise(self) -> None:
        """Synchronise as synchroniser.py does after a reload and at a change of role."""
        for host in self.hosts:
            others = [
                (BindingEvent.BOUND, *key, value) for key, (owner, value) in self.records.items() if owner is not host
            ]
            assert host.adopt(others) == 0
            own = [key for key, (owner, _) in self.records.items() if owner is host]
            host.reported.clear()
            host.sweep(ANNOUNCE)
            put = {(one.service, one.client) for one in host.reported if one.event is BindingEvent.BOUND}
            self.deliver()
            for key in set(own) - put if host is self.hosts[0] else ():
                del self.records[key]
                self.hosts[1].adapter.withdraw_bindings([(*key, False)])

    def change_rules(self, index: int, text: str) -> None:
        self.texts[index] = text
        self.hosts[index].adapter.reload(parse_rules(text))
        self.deliver()
        self.synchronise()
        self.hosts[index].adapter.prune()

    def open(self, client: Endpoint, *, iss: int) -> None:
        if client in self.connections:
            self.end(client)
        self.connections[client] = ClientConnection(self.hosts[0].engine, client=client, iss=iss)
        self.connections[client].connect()
        self.deliver()

    def end(self, client: Endpoint) -> None:
        if (connection := self.connections.pop(client, None)) is not None:
            connection.from_client("RA")
            self.wait(connection.now + TIMEOUTS[State.RESET])

    def move(self) -> None:
        """Make the other host active."""
        self.change_rules(1, self.texts[0])
        self.hosts.reverse()
        self.hosts[1].sweep(RELEASE)
        self.hosts[0].sweep(CLAIM_ALL)
        self.deliver()
        self.synchronise()
        for connection in self.connections.values():
            connection.engine = self.hosts[0].engine
        self.assert_all_go_on()

    def wait(self, now: float) -> None:
        for host in self.hosts:
            while (due := host.engine.next_timer()) is not None and due <= now:
                host.engine.handle_timer(now)
        self.deliver()

    def assert_all_go_on(self) -> None:
        for connection in self.connections.values():
            assert connection.from_client("PA", b"x").dst == connection.backend_address
            assert connection.from_backend("PA", b"y").src == SERVICE[0]


POOLS = [
    UNMIRRORED,
    WITHOUT[C1],
    WITHOUT[C2],
    UNMIRRORED + "        - {name: c3, address: 10.20.0.14}\n",
    UNMIRRORED.replace("10.20.0.11}", "10.20.0.11, weight: 3}"),
    UNMIRRORED.replace("pool:\n", "pool:\n      balance: round-robin\n"),
]


@pytest.mark.parametrize("seed", range(12))
def test_no_connection_moves_in_whatever_order_the_hosts_reload(seed: int, fast: bool) -> None:
    random = Random(seed)
    pair = TwoHosts(fast=fast)
    for number in range(40):
        what = random.choice(["open", "open", "open", "end", "active", "standby", "move"])
        if what == "open":
            pair.open(random.choice(CLIENTS[:12]), iss=1000 * number)
        elif what == "end" and pair.connections:
            pair.end(random.choice(list(pair.connections)))
        elif what == "move":
            pair.move()
        elif what != "end":
            pair.change_rules(what == "standby", random.choice(POOLS))
        pair.assert_all_go_on()
    for client in CLIENTS:
        pair.end(client)
    for later in (1e6, 2e6):
        pair.move()
        pair.wait(later)
    assert pair.records == {}
    assert [host.engine.flows(1e9) for host in pair.hosts] == [[], []]


def test_a_flood_to_a_removed_service_is_not_reported_and_leaves_room_for_others(fast: bool) -> None:
    host = Host(fast=fast, max_flows=20)
    connected(host)
    assert [what for what, *_ in host.change_rules(ELSEWHERE)] == [BindingEvent.BOUND], "its service was removed"
    for client in CLIENTS:
        flood = ClientConnection(host.engine, client=client)
        flood.passed(packet(client, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING)
    assert host.take_changes() == []
    connected(host, service=at("10.10.0.100", 7000))
    shown = host.engine.snapshot(1000.0)
    assert (shown["flows"], shown["pinned_flows"]) == (7, 1), (
        "at most a quarter of the table and one more are half open"
    )
    assert [flow["service"] for flow in host.engine.flows(1000.0)].count("other") == 1


def test_a_flood_is_not_reported_when_other_rules_would_send_it_elsewhere(fast: bool) -> None:
    host = Host(fast=fast, max_flows=20)
    [gone, *_] = [client for client in CLIENTS if derived(client) == C1]
    connected(host, gone)
    for client in CLIENTS:
        if client != gone:
            ClientConnection(host.engine, client=client).passed(
                packet(client, SERVICE, "PA", 5, 6, b"data"), Hook.PREROUTING
            )
    assert [client for *_, client, _ in host.change_rules(WITHOUT[C1])] == [gone]
    for client in CLIENTS:
        connected(host, client=(client[0], 7))
    assert gone in [change[2] for change in host.change_rules(UNMIRRORED)], "its connection still exists"
