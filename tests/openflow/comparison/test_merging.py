"""What several engines have found is added up."""

from natmirror.openflow.comparison.found import nothing_found
from natmirror.openflow.comparison.merging import add_comparisons, merge
from natmirror.openflow.comparison.results import AnswerResult, Difference, DifferenceKind
from tests.helpers.compared import ARP, IP, MISSING, PRIORITY, answer, differs, equal, sums, tables, texts


def test_the_same_difference_in_two_engines_is_one() -> None:
    one, other = sums(1.0), sums(2.0)
    answer(one.of_switch("a"), equal(3.0, IP), differs(MISSING, at=3.0, fields=ARP), times=2)
    answer(other.of_switch("b"), equal(5.0, IP), differs(MISSING, PRIORITY, at=5.0, fields=ARP), times=2)
    found = merge([one.since(0.0), other.since(0.0)])
    assert texts(found.signatures) == [("a rule is missing", 4), ("priority 11 for 10", 2)]
    assert found.window.results == {AnswerResult.EQUAL: 4, AnswerResult.DIFFERS: 4}
    [missing] = [one for one, _, count in found.signatures if count == 4]
    assert (missing.first_at, missing.last_at, missing.unresolved) == (3.0, 5.0, 2)
    assert missing.where(found.agreed) == "arp"
    assert missing.example is not None
    assert found.window.begins_at == 1.0


def test_an_engine_that_has_compared_nothing_adds_nothing() -> None:
    made = sums(100.0)
    switch = made.of_switch("a")
    answer(switch, equal(110.0))
    switch.compared_tables(tables(110.0, lines=("mirror: priority=11",)))
    switch.session_ended(111.0, "mirror-reset")
    found = merge([nothing_found(50.0), made.since(50.0)])
    assert found.window.begins_at == 100.0
    assert found.window.results == {AnswerResult.EQUAL: 1}
    assert found.tables.differing == ["a mirror: priority=11"]
    assert [end.at for end in found.ends] == [111.0]
    assert merge([nothing_found(50.0)]).window.begins_at == 50.0


def test_what_one_engine_keeps_apart_and_the_other_does_not_is_not_kept_apart() -> None:
    one, other = sums(), sums()
    for made, count in ((one, 20), (other, 2)):
        switch = made.of_switch("a")
        for value in range(count):
            difference = Difference(DifferenceKind.RULE_DIFFERENT, f"idle 5 for {value}", "idle", "5", str(value))
            answer(switch, differs(difference))
    for parts in ((one, other), (other, one)):
        assert texts(merge([made.since(0.0) for made in parts]).signatures) == [("idle 5 for other values", 22)]


def test_too_many_differences_together_are_counted() -> None:
    parts = []
    for engine in range(3):
        made = sums()
        switch = made.of_switch("a")
        for number in range(60):
            name = f"field{engine}-{number}"
            answer(switch, differs(Difference(DifferenceKind.RULE_DIFFERENT, name, name, "1", "2")))
        parts.append(made.since(0.0))
    found = merge(parts)
    assert len(found.signatures) == 100
    assert found.window.other_differences == 80


def test_the_sums_of_metrics_are_added_up() -> None:
    one, other = sums(), sums()
    answer(one.of_switch("a"), equal(), differs(MISSING))
    answer(other.of_switch("a"), equal(), differs(PRIORITY))
    both = add_comparisons(one.show(), other.show())
    assert both is not None
    assert both["answers"][AnswerResult.EQUAL] == 2
    assert both["differences"] == {DifferenceKind.RULE_MISSING: 1, DifferenceKind.RULE_DIFFERENT: 1}
    assert both["lag"]["at_most"]["+Inf"] == 4
    assert add_comparisons(None, one.show()) == one.show() == add_comparisons(one.show(), None)
