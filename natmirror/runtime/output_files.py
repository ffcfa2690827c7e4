"""The files that a run writes while packets pass: recordings of masters' orders, the known switches, the overrides, and
the events.

``OutputFiles`` has all of them.

A separate thread writes each kind. A disk that is full or does not answer delays neither packets nor the main thread.
What waits for it is written once it works again, as far as it had room in memory; findings() says what is missing.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from natmirror.actions import Order
from natmirror.errors import CaptureError, HostError
from natmirror.findings import Finding, OwnCode
from natmirror.rules import Rules
from natmirror.rules.shards import shard_of_client
from natmirror.runtime import switch_file, whole_file
from natmirror.runtime.chores import HANGS, NEVER, Chore, ChoreThread
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.event_file import EventFile
from natmirror.runtime.order_recorder import OrderRecorder
from natmirror.runtime.override_file import OverrideFile

log = logging.getLogger("natmirror")

# Seconds
_SAVE_INTERVAL = 10.0
_RECORD_INTERVAL = 1.0
_RELOAD_TIMEOUT = 5.0


class OrderFiles:
    """The recordings of masters' orders, which ``thread`` writes."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._recorder = OrderRecorder()
        chores = [
            Chore("record", _RECORD_INTERVAL, self._recorder.write),
            Chore("record", NEVER, self._finish, NEVER, at_end=True),
        ]
        self.thread = ChoreThread("record", chores)

    def open(self) -> None:
        """Create the files, before the thread starts. CaptureError where one cannot be created."""
        self._recorder.reload(self._rules)

    def add(self, orders: list[Order]) -> None:
        """Record orders that masters have just given; from any thread."""
        self._recorder.add(orders)

    def reload(self, rules: Rules) -> None:
        """Record by other rules; from any thread. CaptureError where a new file cannot be created, or not soon: then
        nothing has changed."""
        try:
            self.thread.ask(lambda: self._recorder.reload(rules), _RELOAD_TIMEOUT)
        except TimeoutError:
            before = self._rules
            self.thread.post(lambda: self._recorder.reload(before))  # undo the reload if it has begun
            raise CaptureError(f"the disk with the recordings has not answered for {_RELOAD_TIMEOUT:g} s") from None
        self._rules = rules

    def findings(self) -> list[Finding]:
        """Return what is wrong with the recordings; from any thread."""
        found = []
        hangs = any(failure["error"] == HANGS for failure in self.thread.failures())
        for path, file in self._recorder.files.items():
            error = "the disk does not answer" if hangs and file.is_appending else file.error
            if error is not None:
                found.append(OwnCode.ORDERS_NOT_RECORDED.found(path=path, error=error))
            if file.lost:
                found.append(OwnCode.ORDERS_LOST.found(path=path, count=file.lost))
        return found

    # In the thread

    def _finish(self) -> None:
        try:
            self._recorder.write()
        finally:
            self._recorder.close()


class KnownSwitches:
    """The file of known switches: a start restores them from it, then ``thread`` writes it."""

    def __init__(self, path: Path, engines: Sequence[EngineProxy]) -> None:
        self._path = path
        self._engines = engines
        first_at = time.monotonic() + _SAVE_INTERVAL
        chore = Chore("known-switches", _SAVE_INTERVAL, self._save, first_at, at_end=True)
        self.thread = ChoreThread("switches", [chore])

    def restore(self) -> None:
        """Restore the switches of an earlier run in the engines, before their threads start. Log what cannot be
        restored."""
        whole_file.remove_unfinished(self._path)
        try:
            entries = switch_file.load(self._path)
        except HostError as error:
            log.warning("known-switches: %s", error)
            return
        for entry in entries:
            try:
                self._engines[shard_of_client(str(entry["client"]), len(self._engines))].restore_switch(entry)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("known-switches: %s: ignoring a malformed entry: %r", self._path, error)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the file; from any thread."""
        errors = {failure["error"] for failure in self.thread.failures()}
        error = "the disk does not answer" if HANGS in errors else next(iter(errors), None)
        error = None if error is None else error.removeprefix(f"{self._path}: ")
        return [] if error is None else [OwnCode.SWITCHES_NOT_SAVED.found(path=self._path, error=error)]

    def _save(self) -> None:
        switch_file.save(self._path, [entry for engine in self._engines for entry in engine.known_switches()])


class OutputFiles:
    """All files that a run writes, by these rules."""

    def __init__(self, rules: Rules, events: EventFile, overrides: OverrideFile) -> None:
        self.orders = OrderFiles(rules)
        self.overrides = overrides
        self._events = events
        self._known_switches = rules.known_switches
        self._switches: KnownSwitches | None = None

    def attach(self, engines: Sequence[EngineProxy]) -> None:
        """Keep the switches that these engines know; call it before the other methods."""
        if self._known_switches is not None:
            self._switches = KnownSwitches(self._known_switches, engines)

    @property
    def threads(self) -> list[ChoreThread]:
        """The threads that write the files."""
        switches = () if self._switches is None else (self._switches.thread,)
        return [self.orders.thread, *switches, self.overrides.thread, self._events.thread]

    def open(self) -> None:
        """Create and read the files, before the threads start. CaptureError where a recording cannot be created."""
        self.orders.open()
        self._events.restore()
        if self._switches is not None:
            self._switches.restore()

    def findings(self) -> list[Finding]:
        """Return what is wrong with the files; from any thread."""
        switches = [] if self._switches is None else self._switches.findings()
        return self.orders.findings() + switches + self.overrides.findings() + self._events.findings()
