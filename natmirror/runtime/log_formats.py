"""The forms of a log record: a line of text, logfmt, or a JSON object; each for a file, a terminal or the journal."""

import json
import logging
from collections.abc import Iterator
from enum import StrEnum

from natmirror.events import Event
from natmirror.events.event import show_time

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Of syslog(3), which sd-daemon(3) lets a line begin with."""
_EVENT_FIELDS = ("kind", "service", "backend", "mirror", "code", "count")


class LogFormat(StrEnum):
    """The form of a log record."""

    TEXT = "text"
    LOGFMT = "logfmt"
    JSON = "json"


class Formatter(logging.Formatter):
    """Formats records. ``to_journal``: systemd's journal reads them, which has a time of its own and takes the severity
    from the beginning of a line."""

    def __init__(self, form: LogFormat = LogFormat.TEXT, *, to_journal: bool = False) -> None:
        super().__init__()
        self.form = form
        self._to_journal = to_journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one line; in text, a traceback follows in further ones."""
        if self.form is LogFormat.JSON:
            text = json.dumps(dict(self._fields(record)), ensure_ascii=False)
        elif self.form is LogFormat.LOGFMT:
            text = " ".join(f"{name}={_quoted(value)}" for name, value in self._fields(record))
        else:
            time = "" if self._to_journal else f"{show_time(record.created)} "
            text = "\n".join((f"{time}{record.levelname} {record.getMessage()}", *self._traceback(record)))
        if not self._to_journal:
            return text
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in text.split("\n"))

    def last_words(self, text: str) -> str:
        """Return the line with which the program ends because of an error."""
        if self.form is LogFormat.TEXT and not self._to_journal:
            return f"natmirror: {text}"
        return self.format(logging.LogRecord("natmirror", logging.CRITICAL, "", 0, "%s", (text,), None))

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str | int]]:
        if not self._to_journal:
            yield "time", show_time(record.created)
        yield "level", record.levelname.lower()
        yield "message", record.getMessage()
        event = event_of(record)
        if event is not None:
            entry = event.entry()
            yield from ((name, entry[name]) for name in _EVENT_FIELDS if entry[name] is not None)  # type: ignore[literal-required]
        yield from (("traceback", text) for text in self._traceback(record))

    def _traceback(self, record: logging.LogRecord) -> Iterator[str]:
        if record.exc_info:
            yield self.formatException(record.exc_info)


def event_of(record: logging.LogRecord) -> Event | None:
    """Return the event that a record tells of, or None."""
    event = record.__dict__.get("event")
    return event if isinstance(event, Event) else None


def _quoted(value: str | int) -> str:
    """Return a value for logfmt: quoted as JSON if it is not one plain word."""
    text = str(value)
    is_plain = text.isprintable() and text and not set(' "=\\') & set(text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)
