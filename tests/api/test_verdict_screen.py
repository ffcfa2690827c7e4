"""A verdict as text and as Markdown: what stands there, and that it fits."""

from os import terminal_size
from typing import Any

import click
import pytest

from natmirror.api.verdict_markdown import report
from natmirror.api.verdict_screen import verdict_screen
from tests.helpers.compared import NO_ANSWER, ComparingEngine, answer, differs
from tests.helpers.verdicts import CLIENT, RULE, verdict_answer

NARROW, WIDE = terminal_size((80, 24)), terminal_size((120, 40))


def shown(verdict: dict[str, Any], terminal: terminal_size | None = None, *, with_examples: bool = True) -> list[str]:
    return click.unstyle(verdict_screen(verdict, terminal, with_examples=with_examples)).splitlines()


def test_the_reasons_come_first_and_then_all_that_the_verdict_rests_on() -> None:
    lines = shown(verdict_answer())
    assert lines[0].startswith("DIFFERS  openflow/candidate, since ")
    assert lines[1:10] == [
        "  56 of 310 comparable answers are not equal (18.1 %); most of all a rule is missing, all where arp (50"
        " times)",
        "  a rule more: priority=20,udp,tp_dst=53 actions=drop (once)",
        "  the session ended: mirror-reset (once)",
        "  the tables differed for 29.0 % of the time; 1 rule differs now",
        "  answers   254 of 310 comparable equal (81.9 %), differs 56; 310 of 310 PACKET_INs comparable; twin 310 of"
        " 310 equal",
        "  tables    equal 71.0 % of the time (twin 100 %), 1 rule differs now",
        "  frames    93.8 % leave the switch alike by both tables (64 tried)",
        "  behind    +1.0 ms, p95 +1.0 ms (twin +1.0 ms, p95 +1.0 ms)",
        lines[9],
    ]
    assert lines[9].startswith("  sessions  1 open, connections of switches: 1, ended by the master or the network: 1")


def test_a_difference_has_an_example_of_both_sides() -> None:
    lines = shown(verdict_answer())
    at = lines.index("  50 x a rule is missing, all where arp; twin 0 x")
    assert lines[at + 2 : at + 6] == [
        "       switch      10.10.0.11, datapath 1: packet_in in_port=3,arp,dl_src=de:83:16:0f:12:7f,"
        "dl_dst=da:ae:b3:9e:9e:fa,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_op=1",
        f"       production  add {RULE}",
        "       production  frame output:2",
        "       candidate   frame output:2",
    ]
    assert f"       {CLIENT} production: {RULE}" in lines


@pytest.mark.parametrize("terminal", [NARROW, WIDE])
@pytest.mark.parametrize("with_examples", [False, True])
def test_no_line_is_wider_than_the_terminal(terminal: terminal_size, with_examples: bool) -> None:
    assert max(map(len, shown(verdict_answer(), terminal, with_examples=with_examples))) <= terminal.columns


def test_elsewhere_each_fact_is_one_line() -> None:
    assert len([line for line in shown(verdict_answer()) if RULE in line]) == 3


def test_examples_that_have_no_room_are_left_out_but_no_difference() -> None:
    lines = shown(verdict_answer(), NARROW)
    assert len([line for line in lines if line.startswith("       switch ")]) == 1
    assert [line.split(" x ")[0] for line in lines if " x " in line] == ["  50", "  1", "  1", "  6"]


def test_among_all_mirrors_few_differences_are_named() -> None:
    lines = shown(verdict_answer(), NARROW, with_examples=False)
    assert lines[-1] == "  and 1 more: natmirror verdict openflow/candidate"
    assert not any("production  add" in line for line in lines)


def test_a_master_that_agrees_needs_few_lines() -> None:
    lines = shown(verdict_answer(lambda engine, now: None))
    assert lines[0].startswith("AGREES  openflow/candidate")
    assert len(lines) == 6


def test_too_little_is_said_with_what_is_missing() -> None:
    lines = shown(verdict_answer(lambda engine, now: None, at_least=1000))
    assert lines[0].startswith("TOO LITTLE  openflow/candidate")
    assert lines[1] == "  254 comparable answers, of 1000 that are needed"


def test_what_does_not_count_beside_the_twin_is_said() -> None:
    def change(engine: ComparingEngine, now: float) -> None:
        answer(engine.of("candidate").of_switch("a"), differs(NO_ANSWER, at=now))

    lines = shown(verdict_answer(change))
    assert lines[0].startswith("AGREES")
    assert "  1 x no answer; twin 0 x, so it does not count" in lines


def test_the_report_has_the_same_in_markdown() -> None:
    text = report([verdict_answer()])
    assert text.startswith("# openflow/candidate: DIFFERS\n")
    assert "| tables | equal 71.0 % of the time (twin 100 %), 1 rule differs now |" in text
    assert "## 1 x a rule more: priority=20,udp,tp\\_dst=53 actions=drop, without a PACKET\\_IN; twin 0 x" in text
    assert f"\nproduction  add {RULE}\n" in text
    assert text.count("```") % 2 == 0
