"""The files that a run writes while packets pass: what is known of switches, and what masters would have done.

Each kind is written in a thread of its own. A disk that does not answer costs what would have been written, and delays
neither packets nor the main thread.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from natmirror.actions import Ordered
from natmirror.errors import CaptureError, HostError
from natmirror.rules import Rules
from natmirror.runtime import switch_file
from natmirror.runtime.chores import NEVER, Chore, Keeper
from natmirror.runtime.order_recorder import OrderRecorder

log = logging.getLogger("natmirror")

_SAVE_INTERVAL = 10.0
_RECORD_INTERVAL = 1.0
_RELOAD_TIMEOUT = 5.0


class Files:
    """Writes from start() on, until its keepers end. ``switches`` gives what is known of switches.

    CaptureError where a record cannot be made."""

    def __init__(self, rules: Rules, switches: Callable[[], list[dict[str, Any]]]) -> None:
        self._rules = rules
        self._switches = switches
        self._orders = OrderRecorder(rules)
        record = [
            Chore("record", _RECORD_INTERVAL, self._write),
            Chore("record", NEVER, self._finish, NEVER, at_end=True),
        ]
        self._record = Keeper("record", record)
        self.keepers = [self._record]
        """The threads."""
        if (path := rules.known_switches) is not None:
            first_at = time.monotonic() + _SAVE_INTERVAL
            saving = Chore("known-switches", _SAVE_INTERVAL, partial(self._save, path), first_at, at_end=True)
            self.keepers.append(Keeper("known-switches", [saving]))

    def restore(self, learn: Callable[[dict[str, Any]], None]) -> None:
        """Before start(): have ``learn`` told what a run before this one has known of each switch. A fault costs no
        more than that."""
        if (path := self._rules.known_switches) is None:
            return
        try:
            entries = switch_file.load(path)
        except HostError as error:
            log.warning("known-switches: %s", error)
            return
        for entry in entries:
            try:
                learn(entry)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("known-switches: %s: an entry that cannot be understood: %r", path, error)

    def start(self) -> None:
        """Begin to write. HostError where the host has no thread left."""
        for keeper in self.keepers:
            keeper.start()

    def add(self, orders: list[Ordered]) -> None:
        """Record what masters would have done just now; from any thread."""
        self._orders.add(orders)

    def reload(self, rules: Rules) -> None:
        """Go by other rules, from any thread. CaptureError where a new record cannot be made, or not soon: then nothing
        has changed."""
        try:
            self._record.ask(lambda: self._orders.reload(rules), _RELOAD_TIMEOUT)
        except TimeoutError:
            before = self._rules
            self._record.post(lambda: self._orders.reload(before))  # it may have begun
            raise CaptureError(f"the disk with the records has not answered for {_RELOAD_TIMEOUT:g} s") from None
        self._rules = rules

    # In the threads

    def _save(self, path: Path) -> None:
        switch_file.save(path, self._switches())

    def _write(self) -> None:
        try:
            self._orders.write()
        except CaptureError as error:
            log.error("record: %s; nothing more is recorded there", error)

    def _finish(self) -> None:
        self._write()
        self._orders.close()
