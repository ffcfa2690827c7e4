"""Bindings that are shared with other hosts: reports, and guests, alike in both gears."""

from collections.abc import Iterator

import pytest

from natmirror.actions import Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, CLAIM_SEEN, RELEASE
from natmirror.fastpath.flow_states import State
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Balance
from tests.helpers.bindings import CLIENTS, UNMIRRORED, close, derived, other, pinned_connection
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, TIMEOUTS, assert_adds_up, at, packet

ENOUGH = 1000


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def reporting_engine(
    balance: str = "maglev", *, fast: bool = True, most: int = ENOUGH, mirrored: bool = False
) -> Engine:
    text = (RULES if mirrored else UNMIRRORED).replace("    pool:\n", f"    pool:\n      balance: {balance}\n")
    one = engine(text, fast=fast)
    one.bindings.log_changes(most)
    return one


def changes(one: Engine) -> list[BindingChange]:
    found, missed = one.bindings.take_changes()
    assert not missed
    return found


def sweep_all(one: Engine, how: int, now: float) -> None:
    first: int | None = 0
    while first is not None:
        first = one.bindings.sweep(first, 7, how, now)


@pytest.mark.parametrize("balance", Balance)
def test_only_pinned_bindings_are_reported_when_they_are_established_and_when_they_end(
    balance: str, fast: bool
) -> None:
    one = reporting_engine(balance, fast=fast)
    connections = [ClientConnection(one, client=client) for client in CLIENTS]
    for connection in connections:
        connection.syn()
        connection.syn_ack()
        assert changes(one) == [], "no report before the handshake is complete: the client would repeat its SYN"
        connection.from_client("A")
        expected = (
            []
            if connection.backend == derived(connection.client)
            else [("openflow", connection.client, connection.backend)]
        )
        assert [(got.service, got.client, got.backend) for got in changes(one)] == expected
    pinned = [connection for connection in connections if connection.backend != derived(connection.client)]
    assert len(pinned) == one.snapshot(1000.0)["pinned_flows"]
    assert bool(pinned) == (balance != "maglev")
    for connection in connections:
        close(connection)
    assert {(got.event, got.client) for got in changes(one)} == {
        (BindingEvent.ENDED, connection.client) for connection in pinned
    }
    assert one.snapshot(1000.0)["pinned_flows"] == 0


def test_bindings_that_a_drain_has_moved_are_reported_and_others_are_not(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    before = [ClientConnection(one, client=client) for client in CLIENTS]
    for connection in before:
        connection.connect()
    one.set_share("openflow", "c1", 0.0)
    after = [ClientConnection(one, client=(address, port + 1)) for address, port in CLIENTS]
    for connection in after:
        connection.connect()
    moved = {connection.client for connection in after if derived(connection.client) == C1}
    assert {change.client for change in changes(one)} == moved
    assert moved


@pytest.mark.parametrize("by", ["client", "backend"])
def test_a_reset_connection_is_reported_as_ended(by: str, fast: bool) -> None:
    one = reporting_engine(fast=fast)
    connection = pinned_connection(one)
    changes(one)
    if by == "client":
        connection.from_client("RA")
    else:
        connection.from_backend("RA")
    [change] = changes(one)
    assert change == BindingChange(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))


def test_an_expired_connection_is_reported_as_forgotten(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    connection = pinned_connection(one)
    changes(one)
    one.handle_timer(connection.now + TIMEOUTS[State.ESTABLISHED])
    assert [change.event for change in changes(one)] == [BindingEvent.FORGOTTEN]


def test_a_new_connection_with_the_same_endpoints_ends_the_old_one(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    pinned_connection(one)
    changes(one)
    again = ClientConnection(one, iss=77)
    again.passed(packet(CLIENT, SERVICE, "S", 77), Hook.PREROUTING)
    again.backend = other(derived())
    again.passed(packet(again.backend, CLIENT, "SA", IRS, 78), Hook.FORWARD)
    again.from_client("A")
    assert [change.event for change in changes(one)] == [BindingEvent.ENDED, BindingEvent.BOUND]


def test_a_killed_connection_is_reported_as_ended(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    connection = pinned_connection(one)
    changes(one)
    name = "c2" if connection.backend == C2 else "c1"
    one.kill("openflow", name, one.flow_ids(), connection.now)
    assert [change.event for change in changes(one)] == [BindingEvent.ENDED]


def test_more_changes_than_fit_are_missed_and_a_sweep_reports_all(fast: bool) -> None:
    one = reporting_engine("round-robin", fast=fast, most=5)
    connections = [ClientConnection(one, client=client) for client in CLIENTS]
    for connection in connections:
        connection.connect()
    found, missed = one.bindings.take_changes()
    assert (len(found), missed) == (5, True)
    reported = set()
    first: int | None = 0
    while first is not None:
        first = one.bindings.sweep(first, 5, ANNOUNCE, 1000.0)
        reported |= {change.client for change in changes(one)}
    assert reported == {
        connection.client for connection in connections if connection.backend != derived(connection.client)
    }


def test_both_gears_report_the_same() -> None:
    reported = []
    for fast in (True, False):
        one = reporting_engine("round-robin", fast=fast)
        for client in CLIENTS:
            connection = ClientConnection(one, client=client)
            connection.connect()
            connection.from_client("PA", b"request")
            connection.from_backend("PA", b"reply")
            close(connection)
        reported.append(changes(one))
    assert reported[0] == reported[1]
    assert reported[0]


# Guests


@pytest.fixture
def host(fast: bool) -> Iterator[Engine]:
    """A host that has adopted a binding of another host."""
    one = reporting_engine(fast=fast)
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    yield one
    assert_adds_up(one.snapshot(1000.0))


def guest_connection(one: Engine) -> ClientConnection:
    """Return the connection of the guest, as it goes on here."""
    connection = ClientConnection(one)
    connection.backend, connection.sent, connection.answered = other(derived()), 1000, 2000
    return connection


def test_a_guests_packets_go_to_its_backend(host: Engine) -> None:
    connection = guest_connection(host)
    assert (connection.from_client("PA", b"more").dst, connection.from_client("A").dst) == (
        connection.backend_address,
    ) * 2
    out = connection.from_backend("PA", b"answer")
    assert (out.src, out.sport) == SERVICE
    assert host.snapshot(1000.0)["counters"].get(EngineCounter.FLOWS_PICKED_UP, 0) == 0


def test_a_guest_does_not_expire_and_is_not_reported(host: Engine) -> None:
    assert host.next_timer() is None
    host.handle_timer(1e9)
    assert len(host.flows(1e9)) == 1
    assert host.flows(1e9)[0]["idle_seconds"] is None
    sweep_all(host, ANNOUNCE | CLAIM_SEEN, 2000.0)
    assert changes(host) == []
    assert host.snapshot(2000.0)["pinned_flows"] == 0


def test_a_guest_is_forgotten_when_the_other_host_withdraws_it(host: Engine) -> None:
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=False)
    assert (host.flows(1000.0), changes(host)) == ([], [])


def test_a_claimed_guest_is_our_own(host: Engine) -> None:
    sweep_all(host, CLAIM_ALL, 2000.0)
    assert changes(host) == [BindingChange(BindingEvent.BOUND, "openflow", CLIENT, other(derived()))]
    assert host.snapshot(2000.0)["pinned_flows"] == 1
    host.bindings.withdraw("openflow", CLIENT, 2000.0, ended=True)
    assert len(host.flows(2000.0)) == 1, "it is the host's own"
    host.handle_timer(2000.0 + TIMEOUTS[State.ESTABLISHED])
    assert [change.event for change in changes(host)] == [BindingEvent.FORGOTTEN]


def test_a_guest_whose_packets_pass_here_is_claimed_by_a_sweep(host: Engine) -> None:
    guest_connection(host).from_client("PA", b"more")
    sweep_all(host, 0, 2000.0)
    assert changes(host) == []
    sweep_all(host, CLAIM_SEEN, 2000.0)
    assert [change.event for change in changes(host)] == [BindingEvent.BOUND]


def test_a_guest_that_ends_here_is_reported_as_ended(host: Engine) -> None:
    connection = guest_connection(host)
    connection.from_client("PA", b"more")
    connection.from_backend("A")
    close(connection)
    assert [change.event for change in changes(host)] == [BindingEvent.BOUND, BindingEvent.ENDED]


def test_a_guest_in_use_that_the_other_host_forgets_is_our_own_unless_it_has_ended(host: Engine) -> None:
    guest_connection(host).from_client("PA", b"more")
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=False)
    assert [change.event for change in changes(host)] == [BindingEvent.BOUND]
    host.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    guest_connection(host).from_client("PA", b"more")
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=True)
    assert host.flows(1000.0) == []


def test_the_latest_report_of_a_binding_wins(host: Engine) -> None:
    assert host.bindings.adopt("openflow", CLIENT, derived(), 1000.0)
    assert host.flows(1000.0) == [], "the binding is derived"
    connection = pinned_connection(host)
    changes(host)
    assert host.bindings.adopt("openflow", CLIENT, connection.backend or C1, 1000.0)
    assert [flow["guest"] for flow in host.flows(1000.0)] == [True]
    assert changes(host) == [], "the other host reports its changes"
    assert host.snapshot(1000.0)["pinned_flows"] == 0


def test_a_connection_that_was_just_opened_here_wins_over_a_report(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), connection.now + 9)
    assert connection.from_client("PA", b"here").dst == connection.backend_address
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), connection.now + 11)
    assert connection.from_client("PA", b"there").dst == other(derived())[0]


def test_a_host_that_is_no_longer_active_releases_all_its_flows(fast: bool) -> None:
    one = reporting_engine(fast=fast)
    pinned = pinned_connection(one)
    ordinary = ClientConnection(one, client=(CLIENT[0], 7))
    one.set_share("openflow", "c1", 1.0)
    one.set_share("openflow", "c2", 1.0)
    ordinary.connect()
    changes(one)
    sweep_all(one, RELEASE, 1000.0)
    assert changes(one) == []
    assert {flow["client"]: flow["guest"] for flow in one.flows(1000.0)} == {
        "10.10.0.11:40001": True,
        "10.10.0.11:7": False,
    }
    for connection in (pinned, ordinary):  # both go on with their backends, however many bytes passed elsewhere
        connection.sent, connection.answered = 1 << 20, 1 << 21
        assert connection.from_client("PA", b"later").dst == connection.backend_address
        connection.from_backend("PA", b"answer")
        close(connection)
    assert [change.event for change in changes(one)] == [BindingEvent.BOUND, BindingEvent.ENDED]
    assert all(flow["state"] == "time-wait" for flow in one.flows(1000.0))


@pytest.mark.parametrize(
    ("service", "client", "backend"),
    [("none", CLIENT, C1), ("openflow", at("192.0.2.1", 1), C1), ("openflow", CLIENT, at("10.20.0.99", 0))],
    ids=["service", "client", "backend"],
)
def test_reports_that_do_not_fit_the_rules_are_refused(service: str, client: Endpoint, backend: Endpoint) -> None:
    one = reporting_engine()
    assert not one.bindings.adopt(service, client, backend, 1000.0)
    one.bindings.withdraw(service, client, 1000.0, ended=True)
    assert one.flows(1000.0) == []


def test_guests_evict_no_connection_and_a_full_table_refuses_them() -> None:
    text = UNMIRRORED.replace("10.10.0.0/24", "10.10.0.0/16")
    one = engine(text, max_flows=20)
    taken = [one.bindings.adopt("openflow", client, other(derived(client)), 1000.0) for client in CLIENTS]
    assert taken == [True] * 20 + [False] * 20
    connection = ClientConnection(one, client=at("10.10.0.200", 5))
    connection.passed(packet(connection.client, SERVICE, "S", ISS), Hook.PREROUTING)
    assert len(one.flows(1000.0)) == 20


def test_a_guest_of_a_mirrored_service_counts_bytes_that_no_mirror_gets(fast: bool) -> None:
    one = reporting_engine(fast=fast, mirrored=True)
    one.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    connection = guest_connection(one)
    connection.from_client("PA", b"more")
    connection.from_backend("PA", b"reply")
    connection.from_client("PA", b"and more")
    [mirror] = one.snapshot(1000.0)["mirrors"]
    assert mirror["lost_bytes"] == {"picked-up": 12}
    assert_adds_up(one.snapshot(1000.0))
    one.bindings.withdraw("openflow", CLIENT, 1000.0, ended=True)
    assert one.flows(1000.0) == []
    assert_adds_up(one.snapshot(1000.0))
