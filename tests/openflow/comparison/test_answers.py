"""Answers of a master and of production to the same PACKET_INs: equal, late, missing, different, or not comparable."""

from dataclasses import replace

import pytest

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import Action, ReservedPort
from natmirror.openflow.bodies.values import FlowCommand
from natmirror.openflow.comparison.answers import Answer, move
from natmirror.openflow.comparison.attribution import Order
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.readings import FrameSent, Reading
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind, NotComparable
from natmirror.openflow.messages import V10, V13
from tests.helpers.comparison import MIRROR, PRODUCTION, TABLE_MISS, Scene, frame, packet_out, to_host
from tests.helpers.flow_tables import fields, flow_mod, output

EQUAL, LATE, DIFFERS, UNANSWERED, NOT = AnswerResult
versions = pytest.mark.parametrize("version", [V10, V13])
DATA = frame(1, 2)
OUT = packet_out(DATA, output(2))


def scene(**more: float) -> Scene:
    """Return a scene in which both sides have sent all frames to the controller for a while."""
    made = Scene(**more)  # type: ignore[arg-type]
    made.both(TABLE_MISS)
    made.wait(1.0)
    return made


def test_equal_answers_are_reported_when_both_are_quiet() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, to_host(2, 2), OUT)
    one.wait(0.02)
    one.orders(MIRROR, OUT, to_host(2, 2, cookie=9))
    one.wait(0.2)
    (answer,) = one.recorder.answers
    assert (answer.result, answer.differences, answer.evidence) == (EQUAL, (), None)
    assert answer.lag == pytest.approx(0.02)
    assert answer.fields is not None
    assert answer.fields["eth_dst"] == 2
    one.wait(20.0)
    assert not one.recorder.differs
    one.close()


@versions
def test_silence_of_both_is_equal(version: int) -> None:
    one = Scene(version=version)
    if version != V10:
        one.both(TABLE_MISS)
    one.sees(DATA)
    one.wait(1.9)
    assert one.recorder.results == []
    one.wait(0.2)
    assert one.recorder.results == [EQUAL]


def test_silence_of_the_master_is_no_answer() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, to_host(2, 2), OUT)
    one.wait(6.0)
    (answer,) = one.recorder.answers
    assert answer.result is UNANSWERED
    assert [found.kind for found in answer.differences] == [DifferenceKind.NO_ANSWER]
    assert answer.lag is None
    assert answer.evidence is not None
    assert answer.evidence.packet_in.startswith("packet_in reason=no_match icmp,in_port=1")
    assert answer.evidence.production == ("add priority=10,dl_dst=00:00:00:00:00:02 actions=output:2", "frame output:2")
    assert answer.evidence.mirror == ()
    assert [who for who, _, _ in answer.evidence.messages] == ["switch", PRODUCTION, PRODUCTION]


@pytest.mark.parametrize("pause", [0.0, 1.0, 2.5])
def test_silence_is_certain_sooner_if_the_master_answers_later_packet_ins(pause: float) -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.wait(pause)
    one.sees(frame(1, 3))
    one.both(packet_out(frame(1, 3), output(2)))
    one.wait(2.9 - pause)
    assert one.recorder.results == [EQUAL]
    one.wait(0.2)
    assert one.recorder.results == [EQUAL, UNANSWERED]


def test_an_equal_answer_after_two_seconds_is_late() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.wait(3.0)
    one.orders(MIRROR, OUT)
    one.wait(3.0)
    assert one.recorder.results == [LATE]
    assert one.recorder.answers[0].lag == pytest.approx(3.0)
    assert not one.recorder.texts


@pytest.mark.parametrize(
    ("production", "mirror", "texts"),
    [
        ([to_host(2, 2), OUT], [OUT], ["a rule is missing"]),
        ([OUT], [to_host(2, 2), OUT], ["a rule more"]),
        ([to_host(2, 2), OUT], [replace(to_host(2, 2), priority=11), OUT], ["priority 11 for 10"]),
        ([to_host(2, 2), OUT], [to_host(2, 4), OUT], ["output:4 for output:2"]),
        ([to_host(2, 2, idle_timeout=1), OUT], [to_host(2, 2, idle_timeout=50), OUT], ["idle_timeout 50 for 1"]),
        ([to_host(2, 2, hard_timeout=7), OUT], [to_host(2, 2), OUT], ["hard_timeout 0 for 7"]),
        ([to_host(2, 2, flags=1), OUT], [to_host(2, 2), OUT], ["without send_flow_rem"]),
        ([OUT], [packet_out(DATA, output(ReservedPort.FLOOD))], ["frame FLOOD for output:2"]),
        ([OUT], [packet_out(DATA, output(2, 2))], ["frame output:2,output:2 for output:2"]),
        ([to_host(2, 2), OUT], [to_host(2, 2)], ["the frame is not sent on"]),
        ([to_host(2, 2)], [to_host(2, 2), OUT], ["the frame is sent on"]),
        ([], [OUT], ["the frame is sent on"]),
    ],
)  # fmt: skip
def test_what_differs_is_said_in_words(production: list, mirror: list, texts: list[str]) -> None:  # type: ignore[type-arg]
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, *production)
    one.orders(MIRROR, *mirror)
    one.wait(6.0)
    (answer,) = one.recorder.answers
    assert answer.result is DIFFERS
    assert [found.text for found in answer.differences] == texts
    assert answer.evidence is not None


def test_a_match_without_a_field_is_named() -> None:
    one = scene()
    one.sees(DATA)
    rule = flow_mod(match=fields(eth_dst=2, in_port=1), priority=10, instructions=to_host(2, 2).instructions)
    one.orders(PRODUCTION, rule, OUT)
    one.orders(MIRROR, to_host(2, 2), OUT)
    one.wait(6.0)
    (answer,) = one.recorder.answers
    (found,) = answer.differences
    assert (found.text, found.field, found.value) == ("match without in_port", "match", "without in_port")


def test_a_rewritten_field_is_a_difference_of_the_frame_and_of_the_rule() -> None:
    one = scene()
    one.sees(DATA)
    rewrite = (Action("set_field", (fields(eth_dst=9)[0],)), *output(2))
    other = (Action("set_field", (fields(eth_dst=8)[0],)), *output(2))
    for who, actions in ((PRODUCTION, rewrite), (MIRROR, other)):
        one.orders(who, packet_out(DATA, actions))
    one.wait(6.0)
    (text,) = one.recorder.texts
    assert text.startswith("frame set_field:00:00:00:00:00:08->eth_dst,output:2 for")


def test_what_is_already_so_is_no_difference() -> None:
    one = scene()
    one.both(to_host(5, 2))
    one.wait(10.0)
    one.sees(DATA)
    one.orders(PRODUCTION, to_host(5, 2), OUT)  # said again
    one.orders(MIRROR, OUT)
    one.wait(6.0)
    assert one.recorder.results == [EQUAL]


def test_a_buffer_is_released_by_either_order() -> None:
    one = scene()
    one.sees(DATA, buffer_id=7)
    one.orders(PRODUCTION, to_host(2, 2, buffer_id=7))
    one.orders(MIRROR, to_host(2, 2), packet_out(b"", output(2), buffer_id=7))
    one.wait(6.0)
    assert one.recorder.results == [EQUAL]


# Not comparable


def test_a_packet_in_that_is_withheld_is_not_reported() -> None:
    one = scene()
    told = one.sees(DATA, told=())
    one.judge.withheld(MIRROR, told, one.now, is_wanted=True)
    one.orders(PRODUCTION, OUT)
    one.wait(0.1)
    assert one.recorder.results == [NotComparable.NOT_REPORTED]
    one.sees(DATA, told=())  # neither told nor withheld
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NOT_REPORTED] * 2


def test_a_master_whose_own_rule_keeps_the_frame_is_not_asked() -> None:
    one = scene()
    one.orders(MIRROR, to_host(2, 2))
    one.wait(1.0)
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.OWN_RULE]


def test_a_rule_that_may_be_on_its_way_keeps_nothing() -> None:
    one = scene()
    one.orders(MIRROR, to_host(2, 2))
    one.wait(0.3)
    one.sees(DATA)
    one.both(OUT)
    one.wait(6.0)
    assert one.recorder.results == [EQUAL]


def test_a_master_without_a_rule_to_the_controller_is_not_asked() -> None:
    one = Scene()
    one.orders(PRODUCTION, TABLE_MISS)
    one.wait(1.0)
    one.sees(DATA)
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NO_RULE]
    assert one.recorder.texts == ["a rule is missing: add priority=0 actions=CONTROLLER:65535"]


def test_a_rule_that_was_there_before_is_the_masters_too() -> None:
    one = Scene()  # neither side has said what sends frames to the controller
    one.sees(DATA)
    one.both(OUT)
    one.wait(6.0)
    assert one.recorder.results == [EQUAL]


def test_comparable_is_judged_when_the_master_is_told() -> None:
    one = Scene()
    one.orders(PRODUCTION, TABLE_MISS)
    early = one.sees(DATA, told=())
    one.wait(0.5)
    one.orders(MIRROR, TABLE_MISS)
    one.judge.told(MIRROR, early, one.now)
    one.orders(PRODUCTION, OUT)
    one.orders(MIRROR, OUT)
    one.wait(6.0)
    assert one.recorder.results == [EQUAL]


def test_answers_in_the_warm_up_do_not_count() -> None:
    one = scene(warm_up=3.0)
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.wait(3.0)
    one.sees(frame(1, 3))
    one.both(packet_out(frame(1, 3), output(2)))
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.WARM_UP, EQUAL]
    assert not one.recorder.texts


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_master_that_misses_what_it_wants_warms_up_again(is_wanted: bool) -> None:
    one = scene(warm_up=3.0)
    one.wait(3.0)
    told = one.sees(DATA, told=())
    one.judge.withheld(MIRROR, told, one.now, is_wanted=is_wanted)
    for dst in (3, 4):
        one.sees(frame(1, dst))
        one.both(packet_out(frame(1, dst), output(2)))
        one.wait(3.0)
    not_reported = NotComparable.NOT_REPORTED
    assert one.recorder.results == [not_reported, NotComparable.WARM_UP if is_wanted else EQUAL, EQUAL]


def test_a_frame_is_walked_from_the_packet_ins_table_with_its_metadata() -> None:
    one = Scene()
    first = flow_mod(priority=0, instructions=to_host(1, 1).instructions)
    second = flow_mod(match=fields(metadata=5), table=3, instructions=TABLE_MISS.instructions)
    one.both(first, second)
    one.wait(1.0)
    one.sees(DATA, table=3, metadata=5)
    one.wait(6.0)
    one.orders(MIRROR, flow_mod(FlowCommand.DELETE, table=3))
    one.wait(1.0)
    one.sees(DATA, table=3, metadata=5)
    assert one.recorder.results == [EQUAL, NotComparable.NO_RULE]


def test_without_knowing_the_rules_nothing_is_compared() -> None:
    one = scene()
    one.judge.missed(one.now)
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NOT_KNOWN]
    assert one.recorder.tables[-1].not_followed == "bytes-missing"


def test_a_session_that_natmirror_ends_leaves_no_silence_behind() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.judge.ended(MIRROR, "mirror-removed", one.now, is_fault=False)
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NOT_REPORTED]
    assert one.recorder.ends == []


def test_a_crash_is_said_and_its_open_answers_are_missing() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, OUT)
    one.judge.ended(MIRROR, "reset", one.now, is_fault=True)
    one.settle()
    one.sees(frame(1, 3))
    one.wait(6.0)
    assert one.recorder.ends == [(1001.0, "reset")]
    assert sorted(map(str, one.recorder.results)) == ["not-reported", "unanswered"]


def test_the_end_of_the_connection_reports_what_is_certain() -> None:
    one = scene()
    for dst in (2, 3):
        one.sees(frame(1, dst))
        one.orders(PRODUCTION, packet_out(frame(1, dst), output(2)))
    one.orders(MIRROR, packet_out(frame(1, 2), output(2)))
    one.close()
    assert one.recorder.results == [EQUAL, NotComparable.NOT_KNOWN]


# Many


def test_beyond_the_bounds_answers_are_not_known() -> None:
    one = scene()
    for number in range(300):
        one.sees(frame(1, number + 1000))
        one.orders(PRODUCTION, packet_out(frame(1, number + 1000), output(2)))
        one.wait(0.001)
    held = one.judge.held
    one.wait(10.0)
    results = one.recorder.results
    assert (results.count(NotComparable.NOT_KNOWN), results.count(UNANSWERED)) == (300 - 128, 128)
    assert held < 3_000_000
    one.close()


def test_with_many_packet_ins_equal_answers_make_room_for_those_that_wait() -> None:
    one = scene()
    for number in range(300):
        data = frame(1, number + 1000)
        one.sees(data)
        one.orders(PRODUCTION, packet_out(data, output(2)))
        if number % 10 or number >= 250:
            one.orders(MIRROR, packet_out(data, output(2)))
        one.wait(0.01)
    one.wait(10.0)
    results = one.recorder.results
    assert results.count(EQUAL) == 275
    assert results.count(NotComparable.NOT_KNOWN) + results.count(UNANSWERED) == 25
    assert results.count(UNANSWERED) > 5
    for data in (frame(1, number + 1000) for number in range(0, 20, 10)):
        one.orders(MIRROR, packet_out(data, output(2)))  # much too late
    one.wait(80.0)
    assert set(one.recorder.texts) == {"no answer"}


def test_an_answer_with_too_many_orders_is_not_known() -> None:
    one = scene()
    one.sees(DATA)
    for port in range(40):
        one.orders(PRODUCTION, packet_out(DATA, output(port + 1)))
    one.orders(MIRROR, OUT)
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NOT_KNOWN]


def test_with_little_memory_fewer_packet_ins_are_kept_and_equal_answers_still_count() -> None:
    one = scene()
    held = []
    for number in range(200):
        data = frame(1, number + 1000)
        one.sees(data)
        one.both(packet_out(data, output(2)))
        one.wait(0.02)
        held.append(one.judge.held)
        if number in (50, 100, 150):
            one.judge.give_up(one.now)
    one.wait(10.0)
    assert max(held[151:]) < 0.7 * max(held[:50])
    assert one.recorder.results[-40:] == [EQUAL] * 40
    assert set(one.recorder.results) == {EQUAL, NotComparable.NOT_KNOWN}


def test_memory_that_is_needed_is_given_up() -> None:
    one = scene()
    one.sees(DATA)
    one.orders(PRODUCTION, to_host(2, 2), OUT)
    one.judge.give_up(one.now)
    assert one.judge.held == 0
    one.wait(6.0)
    assert one.recorder.results == [NotComparable.NOT_KNOWN]


def test_a_frame_stays_where_it_is_if_the_answer_that_lacks_it_is_full() -> None:
    message = packet_out(DATA, output(2))
    order = Order(1.0, message, Reading(decode(message)))
    effects = [Effect(order, order.body, sent=FrameSent((), None, port, None)) for port in range(33)]
    full, source = Answer(), Answer()
    for effect in effects[1:]:
        assert full.add(effect)
    source.add(effects[0])
    wanted = [effects[0]]
    move(wanted, source, Answer(), full, is_same_frame=True)
    assert (wanted, source.effects, len(full.effects)) == ([effects[0]], [effects[0]], 32)
    assert not full.is_whole
