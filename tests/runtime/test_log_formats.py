"""The forms of log records."""

import json
import logging

import pytest

from natmirror.events import Event, EventKind, EventSeverity
from natmirror.events.event import read_time
from natmirror.runtime.log_formats import Formatter, LogFormat

AT = read_time("2026-11-30T03:00:00Z")
TIME = "2026-11-30T03:00:00.000+00:00"


def record(message: str, level: int = logging.WARNING, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    one = logging.LogRecord("natmirror", level, "", 0, "%s", (message,), info)
    one.created = AT
    return one


def event(message: str) -> logging.LogRecord:
    one = record(message)
    kind, severity = EventKind.MIRROR_DOWN, EventSeverity.WARNING
    one.event = Event(7, AT, kind, severity, message, "web", mirror="m1", code="refused", count=300)
    return one


def test_text_has_a_time_and_a_level() -> None:
    formatter = Formatter()
    assert formatter.format(record("web/c1 is down")) == f"{TIME} WARNING web/c1 is down"
    assert formatter.format(record("failed", logging.ERROR, ValueError("7"))) == (f"{TIME} ERROR failed\nValueError: 7")
    assert formatter.last_words("no root") == "natmirror: no root"


def test_the_journal_gets_each_line_with_its_severity_and_no_second_time() -> None:
    formatter = Formatter(to_journal=True)
    assert formatter.format(record("ready", logging.INFO)) == "<6>INFO ready"
    assert formatter.format(record("failed", logging.ERROR, ValueError("7"))) == "<3>ERROR failed\n<3>ValueError: 7"
    assert formatter.last_words("no root") == "<2>CRITICAL no root"
    assert "time" not in json.loads(Formatter(LogFormat.JSON, to_journal=True).format(record("ready"))[3:])


def test_json_has_the_fields_of_an_event() -> None:
    formatter = Formatter(LogFormat.JSON)
    assert json.loads(formatter.format(event('mirror m1 is "down"\nnow'))) == {
        **{"time": TIME, "level": "warning", "message": 'mirror m1 is "down"\nnow', "kind": "mirror-down"},
        **{"service": "web", "mirror": "m1", "code": "refused", "count": 300},
    }
    failed = json.loads(formatter.format(record("failed", logging.ERROR, ValueError("7"))))
    assert failed == {"time": TIME, "level": "error", "message": "failed", "traceback": "ValueError: 7"}
    assert json.loads(formatter.last_words("no root"))["level"] == "critical"


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("ready", "ready"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', '"say \\"no\\""'),
        ("one\ntwo", '"one\\ntwo"'),
        ("back\\slash", '"back\\\\slash"'),
    ],
)
def test_logfmt_quotes_what_is_not_one_word(message: str, value: str) -> None:
    assert Formatter(LogFormat.LOGFMT).format(record(message)) == f"time={TIME} level=warning message={value}"


def test_logfmt_has_the_fields_of_an_event() -> None:
    assert (
        Formatter(LogFormat.LOGFMT)
        .format(event("down"))
        .endswith(" message=down kind=mirror-down service=web mirror=m1 code=refused count=300")
    )


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.LOGFMT])
def test_a_record_for_the_journal_is_one_line_whatever_a_message_has(form: LogFormat) -> None:
    text = Formatter(form, to_journal=True).format(record("one\u2028two\x85three\x0bfour\rfive\nsix"))
    assert text.count("<4>") == 1
    assert "\n" not in text
