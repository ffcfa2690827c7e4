"""The exchange of records with the other host, in a thread of its own: no packet ever waits for it.

Theory. Each host writes its own records and reads the changes that other hosts write. At the start and after each
outage it *synchronises*: it subscribes to changes; reads all records, and so gets the changes that it has missed;
writes all of its own records again; and removes its own records that it no longer knows from the store. So after an
outage or a full queue it only has to synchronise again. It does so every five minutes anyway, so that no error lasts.

A standby host does not forget at once the records that the store has lost: a Redis that comes back empty gets all of
them from the active host again. The standby forgets those that are still missing when it synchronises the next time.

If two hosts both believe that they are active, each writes its own records and removes only its own. Where both write
the same key, the later write wins.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypedDict

from natmirror.ha.role import RELEASE_DELAY
from natmirror.replication.record_kind import RecordKind
from natmirror.replication.store import ENDED, GONE, PUT, Op, Store, StoreError
from natmirror.replication.write_queue import WriteQueue
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

REFRESH_INTERVAL = 300.0
"""Seconds between two synchronisations, several times in a record's lifetime."""

# Seconds
_WRITE_INTERVAL = 0.05
_BEAT_INTERVAL = 1.0
_CHANGES_TIMEOUT = 0.2
_SCAN_INTERVAL = 0.15
_PAUSES = (0.2, 2.0)  # after the first failed attempt to connect, and at most
_STOP_TIMEOUT = 3.0

MAX_WAITING_LEN = 64 << 20
"""Bytes of the ops that wait to be written: some 200,000 bindings."""
_AT_ONCE = 5_000  # ops in one write


class SyncState(StrEnum):
    """Whether this host has read all records from the store."""

    OFF = "off"
    """The rules have no ``ha.state``: no state is shared."""
    CONNECTING = "connecting"
    """The store does not answer, or has not answered yet."""
    SYNCING = "syncing"
    """This host is reading all records."""
    COMPLETE = "complete"
    """This host has read all records, and the store reports each change to it."""


class SyncEntry(TypedDict):
    """The state that this host shares with the other host of the pair."""

    state: SyncState
    """Whether this host has read all records from the store."""
    records: int
    """Records of the other host's connections and switches that this one holds."""
    records_rejected: int
    """Records of the other host that this one cannot use, because its rules lack their service, backend or mirror,
    because the ``ha.key`` or the versions of the two hosts differ, or because another program has written them."""
    waiting_writes: int
    """Changes of this host that are not yet written to the store."""
    lag_seconds: float
    """The age of the oldest change that is not yet written, in seconds."""
    last_change_seconds: float | None
    """The time since a record was last written or read, in seconds; null if none was."""
    outages: int
    """Times that the store stopped answering after all records had been read."""
    error: str | None
    """Why the store does not answer; null while it does."""


class Synchroniser:
    """Exchanges records through ``store``, from start() to stop(). It calls the kinds of records in its own thread;
    they write through write()."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.first_attempt_done = threading.Event()
        """Set when all records have been read for the first time, or the first attempt has failed."""
        self._role_applied = threading.Event()
        self._store = store
        self._clock = clock
        self._kinds: Sequence[RecordKind] = ()
        self._queue = WriteQueue(MAX_WAITING_LEN)
        self._state = SyncState.CONNECTING
        self._was_complete = False
        self._is_active = False
        self._kinds_are_active: bool | None = None  # the role that the kinds have taken; None: none yet
        self._other_records: dict[str, str] = {}
        self._missing: set[str] = set()
        self._rejected = 0
        self._rules_changed = False
        self._changed_at: float | None = None
        self._outages = 0
        self._error: str | None = None
        self._thread = NamedThread(self._run, "shared-state")
        self._loop = asyncio.new_event_loop()
        self._role_changed = asyncio.Event()
        self._first_role_applied = asyncio.Event()

    # From other threads

    def start(self, kinds: Sequence[RecordKind]) -> None:
        """Start the thread, with these kinds of records."""
        self._kinds = kinds
        self._main = self._loop.create_task(self._run_tasks())
        self._thread.start()

    def stop(self) -> None:
        """Write the queued ops, for at most 3 s, and end."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the thread has just closed its loop
                self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(_STOP_TIMEOUT)

    def write(self, ops: Sequence[Op]) -> None:
        """Queue these ops for the store; from any thread, without waiting."""
        self._queue.add(ops, self._clock())

    async def wait_for_room(self) -> None:
        """Wait until the queue has room for thousands of further ops; for the kinds, in this object's thread."""
        while self._queue.is_half_full():
            await asyncio.sleep(_WRITE_INTERVAL)

    def note_missed(self) -> None:
        """Have the next synchronisation begin soon, because ops were lost before write(); from any thread."""
        self._queue.note_missed()

    def set_active(self, is_active: bool) -> None:
        """Set whether this host is the active one; from any thread."""
        self._role_applied.clear()
        self._is_active = is_active
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._role_changed.set)

    def wait_until_role_applied(self, timeout: float) -> None:
        """Wait until the kinds have taken the role that set_active() has set. The caller is no packet thread: the kinds
        ask these."""
        self._role_applied.wait(timeout)

    def refresh(self) -> None:
        """Synchronise soon, because the rules have changed; from any thread."""
        self._rules_changed = True
        self._queue.note_missed()

    def why_incomplete(self) -> str | None:
        """Return why this host cannot take over the other host's connections yet. None: it can, or the store does not
        answer. A later outage does not matter: the records that were read stay."""
        if self._was_complete or self._is_active:
            return None
        if self._state is SyncState.CONNECTING and self._error is not None:
            return None
        return f"the shared state is {self._state}"

    def status(self) -> SyncEntry:
        """Return the state of the exchange as values for JSON; from any thread."""
        now, changed_at = self._clock(), self._changed_at
        return {
            "state": self._state,
            "records": len(self._other_records),
            "records_rejected": self._rejected + self._store.skipped,
            "waiting_writes": self._queue.waiting(),
            "lag_seconds": round(self._queue.age(now), 3),
            "last_change_seconds": None if changed_at is None else round(now - changed_at, 3),
            "outages": self._outages,
            "error": self._error,
        }

    # In the thread

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        self._loop.close()

    async def _run_tasks(self) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow_role())
                    group.create_task(self._keep_connected())
            except* Exception as group:  # e.g. no memory while another error was handled
                log.error("shared state: internal error; connecting to the store again", exc_info=group)
            await asyncio.sleep(_PAUSES[0])

    async def _follow_role(self) -> None:
        """Pass each change of role to the kinds, whether the store answers or not; then have them write changes."""
        while True:
            self._role_changed.clear()
            try:
                await self._apply_role()
            except Exception:
                log.exception("shared state: internal error at a change of role; trying again")
            with suppress(TimeoutError):
                async with asyncio.timeout(_SCAN_INTERVAL):
                    await self._role_changed.wait()

    async def _apply_role(self) -> None:
        is_active = self._is_active
        if self._kinds_are_active and not is_active:
            is_active = await self._wait_before_release()
        if is_active != self._kinds_are_active:
            was_active, self._kinds_are_active = self._kinds_are_active, is_active
            try:
                for kind in self._kinds:
                    await (kind.activate() if is_active else kind.release())
            except Exception:
                self._kinds_are_active = (
                    was_active  # try again: while the role is only half applied, no host has the legs
                )
                raise
            if was_active:
                self._queue.note_missed()  # read all records again: an active host has ignored those of the other host
        self._first_role_applied.set()
        if self._kinds_are_active == self._is_active:
            self._role_applied.set()
        for kind in self._kinds:
            await kind.write_changes(self._clock())

    async def _wait_before_release(self) -> bool:
        """Keep the role for RELEASE_DELAY, after writing the latest changes; return whether this host is active again
        by then.

        Meanwhile the last packets of clients, backends and mirrors still come here, pass, and are copied as before.
        Otherwise mirrors would lack them, because the other host does not see them.
        """
        for kind in self._kinds:
            await kind.write_last_changes()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_DELAY):
                while not self._is_active:
                    self._role_changed.clear()
                    await self._role_changed.wait()
        return self._is_active

    async def _keep_connected(self) -> None:
        await self._first_role_applied.wait()  # how kinds adopt records depends on the role
        pause = _PAUSES[0]
        while True:
            try:
                if self._rules_changed and not self._kinds_are_active:  # these rules may pin more bindings
                    self._rules_changed, self._rejected = False, 0
                    await self._adopt(dict(self._other_records))
                await self._store.connect()
                self._queue.open()
                pause = _PAUSES[0]
                await self._exchange_records()
            except StoreError as error:
                self._note_outage(str(error))
            except Exception:
                log.exception("shared state: internal error")
                self._note_outage("internal error")
            finally:
                self._queue.close()
                await self._store.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _note_outage(self, error: str) -> None:
        if self._error is None:
            log.warning("shared state: %s; trying again until the store (ha.state in the rules) answers", error)
            self._outages += self._was_complete
        self._state, self._error = SyncState.CONNECTING, error
        self.first_attempt_done.set()

    async def _exchange_records(self) -> None:
        """Synchronise, apply other hosts' changes, and synchronise again when ops were lost or REFRESH_INTERVAL is
        over, until the store fails."""
        writing = asyncio.create_task(self._write_queued())
        try:
            while not writing.done():
                await self._synchronise()
                until = self._clock() + REFRESH_INTERVAL
                while not writing.done() and self._clock() < until and not self._queue.take_missed():
                    await self._apply(await self._store.read_changes(_CHANGES_TIMEOUT))
            await writing
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError, StoreError):
                await writing

    async def _synchronise(self) -> None:
        self._state, self._rules_changed = SyncState.SYNCING, False
        self._queue.watch_puts()
        fresh: dict[str, str] = {}
        own: set[str] = set()
        self._rejected = 0
        async for records in self._store.load():
            own.update(record.key for record in records if record.is_own)
            others = {record.key: record.value for record in records if not record.is_own}
            fresh |= self._held(others)
            await self._adopt(others)
        missing = self._other_records.keys() - fresh.keys() - own
        lost = missing & self._missing
        await self._withdraw(dict.fromkeys(lost, False))
        self._missing = missing - lost
        self._other_records = {key: self._other_records[key] for key in self._missing} | fresh
        for kind in self._kinds:
            if self._kinds_are_active and not self._was_complete:
                await kind.activate()
            await kind.write_all()
        put = self._queue.take_puts()
        if self._kinds_are_active:
            self.write([Op(GONE, key) for key in own - put])
        if self._error is not None or not self._was_complete:
            log.info("shared state: complete; read %d records of other hosts", len(fresh))
        self._state, self._error, self._was_complete = SyncState.COMPLETE, None, True
        self.first_attempt_done.set()

    async def _write_queued(self) -> None:
        """Write queued ops until the store fails; when cancelled, write those that are left."""
        beat_at = 0.0
        try:
            while True:
                now = self._clock()
                if ops := self._queue.take(_AT_ONCE):
                    await self._store.write(ops)
                    self._changed_at = now
                elif now >= beat_at:
                    await self._store.beat()
                    beat_at = now + _BEAT_INTERVAL
                if not self._queue.waiting():
                    await asyncio.sleep(_WRITE_INTERVAL)
        except asyncio.CancelledError:
            while ops := self._queue.take(_AT_ONCE):
                await self._store.write(ops)
            raise
        except StoreError:
            self._queue.close()
            raise

    async def _apply(self, ops: Sequence[Op]) -> None:
        last = {op.key: op for op in ops}
        put = {key: op.value for key, op in last.items() if op.what == PUT}
        gone = {key: op.what == ENDED for key, op in last.items() if op.what != PUT}
        for key in gone:
            self._other_records.pop(key, None)
        self._other_records |= self._held(put)
        await self._withdraw(gone)
        await self._adopt(put)
        if ops:
            self._changed_at = self._clock()

    async def _adopt(self, records: Mapping[str, str]) -> None:
        for kind, its_items in self._by_kind(records):
            self._rejected += await kind.adopt(its_items)

    async def _withdraw(self, gone: Mapping[str, bool]) -> None:
        for kind, its_items in self._by_kind(gone):
            await kind.withdraw(its_items)

    def _held(self, records: Mapping[str, str]) -> Mapping[str, str]:
        others = tuple(f"{kind.name} " for kind in self._kinds if not kind.is_held)
        return {key: value for key, value in records.items() if not key.startswith(others)} if others else records

    def _by_kind(self, items: Mapping[str, Any]) -> Iterable[tuple[RecordKind, dict[str, Any]]]:
        """Yield each kind with its items, their keys without the kind's name; leave out unknown kinds."""
        for kind in self._kinds:
            prefix = kind.name + " "
            its_items = {key.removeprefix(prefix): item for key, item in items.items() if key.startswith(prefix)}
            if its_items:
                yield kind, its_items
