"""What the API has: one declaration for each request. Nothing else lists them.

To add a resource or a command, add its Route here, and its function to runtime/api_control.py under the same name. The
types of answers stand in runtime/shown.py. `make reference` writes openapi.json, which the API serves, and the page of
the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from urllib.parse import unquote

from natmirror.api import PREFIX
from natmirror.api.values import (
    Client,
    Count,
    Cursor,
    Flag,
    Name,
    Order,
    Percent,
    Place,
    Seconds,
    Since,
    Time,
    ValueType,
    Weight,
    Words,
)

JSON = "application/json"
METRICS_PATH = "/metrics"
PAGE_FILES = "/page/"
MAX_LIMIT = 10_000
MAX_CONNECTIONS = 1 << 24
MAX_ANSWERS = 10**9
DEFAULT_LIMIT = 1000
"""Rows of a sorted list, at most and by default."""


class Kind(Enum):
    """How natmirror answers a request."""

    DOCUMENT = 1
    """With a value."""
    LIST = 2
    """With a list, in parts."""
    COMMAND = 3
    """By obeying a command."""
    FILE = 4
    """Not at all: the API's process knows the answer itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query, or a member of a command's body. ``sentence`` says what it does."""

    name: str
    type: ValueType
    sentence: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A request that the API answers. ``name`` is natmirror's name of the resource or command, ``answer`` the name of
    the answer's type in runtime/shown.py: of a list, the type of its items. ``path`` may have parameters in braces."""

    kind: Kind
    path: str
    name: str
    answer: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[str, ...] = ()
    """The fields by which a list can be sorted."""
    content_type: str = JSON

    @property
    def query(self) -> tuple[Parameter, ...]:
        """Return the parameters of the query."""
        if self.kind is Kind.COMMAND:
            return ()
        return self.parameters + (_paging(self.columns) if self.kind is Kind.LIST else ())

    @property
    def body(self) -> tuple[Parameter, ...]:
        """Return the members of the body."""
        return self.parameters if self.kind is Kind.COMMAND else ()

    @property
    def method(self) -> str:
        return "POST" if self.kind is Kind.COMMAND else "GET"

    @property
    def title(self) -> str:
        """Return the request as text."""
        return f"{self.method} {self.path}"

    @property
    def parameters_of_path(self) -> list[str]:
        """Return the names of the parameters in the path."""
        return [one[1:-1] for one in self.path.split("/") if one.startswith("{")]

    def match(self, path: str) -> Mapping[str, str] | None:
        """Return the parameters in the path of a request, or None if the request is another one."""
        pairs = list(zip_longest(self.path.split("/"), path.split("/"), fillvalue=""))
        found = {ours[1:-1]: unquote(theirs) for ours, theirs in pairs if ours.startswith("{") and theirs}
        is_same = all(ours[1:-1] in found or ours == theirs for ours, theirs in pairs)
        return found if is_same else None


def _paging(columns: tuple[str, ...]) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "sort",
            Order(columns),
            "Sort by this field, the smallest first; behind a minus sign, the largest first. Rows without a value come"
            f" last. A sorted list has at most {DEFAULT_LIMIT} rows unless limit says otherwise.",
        ),
        Parameter("limit", Count(1, MAX_LIMIT), "At most this many rows. If there are more, next leads to them."),
        Parameter(
            "cursor", Cursor(), "Go on behind the rows of an earlier answer: its next, with the same other parameters."
        ),
    )


_CLIENT = Parameter("client", Client(), "Only this client, these clients, or this client's port.")
_SERVICE = Parameter("service", Name(), "Only this service, by its name in the rules.")
_BACKEND = Parameter("backend", Name(), "Only connections to this backend, by its name in the rules.")
_LAGGING = "whose mirror has left the client's bytes unacknowledged for this many seconds, or longer."
_PERSIST = Parameter("persist", Flag(), "Have it hold over a restart, too.")
_COUNTS = ("client_bytes", "sent_bytes", "acked_bytes", "in_flight_bytes", "lag_bytes", "lag_seconds", "consumed_bytes")

ROUTES = (
    Route(
        Kind.DOCUMENT,
        f"{PREFIX}status",
        "status",
        "StatusAnswer",
        "Counters, dropped packets by reason, findings, backends, mirrors with their accounts, queues.",
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}flows",
        "flows",
        "FlowEntry",
        "The flows, each with its legs.",
        (
            *(_CLIENT, _SERVICE, _BACKEND),
            Parameter("mirror", Name(), "Only connections with a leg to this mirror, by its name in the rules."),
            Parameter("state", Words("FlowState"), "Only connections in this state."),
            Parameter("lagging", Seconds(), f"Only connections with a leg {_LAGGING}"),
        ),
        columns=("client", "service", "backend", "state", "idle_seconds", "client_bytes", "backend_bytes"),
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}legs",
        "legs",
        "LegRow",
        "The legs, and the sessions and copies that have none now: a row for each.",
        (
            *(_CLIENT, _SERVICE, _BACKEND),
            Parameter("mirror", Name(), "Only legs to this mirror, by its name in the rules."),
            Parameter("state", Words("LegPhase"), "Only legs in this state."),
            Parameter("lagging", Seconds(), f"Only legs {_LAGGING}"),
        ),
        columns=(
            *("client", "service", "backend", "mirror", "state", *_COUNTS),
            *("retransmits", "timeouts", "rtt_seconds", "messages_missed"),
        ),
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}ended",
        "ended",
        "EndedLeg",
        "The latest legs that have ended: when, why, and how many bytes each mirror got. The latest come last.",
        (
            *(_CLIENT, _SERVICE),
            Parameter("mirror", Name(), "Only legs to this mirror, by its name in the rules."),
            Parameter("reason", Words("EndReason"), "Only legs that ended for this reason."),
        ),
        columns=("ended_at", "client", "service", "mirror", "reason", "client_bytes", "acked_bytes"),
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}decisions",
        "decisions",
        "SwitchDecisions",
        "What backend and masters have decided for each OpenFlow switch.",
        (_CLIENT, _SERVICE),
        columns=("client", "service"),
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}verdict",
        "verdict",
        "VerdictEntry",
        "Whether masters with verdict: on would have done what production's controller did.",
        (
            _SERVICE,
            Parameter("mirror", Name(), "Only this mirror, by its name in the rules."),
            Parameter(
                "since",
                Time(),
                "Only what was compared from this time on; without it, in the last hour. One day is kept, the last five"
                " minutes in parts of ten seconds, what is older in longer ones.",
            ),
            Parameter("at_least", Count(1, MAX_ANSWERS), "Fewer comparable answers are too few; 100 without it."),
            Parameter(
                "fail_below",
                Percent(),
                "Answers and tables may differ, as long as this percentage is equal; without it, each difference of"
                " an answer counts.",
            ),
            Parameter("messages", Flag(), "Add the messages of each example, in hexadecimal."),
        ),
        columns=("service", "mirror", "verdict"),
    ),
    Route(
        Kind.DOCUMENT,
        f"{PREFIX}rules",
        "rules",
        "RulesAnswer",
        "The rules that run, and how those in the file differ.",
    ),
    Route(Kind.FILE, f"{PREFIX}openapi.json", "openapi", "", "This description of the API (OpenAPI 3.1)."),
    Route(
        Kind.FILE,
        METRICS_PATH,
        "metrics",
        "",
        "The metrics, in the text format of Prometheus. docs/reference/metrics.md lists them.",
        content_type="text/plain",
    ),
    Route(
        Kind.FILE,
        "/",
        "page",
        "",
        "The status page, for a browser: docs/page.md.",
        content_type="text/html",
    ),
    Route(
        Kind.FILE,
        f"{PAGE_FILES}{{file}}",
        "page-file",
        "",
        "A file of the status page.",
        content_type="*/*",
    ),
    Route(
        Kind.DOCUMENT,
        f"{PREFIX}explain",
        "explain",
        "ExplainAnswer",
        "What natmirror does with a client's connections, and why.",
        (
            Parameter("client", Client(), "The client's address, or its address and port.", is_required=True),
            _SERVICE,
        ),
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}events",
        "events",
        "EventEntry",
        "What has happened: the latest events, also of earlier runs. The latest come last.",
        (
            Parameter("since", Since(), "Only events after the one with this number, or from this time on."),
            Parameter("kind", Words("EventKind"), "Only events of this kind."),
            Parameter("severity", Words("EventSeverity"), "Only events of this severity, and worse ones."),
        ),
        columns=("number", "time", "kind", "severity", "service", "backend", "mirror", "code", "count"),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/drain",
        "drain",
        "CommandAnswer",
        "Give a backend no new connections.",
        (
            Parameter("deadline", Seconds(), "Reset the connections that are left after this time; null for never."),
            _PERSIST,
        ),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/undrain",
        "undrain",
        "CommandAnswer",
        "Give a drained backend new connections again.",
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/weight",
        "weight",
        "CommandAnswer",
        "Give a backend another weight than the rules do, for new connections.",
        (
            Parameter("weight", Weight(), "The weight; null for that of the rules.", is_required=True),
            _PERSIST,
        ),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/add",
        "add",
        "CommandAnswer",
        "Add a backend to a pool, without a change of the rules file.",
        (
            Parameter("address", Place(), "Its address, or its address and port.", is_required=True),
            Parameter("weight", Weight(), "Its weight; null for 1."),
            Parameter("max_connections", Count(1, MAX_CONNECTIONS), "The limit on its connections."),
            _PERSIST,
        ),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/remove",
        "remove",
        "CommandAnswer",
        "Remove a backend from its pool, without a change of the rules file.",
        (_PERSIST,),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}mirrors/{{service}}/{{mirror}}/pause",
        "pause",
        "CommandAnswer",
        "End the copies to a mirror, and begin no new ones.",
        (_PERSIST,),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}mirrors/{{service}}/{{mirror}}/resume",
        "resume",
        "CommandAnswer",
        "Give a paused mirror copies again.",
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}reload",
        "reload",
        "ReloadAnswer",
        "Read the rules file again and apply it; the answer lists the changes.",
        (Parameter("dry_run", Flag(), "Change nothing: list the changes, and what connections would lose."),),
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}mirroring/resume",
        "resume-mirroring",
        "CommandAnswer",
        "Switch on what was switched off after internal errors.",
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}kernel/release",
        "release-kernel",
        "CommandAnswer",
        "Install no kernel rules again that an operator removes.",
    ),
)

LISTS = tuple(route.name for route in ROUTES if route.kind is Kind.LIST)
PARAMETERS_OF_PATHS = {
    "file": "The file's name.",
    "service": "The service's name in the rules.",
    "backend": "The backend's name in the rules.",
    "mirror": "The mirror's name in the rules.",
}
