"""Differences that are alike count under one signature, and there are never many signatures."""

import pytest

from natmirror.openflow.comparison.results import Difference, DifferenceKind, Evidence
from natmirror.openflow.comparison.signatures import MAX_SIGNATURES, SIGNATURE_COST, Example, Signatures
from natmirror.openflow.messages import Message, Type
from tests.helpers.compared import EVIDENCE, MISSING, PRIORITY, Budget


class Collection:
    """Signatures, and how many differences each has."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.budget = Budget(limit)
        self.renumbered: list[tuple[int, int]] = []
        self.made = Signatures(self.budget, lambda old, new: self.renumbered.append((old, new)))

    def count(self, difference: Difference, at: float = 0.0, *, is_asked: bool = True) -> None:
        if (signature := self.made.find(difference, at, is_asked=is_asked)) is not None:
            signature.count += 1
            signature.last_at = at

    def texts(self) -> dict[str, int]:
        return {one.text: one.count for one in self.made}


def timeout(value: int, instead_of: int) -> Difference:
    text = f"idle_timeout {value} for {instead_of}"
    return Difference(DifferenceKind.RULE_DIFFERENT, text, "idle_timeout", str(value), str(instead_of))


def line(number: int) -> Difference:
    return Difference(DifferenceKind.RULE_MORE, f"a rule more: priority={number} actions=drop")


def example(length: int = 100) -> Example:
    message = Message(4, Type.PACKET_IN, 1, bytes(length))
    messages = (("switch", 0.0, message),) * 20
    return Example(0.0, "10.10.0.11:40001", 1, Evidence("in_port=1", ("x" * 5000,) * 100, (), messages))


def test_equal_texts_are_one_signature() -> None:
    found = Collection()
    for at in (1.0, 2.0, 3.0):
        found.count(PRIORITY, at)
        found.count(MISSING, at)
    assert found.texts() == {"priority 11 for 10": 3, "a rule is missing": 3}
    assert {(one.first_at, one.last_at) for one in found.made} == {(1.0, 3.0)}


def test_orders_that_answer_nothing_have_signatures_of_their_own() -> None:
    found = Collection()
    found.count(MISSING)
    found.count(MISSING, is_asked=False)
    assert [one.family.is_asked for one in found.made] == [True, False]


def test_few_values_are_kept_apart() -> None:
    found = Collection()
    for value in range(8):
        found.count(timeout(50, value))
    assert len(found.texts()) == 8


def test_one_value_for_many_others_is_one_signature_with_the_value() -> None:
    found = Collection()
    for value in range(30):
        found.count(timeout(50, value))
    assert found.texts() == {"idle_timeout 50 for other values": 30}
    assert [one.value for one in found.made] == ["50"]
    assert len(found.renumbered) == 7


def test_many_values_are_one_signature_without_values() -> None:
    found = Collection()
    for value in range(300):
        found.count(timeout(value, 300 - value))
    assert found.texts() == {"idle_timeout: other values": 300}
    assert [one.value for one in found.made] == [""]


def test_rules_that_change_are_left_out_of_the_text() -> None:
    found = Collection()
    for number in range(20):
        found.count(line(number))
    assert found.texts() == {"a rule more": 20}


def test_there_are_never_more_than_the_limit() -> None:
    found = Collection()
    for number in range(1000):
        found.count(Difference(DifferenceKind.RULE_DIFFERENT, f"field{number} 1 for 2", f"field{number}", "1", "2"))
    assert len(found.texts()) == MAX_SIGNATURES
    assert found.made.find(timeout(1, 2), 0.0, is_asked=True) is None


def test_examples_are_cut_and_on_the_account() -> None:
    found = Collection()
    signature = found.made.find(MISSING, 0.0, is_asked=True)
    assert signature is not None
    found.made.keep_example(signature, example(100_000))
    kept = signature.example
    assert kept is not None
    assert kept.cost < 25_000
    assert max(map(len, kept.evidence.production)) == 300
    assert found.budget.used == found.made.held > kept.cost
    found.made.give_up()
    assert signature.example is None
    found.made.close()
    assert found.budget.used == found.made.held == 0


def test_without_memory_there_is_no_example_and_then_no_signature() -> None:
    found = Collection(SIGNATURE_COST + 1000)
    signature = found.made.find(MISSING, 0.0, is_asked=True)
    assert signature is not None
    found.made.keep_example(signature, example())
    assert signature.example is None
    assert found.made.find(PRIORITY, 0.0, is_asked=True) is None


def test_folded_signatures_give_their_memory_back() -> None:
    found = Collection()
    for value in range(300):
        signature = found.made.find(timeout(value, 300), 0.0, is_asked=True)
        assert signature is not None
        if signature.example is None:
            found.made.keep_example(signature, Example(0.0, "10.10.0.11:40001", 1, EVIDENCE))
    [left] = found.made
    assert left.example is not None
    assert found.budget.used == found.made.held < 10_000


@pytest.mark.parametrize("kind", DifferenceKind)
def test_each_kind_has_words_for_what_changes(kind: DifferenceKind) -> None:
    found = Collection()
    for number in range(20):
        found.count(Difference(kind, f"text {number}"))
    assert len(found.texts()) == 1


@pytest.mark.parametrize("is_folded", [False, True])
def test_another_collection_is_added_up(is_folded: bool) -> None:
    one, other = Collection(), Collection()
    for value in range(20 if is_folded else 2):
        one.count(timeout(50, value), 1.0)
    other.count(timeout(50, 1), 5.0)
    other.count(timeout(60, 1), 6.0)
    for mine, theirs in ((one, other), (other, one)):
        both = Collection()
        for part in (mine.made, theirs.made):
            for signature in part:
                both.made.take(signature, part.level(signature.family))
        if is_folded:
            assert both.texts() == {"idle_timeout 50 for other values": 21, "idle_timeout 60 for other values": 1}
        else:
            assert sum(both.texts().values()) == 4
        assert {one.first_at for one in both.made} == {1.0, 6.0}
