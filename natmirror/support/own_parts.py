"""The parts of a dump that natmirror tells of itself: by its API, by its commands, and by its files."""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from natmirror.api.client import ask
from natmirror.errors import HostError
from natmirror.metrics.page import MetricsPage
from natmirror.support.collecting import Part, output_of

DEFAULT_RULES = Path("/etc/natmirror/rules.yaml")
"""The rules file of the unit, where no natmirror answers and the operator names none."""
RULES_FILE = "rules-file.yaml"
_API_TIMEOUT = 15.0  # seconds: above the time that the client itself gives natmirror
_DOCTOR_TIMEOUT = 60.0
_LEGS, _EVENTS = 100, 2000
_BEHIND = 0.001  # seconds


class OwnParts:
    """The parts of the natmirror that serves the socket ``api``, or should. ``rules`` is the file that the operator has
    named, or None."""

    def __init__(self, api: Path, rules: Path | None) -> None:
        self._api = api
        self._named_rules = rules

    def parts(self) -> Iterator[Part]:
        """Yield the parts."""
        ask = partial(Part, timeout=_API_TIMEOUT)
        yield ask("status.json", "The state, as natmirror status --json has it.", lambda: self._status)
        yield ask("metrics.txt", "The metrics of that state.", lambda: MetricsPage().render(self._status).decode())
        yield ask("rules-running.json", "The rules that run, and how those in the file differ.", self._asking("rules"))
        yield ask(
            "legs-behind.json",
            "The legs that are behind longest.",
            self._asking("legs", sort="-lag_seconds", lagging=_BEHIND, limit=_LEGS),
        )
        yield ask("legs-ended.json", "The legs that ended last.", self._asking("ended"))
        yield ask("verdict.json", "The verdicts on masters.", self._asking("verdict"))
        yield ask(
            "events.json",
            "The latest events; from the file of events where natmirror does not answer.",
            partial(self._command, "events", "--json", "--limit", str(_EVENTS)),
        )
        yield ask("health.json", "Whether natmirror is fit to be active.", partial(self._command, "health", "--json"))
        yield Part(
            "doctor.json",
            "The findings of natmirror doctor.",
            partial(self._command, "doctor", "--json", *self._rules_option(), timeout=_DOCTOR_TIMEOUT),
            _DOCTOR_TIMEOUT + 2,
        )
        yield ask(RULES_FILE, "The rules file, without comments.", self._rules_file)
        yield ask("rules-check.txt", "What natmirror --check says of it.", self._check)

    @cached_property
    def _status(self) -> dict[str, Any]:
        return dict(ask("status", self._api))

    def _asking(self, resource: str, **parameters: Any) -> Any:
        return lambda: ask(resource, self._api, **parameters)

    def _rules_option(self) -> Sequence[str]:
        return () if self._named_rules is None else ("--rules", str(self._named_rules))

    def _rules_path(self) -> Path:
        """Return the rules file: the operator's, the running natmirror's, or the unit's."""
        if self._named_rules is not None:
            return self._named_rules
        try:
            return Path(self._status["rules"])
        except HostError:
            return DEFAULT_RULES

    def _rules_file(self) -> str:
        lines = self._rules_path().read_text(errors="replace").splitlines()
        return "".join(f"{line}\n" for line in map(_without_comment, lines) if line.strip())

    def _check(self) -> str:
        return output_of([sys.executable, "-m", "natmirror", "--rules", str(self._rules_path()), "--check"])

    def _command(self, *words: str, timeout: float = _API_TIMEOUT) -> Any:
        """Return what a command prints, as values for JSON if it prints that."""
        command = [sys.executable, "-m", "natmirror", words[0], "--api", str(self._api), *words[1:]]
        text = output_of(command, timeout)
        try:
            return json.loads(text.partition("\n")[2])
        except ValueError:
            return text


def _without_comment(line: str) -> str:
    """Return a line of YAML without its comment, which begins at a # behind white space (YAML 1.2.2 §6.6)."""
    quote = ""
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (at == 0 or line[at - 1] in " \t[{,:"):
            quote = sign
        elif sign == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at].rstrip()
    return line
