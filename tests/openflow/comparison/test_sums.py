"""The sums of one engine about a master: what the collectors of its switches report."""

import gc

from natmirror.openflow.comparison.results import (
    AnswerResult,
    Difference,
    DifferenceKind,
    NotComparable,
)
from natmirror.openflow.comparison.signatures import MAX_SIGNATURES
from natmirror.openflow.comparison.sums import Comparisons, MasterSums
from tests.helpers.compared import (
    ARP,
    IP,
    MISSING,
    PRIORITY,
    Budget,
    agree,
    answer,
    differs,
    equal,
    incomparable,
    sums,
    tables,
    texts,
    unasked,
)

ADDRESS, OTHER = "10.20.0.13:6653", "10.20.0.15:6653"


def test_answers_are_counted_by_result_and_reason() -> None:
    made = sums()
    switch = made.of_switch("10.10.0.11:40001")
    answer(switch, equal(), times=3)
    answer(switch, differs(MISSING), incomparable(NotComparable.OWN_RULE))
    found = made.since(0.0)
    assert found.window.results == {
        AnswerResult.EQUAL: 3,
        AnswerResult.DIFFERS: 1,
        AnswerResult.NOT_COMPARABLE: 1,
    }
    assert found.window.not_comparable == {NotComparable.OWN_RULE: 1}
    assert sum(found.window.lags.values()) == 4


def test_a_difference_counts_once_for_an_answer() -> None:
    made = sums()
    answer(made.of_switch("a"), differs(PRIORITY, PRIORITY, MISSING), times=2)
    assert texts(made.since(0.0).signatures) == [("a rule is missing", 2), ("priority 11 for 10", 2)]


def test_what_was_found_before_the_moment_is_only_counted() -> None:
    made = sums()
    switch = made.of_switch("a")
    answer(switch, differs(MISSING, at=5.0), times=3)
    answer(switch, differs(PRIORITY, at=100.0))
    found = made.since(50.0)
    assert texts(found.signatures) == [("priority 11 for 10", 1)]
    assert found.earlier_differences == 3
    assert made.since(0.0).earlier_differences == 0


def test_the_causes_of_a_difference_have_something_in_common() -> None:
    made = sums()
    switch = made.of_switch("a")
    answer(switch, equal(fields=IP), differs(MISSING, fields=ARP), times=5)
    found = made.since(0.0)
    [(signature, _, _)] = found.signatures
    assert signature.where(found.agreed) == "arp"


def test_a_difference_that_is_reported_late_is_kept() -> None:
    made = sums()
    switch = made.of_switch("a")
    agree(switch, 1, at=100.0)
    switch.ordered(unasked(PRIORITY, at=50.0))
    agree(switch, 1, at=500.0)
    assert texts(made.since(0.0).signatures) == [("priority 11 for 10", 1)]


def test_a_difference_is_resolved_once_all_its_switches_say_so() -> None:
    made = sums()
    one, other = made.of_switch("a"), made.of_switch("b")
    answer(one, differs(MISSING, at=1.0))
    answer(other, differs(MISSING, at=2.0))
    one.resolved(3.0)
    [(signature, _, _)] = made.since(0.0).signatures
    assert (signature.unresolved, signature.resolved_at) == (1, None)
    other.resolved(4.0)
    [(signature, _, _)] = made.since(0.0).signatures
    assert (signature.unresolved, signature.resolved_at) == (0, 4.0)
    answer(one, differs(MISSING, at=5.0))
    [(signature, _, _)] = made.since(0.0).signatures
    assert (signature.unresolved, signature.resolved_at) == (1, None)
    one.close(6.0)
    [(signature, _, _)] = made.since(0.0).signatures
    assert (signature.unresolved, signature.resolved_at) == (0, 6.0)


def test_signatures_that_become_one_are_resolved_together() -> None:
    made = sums()
    switch = made.of_switch("a")
    for value in range(20):
        text = f"idle_timeout 50 for {value}"
        answer(switch, differs(Difference(DifferenceKind.RULE_DIFFERENT, text, "idle_timeout", "50", str(value))))
    [(signature, _, count)] = made.since(0.0).signatures
    assert (signature.unresolved, count) == (1, 20)
    switch.resolved(7.0)
    [(signature, _, _)] = made.since(0.0).signatures
    assert signature.resolved_at == 7.0


def test_the_tables_of_now_are_those_of_living_connections() -> None:
    made = sums()
    one, other = made.of_switch("a"), made.of_switch("b")
    one.compared_tables(tables(10.0, 10.0, 4.0, ("production: priority=10", "mirror: priority=11"), doubtful=1))
    other.compared_tables(tables(10.0, 10.0, not_followed="too-many-rules"))
    now = made.since(0.0).tables
    assert now.differing == ["a production: priority=10", "a mirror: priority=11"]
    assert (now.differing_count, now.doubtful, now.followed, now.connections) == (2, 1, 1, 2)
    assert now.not_followed == {"too-many-rules": 1}
    one.close(11.0)
    found = made.since(0.0)
    assert (found.tables.differing_count, found.tables.connections) == (0, 1)
    assert (found.window.table_seconds, found.window.differing_seconds) == (20.0, 4.0)


def test_ends_of_sessions_are_kept_with_their_reasons() -> None:
    made = sums()
    switch = made.of_switch("10.10.0.11:40001")
    for at in range(30):
        switch.session_ended(float(at), "mirror-reset")
    found = made.since(10.0)
    assert found.window.sessions_ended == 20
    assert [end.at for end in found.ends] == [float(at) for at in range(14, 30)]
    assert texts(found.signatures) == [("the session ended: mirror-reset", 20)]


def test_frames_count_in_the_present_period() -> None:
    made = sums()
    switch = made.of_switch("a")
    agree(switch, 1, at=500.0)
    switch.walked(63, 64)
    found = made.since(495.0)
    assert (found.window.alike, found.window.walked) == (63, 64)


def test_the_sums_since_the_start_are_those_of_metrics() -> None:
    made = sums()
    switch = made.of_switch("a")
    answer(switch, equal(), differs(MISSING), incomparable(NotComparable.WARM_UP))
    switch.ordered(unasked(PRIORITY))
    switch.compared_tables(tables(1.0, 10.0, 2.5, ("mirror: priority=11",)))
    shown = made.show()
    assert shown["answers"] == {
        **dict.fromkeys(AnswerResult, 0),
        **dict.fromkeys((AnswerResult.EQUAL, AnswerResult.DIFFERS, AnswerResult.NOT_COMPARABLE), 1),
    }
    assert shown["differences"] == {DifferenceKind.RULE_MISSING: 1, DifferenceKind.RULE_DIFFERENT: 1}
    assert shown["table_seconds"] == {"equal": 7.5, "different": 2.5}
    assert shown["differing_rules"] == 1
    assert shown["lag"]["at_most"]["+Inf"] == 2


def test_memory_is_bounded_on_the_account_and_given_back() -> None:
    budget = Budget()
    comparisons = Comparisons(budget)
    made = comparisons.of_master("openflow", "candidate", ADDRESS, 0.0)
    switches = [made.of_switch(str(number)) for number in range(50)]
    for at in range(0, 100_000, 10):
        name = f"field{at % 3000}"
        difference = Difference(DifferenceKind.RULE_DIFFERENT, f"{name} {at} for 1", name, str(at), "1")
        answer(switches[at % 50], differs(difference, at=float(at), fields=ARP))
    found = made.since(0.0)
    assert len(found.signatures) == MAX_SIGNATURES
    assert all(one.last_at >= 100_000 - 86_400 - 3600 for one, _, _ in found.signatures)
    assert found.window.other_differences > 0
    assert budget.used == made.held == comparisons.held < 4 << 20
    for switch in switches:
        switch.close(100_000.0)
    comparisons.forget("openflow", "candidate")
    assert budget.used == 0
    nothing = comparisons.since("openflow", "candidate", ADDRESS, 7.0)
    assert nothing is not None and nothing.window.begins_at == 7.0


def test_without_memory_answers_are_still_counted() -> None:
    made = MasterSums(Budget(0), ADDRESS, 0.0)
    switch = made.of_switch("a")
    for at in range(0, 2000, 10):
        answer(switch, differs(MISSING, at=float(at), fields=ARP), equal(float(at), IP))
    switch.compared_tables(tables(2000.0, lines=("mirror: priority=11",)))
    found = made.since(0.0)
    assert found.window.results == {AnswerResult.EQUAL: 200, AnswerResult.DIFFERS: 200}
    assert found.window.other_differences == 200
    assert (found.tables.differing, found.tables.differing_count) == ([], 1)
    assert made.held == 0
    switch.close(2001.0)


def test_what_is_reported_after_the_end_takes_no_memory() -> None:
    budget = Budget()
    comparisons = Comparisons(budget)
    switch = comparisons.of_master("openflow", "candidate", ADDRESS, 0.0).of_switch("a")
    switch.close(5.0)
    comparisons.forget("openflow", "candidate")
    answer(switch, differs(MISSING, at=6.0), equal(6.0, IP))
    switch.ordered(unasked(MISSING, at=6.0))
    switch.compared_tables(tables(6.0, lines=("mirror: priority=11",)))
    switch.walked(1, 2)
    switch.session_ended(6.0, "closed")
    switch.resolved(6.0)
    switch.close(6.0)
    assert budget.used == 0


def test_at_another_address_is_another_program() -> None:
    budget = Budget()
    comparisons = Comparisons(budget)
    late, switch = [comparisons.of_master("openflow", "candidate", ADDRESS, 0.0).of_switch(name) for name in "ab"]
    answer(switch, differs(MISSING, at=5.0, fields=ARP))
    assert comparisons.of_master("openflow", "candidate", ADDRESS, 6.0).since(0.0).signatures
    moved = comparisons.of_master("openflow", "candidate", OTHER, 7.0)
    assert (moved.since(0.0).began_at, moved.since(0.0).signatures, moved.has_switches) == (7.0, [], False)
    answer(late, differs(MISSING, at=8.0, fields=ARP))
    assert budget.used == moved.held == comparisons.held
    for one in (late, switch):
        one.close(9.0)
    assert budget.used == moved.held
    assert not comparisons.since("openflow", "candidate", ADDRESS, 0.0).has_begun
    assert comparisons.since("openflow", "candidate", OTHER, 0.0).has_begun


def test_sums_that_are_forgotten_leave_no_reference_cycle() -> None:
    comparisons = Comparisons(Budget())
    gc.collect()
    gc.disable()
    try:
        switch = comparisons.of_master("openflow", "candidate", ADDRESS, 0.0).of_switch("a")
        answer(switch, differs(MISSING, at=6.0), equal(6.0, IP))
        found = comparisons.since("openflow", "candidate", ADDRESS, 0.0)
        switch.close(7.0)
        comparisons.forget("openflow", "candidate")
        del switch, found
        assert gc.collect() == 0
    finally:
        gc.enable()
