"""The lines of the lab's controller applications: what was told of one switch is not taken for another's."""

import pytest

from natmirror.lab.controllers import report_lines


def test_what_is_said_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report_lines.print_line("switch", 1)
    report_lines.print_ports(1, [0xFFFE, 2, 1])
    report_lines.print_packet_in(1, 2, b"frame")
    report_lines.print_packet_in(1, 2, b"other")
    text = capsys.readouterr().out
    assert list(report_lines.reported(text, "switch", 1)) == [""]
    assert report_lines.reported_ports(text, 1) == (1, 2, 0xFFFE)
    first, second = report_lines.reported(text, "packet-in", 1)
    assert first.startswith("2 5 ")
    assert first != second


def test_of_another_switch_nothing_is_told() -> None:
    text = "switch 11\nports 11 1,2\npacket-in 11 1 42 abc\n"
    assert list(report_lines.reported(text, "switch", 1)) == []
    assert report_lines.reported_ports(text, 1) == ()
    assert list(report_lines.reported(text, "packet-in", 1)) == []


def test_a_line_without_its_end_is_not_told_yet() -> None:
    assert report_lines.reported_ports("ports 1 1,2\nports 1 1,2,655", 1) == (1, 2)


def test_the_ports_told_last_are_the_ports() -> None:
    assert report_lines.reported_ports("ports 1 1,2\ngone 1\nports 1 1\n", 1) == (1,)
