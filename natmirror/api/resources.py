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
from natmirror.api.values import Flag, Seconds, ValueType

JSON = "application/json"


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
    """A parameter of a query, or a member of a command's body."""

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
    content_type: str = JSON

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


ROUTES = (
    Route(
        Kind.DOCUMENT,
        f"{PREFIX}status",
        "status",
        "StatusAnswer",
        "Counters, dropped packets by reason, findings, backends, mirrors with their accounts, queues.",
    ),
    Route(Kind.LIST, f"{PREFIX}flows", "flows", "FlowEntry", "The flows, each with its legs."),
    Route(
        Kind.LIST,
        f"{PREFIX}ended",
        "ended",
        "EndedLeg",
        "The latest legs that have ended: when, why, and how many bytes each mirror got. The latest come last.",
    ),
    Route(
        Kind.LIST,
        f"{PREFIX}decisions",
        "decisions",
        "SwitchDecisions",
        "What backend and masters have decided for each OpenFlow switch.",
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}backends/{{service}}/{{backend}}/drain",
        "drain",
        "CommandAnswer",
        "Give a backend no new connections.",
        (Parameter("deadline", Seconds(), "Reset the connections that are left after this time; null for never."),),
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
        "EmptyAnswer",
        "Switch on what was switched off after internal errors.",
    ),
    Route(
        Kind.COMMAND,
        f"{PREFIX}kernel/release",
        "release-kernel",
        "EmptyAnswer",
        "Install no kernel rules again that an operator removes.",
    ),
)

LISTS = tuple(route.name for route in ROUTES if route.kind is Kind.LIST)
PARAMETERS_OF_PATHS = {"service": "The service's name in the rules.", "backend": "The backend's name in the rules."}
