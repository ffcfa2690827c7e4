"""The rules that run, beside those in the file."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from natmirror.api import times
from natmirror.errors import RulesError
from natmirror.rules import Overrides, Rules, load_rules
from natmirror.rules.reload import refuse_what_cannot_change
from natmirror.rules.text import describe, differences
from natmirror.runtime.shown import RulesAnswer, RulesFile

_State = tuple[int, ...]
"""What changes if a file does: its device, inode, length, and time of change in nanoseconds."""


@dataclass(slots=True)
class _Seen:
    """The file as it was found last, with its comparison."""

    state: _State
    file: RulesFile


class RulesView:
    """Shows the rules that run, what commands have changed in them, and how the file differs. It reads the file, so
    it belongs to a thread that may wait for the disk. The file is parsed again only after it has changed,
    ``before_parsing`` is called first."""

    def __init__(self, rules: Rules, overrides: Callable[[], Overrides], before_parsing: Callable[[], None]) -> None:
        self._overrides = overrides
        self._before_parsing = before_parsing
        self.set(rules)

    def set(self, rules: Rules) -> None:
        """Set the rules of the file that run from now on."""
        self._rules = rules
        self._loaded_at = times.show(time.time())
        self._seen: _Seen | None = None

    def show(self) -> RulesAnswer:
        """Return the rules and the comparison as values for JSON."""
        running = self._overrides().applied(self._rules)
        return {
            "at": times.show(time.time()),
            "path": self._rules.path,
            "loaded_at": self._loaded_at,
            "running": describe(running).splitlines(),
            "by_commands": differences(self._rules, running),
            "file": self._file(),
        }

    def _file(self) -> RulesFile:
        try:
            found = os.stat(self._rules.path)
        except OSError as error:
            return _unusable(None, f"{self._rules.path}: {error.strerror}")
        state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        if self._seen is None or self._seen.state != state:
            self._before_parsing()
            self._seen = _Seen(state, self._compare(times.show(found.st_mtime)))
        return self._seen.file

    def _compare(self, changed_at: str) -> RulesFile:
        try:
            rules = load_rules(self._rules.path)
        except RulesError as error:
            return _unusable(changed_at, str(error))
        found, refused = differences(self._rules, rules), None
        try:
            refuse_what_cannot_change(self._rules, rules)
        except RulesError as refusal:
            refused = str(refusal)
        return {"changed_at": changed_at, "differs": bool(found), "differences": found, "error": refused}


def _unusable(changed_at: str | None, error: str) -> RulesFile:
    return {"changed_at": changed_at, "differs": True, "differences": [], "error": error}
