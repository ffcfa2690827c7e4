"""The rules that run, beside those in the file."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from natmirror.api import times
from natmirror.errors import RulesError
from natmirror.rules import Overrides, Rules, load_rules
from natmirror.rules.reload import refuse_what_cannot_change
from natmirror.rules.text import describe, differences
from natmirror.runtime.shown import LoadedRules, RulesAnswer, RulesFile

_State = tuple[int, ...]
"""What changes if a file does: its device, inode, length, and time of change in nanoseconds. Empty before a look."""
_SAME: RulesFile = {"changed_at": None, "differs": False, "differences": [], "error": None}
"""A file that has not been looked at since the rules were read from it."""
_VERSION_LEN = 8  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class _Running:
    """The rules of the file that run."""

    rules: Rules
    version: str
    loaded_at: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """The file as it was found last, with its comparison to the rules that ran then."""

    running: _Running
    state: _State
    file: RulesFile


class RulesView:
    """Shows the rules that run, what commands have changed in them, and how the file differs. look() and show() read
    the file, so they belong to a thread that may wait for the disk; from any thread, loaded() tells what the last look
    has found. The file is parsed again only after it has changed, ``before_parsing`` is called first."""

    def __init__(self, rules: Rules, overrides: Callable[[], Overrides], before_parsing: Callable[[], None]) -> None:
        self._overrides = overrides
        self._before_parsing = before_parsing
        self.set(rules)
        self._seen = _Seen(self._running, (), _SAME)

    def set(self, rules: Rules) -> None:
        """Set the rules of the file that run from now on, which were just read."""
        text = describe(rules)
        version = sha256(text.encode()).hexdigest()[:_VERSION_LEN]
        self._running = _Running(rules, version, times.show(time.time()))

    def show(self) -> RulesAnswer:
        """Return the rules and the comparison as values for JSON."""
        running, file = self._compared()
        overridden = self._overrides().applied(running.rules)
        return {
            "at": times.show(time.time()),
            "path": running.rules.path,
            "version": running.version,
            "loaded_at": running.loaded_at,
            "running": describe(overridden).splitlines(),
            "by_commands": differences(running.rules, overridden),
            "file": file,
        }

    def loaded(self) -> LoadedRules:
        """Return the rules in short, as values for JSON."""
        running, seen = self._running, self._seen
        file = seen.file if seen.running is running else _SAME
        return {
            "version": running.version,
            "loaded_at": running.loaded_at,
            "file_differs": file["differs"],
            "file_error": file["error"],
        }

    def look(self) -> None:
        """Compare the file, if it has changed since the last look."""
        self._compared()

    def _compared(self) -> tuple[_Running, RulesFile]:
        running, seen = self._running, self._seen
        try:
            found = os.stat(running.rules.path)
        except OSError as error:
            self._seen = _Seen(running, (), _unusable(None, f"{running.rules.path}: {error.strerror}"))
            return running, self._seen.file
        state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        if seen.running is not running or seen.state != state:
            self._before_parsing()
            self._seen = seen = _Seen(running, state, _compare(running.rules, times.show(found.st_mtime)))
        return running, seen.file


def _compare(running: Rules, changed_at: str) -> RulesFile:
    try:
        rules = load_rules(running.path)
    except RulesError as error:
        return _unusable(changed_at, str(error))
    found, refused = differences(running, rules), None
    try:
        refuse_what_cannot_change(running, rules)
    except RulesError as refusal:
        refused = str(refusal)
    return {"changed_at": changed_at, "differs": bool(found), "differences": found, "error": refused}


def _unusable(changed_at: str | None, error: str) -> RulesFile:
    return {"changed_at": changed_at, "differs": True, "differences": [], "error": error}
