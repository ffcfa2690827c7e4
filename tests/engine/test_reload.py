"""Other rules while connections run: what stays, what goes, what is told."""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Decision, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.errors import RulesError
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from natmirror.rules.reload import merged, refuse_what_cannot_change
from natmirror.rules.text import differences
from tests.helpers.session import ISS, MIRROR_ISS, Session, engine
from tests.helpers.support import C1, C2, CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet, segment, told

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


def go_over(one: Engine, text: str, now: float = 1000.0) -> list[Send]:
    """All that a thread does at a reload."""
    rules = parse_rules(text)
    sends = one.expel(rules.switches, one.flow_ids(), now)
    one.reload(rules)
    sends += one.end_removed(one.leg_ids(), now)
    one.prune()
    return sends


def without_its_backend(session: Session) -> str:
    return WITHOUT_C1 if session.backend == C1 else WITHOUT_C2


def shown(one: Engine) -> dict[str, tuple[int, bool]]:
    return {row["name"]: (row["flows"], row["removed"]) for row in one.snapshot(1000.0)["backends"]}


def names_of(session: Session) -> tuple[str, str]:
    return ("c1", "c2") if session.backend == C1 else ("c2", "c1")


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_stays_with_a_backend_that_the_rules_do_not_name_any_more(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    mine, another = names_of(session)
    go_over(one, without_its_backend(session))
    assert shown(one) == {another: (0, False), mine: (1, True)}
    session.mirrored()
    assert session.from_client("PA", b"on").dst == session.backend_address
    assert [data for *_, data in session.mirrored()] == [b"on"]
    assert session.from_backend("PA", b"and on").src == SERVICE[0]
    later = Session(one, client=(CLIENT[0], 40_002))
    later.connect()
    assert later.backend == (C2 if session.backend == C1 else C1)
    session.from_client("R")
    end = one.next_timer()
    while end is not None and mine in shown(one):
        one.handle_timer(end)
        one.prune()
        end = one.next_timer()
    assert mine not in shown(one)


@pytest.mark.parametrize("fast", [True, False])
def test_a_backend_that_comes_back_into_the_rules_is_the_one_it_was(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    go_over(one, without_its_backend(session))
    go_over(one, RULES)
    assert shown(one) == {"c1": (int(session.backend == C1), False), "c2": (int(session.backend == C2), False)}
    again = Session(one, client=(CLIENT[0], 40_002))
    again.connect()
    assert again.backend == session.backend, "by the client's address"


@pytest.mark.parametrize("fast", [True, False])
def test_a_service_that_is_gone_keeps_its_connections_and_refuses_others(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    sent = go_over(one, ELSEWHERE)
    assert [told(action.packet)[0] for action in sent if isinstance(action, Send)] == ["RA"], "the mirror goes with it"
    assert session.from_client("PA", b"on").dst == session.backend_address
    assert session.from_backend("PA", b"and on").src == SERVICE[0]
    decision = one.receive(packet((CLIENT[0], 40_002), SERVICE, "S", ISS), Hook.PREROUTING, 1000.0)
    assert decision.verdict == Drop(DropReason.NO_BACKEND)
    [reset] = decision.sends
    assert told(reset.packet)[0] == "RA"
    session.from_client("R")
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    assert one.prune() == []
    nobodys = one.receive(packet(CLIENT, SERVICE, "S", 5), Hook.PREROUTING, 2000.0)
    assert nobodys == Decision(Accept(), [])


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_that_is_gone_gets_nothing_more_and_the_ledger_tells_why(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    session.from_client("PA", b"seen")
    session.mirrored()
    sent = go_over(one, PLAIN)
    assert [told(action.packet)[0] for action in sent if isinstance(action, Send)] == ["RA"]
    assert [event.reason for event in one.take_events()] == ["mirror-removed"]
    assert one.snapshot(1000.0)["mirrors"] == []
    session.from_client("PA", b"unseen")
    assert session.mirrored() == []
    go_over(one, RULES)
    mirror = one.snapshot(1000.0)["mirrors"][0]
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (10, {"mirror-removed": 10})
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_what_a_mirror_that_is_gone_still_sends_is_not_for_the_client(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    one.reload(parse_rules(PLAIN))
    one.end_removed(one.leg_ids(), 1000.0)
    assert session.from_mirror("PA", 1, 1, b"late") == Drop(DropReason.MIRROR_WITHOUT_LEG)
    one.prune()
    assert session.from_mirror("PA", 1, 1, b"later") == Accept(), "nobody's affair of ours"


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_at_another_place_is_another_and_settings_alone_change_nothing(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    assert go_over(one, RULES.replace("10.20.0.13}", "10.20.0.13, linger: 1s, buffer: 64KiB}")) == []
    session.from_client("PA", b"on")
    go_over(one, RULES.replace("10.20.0.13", "10.20.0.14"))
    assert [event.reason for event in one.take_events()] == ["mirror-removed"]
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("change", [(PLAIN, RULES), (RULES, PLAIN)])
def test_a_handshake_that_is_under_way_is_the_same_with_both_gears(change: tuple[str, str], steps: int) -> None:
    outcomes = []
    for fast in (True, False):
        one = engine(change[0], fast=fast)
        session = Session(one)
        said: list[Callable[[], object]] = [session.syn, session.syn_ack, partial(session.from_client, "A")]
        for step in range(3):
            if step == steps:
                go_over(one, change[1])
            said[step]()
        session.from_client("PA", b"x")
        outcomes.append((session.mirrored(), one.snapshot(1000.0)["flows"]))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("fast", [True, False])
def test_a_mirror_that_has_come_gets_connections_that_come_after_it(fast: bool) -> None:
    one = engine(PLAIN, fast=fast)
    before = Session(one)
    before.connect()
    go_over(one, RULES)
    before.from_client("PA", b"x")
    assert before.mirrored() == []
    after = Session(one, client=(CLIENT[0], 40_002))
    after.connect()
    assert [letters for letters, *_ in after.mirrored()] == ["S"]
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_clients_that_the_rules_do_not_name_any_more_are_reset(fast: bool) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.connect()
    session.from_client("PA", b"x")
    session.from_backend("PA", b"y")
    sent = go_over(one, RULES.replace("10.10.0.0/24", "10.10.1.0/24"))
    ends = [segment(action.packet) for action in sent if isinstance(action, Send)]
    resets = {(end.src, end.dst) for end in ends if told(end.raw)[0] == "RA"}
    assert {(SERVICE[0], CLIENT[0]), (CLIENT[0], session.backend_address)} <= resets


def test_a_drained_backend_stays_so_and_a_new_one_is_open() -> None:
    one = engine(PLAIN)
    one.set_share("openflow", "c1", 0.0)
    go_over(one, PLAIN.replace("10.20.0.12}", "10.20.0.12, weight: 3}"))
    clients = [(bytes((10, 10, 0, last)), 40_000) for last in range(20, 60)]
    for client in clients:
        session = Session(one, client=client)
        session.syn()
        assert session.backend == C2
    go_over(one, PLAIN + "        - {name: c3, address: 10.20.0.14}\n")
    found = set()
    for address, _ in clients:
        session = Session(one, client=(address, 41_000))
        session.syn()
        found.add(session.backend)
    assert found == {C2, at("10.20.0.14", 6653)}


def test_a_share_that_is_told_again_costs_the_packets_nothing() -> None:
    one = engine(PLAIN)
    one.set_share("openflow", "c1", 0.5)
    for backend, share in (("c1", 0.5), ("c2", 1.0)):
        before = one.gear.plan.services[0].table
        one.set_share("openflow", backend, share)
        assert one.gear.plan.services[0].table == before, "tables are made where something has changed"


@pytest.mark.parametrize("fast", [True, False])
def test_round_robin_goes_on_with_whom_there_is(fast: bool) -> None:
    text = PLAIN.replace("    pool:\n", "    pool:\n      balance: round-robin\n")
    one = engine(text, fast=fast)
    Session(one, client=(CLIENT[0], 40_001)).syn()
    go_over(one, text + "        - {name: c3, address: 10.20.0.14}\n")
    found = []
    for port in range(40_002, 40_008):
        session = Session(one, client=(CLIENT[0], port))
        session.syn()
        found.append(session.backend)
    assert found == [C1, C2, at("10.20.0.14", 6653)] * 2


def test_numbers_are_given_anew() -> None:
    one = engine()
    for number in range(300):
        go_over(one, RULES + OTHER.replace("7000", str(7000 + number)).replace("other", f"other-{number}"))
    assert one.gear.plan.service_count <= 4
    assert one.gear.plan.backend_count <= 8


def test_two_services_change_places() -> None:
    one = engine(RULES + OTHER)
    session = Session(one)
    session.connect()
    top, mine = RULES.split("services:\n")
    go_over(one, f"{top}services:{OTHER}{mine}")
    assert session.from_client("PA", b"on").dst == session.backend_address
    assert [row["service"] for row in one.snapshot(1000.0)["backends"]] == ["other", "openflow", "openflow"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=25))
def test_any_sequence_of_reloads_is_the_same_with_both_gears_and_moves_nobody(steps: list[tuple[int, int]]) -> None:
    variants = [
        RULES,
        PLAIN,
        WITHOUT_C1,
        WITHOUT_C2,
        RULES + OTHER,
        PLAIN.replace("pool:\n", "pool:\n      hash: address-port\n"),
    ]
    engines = [engine(fast=fast) for fast in (True, False)]
    sessions: list[dict[int, Session]] = [{}, {}]
    for variant, number in steps:
        seen = []
        for one, mine in zip(engines, sessions, strict=True):
            go_over(one, variants[variant])
            if number not in mine:
                mine[number] = Session(one, client=(bytes((10, 10, 0, 30 + number)), 40_000 + number))
                mine[number].connect()
            session = mine[number]
            assert session.from_client("PA", b"x").dst == session.backend_address
            assert session.from_backend("PA", b"y").src == SERVICE[0]
            seen.append((session.backend, session.mirrored(), one.snapshot(1000.0)["mirrors"]))
            assert_adds_up(one.snapshot(1000.0))
        assert seen[0] == seen[1]


# What may change, and what both rules come to


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"threads: 2\n{RULES}", "rules.yaml: threads: it cannot change while natmirror runs, it needs a restart"),
        (f"max-flows: 2000\n{RULES}", "rules.yaml: max-flows: it cannot change"),
        (f"known-switches: /var/lib/x\n{RULES}", "rules.yaml: known-switches: it cannot change"),
        (
            RULES[: RULES.index("    pool:")] + "    mirrors: [{name: m, address: 10.20.0.13}]\n",
            "rules.yaml: services[0].pool: it cannot change",
        ),
        (
            f"{RULES}  - {{name: w, address: 10.10.0.9, port: 80, mirrors: [{{name: m, address: 10.20.0.14}}]}}\n",
            "rules.yaml: services[1]: a first service without a pool cannot come while natmirror runs",
        ),
    ],
)
def test_what_cannot_change_is_refused(text: str, error: str) -> None:
    with pytest.raises(RulesError, match=f"^{error.replace('[', '.').replace(']', '.')}"):
        refuse_what_cannot_change(parse_rules(RULES), parse_rules(text, "rules.yaml"))


def test_a_service_that_has_connections_left_comes_back_with_a_pool_or_not_at_all() -> None:
    watched = "  - {name: w, address: 10.10.0.9, port: 80, mirrors: [{name: m, address: 10.20.0.14}]}\n"
    old = parse_rules(RULES + watched + OTHER)
    bare = OTHER.replace(
        "pool: {backends: [{name: c1, address: 10.20.0.11}]}", "mirrors: [{name: n, address: 10.20.0.14}]"
    )
    rest = parse_rules(RULES + watched)
    refuse_what_cannot_change(old, rest)
    with pytest.raises(RulesError, match=r"services\[2\]\.pool: it cannot change"):
        refuse_what_cannot_change(merged(rest, [(old.services[2], None)]), parse_rules(RULES + watched + bare))


def test_what_may_change_is_not_refused() -> None:
    refuse_what_cannot_change(parse_rules(RULES), parse_rules(f"mirror-memory: 1MiB\n{RULES}{OTHER}"))
    refuse_what_cannot_change(parse_rules(RULES), parse_rules(ELSEWHERE))


def test_both_rules_together_have_the_packets_of_each() -> None:
    old, new = parse_rules(RULES + OTHER), parse_rules(WITHOUT_C1.replace("10.10.0.0/24", "10.10.0.0/24, 10.11.0.0/24"))
    both = merged(new, [old])
    assert both.switches == (IPv4Network("10.10.0.0/24"), IPv4Network("10.11.0.0/24"))
    assert [service.name for service in both.services] == ["openflow", "other"]
    pool = both.services[0].pool
    assert pool is not None
    assert {backend.name for backend in pool.backends} == {"c1", "c2"}
    assert merged(new, []) == new


def test_what_has_connections_left_is_added_alone() -> None:
    old, new = parse_rules(RULES + OTHER), parse_rules(WITHOUT_C1)
    pool, gone = old.services[0].pool, old.services[1]
    assert pool is not None
    both = merged(new, [(old.services[0], pool.backends[0]), (gone, None)])
    assert [len(service.pool.backends) for service in both.services if service.pool] == [2, 0]
    assert [service.mirrors for service in both.services] == [new.services[0].mirrors, ()]


def test_differences_are_told_line_by_line() -> None:
    changed = WITHOUT_C1.replace("10.20.0.12}", "10.20.0.12, weight: 2}") + OTHER
    assert differences(parse_rules(RULES), parse_rules(changed)) == [
        "- openflow: backend c1 10.20.0.11:6653 weight 1",
        "- openflow: backend c2 10.20.0.12:6653 weight 1",
        "+ openflow: backend c2 10.20.0.12:6653 weight 2",
        "+ service other 10.10.0.100:7000",
        "+ other: balance maglev over the client's address",
        "+ other: backend c1 10.20.0.11:7000 weight 1",
        "+ other: when-none drop when-down reset",
        "+ other: health  not checked",
    ]
    assert differences(parse_rules(RULES), parse_rules(RULES)) == []


def test_another_order_is_a_difference_where_it_says_who_comes_first() -> None:
    head, c1, c2 = (part for part in PLAIN.replace("pool:\n", "pool:\n      balance: priority\n").split("        - "))
    assert differences(
        parse_rules("        - ".join((head, c1, c2))), parse_rules("        - ".join((head, c2, c1)))
    ) == [
        "- openflow: balance priority: c1, c2",
        "+ openflow: balance priority: c2, c1",
    ]


def test_the_mirrors_number_is_its_own_over_reloads() -> None:
    one = engine()
    session = Session(one)
    session.connect()
    session.connect_mirror()
    session.from_client("PA", b"12345")
    two = RULES.replace("      - {name: master", "      - {name: first, address: 10.20.0.15}\n      - {name: master")
    go_over(one, two)
    sums = {mirror["name"]: mirror["client_bytes"] for mirror in one.snapshot(1000.0)["mirrors"]}
    assert sums == {"master": 5, "first": 0}
    raw = packet(MASTER, CLIENT, "A", MIRROR_ISS + 1, (ISS + 6) & 0xFFFF_FFFF)
    one.receive(raw, Hook.PREROUTING, 1000.0)
    assert {mirror["name"]: mirror["acked_bytes"] for mirror in one.snapshot(1000.0)["mirrors"]}["master"] == 5


# Another host's legs


def two_legs() -> tuple[Session, Callable[[], dict[str, Any]]]:
    """A connection with legs to two mirrors on another host, and what that tells of it now."""
    one = engine(TWO)
    session = Session(one)
    session.connect()
    session.connect_mirror()
    session.take(packet(at("10.20.0.14", 6653), CLIENT, "SA", MIRROR_ISS, ISS + 1), Hook.PREROUTING)

    def record() -> dict[str, Any]:
        [found] = one.replicated_legs.records(one.replicated_legs.ids(), everything=True)
        return found

    return session, record


def legs(one: Engine) -> list[str]:
    return [leg["mirror"] for flow in one.flows(1000.0) for leg in flow["legs"]]


@pytest.mark.parametrize("fast", [True, False])
def test_what_another_host_tells_of_legs_goes_by_the_rules_of_now(fast: bool) -> None:
    session, record = two_legs()
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master"], "the rules do not know the spare one yet"
    go_over(one, TWO)
    session.from_client("PA", b"on")
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master", "spare"]
    go_over(one, RULES)
    one.replicated_legs.adopt(record(), 1000.0)
    assert legs(one) == ["master"]
    one.replicated_legs.take_over(1001.0)
    assert [mirror["legs_adopted"] for mirror in one.snapshot(1001.0)["mirrors"]] == [1]
    assert_adds_up(one.snapshot(1001.0))


@pytest.mark.parametrize("fast", [True, False])
def test_legs_of_a_service_that_has_no_mirrors_here_any_more_are_refused_and_leave_nothing(fast: bool) -> None:
    _, record = two_legs()
    one = engine(PLAIN, fast=fast)
    one.replicated_legs.release()
    before = one.snapshot(1000.0)
    with pytest.raises(ValueError, match="legs: the service openflow has no mirrors"):
        one.replicated_legs.adopt(record(), 1000.0)
    assert one.snapshot(1000.0) == before


@pytest.mark.parametrize("fast", [True, False])
def test_a_standby_leaves_clients_that_are_none_any_more_to_the_other_host(fast: bool) -> None:
    _, record = two_legs()
    one = engine(TWO, fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(record(), 1000.0)
    one.bindings.adopt("openflow", (CLIENT[0], 7), C1, 1000.0)
    one.bindings.adopt("openflow", (CLIENT[0], 7), C2, 1000.0)
    assert go_over(one, TWO.replace("10.10.0.0/24", "10.10.1.0/24")) == []
    assert one.flows(1000.0) == []
    assert one.handle_timer(1001.0) == [], "no word to the mirrors, which the other host's legs would hear"
    assert_adds_up(one.snapshot(1000.0))
