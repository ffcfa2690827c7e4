"""What other hosts hear of bindings, and what is made of what they say: by both gears alike."""

from collections.abc import Iterator

import pytest

from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, CLAIM_SEEN, RELEASE
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Balance
from tests.helpers.bindings import CLIENTS, UNMIRRORED, close, derived, other, strange_session
from tests.helpers.session import IRS, ISS, Session, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, assert_adds_up, at, packet

ENOUGH = 1000


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def telling(balance: str = "maglev", *, fast: bool = True, most: int = ENOUGH, mirrored: bool = False) -> Engine:
    text = (RULES if mirrored else UNMIRRORED).replace("    pool:\n", f"    pool:\n      balance: {balance}\n")
    one = engine(text, fast=fast)
    one.bindings.log_changes(most)
    return one


def changes(one: Engine) -> list[BindingChange]:
    found, missed = one.bindings.take_changes()
    assert not missed
    return found


def whole_sweep(one: Engine, how: int, now: float) -> None:
    first: int | None = 0
    while first is not None:
        first = one.bindings.sweep(first, 7, how, now)


@pytest.mark.parametrize("balance", Balance)
def test_only_what_maglev_would_not_say_is_told_when_it_is_established_and_when_it_is_over(
    balance: str, fast: bool
) -> None:
    one = telling(balance, fast=fast)
    sessions = [Session(one, client=client) for client in CLIENTS]
    for session in sessions:
        session.syn()
        session.syn_ack()
        assert changes(one) == [], "nobody needs to know: the client would repeat it"
        session.from_client("A")
        expected = [] if session.backend == derived(session.client) else [("openflow", session.client, session.backend)]
        assert [(got.service, got.client, got.backend) for got in changes(one)] == expected
    strange = [session for session in sessions if session.backend != derived(session.client)]
    assert len(strange) == one.snapshot(1000.0)["flows_not_derivable"]
    assert bool(strange) == (balance != "maglev")
    for session in sessions:
        close(session)
    assert {(got.what, got.client) for got in changes(one)} == {
        (BindingEvent.ENDED, session.client) for session in strange
    }
    assert one.snapshot(1000.0)["flows_not_derivable"] == 0


def test_what_a_drain_has_moved_is_told_and_what_it_has_left_is_not(fast: bool) -> None:
    one = telling(fast=fast)
    before = [Session(one, client=client) for client in CLIENTS]
    for session in before:
        session.connect()
    one.set_share("openflow", "c1", 0.0)
    after = [Session(one, client=(address, port + 1)) for address, port in CLIENTS]
    for session in after:
        session.connect()
    moved = {session.client for session in after if derived(session.client) == C1}
    assert {change.client for change in changes(one)} == moved
    assert moved


@pytest.mark.parametrize("by", ["client", "backend"])
def test_a_reset_is_an_end(by: str, fast: bool) -> None:
    one = telling(fast=fast)
    session = strange_session(one)
    changes(one)
    if by == "client":
        session.from_client("RA")
    else:
        session.from_backend("RA")
    [change] = changes(one)
    assert change == BindingChange(BindingEvent.ENDED, "openflow", CLIENT, other(derived()))


def test_a_connection_that_goes_for_want_of_packets_is_only_forgotten(fast: bool) -> None:
    one = telling(fast=fast)
    session = strange_session(one)
    changes(one)
    one.handle_timer(session.now + TIMEOUTS[State.ESTABLISHED])
    assert [change.what for change in changes(one)] == [BindingEvent.FORGOTTEN]


def test_a_new_connection_of_the_same_port_ends_the_old_one(fast: bool) -> None:
    one = telling(fast=fast)
    strange_session(one)
    changes(one)
    again = Session(one, iss=77)
    again.passed(packet(CLIENT, SERVICE, "S", 77), Hook.PREROUTING)
    again.backend = other(derived())
    again.passed(packet(again.backend, CLIENT, "SA", IRS, 78), Hook.FORWARD)
    again.from_client("A")
    assert [change.what for change in changes(one)] == [BindingEvent.ENDED, BindingEvent.BOUND]


def test_a_killed_connection_is_over(fast: bool) -> None:
    one = telling(fast=fast)
    session = strange_session(one)
    changes(one)
    name = "c2" if session.backend == C2 else "c1"
    one.kill("openflow", name, one.flow_ids(), session.now)
    assert [change.what for change in changes(one)] == [BindingEvent.ENDED]


def test_more_changes_than_there_is_room_for_are_missed_and_a_sweep_tells_all(fast: bool) -> None:
    one = telling("round-robin", fast=fast, most=5)
    sessions = [Session(one, client=client) for client in CLIENTS]
    for session in sessions:
        session.connect()
    found, missed = one.bindings.take_changes()
    assert (len(found), missed) == (5, True)
    told = set()
    first: int | None = 0
    while first is not None:
        first = one.bindings.sweep(first, 5, ANNOUNCE, 1000.0)
        told |= {change.client for change in changes(one)}
    assert told == {session.client for session in sessions if session.backend != derived(session.client)}


def test_both_gears_tell_the_same() -> None:
    told = []
    for fast in (True, False):
        one = telling("round-robin", fast=fast)
        for client in CLIENTS:
            session = Session(one, client=client)
            session.connect()
            session.from_client("PA", b"request")
            session.from_backend("PA", b"reply")
            close(session)
        told.append(changes(one))
    assert told[0] == told[1]
    assert told[0]


# Guests


@pytest.fixture
def host(fast: bool) -> Iterator[Engine]:
    """A host that has heard of a connection of another one's."""
    one = telling(fast=fast)
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    yield one
    assert_adds_up(one.snapshot(1000.0))


def goes_on(one: Engine) -> Session:
    """The connection that a guest is of, in its middle."""
    session = Session(one)
    session.backend, session.sent, session.answered = other(derived()), 1000, 2000
    return session


def test_a_guests_packets_go_where_it_was_bound(host: Engine) -> None:
    session = goes_on(host)
    assert (session.from_client("PA", b"more").dst, session.from_client("A").dst) == (session.backend_address,) * 2
    out = session.from_backend("PA", b"answer")
    assert (out.src, out.sport) == SERVICE
    assert host.snapshot(1000.0)["counters"].get("flows_picked_up", 0) == 0


def test_a_guest_stays_and_is_not_told_of(host: Engine) -> None:
    assert host.next_timer() is None
    host.handle_timer(1e9)
    assert len(host.flows(1e9)) == 1
    assert host.flows(1e9)[0]["idle_seconds"] is None
    whole_sweep(host, ANNOUNCE | CLAIM_SEEN, 2000.0)
    assert changes(host) == []
    assert host.snapshot(2000.0)["flows_not_derivable"] == 0


def test_a_guest_goes_when_the_other_host_says_so(host: Engine) -> None:
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=False)
    assert (host.flows(1000.0), changes(host)) == ([], [])


def test_a_guest_that_is_claimed_is_our_own(host: Engine) -> None:
    whole_sweep(host, CLAIM_ALL, 2000.0)
    assert changes(host) == [BindingChange(BindingEvent.BOUND, "openflow", CLIENT, other(derived()))]
    assert host.snapshot(2000.0)["flows_not_derivable"] == 1
    host.bindings.withdraw("openflow", CLIENT, 2000.0, ended=True)
    assert len(host.flows(2000.0)) == 1, "nobody else can take it away"
    host.handle_timer(2000.0 + TIMEOUTS[State.ESTABLISHED])
    assert [change.what for change in changes(host)] == [BindingEvent.FORGOTTEN]


def test_a_guest_whose_packets_pass_here_is_claimed_by_a_sweep(host: Engine) -> None:
    goes_on(host).from_client("PA", b"more")
    whole_sweep(host, 0, 2000.0)
    assert changes(host) == []
    whole_sweep(host, CLAIM_SEEN, 2000.0)
    assert [change.what for change in changes(host)] == [BindingEvent.BOUND]


def test_a_guest_that_ends_here_has_ended(host: Engine) -> None:
    session = goes_on(host)
    session.from_client("PA", b"more")
    session.from_backend("A")
    close(session)
    assert [change.what for change in changes(host)] == [BindingEvent.BOUND, BindingEvent.ENDED]


def test_a_guest_in_use_that_the_other_host_forgets_is_our_own_but_not_one_that_has_ended(host: Engine) -> None:
    goes_on(host).from_client("PA", b"more")
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=False)
    assert [change.what for change in changes(host)] == [BindingEvent.BOUND]
    host.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    goes_on(host).from_client("PA", b"more")
    host.bindings.withdraw("openflow", CLIENT, 1000.0, ended=True)
    assert host.flows(1000.0) == []


def test_the_last_who_tells_of_a_binding_is_right(host: Engine) -> None:
    assert host.bindings.adopt("openflow", CLIENT, derived(), 1000.0)
    assert host.flows(1000.0) == [], "it can be derived"
    session = strange_session(host)
    changes(host)
    assert host.bindings.adopt("openflow", CLIENT, session.backend or C1, 1000.0)
    assert [flow["guest"] for flow in host.flows(1000.0)] == [True]
    assert changes(host) == [], "the other one tells what becomes of it"
    assert host.snapshot(1000.0)["flows_not_derivable"] == 0


def test_a_connection_that_was_just_opened_here_is_younger_than_what_another_host_tells(fast: bool) -> None:
    one = telling(fast=fast)
    session = Session(one)
    session.connect()
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), session.now + 9)
    assert session.from_client("PA", b"here").dst == session.backend_address
    assert one.bindings.adopt("openflow", CLIENT, other(derived()), session.now + 11)
    assert session.from_client("PA", b"there").dst == other(derived())[0]


def test_a_host_that_is_active_no_longer_lends_all_it_has(fast: bool) -> None:
    one = telling(fast=fast)
    strange = strange_session(one)
    ordinary = Session(one, client=(CLIENT[0], 7))
    one.set_share("openflow", "c1", 1.0)
    one.set_share("openflow", "c2", 1.0)
    ordinary.connect()
    changes(one)
    whole_sweep(one, RELEASE, 1000.0)
    assert changes(one) == []
    assert {flow["client"]: flow["guest"] for flow in one.flows(1000.0)} == {
        "10.10.0.11:40001": True,
        "10.10.0.11:7": False,
    }
    for session in (strange, ordinary):  # both go on where they were, however much has passed elsewhere meanwhile
        session.sent, session.answered = 1 << 20, 1 << 21
        assert session.from_client("PA", b"later").dst == session.backend_address
        session.from_backend("PA", b"answer")
        close(session)
    assert [change.what for change in changes(one)] == [BindingEvent.BOUND, BindingEvent.ENDED]
    assert all(flow["state"] == "time-wait" for flow in one.flows(1000.0))


@pytest.mark.parametrize(
    ("service", "client", "backend"),
    [("none", CLIENT, C1), ("openflow", at("192.0.2.1", 1), C1), ("openflow", CLIENT, at("10.20.0.99", 0))],
    ids=["service", "client", "backend"],
)
def test_what_means_nothing_here_is_refused(service: str, client: Endpoint, backend: Endpoint) -> None:
    one = telling()
    assert not one.bindings.adopt(service, client, backend, 1000.0)
    one.bindings.withdraw(service, client, 1000.0, ended=True)
    assert one.flows(1000.0) == []


def test_guests_take_no_room_from_connections_and_a_full_table_refuses_them() -> None:
    text = UNMIRRORED.replace("10.10.0.0/24", "10.10.0.0/16")
    one = engine(text, max_flows=20)
    taken = [one.bindings.adopt("openflow", client, other(derived(client)), 1000.0) for client in CLIENTS]
    assert taken == [True] * 20 + [False] * 20
    session = Session(one, client=at("10.10.0.200", 5))
    session.passed(packet(session.client, SERVICE, "S", ISS), Hook.PREROUTING)
    assert len(one.flows(1000.0)) == 20


def test_a_guest_of_a_mirrored_service_counts_what_no_mirror_gets(fast: bool) -> None:
    one = telling(fast=fast, mirrored=True)
    one.bindings.adopt("openflow", CLIENT, other(derived()), 1000.0)
    session = goes_on(one)
    session.from_client("PA", b"more")
    session.from_backend("PA", b"reply")
    session.from_client("PA", b"and more")
    [mirror] = one.snapshot(1000.0)["mirrors"]
    assert mirror["lost_bytes"] == {"mid-connection": 12}
    assert_adds_up(one.snapshot(1000.0))
    one.bindings.withdraw("openflow", CLIENT, 1000.0, ended=True)
    assert one.flows(1000.0) == []
    assert_adds_up(one.snapshot(1000.0))
