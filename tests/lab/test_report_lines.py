"""The report lines of the lab's controllers: those of one switch are not taken for another's."""

import pytest

from natmirror.lab.controllers import report_lines


def test_printed_lines_are_read(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_lines_of_another_switch_are_not_read() -> None:
    text = "switch 11\nports 11 1,2\npacket-in 11 1 42 abc\n"
    assert list(report_lines.reported(text, "switch", 1)) == []
    assert report_lines.reported_ports(text, 1) == ()
    assert list(report_lines.reported(text, "packet-in", 1)) == []


def test_an_incomplete_line_is_not_read() -> None:
    assert report_lines.reported_ports("ports 1 1,2\nports 1 1,2,655", 1) == (1, 2)


def test_the_ports_reported_last_are_returned() -> None:
    assert report_lines.reported_ports("ports 1 1,2\ngone 1\nports 1 1\n", 1) == (1,)
