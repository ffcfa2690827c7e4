"""The page of the state: each field of the API's JSON, each counter, reason and state that a running natmirror shows.

The API's answers are TypedDicts, and the words in them are enumerations. objects() and enums() find all of them.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from natmirror.api import PREFIX
from natmirror.api.resources import JSON, ROUTES, Kind
from natmirror.api.values import ValueType, Words
from natmirror.backends.shown import BackendState
from natmirror.cli.shown import CheckedRules, HealthEntry, KernelRules, ListedCheck, RemovedRules
from natmirror.docstrings import summary
from natmirror.doctor.outcome import CheckState, DoctorAnswer
from natmirror.engine.counters import EngineCounter
from natmirror.engine.explained import FailureKind, Obstacle
from natmirror.events import EventKind, EventSeverity
from natmirror.fastpath.flow_states import FlowState
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.findings import ALL_CODES, Affected, FindingCode, Severity
from natmirror.ha.role import HostRole, RoleSource
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.mirror.faults import Work
from natmirror.mirror.shown import CopyWait, LegPhase, MirrorState, SessionWait
from natmirror.nat.new_connections import Opening
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind, NotComparable
from natmirror.openflow.comparison.shown import TableState, Verdict
from natmirror.openflow.shown import RequestOutcome
from natmirror.reasons import ClientLimit, DropReason, EndedBy, EndReason, NotKeptReason, WithheldReason
from natmirror.reference import markdown
from natmirror.reference.choices import sentences
from natmirror.reference.fields import Field, fields
from natmirror.reference.markdown import anchor, literal
from natmirror.replay.replay import ReplayAnswer
from natmirror.replication.synchroniser import SyncState
from natmirror.rules import Balance, OverrideKind
from natmirror.runtime import shown
from natmirror.runtime.condition import Condition, ProblemKind
from natmirror.runtime.explained import AddressKind, ConnectionFate, CopyFate

ANSWERS: dict[str, Any] = {
    route.title: list[getattr(shown, route.answer)] if route.kind is Kind.LIST else getattr(shown, route.answer)  # type: ignore[misc]
    for route in ROUTES
    if route.content_type == JSON and route.kind is not Kind.FILE
} | {
    "An error, with a status of 400 or more": shown.ErrorAnswer,
    "natmirror doctor --json": DoctorAnswer,
    "Each item of natmirror doctor --list-checks --json": ListedCheck,
    "natmirror health --json": HealthEntry,
    "natmirror --check --json": CheckedRules,
    "natmirror --dry-run --json": KernelRules,
    "natmirror replay --json": ReplayAnswer,
    "natmirror cleanup --json": RemovedRules,
}
"""The types of the API's answers, by request, and of what commands print that ask no natmirror."""

WORDS: dict[str, type[StrEnum]] = {
    "Counters of the engine": EngineCounter,
    "Counters of a queue": QueueCounter,
    "Counters of the TUN device": OutboxCounter,
    "Drop reasons": DropReason,
    "Limits per client": ClientLimit,
    "Reasons to decide a packet in Python": PuntReason,
    "End reasons of legs, loss reasons of bytes": EndReason,
    "Ends of a client's connection": EndedBy,
    "Reasons why a session waits": SessionWait,
    "Outcomes of a master's requests": RequestOutcome,
    "Reasons to withhold a message from a master": WithheldReason,
    "Reasons why a switch's answer was not kept": NotKeptReason,
    "States of a flow": FlowState,
    "States of a leg": LegPhase,
    "States of a backend": BackendState,
    "States of a mirror": MirrorState,
    "Verdicts": Verdict,
    "Results of a comparison": AnswerResult,
    "Reasons why an answer is not compared": NotComparable,
    "Kinds of differences": DifferenceKind,
    "States of compared tables": TableState,
    "What commands set over the rules": OverrideKind,
    "States of the shared state": SyncState,
    "Roles of a host": HostRole,
    "Sources of the role": RoleSource,
    "Kinds of work that internal errors switch off": Work,
    "What becomes of a new connection": Opening,
    "Ways to choose a backend": Balance,
    "What keeps a backend from a connection": Obstacle,
    "How a backend fails a client": FailureKind,
    "Reasons why a copy waits": CopyWait,
    "What an address is": AddressKind,
    "What an interruption does to a connection": ConnectionFate,
    "What an interruption does to a copy": CopyFate,
    "Kinds of events": EventKind,
    "Severities of events": EventSeverity,
    "Conditions of a host": Condition,
    "Kinds of problems": ProblemKind,
    "Findings": FindingCode,
    "Results of doctor's checks": CheckState,
    "Severities of findings": Severity,
    "What findings affect": Affected,
}
"""The sections of words: counters, reasons and states."""

_TITLES = {kind: title for title, kind in WORDS.items()}
_PRIMITIVES = {str: "text", int: "integer", float: "number", bool: "true or false"}
_INTRODUCTION = f"""
A running natmirror serves its state as JSON over HTTP on a Unix socket: `curl --unix-socket /run/natmirror/api.sock
http://natmirror{PREFIX}status`. The commands `natmirror status` and `natmirror legs` show the same state as tables,
and with `--json` as the JSON that is described here. All counters begin at 0 when natmirror starts. Times are in UTC
(RFC 3339). `GET {PREFIX}openapi.json` describes the same for programs (OpenAPI 3.1).

A list has its rows in `items`, and the time of the first of them in `at`. If there are more rows, `next` is not null:
the same request with `cursor=` and this word goes on behind them. An unknown parameter, name or word is refused, with
the one that may be meant. A command is a POST with `Content-Type: application/json` and a JSON object; curl's `--json`
does both.
"""


def page() -> str:
    """Return the page."""
    return markdown.page(
        "State: JSON fields, counters, reasons",
        _INTRODUCTION,
        *(block for title, answer in ANSWERS.items() for block in (*_request(title), *_answer(title, answer))),
        *(_words(title, kind) for title, kind in WORDS.items()),
    )


def objects(of: Any) -> Iterator[tuple[str, type]]:
    """Yield each object inside an answer's type once, with the path that leads to it. The path is empty for the answer
    itself, or for the items of an answer that is a list."""
    seen: set[type] = set()

    def walk(path: str, kind: Any) -> Iterator[tuple[str, type]]:
        if hasattr(kind, "__required_keys__"):
            if kind not in seen:
                seen.add(kind)
                yield path, kind
                for field in fields(kind):
                    yield from walk(f"{path}.{field.name}" if path else field.name, field.type)
            return
        suffix = "[]" if get_origin(kind) is list else ""
        for inner in get_args(kind):
            yield from walk(path + suffix if path else path, inner)

    yield from walk("", of)


def enums(of: Any) -> set[type[StrEnum]]:
    """Return the enumerations inside a type."""
    if isinstance(of, type) and issubclass(of, StrEnum):
        return {of}
    return {kind for inner in get_args(of) for kind in enums(inner)}


def _request(title: str) -> Iterator[str]:
    """Yield the head of a request's section: what it is for, and its parameters."""
    yield f"## {title}"
    for route in ROUTES:
        if route.title == title:
            yield route.summary
            where = "member of the body" if route.kind is Kind.COMMAND else "parameter"
            rows = [(literal(one.name), _expected(one.type), one.sentence) for one in (*route.query, *route.body)]
            yield markdown.table((where, "value", "meaning"), rows) if rows else ""


def _expected(of: ValueType) -> str:
    if isinstance(of, Words):
        return f"one of the {_linked(next(kind for kind in WORDS.values() if kind.__name__ == of.enumeration))}"
    return of.expected


def _answer(title: str, answer: Any) -> Iterator[str]:
    found = list(objects(answer))
    places = {kind: path for path, kind in found}
    for path, kind in found:
        heading = f"### {literal(path)} of {_method(title)}" if path else ""
        if heading and list(places.values()).count(path) > 1:
            heading += f" ({kind.__name__})"
        rows = [_row(field, places, title) for field in fields(kind)]
        each = "The answer has `at`, `items` and `next`. Each item: " if not path and get_origin(answer) is list else ""
        table = markdown.table(("field", "type", "meaning"), rows) if rows else ""
        yield "\n\n".join(block for block in (heading, each + summary(kind), table) if block)


def _method(title: str) -> str:
    return literal(title.rpartition("/")[2])


def _row(field: Field, places: Mapping[type, str], title: str) -> tuple[str, ...]:
    return literal(field.name), _type(field.type, places, title), field.sentence


def _type(of: Any, places: Mapping[type, str], title: str) -> str:
    origin, inner = get_origin(of), get_args(of)
    if of in _PRIMITIVES:
        return _PRIMITIVES[of]
    if of in places:
        variant = f" ({of.__name__})" if list(places.values()).count(places[of]) > 1 else ""
        return f"[object](#{anchor(f'{places[of]} of {_method(title)}{variant}')})"
    if of in _TITLES:
        return f"one of the {_linked(of)}"
    if origin in (Union, UnionType):
        return " or ".join("null" if one is NoneType else _type(one, places, title) for one in inner)
    if origin is list:
        return f"list: {_type(inner[0], places, title)}"
    if origin is dict:
        value = _type(inner[1], places, title)
        return f"by name: {value}" if inner[0] is str else f"{value} for each of the {_linked(inner[0])}"
    raise ValueError(f"no words for the type {of}")


def _linked(kind: type[StrEnum]) -> str:
    title = _TITLES[kind]
    return f"[{title[0].lower() + title[1:]}](#{anchor(title)})"


def _words(title: str, kind: type[StrEnum]) -> str:
    """Return the section of an enumeration. A column has each first paragraph; a column of remedies the second ones."""
    if kind is FindingCode:
        return f"## {title}\n\n{summary(kind)}\n\n{_finding_codes()}"
    rows = [(literal(word), *text.split("\n\n")) for word, text in sentences(kind).items()]
    header = ("word", "cause", "remedy") if kind is EndReason else ("word", "meaning")
    return f"## {title}\n\n{summary(kind)}\n\n{markdown.table(header, rows)}"


def _finding_codes() -> str:
    rows = [(f"[{literal(one)}](findings.md#{one})", one.severity, one.affects, one.problem) for one in ALL_CODES]
    return markdown.table(("code and remedy", "severity", "affects", "problem"), rows)
