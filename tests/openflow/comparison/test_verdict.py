"""The verdict: what makes a master differ, what is too little, and the reasons in words."""

import pytest

from natmirror.openflow.comparison.results import (
    AnswerResult,
    ComparedAnswer,
    Difference,
    DifferenceKind,
    NotComparable,
)
from natmirror.openflow.comparison.shown import Verdict
from natmirror.openflow.comparison.sums import MasterSums, SwitchResults
from natmirror.openflow.comparison.verdict import Limits, Outcome, judge
from tests.helpers.compared import (
    ARP,
    IP,
    MISSING,
    NO_ANSWER,
    agree,
    answer,
    differs,
    equal,
    incomparable,
    sums,
    tables,
    unasked,
)

STRICT = Limits()
EXTRA = Difference(DifferenceKind.RULE_MORE, "a rule more: priority=20,udp,tp_dst=53 actions=drop")


def compared(agreeing: int = 200) -> tuple[MasterSums, SwitchResults]:
    made = sums()
    switch = made.of_switch("10.10.0.11:40001")
    agree(switch, agreeing, fields=IP)
    return made, switch


def verdict(made: MasterSums, twin: MasterSums | None = None, limits: Limits = STRICT) -> Outcome:
    return judge(made.since(0.0), None if twin is None else twin.since(0.0), limits)


def test_a_lack_of_memory_names_the_key_to_raise() -> None:
    made = sums()
    switch = made.of_switch("a")
    agree(switch, 200, at=10.0)
    assert not any("memory" in note for note in judge(made.since(0.0), None, Limits()).notes)
    switch.lacked_memory_at = 20.0
    text = "memory was short for 1 connection of a switch: raise mirror-memory in the rules"
    assert any(note.startswith(text) for note in judge(made.since(0.0), None, Limits()).notes)
    assert not any("memory" in note for note in judge(made.since(21.0), None, Limits()).notes)
    switch.compared_tables(tables(30.0, not_followed="no-memory"))
    assert any(note.startswith(text) for note in judge(made.since(21.0), None, Limits()).notes)


def test_messages_that_were_left_out_are_no_lack_of_memory() -> None:
    made, switch = compared()
    switch.left_out_at = 20.0
    [note] = judge(made.since(0.0), None, Limits()).notes
    assert note.startswith("the process that compares was behind, and left out messages of 1 connection of a switch:")
    assert judge(made.since(21.0), None, Limits()).notes == []


def test_enough_equal_answers_agree() -> None:
    made, _ = compared()
    found = verdict(made)
    assert (found.verdict, found.reasons, found.notes) == (Verdict.AGREES, [], [])


def test_a_difference_is_named_with_what_its_causes_have_in_common() -> None:
    made, switch = compared()
    answer(switch, differs(MISSING, fields=ARP), times=56)
    found = verdict(made)
    assert found.verdict is Verdict.DIFFERS
    assert found.reasons == [
        "56 of 256 comparable answers are not equal (21.9 %); most of all a rule is missing, all where arp (56 times)"
    ]
    assert any("would get other PACKET_INs" in note for note in found.notes)


def test_an_answer_that_differs_without_words_counts() -> None:
    made, switch = compared()
    answer(switch, ComparedAnswer(0.0, AnswerResult.UNANSWERED))
    assert verdict(made).reasons == ["1 of 201 comparable answers is not equal (0.5 %)"]


def test_a_rule_more_is_no_answer_and_counts() -> None:
    made, switch = compared()
    switch.ordered(unasked(EXTRA))
    switch.compared_tables(tables(20.0, 10.0, 10.0, ("mirror: priority=20,udp,tp_dst=53 actions=drop",)))
    found = verdict(made)
    assert found.verdict is Verdict.DIFFERS
    assert found.reasons == [f"{EXTRA.text} (once)", "the tables differed for 50.0 % of the time; 1 rule differs now"]


def test_two_equal_answers_of_many_that_were_never_asked_are_too_little() -> None:
    made, switch = compared(2)
    answer(switch, incomparable(NotComparable.NO_RULE), times=308)
    found = verdict(made)
    assert found.verdict is Verdict.TOO_LITTLE
    assert found.reasons == [
        "2 comparable answers, of 100 that are needed",
        "only 2 of 310 PACKET_INs are comparable (0.6 %): 308 no-rule",
    ]


def test_the_warm_up_is_named_and_does_not_lower_the_comparable_share() -> None:
    made, switch = compared(40)
    answer(switch, incomparable(NotComparable.WARM_UP), times=100)
    assert verdict(made).reasons == ["40 comparable answers, of 100 that are needed; 100 more came in the warm-up"]


def test_a_master_without_a_session_is_too_little() -> None:
    made, switch = compared()
    switch.has_session = False
    text = "the master has no session now: natmirror legs --state none shows why"
    assert verdict(made).reasons == [text]
    switch.session_ended(1.0, "mirror-reset")
    found = verdict(made)
    assert found.verdict is Verdict.DIFFERS
    assert found.reasons == ["the session ended: mirror-reset (once)"]
    assert text in found.notes
    assert verdict(sums()).reasons[0] == "the master has no session now", "there is no switch"


def test_a_master_that_some_switches_have_no_session_with_is_too_little() -> None:
    made, _ = compared()
    for number in range(98):
        made.of_switch(f"10.10.0.12:{number}").has_session = True
    made.of_switch("10.10.0.13:40001")
    assert verdict(made).verdict is Verdict.AGREES, "1 of 100"
    other = made.of_switch("10.10.0.14:40001")
    assert verdict(made).reasons == [
        "only 99 of 101 connections of switches have a session that is compared: natmirror legs --state none shows why"
    ]
    other.has_session = True
    assert verdict(made).verdict is Verdict.AGREES


def test_tables_that_are_not_followed_are_too_little() -> None:
    made, switch = compared()
    switch.compared_tables(tables(10.0, not_followed="too-many-rules"))
    assert verdict(made).reasons == ["the tables of 1 of 1 switches are not followed: 1 too-many-rules"]
    nothing = sums()
    switch = nothing.of_switch("a")
    switch.has_session = True
    answer(switch, equal(), times=200)
    assert verdict(nothing).reasons == ["the flow tables were not compared"]


@pytest.mark.parametrize(("lag", "word"), [(0.2, Verdict.DIFFERS), (0.03, Verdict.AGREES), (-0.5, Verdict.AGREES)])
def test_a_slow_master_differs(lag: float, word: Verdict) -> None:
    made, switch = compared(0)
    answer(switch, equal(lag=lag), times=200)
    found = verdict(made)
    assert found.verdict is word
    if word is Verdict.DIFFERS:
        assert found.reasons == ["its answers come 200 ms later than production's, at the median"]


def test_a_twin_that_is_as_slow_excuses_it() -> None:
    made, switch = compared(0)
    twin, other = compared(0)
    answer(switch, equal(lag=0.2), times=200)
    answer(other, equal(lag=0.18), times=200)
    assert verdict(made, twin).verdict is Verdict.AGREES
    answer(switch, equal(lag=0.9), times=1000)
    assert verdict(made, twin).reasons == [
        "its answers come 891 ms later than production's, at the median (the twin's 178 ms)"
    ]


def test_late_answers_count() -> None:
    made, switch = compared()
    answer(switch, ComparedAnswer(0.0, AnswerResult.LATE, lag=2.5), times=3)
    assert verdict(made).reasons == ["3 of 203 answers came more than 2 s late"]
    twin, other = compared()
    answer(other, ComparedAnswer(0.0, AnswerResult.LATE, lag=2.5), times=2)
    assert verdict(made, twin).verdict is Verdict.AGREES


def test_one_late_answer_does_not_count() -> None:
    made, switch = compared()
    answer(switch, ComparedAnswer(0.0, AnswerResult.LATE, lag=2.5))
    assert verdict(made).verdict is Verdict.AGREES


def test_tables_that_differed_for_a_moment_do_not_count() -> None:
    made, switch = compared()
    switch.compared_tables(tables(1000.0, 990.0, 5.0))
    assert verdict(made).verdict is Verdict.AGREES
    switch.compared_tables(tables(1000.0, 0.0, 10.0))
    assert verdict(made).reasons == ["the tables differed for 1.5 % of the time"]


def test_a_limit_lets_answers_and_tables_differ() -> None:
    made, switch = compared(999)
    answer(switch, differs(NO_ANSWER))
    switch.compared_tables(tables(1000.0, 990.0, 1.0, ("production: priority=10",)))
    assert verdict(made).verdict is Verdict.DIFFERS
    found = verdict(made, limits=Limits(fail_below=99.9))
    assert found.verdict is Verdict.AGREES
    assert found.notes == ["1 difference of answers is let pass, since 99.9 % of equal answers are enough"]
    assert verdict(made, limits=Limits(fail_below=99.95)).verdict is Verdict.DIFFERS
    switch.ordered(unasked(EXTRA))
    assert verdict(made, limits=Limits(fail_below=50)).verdict is Verdict.DIFFERS


def test_what_a_twin_does_as_often_does_not_count() -> None:
    made, switch = compared(100)
    twin, other = compared(100)
    for one in (switch, other):
        answer(one, differs(MISSING), times=100)
        one.compared_tables(tables(100.0, 90.0, 80.0, ("production: priority=10",)))
    found = verdict(made, twin)
    assert found.verdict is Verdict.AGREES
    assert found.notes[-1].startswith("100 differences do not count: the twin has as many")
    answer(switch, differs(NO_ANSWER), times=30)
    assert verdict(made, twin).reasons == [
        "130 of 230 comparable answers are not equal (56.5 %); most of all no answer (30 times)"
    ]


def test_a_twin_with_few_answers_is_too_little() -> None:
    made, switch = compared()
    answer(switch, differs(NO_ANSWER))
    twin, _ = compared(5)
    assert verdict(made, twin).reasons == ["the twin has 5 comparable answers, of 100 that are needed"]


def test_values_by_lot_ask_for_a_twin() -> None:
    made, switch = compared()
    for value in range(100):
        answer(switch, differs(Difference(DifferenceKind.RULE_DIFFERENT, str(value), "idle_timeout", str(value), "1")))
    assert any("name a twin" in note for note in verdict(made).notes)


def test_harmless_differences_of_tables_are_noted() -> None:
    made, switch = compared()
    switch.compared_tables(tables(10.0, 10.0, 10.0, ("mirror: priority=11",)))
    switch.walked(64, 64)
    assert verdict(made).notes == ["all frames that were tried leave the switch alike by both tables"]


def test_frames_that_leave_otherwise_than_the_twins_count() -> None:
    made, switch = compared()
    twin, other = compared()
    for one, alike in ((switch, 40), (other, 97)):
        one.compared_tables(tables(100.0, 90.0, 90.0, ("production: priority=10",)))
        one.walked(alike, 100)
    assert verdict(made, twin).reasons == [
        "only 40.0 % of the frames leave the switch alike by both tables, with the twin's 97.0 %"
    ]
    assert verdict(twin, made).verdict is Verdict.AGREES
