"""The simulation of fleets: which connections survive mishaps, and which ones routers move."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from bench.ecmp import HASH_BITS, ROUTERS
from bench.fleet import Balancing, Event, Fleet, Outcome
from bench.scaling import BEGIN, END, insert, main, tables
from bench.workloads import Workload, connections, mishaps
from natmirror.nat.schedulers import TABLE_SIZE, Maglev
from natmirror.rules import Balance, parse_rules
from tests.helpers.support import RULES

SMALL = Workload("small", "", 10_000.0, 400, 0.0, 5_000.0, False, 5)
BRISK = Workload("brisk", "", 600.0, 1_000, 2.0, 20.0, True, 5)
OF_HOSTS = ("leaves", "returns")
OF_THE_POOL = ("down", "up", "drain", "undrain", "add", "remove")

small_and_brisk = pytest.mark.parametrize("workload", [SMALL, BRISK], ids=lambda one: one.name)
routers = pytest.mark.parametrize("router", ROUTERS)
balances = pytest.mark.parametrize("balance", [Balance.MAGLEV, Balance.ROUND_ROBIN])


def play(
    workload: Workload,
    router: str,
    *,
    hosts: int = 4,
    balance: Balance = Balance.MAGLEV,
    lag: float = 0.0,
    without: Collection[str] = (),
    until: float | None = None,
) -> tuple[Outcome, Fleet]:
    """Simulate a fleet, without events of some kinds."""
    events = [event for event in mishaps(workload, hosts, Random("m")) if event.what not in without]
    fleet = Fleet(hosts, ROUTERS[router](range(hosts)), Balancing(workload.backends, balance, hosts), lag)
    return fleet.run(connections(workload, Random("c")), events, until or workload.seconds), fleet


@small_and_brisk
@routers
def test_nothing_breaks_without_a_change_of_the_pool_whatever_hosts_do(workload: Workload, router: str) -> None:
    outcome, _ = play(workload, router, without=OF_THE_POOL)
    assert outcome.moved > 0
    assert (outcome.broken_alone, outcome.broken, outcome.record_changes) == (0, 0, 0)


@small_and_brisk
@routers
@balances
def test_nothing_breaks_with_records_that_are_everywhere_at_once(
    workload: Workload, router: str, balance: Balance
) -> None:
    outcome, _ = play(workload, router, balance=balance)
    assert outcome.broken == 0
    assert outcome.broken_alone > 0, "without records some connections break"


@balances
def test_nothing_moves_or_breaks_without_a_change_of_hosts(balance: Balance) -> None:
    outcome, _ = play(SMALL, "modulo", balance=balance, without=OF_HOSTS)
    assert (outcome.moved, outcome.broken_alone, outcome.broken) == (0, 0, 0)
    assert outcome.record_changes > 0, "pinned bindings have records all the same"


@balances
@pytest.mark.parametrize("until", [2_000.0, 5_000.0, 7_000.0, 9_500.0])
def test_exactly_the_pinned_bindings_have_records(balance: Balance, until: float) -> None:
    _, fleet = play(SMALL, "threshold", balance=balance, until=until)
    assert fleet.records == fleet.count_pinned() > 0


def test_a_record_that_comes_too_late_breaks_its_connection() -> None:
    outcome, _ = play(SMALL, "modulo", balance=Balance.ROUND_ROBIN, lag=SMALL.seconds)
    assert outcome.broken > 0


def test_the_same_seed_gives_the_same_day() -> None:
    assert (
        play(BRISK, "resilient", balance=Balance.ROUND_ROBIN)[0]
        == play(BRISK, "resilient", balance=Balance.ROUND_ROBIN)[0]
    )
    assert connections(BRISK, Random("1")) != connections(BRISK, Random("2"))


# Routers


def _hashes(count: int) -> list[int]:
    return [number * 2_654_435_761 % (1 << HASH_BITS) for number in range(count)]


@routers
@pytest.mark.parametrize("count", [2, 3, 8, 64])
def test_a_router_spreads_connections_evenly_over_the_hosts_that_announce(router: str, count: int) -> None:
    chosen = ROUTERS[router](range(count))
    for hosts in (range(count), range(1, count), [0, *range(2, count)] if count > 2 else [0], range(count)):
        chosen.change(hosts)
        spread = Counter(chosen.host_of(one) for one in _hashes(20_000))
        assert set(spread) == set(hosts)
        assert max(spread.values()) < 1.2 * 20_000 / len(hosts)


@pytest.mark.parametrize(
    ("router", "least", "most"), [("modulo", 0.8, 0.95), ("threshold", 0.25, 0.6), ("resilient", 0.0, 0.0)]
)
def test_how_many_of_the_others_a_leaving_host_moves(router: str, least: float, most: float) -> None:
    """RFC 2992 §4: with regions, between a quarter and a half of all connections move."""
    chosen = ROUTERS[router](range(8))
    before = {one: chosen.host_of(one) for one in _hashes(50_000)}
    chosen.change(range(1, 8))
    others = [one for one, host in before.items() if host != 0]
    moved = sum(before[one] != chosen.host_of(one) for one in others) / len(others)
    assert least <= moved <= most


def test_a_host_that_returns_to_a_resilient_router_takes_its_part_alone() -> None:
    chosen = ROUTERS["resilient"](range(8))
    chosen.change(range(1, 8))
    before = [chosen.host_of(one) for one in range(100_000)]
    chosen.change(range(8))
    moved = [one for one in range(100_000) if chosen.host_of(one) != before[one]]
    assert {chosen.host_of(one) for one in moved} == {0}
    assert len(moved) / 100_000 == pytest.approx(1 / 8, rel=0.02)


# natmirror's own part


def test_a_fleet_decides_as_natmirror_does() -> None:
    """The simulation uses Maglev's tables for the names and shares that real rules would have."""
    [service] = parse_rules(RULES.replace("192.0.2.100", "10.10.0.100")).services
    assert service.pool is not None
    maglev, balancing = Maglev(service.pool), Balancing(2, Balance.MAGLEV, 1)
    for slot in range(0, TABLE_SIZE, 97):
        assert balancing.pick(0, slot) == balancing.derive(slot) == service.pool.backends[maglev.table[slot]].name
    maglev.set_shares({service.pool.backends[0]: 0.0, service.pool.backends[1]: 1.0})
    assert balancing.apply(Event(1.0, "drain", 0)) == []
    assert {balancing.pick(0, slot) for slot in range(TABLE_SIZE)} == {"c2"}
    assert balancing.derive(int(maglev.table[0])) in ("c1", "c2"), "the rules alone give it, even if it is closed"
    assert balancing.apply(Event(2.0, "down", 1)) == ["c2"]
    assert balancing.pick(0, 0) is None
    balancing.apply(Event(3.0, "add", 2))
    assert {balancing.pick(0, slot) for slot in range(TABLE_SIZE)} == {"c3"}, "new rules open no closed backend"


# The document


def test_the_tables_go_where_they_belong() -> None:
    assert insert(f"# A\n{BEGIN}\nold\n{END}\nB\n", "new\n") == f"# A\n{BEGIN}\n\nnew\n\n{END}\nB\n"
    with pytest.raises(ValueError, match="no place"):
        insert("# A\n", "new")


def test_a_document_without_a_place_for_the_tables_is_refused_and_stays_unchanged(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# A\n")
    done = CliRunner().invoke(main, ["--quick", "--output", str(document)])
    assert done.exit_code == 2
    assert f"{document} has no place for the tables" in done.output
    assert document.read_text() == "# A\n"


def test_tables_have_a_row_for_each_fleet() -> None:
    text = list(tables([SMALL], [2, 3], 1))
    rows = [line for line in text if line.startswith("| 2 ") or line.startswith("| 3 ")]
    assert len(rows) == 2 * 3 + 2
    assert {line.count("|") for line in text if line.startswith("|")} == {rows[0].count("|")}
    assert any("0 broken, 0 records" in line for line in text)
