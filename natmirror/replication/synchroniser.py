"""What this host and others share, kept up to date in a thread of its own: no packet ever waits for it.

Theory. Each host writes what is its own and hears what others write. After it has begun, and after each outage, it
*synchronises*: it listens, then reads everything, which brings what it knows of others up to date whatever it has
missed, then writes all of its own again, and removes what is its own in the store and nowhere else. An outage, or a
queue that is full, therefore only means that this has to be done again; it is done now and then anyway, so that nothing
that went wrong lasts.

What the store has lost, a standby does not forget at once: a Redis that comes back empty gets everything from the
active host again. Only what is still missing when all is read the next time goes.

Of two hosts that both believe they are active each writes its own, and removes only its own; where both write the same
key the later is right.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypedDict

from natmirror.ha.role import SETTLE_TIME
from natmirror.replication.record_kind import RecordKind
from natmirror.replication.store import ENDED, GONE, PUT, Op, Store, StoreError
from natmirror.replication.write_queue import WriteQueue

log = logging.getLogger("natmirror")

REFRESH_INTERVAL = 300.0
"""Seconds after which everything is read and written again: several times in a record's lifetime."""

_WRITE_INTERVAL = 0.05
_BEAT_INTERVAL = 1.0
_CHANGES_TIMEOUT = 0.2
_LOOK_INTERVAL = 0.15
_PAUSES = (0.2, 2.0)  # after the first attempt in vain, and at most
_MAX_WAITING = 200_000  # ops that wait to be written
_AT_ONCE = 5_000  # ops in one write
_STOP_TIMEOUT = 3.0


class SyncState(StrEnum):
    """How far this host has read the shared state."""

    OFF = "off"
    """The rules have no ``ha.state``: nothing is shared."""
    CONNECTING = "connecting"
    """The store does not answer, or has not answered yet."""
    SYNCING = "syncing"
    """This host is reading everything."""
    COMPLETE = "complete"
    """This host has read everything, and hears of each change."""


class SyncEntry(TypedDict):
    """What this host shares with the other host of the pair."""

    state: SyncState
    """How far this host has read the shared state."""
    records: int
    """Records of the other host that this one holds."""
    records_rejected: int
    """Records of the other host that this one cannot use: its rules do not have their service, backend or mirror, or
    the format is another version's."""
    waiting_writes: int
    """Changes of this host that wait to be written."""
    lag_seconds: float
    """For how long the oldest of them has waited, in seconds."""
    last_change_seconds: float | None
    """How long ago a record was last written or read, in seconds; null: never."""
    outages: int
    """Times that the store stopped answering after everything had been read."""
    error: str | None
    """Why the store does not answer; null while it does."""


class Synchroniser:
    """From start() to stop(). ``kinds`` get what others write, in the thread of this; write() takes what is to be
    written."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.settled = threading.Event()
        """Set when everything has been read for the first time, or could not be."""
        self._role_taken = threading.Event()
        self._store = store
        self._clock = clock
        self._kinds: Sequence[RecordKind] = ()
        self._queue = WriteQueue(_MAX_WAITING)
        self._state = SyncState.CONNECTING
        self._was_complete = False
        self._is_active = False
        self._kinds_are_active: bool | None = None  # whether the kinds believe that this host is the active one
        self._copy: dict[str, str] = {}
        self._missing: set[str] = set()
        self._rejected = 0
        self._rules_changed = False
        self._changed_at: float | None = None
        self._outages = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._role_changed = asyncio.Event()
        self._role_known = asyncio.Event()

    # From other threads

    def start(self, kinds: Sequence[RecordKind]) -> None:
        """Begin."""
        self._kinds = kinds
        self._main = self._loop.create_task(self._run_tasks())
        self._thread.start()

    def stop(self) -> None:
        """Write what is to be written, as far as that goes quickly, and end."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # its loop has just closed
                self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(_STOP_TIMEOUT)

    def write(self, ops: Sequence[Op]) -> None:
        """Have these written; from any thread, without waiting."""
        self._queue.add(ops, self._clock())

    async def wait_for_room(self) -> None:
        """In the thread: wait until there is room for some thousands more."""
        while self._queue.waiting() > _MAX_WAITING // 2:
            await asyncio.sleep(_WRITE_INTERVAL)

    def note_missed(self) -> None:
        """Note that ops were lost before they came here; from any thread."""
        self._queue.note_missed()

    def set_active(self, is_active: bool) -> None:
        """Take whether this host is the active one; from any thread."""
        self._role_taken.clear()
        self._is_active = is_active
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._role_changed.set)

    def wait_until_role_taken(self, timeout: float) -> None:
        """Wait until the role that set_active() has set last is taken; from any thread that the kinds do not ask."""
        self._role_taken.wait(timeout)

    def refresh(self) -> None:
        """Have everything read and written again soon, because the rules have changed; from any thread."""
        self._rules_changed = True
        self._queue.note_missed()

    def why_incomplete(self) -> str | None:
        """Return why this host could not go on with another one's connections yet; None: it could, or the store does
        not answer. An outage later takes nothing away from what was read before."""
        if self._was_complete or self._is_active:
            return None
        if self._state is SyncState.CONNECTING and self._error is not None:
            return None
        return f"the shared state is {self._state}"

    def status(self) -> SyncEntry:
        """Return the state as values for JSON; from any thread."""
        now, changed_at = self._clock(), self._changed_at
        return {
            "state": self._state,
            "records": len(self._copy),
            "records_rejected": self._rejected,
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
                    group.create_task(self._keep_role())
                    group.create_task(self._keep_connected())
            except* Exception as group:  # for one, no memory where a fault was just being dealt with
                log.error("shared state: internal error; beginning again", exc_info=group)
            await asyncio.sleep(_PAUSES[0])

    async def _keep_role(self) -> None:
        """Have the kinds take this host's role whenever it changes, whether the store answers or not."""
        while True:
            self._role_changed.clear()
            try:
                await self._take_role()
            except Exception:
                log.exception("shared state: something went wrong")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL):
                    await self._role_changed.wait()

    async def _take_role(self) -> None:
        is_active = await self._settle() if self._kinds_are_active and not self._is_active else self._is_active
        if is_active != self._kinds_are_active:
            was_active, self._kinds_are_active = self._kinds_are_active, is_active
            try:
                for kind in self._kinds:
                    await (kind.become_active() if is_active else kind.become_standby())
            except Exception:
                self._kinds_are_active = was_active  # to be tried again: a role that is only half taken holds no legs
                raise
            if was_active:
                self._queue.note_missed()  # from now on everything matters that the other host writes, and has written
        self._role_known.set()
        if self._kinds_are_active == self._is_active:
            self._role_taken.set()
        for kind in self._kinds:
            await kind.write_changes(self._clock())

    async def _settle(self) -> bool:
        """Another host is about to be the active one: whether this one is it again before the last packets have come
        here. Until then they pass as before, mirrors' too, who would lack those that the other host does not see."""
        for kind in self._kinds:
            await kind.write_last_changes()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIME):
                while not self._is_active:
                    self._role_changed.clear()
                    await self._role_changed.wait()
        return self._is_active

    async def _keep_connected(self) -> None:
        await self._role_known.wait()  # a standby takes in records differently
        pause = _PAUSES[0]
        while True:
            try:
                if self._rules_changed and not self._kinds_are_active:  # what had to be kept of it then may be more now
                    self._rules_changed, self._rejected = False, 0
                    await self._take_in(dict(self._copy))
                await self._store.connect()
                self._queue.open()
                pause = _PAUSES[0]
                await self._exchange_records()
            except StoreError as error:
                self._note_outage(str(error))
            except Exception:
                log.exception("shared state: something went wrong")
                self._note_outage("internal error")
            finally:
                self._queue.close()
                await self._store.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _note_outage(self, error: str) -> None:
        if self._error is None:
            log.warning("shared state: %s; trying again until it answers", error)
            self._outages += self._was_complete
        self._state, self._error = SyncState.CONNECTING, error
        self.settled.set()

    async def _exchange_records(self) -> None:
        """Synchronise, and again now and then, until the store fails."""
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
            fresh |= others
            await self._take_in(others)
        missing = self._copy.keys() - fresh.keys() - own
        lost = missing & self._missing
        await self._withdraw(dict.fromkeys(lost, False))
        self._missing = missing - lost
        self._copy = {key: self._copy[key] for key in self._missing} | fresh
        for kind in self._kinds:
            if self._kinds_are_active and not self._was_complete:
                await kind.become_active()
            await kind.write_all()
        put = self._queue.take_puts()
        if self._kinds_are_active:
            self.write([Op(GONE, key) for key in own - put])
        if self._error is not None or not self._was_complete:
            log.info("shared state: complete, %d records of other hosts", len(fresh))
        self._state, self._error, self._was_complete = SyncState.COMPLETE, None, True
        self.settled.set()

    async def _write_queued(self) -> None:
        """Write what there is, until it fails; when it is ended, for the last time."""
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
            self._copy.pop(key, None)
        self._copy |= put
        await self._withdraw(gone)
        await self._take_in(put)
        if ops:
            self._changed_at = self._clock()

    async def _take_in(self, records: Mapping[str, str]) -> None:
        for kind, some in self._by_kind(records):
            self._rejected += await kind.take_in(some)

    async def _withdraw(self, gone: Mapping[str, bool]) -> None:
        for kind, some in self._by_kind(gone):
            await kind.withdraw(some)

    def _by_kind(self, things: Mapping[str, Any]) -> Iterable[tuple[RecordKind, dict[str, Any]]]:
        """Yield each kind's own; unknown kinds are left out."""
        for kind in self._kinds:
            prefix = kind.name + " "
            some = {key.removeprefix(prefix): thing for key, thing in things.items() if key.startswith(prefix)}
            if some:
                yield kind, some
