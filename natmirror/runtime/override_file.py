"""The file of overrides: those that an operator's command has set with ``--persist`` hold over a restart.

A thread of its own writes it, so that a disk that is full or does not answer delays no command without ``--persist``.
"""

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from natmirror.errors import HostError
from natmirror.findings import Finding, OwnCode
from natmirror.rules import Overrides
from natmirror.rules.overrides import Override, read_override
from natmirror.runtime import whole_file
from natmirror.runtime.chores import HANGS, NEVER, Chore, ChoreThread

log = logging.getLogger("natmirror")

FILE_NAME = "overrides.json"
"""The name of the file in the state directory of a service."""
_FORMAT = 1
_NAME = "overrides"
_RETRY_INTERVAL = 10.0  # seconds


class OverrideFile:
    """The overrides that hold over a restart, in the file ``path``; with None there is no place for them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._wanted: list[Override] = []
        self._written: list[Override] = []
        chores = [
            Chore("overrides", NEVER, self._remove_unfinished),
            Chore("overrides", _RETRY_INTERVAL, self._save),
            Chore("overrides", NEVER, self._save, NEVER, at_end=True),
        ]
        self.thread = ChoreThread("overrides", chores)

    @property
    def is_there(self) -> bool:
        """Whether there is a place for overrides."""
        return self._path is not None

    def restore(self) -> Overrides:
        """Return the overrides of earlier runs, before the thread starts. Log what cannot be read."""
        if self._path is None:
            return Overrides()
        try:
            found = whole_file.read_list(self._path, _NAME, _FORMAT, "overrides")
        except HostError as error:
            log.error("overrides: no drain, weight or pause of an earlier run holds: %s", error)
            return Overrides()
        read = [one for plain in found if (one := self._read(plain)) is not None]
        self._wanted = self._written = read
        return Overrides({one.key: one for one in read})

    def _read(self, plain: Any) -> Override | None:
        try:
            return read_override(plain)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("overrides: %s: ignoring a malformed entry: %r", self._path, error)
            return None

    def save(self, overrides: Overrides) -> "Future[None] | None":
        """Have the file follow a change of the overrides. Return the future of its end, or None if the file stays as it
        is. The future has a HostError where it could not be written: natmirror tries again."""
        wanted = [one for one in overrides if one.is_kept]
        if self._path is None or wanted == self._wanted:
            return None
        self._wanted = wanted
        return self.thread.request(self._save)

    def wait_until_saved(self, timeout: float) -> None:
        """Wait until the file has the latest change. HostError where it cannot be written, TimeoutError where that
        takes longer."""
        if self._path is not None and self._wanted != self._written:
            self.thread.ask(self._save, timeout)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the file; from any thread."""
        errors = {failure["error"] for failure in self.thread.failures()}
        error = "the disk does not answer" if HANGS in errors else next(iter(errors), None)
        if error is None or self._path is None:
            return []
        return [OwnCode.OVERRIDES_NOT_SAVED.found(path=self._path, error=error.removeprefix(f"{self._path}: "))]

    # In the thread

    def _remove_unfinished(self) -> None:
        if self._path is not None:
            whole_file.remove_unfinished(self._path)

    def _save(self) -> None:
        wanted = self._wanted
        if self._path is not None and wanted != self._written:
            whole_file.write_list(self._path, _NAME, _FORMAT, [one.plain() for one in wanted])
            self._written = wanted
