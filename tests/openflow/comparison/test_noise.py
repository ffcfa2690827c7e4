"""A difference counts beside a twin if the master has it more often than chance explains."""

import random

import pytest

from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.noise import weigh
from natmirror.openflow.comparison.results import ComparedOrder, Difference, DifferenceKind, Evidence
from natmirror.openflow.comparison.shown import Verdict
from natmirror.openflow.comparison.sums import MasterSums
from natmirror.openflow.comparison.verdict import Limits, Outcome, judge
from tests.helpers.compared import MISSING, NO_ANSWER, agree, answer, differs, equal, sums, unasked


def priority(value: int, instead_of: int) -> Difference:
    text = f"priority {value} for {instead_of}"
    return Difference(DifferenceKind.RULE_DIFFERENT, text, "priority", str(value), str(instead_of))


def timeout(value: int, instead_of: int) -> Difference:
    text = f"idle_timeout {value} for {instead_of}"
    return Difference(DifferenceKind.RULE_DIFFERENT, text, "idle_timeout", str(value), str(instead_of))


def found(*differences: Difference, agreeing: int = 0, orders: tuple[Difference, ...] = ()) -> Found:
    """Return what was found with one answer for each difference."""
    made = sums()
    switch = made.of_switch("a")
    agree(switch, agreeing)
    for one in differences:
        answer(switch, differs(one))
    for one in orders:
        switch.ordered(unasked(one))
    return made.since(0.0)


def counted(master: Found, twin: Found | None) -> list[str]:
    return [one.signature.text for one in weigh(master, twin) if one.is_counted]


def drawn(chance: random.Random, count: int, pick: list[int]) -> tuple[list[Difference], int]:
    """Return the differences of a version that draws priorities from ``pick`` beside production, which draws 10 or 12,
    and how many answers were equal."""
    pairs = [(chance.choice(pick), chance.choice([10, 12])) for _ in range(count)]
    return [priority(one, other) for one, other in pairs if one != other], sum(one == other for one, other in pairs)


def test_without_a_twin_each_difference_counts() -> None:
    assert counted(found(MISSING, agreeing=500), None) == ["a rule is missing"]


def test_a_planted_value_among_drawn_ones_counts() -> None:
    chance = random.Random(1)
    of_twin, equal = drawn(chance, 219, [10, 12])
    twin = found(*of_twin, agreeing=equal)
    planted, equal = drawn(chance, 219, [11])
    assert sorted(counted(found(*planted, agreeing=equal), twin)) == ["priority 11 for 10", "priority 11 for 12"]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_version_does_not_count(seed: int) -> None:
    chance = random.Random(seed)
    twin, master = (found(*one, agreeing=equal) for one, equal in (drawn(chance, 219, [10, 12]) for _ in range(2)))
    assert not counted(master, twin)


@pytest.mark.parametrize("seed", range(10))
def test_a_version_that_draws_many_values_by_lot_does_not_count(seed: int) -> None:
    chance = random.Random(seed)
    parts = []
    for _ in range(2):
        values = [(chance.randrange(250, 350), chance.randrange(250, 350)) for _ in range(100)]
        parts.append(found(*(timeout(*pair) for pair in values if pair[0] != pair[1]), agreeing=10))
    assert not counted(*parts)


def test_one_value_for_those_drawn_by_lot_counts() -> None:
    chance = random.Random(3)
    equal = 75
    twin = found(*(timeout(chance.randrange(300), 300 + number) for number in range(25)), agreeing=equal)
    master = found(*(timeout(5, 300 + number) for number in range(100)))
    assert counted(master, twin) == ["idle_timeout 5 for other values"]


def test_five_per_cent_of_silence_count_beside_a_silent_twin() -> None:
    twin = found(agreeing=310)
    [one] = weigh(found(*[NO_ANSWER] * 16, agreeing=294), twin)
    assert one.is_counted
    assert one.twin_count == 0
    assert one.chance is not None and one.chance < 1e-4


def test_one_difference_may_be_chance() -> None:
    [one] = weigh(found(NO_ANSWER, agreeing=309), found(agreeing=310))
    assert not one.is_counted
    assert one.chance == pytest.approx(0.5)


def test_an_order_that_the_twin_gives_too_does_not_count() -> None:
    more = Difference(DifferenceKind.RULE_MORE, "a rule more: priority=20,udp,tp_dst=53 actions=drop")
    other = Difference(DifferenceKind.RULE_MORE, "a rule more: priority=1,lldp")
    master = found(orders=(more, other), agreeing=100)
    assert counted(master, found(orders=(more,), agreeing=100)) == []
    assert counted(master, found(agreeing=100)) == [more.text, other.text]


def test_beside_a_noisy_twin_a_rule_that_stays_counts_and_one_with_a_timeout_only_if_it_is_frequent() -> None:
    stays = Difference(DifferenceKind.RULE_MORE, "a rule more: priority=20,udp,tp_dst=53 actions=drop")
    leaves = Difference(DifferenceKind.RULE_MORE, "a rule more: idle_timeout=1, priority=10,arp")
    noisy = [priority(10, 12)] * 50
    twin = found(*noisy, agreeing=100)

    def beside(text: str, *orders: Difference) -> list[str]:
        made = sums()
        switch = made.of_switch("a")
        agree(switch, 150)
        for one in orders:
            switch.ordered(ComparedOrder(0.0, one, Evidence("", (), (text,))))
        return counted(made.since(0.0), twin)

    assert beside("add priority=20,udp,tp_dst=53 actions=drop", stays) == [stays.text]
    assert beside("add idle_timeout=1, priority=10,arp", leaves) == []
    assert beside("add idle_timeout=1, priority=10,arp", *[leaves] * 20) == [leaves.text]


def test_what_counts_comes_first_and_then_what_is_frequent() -> None:
    master = found(*[priority(10, 12)] * 50, *[NO_ANSWER] * 30, *[MISSING] * 40, agreeing=100)
    twin = found(*[priority(10, 12)] * 50, agreeing=170)
    shown = [(one.signature.text, one.is_counted) for one in weigh(master, twin)]
    assert shown == [("a rule is missing", True), ("no answer", True), ("priority 10 for 12", False)]


# Values that are drawn once for each host


def _by_host(seed: int, answers: int, hosts: int, *, more: int = 0, equal: bool = False) -> Found:
    """Return what was found about a version that draws a timeout for each host, as production does. Most answers are
    about a few hosts."""
    chance, traffic, of_production = random.Random(seed), random.Random(0), random.Random(99)
    mine = [max(8, 4 + chance.randrange(12)) + more for _ in range(hosts)]
    theirs = [max(8, 4 + of_production.randrange(12)) for _ in range(hosts)]
    made = sums()
    switch = made.of_switch("a")
    for _ in range(answers):
        host = traffic.randrange(8 if traffic.random() < 0.6 else hosts)
        about = {"eth_src": host, "eth_dst": 1000 + traffic.randrange(8)}
        if mine[host] == theirs[host] or equal:
            agree(switch, 1, fields=about)
        else:
            answer(switch, differs(timeout(mine[host], theirs[host]), fields=about))
    return made.since(0.0)


def test_what_is_drawn_once_for_each_host_does_not_count() -> None:
    wrong = [
        seed
        for seed in range(40)
        if any(
            counted(_by_host(seed, answers, 80), _by_host(1000 + seed, answers, 80)) for answers in (50, 100, 200, 350)
        )
    ]
    assert len(wrong) <= 1  # one verdict of a hundred, and each is given several times


def test_another_value_for_all_hosts_counts_beside_draws() -> None:
    for seed in range(10):
        assert counted(_by_host(seed, 300, 80, more=200), _by_host(1000 + seed, 300, 80))


def test_a_difference_about_one_host_counts_where_the_twin_never_differs() -> None:
    made = sums()
    switch = made.of_switch("a")
    for number in range(100):
        about = {"eth_src": number % 10, "eth_dst": 50}
        if number % 10:
            agree(switch, 1, fields=about)
        else:
            answer(switch, differs(MISSING, fields=about))
    assert counted(made.since(0.0), _by_host(1, 100, 80)) == [MISSING.text]


def test_a_burst_of_the_twins_about_one_host_does_not_hide_a_master_that_differs_about_several() -> None:
    twin, master = sums(), sums()
    at, beside = master.of_switch("a"), twin.of_switch("a")
    for number in range(1000):
        about = {"eth_src": number % 10, "eth_dst": 50}
        answer(beside, differs(MISSING, fields=about) if number in (3, 13, 23) else equal(fields=about))
        answer(at, differs(MISSING, fields=about) if number % 10 < 2 else equal(fields=about))
    assert counted(master.since(0.0), twin.since(0.0)) == [MISSING.text]


def _of_all(hosts: int, differing: int) -> MasterSums:
    """Return what was found about a version that differs in all answers about some hosts."""
    made = sums()
    switch = made.of_switch("a")
    agree(switch, 1)
    for number in range(400):
        host = number % hosts
        about = {"eth_src": host, "eth_dst": 1000}
        answer(switch, differs(timeout(300 + host, 200), fields=about) if host < differing else equal(fields=about))
    return made


def test_too_few_hosts_are_too_little_to_tell_a_difference_from_draws() -> None:
    def verdict(hosts: int, differing: int) -> Outcome:
        return judge(_of_all(hosts, differing).since(0.0), _of_all(hosts, hosts // 4).since(0.0), Limits())

    few = verdict(4, 4)
    assert few.verdict is Verdict.TOO_LITTLE
    assert few.reasons == [
        "400 differences cannot be told from chance (idle_timeout 300 for 200): the twin draws values for each host,"
        " and too few hosts were seen"
    ]
    assert verdict(4, 0).verdict is Verdict.AGREES, "nothing differs"
    assert verdict(40, 10).verdict is Verdict.AGREES
    assert verdict(40, 40).verdict is Verdict.DIFFERS


def test_ends_of_sessions_count_beside_a_twins_if_they_are_many_more() -> None:
    def ended(count: int) -> Found:
        made = sums()
        switch = made.of_switch("a")
        agree(switch, 200)
        for number in range(count):
            switch.session_ended(float(number), "mirror-reset" if number % 2 else "closed")
        return made.since(0.0)

    assert counted(ended(1), ended(0)) == ["the session ended: closed"]
    assert len(counted(ended(40), ended(1))) == 2
    assert counted(ended(4), ended(2)) == []
    assert counted(ended(2), ended(40)) == []
