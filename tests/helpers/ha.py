"""A store without Redis, for tests of shared state: all hosts of a test have one World."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from natmirror.lab.process import wait_for
from natmirror.replication.record_kind import RecordWriter
from natmirror.replication.store import ENDED, GONE, PUT, Op, Record, StoreError


@dataclass(slots=True)
class World:
    """The records that Redis would hold, and the stores that get changes."""

    records: dict[str, tuple[str, str]] = field(default_factory=dict)  # host and value
    stores: list["FakeStore"] = field(default_factory=list)
    is_down: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def values(self) -> dict[str, str]:
        return {key: value for key, (_, value) in self.records.items()}

    def of(self, host: str) -> dict[str, str]:
        return {key: value for key, (owner, value) in self.records.items() if owner == host}


class FakeStore:
    """A Store in memory."""

    def __init__(self, world: World, host: str) -> None:
        self._world = world
        self.host = host
        self.heard: list[Op] = []
        self.is_connected = False
        self.writes = 0
        self.skipped = 0

    async def connect(self) -> None:
        self._check()
        self.heard.clear()
        self.is_connected = True
        self._world.stores.append(self)

    async def load(self) -> AsyncIterator[list[Record]]:
        for key, (owner, value) in list(self._world.records.items()):
            self._check()
            yield [Record(key, value, owner == self.host)]

    async def write(self, ops: Sequence[Op]) -> None:
        self._check()
        self.writes += 1
        with self._world.lock:
            done = [op for op in ops if self._do(op)]
            for store in self._world.stores:
                if store is not self:
                    store.heard += done

    def _do(self, op: Op) -> bool:
        owner, value = self._world.records.get(op.key, (None, None))
        if op.what == PUT:
            self._world.records[op.key] = self.host, op.value
        elif (op.what == GONE and owner == self.host) or (op.what == ENDED and value == op.value):
            del self._world.records[op.key]
        else:
            return False
        return True

    async def read_changes(self, timeout: float) -> list[Op]:
        self._check()
        await asyncio.sleep(0.001)
        with self._world.lock:
            heard, self.heard = self.heard, []
        return heard

    async def beat(self) -> None:
        self._check()

    async def close(self) -> None:
        self.is_connected = False
        if self in self._world.stores:
            self._world.stores.remove(self)

    def _check(self) -> None:
        if self._world.is_down:
            raise StoreError("it is down")


class Things:
    """A RecordKind whose records are in a dictionary."""

    name = "thing"
    is_held = True

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self.own: dict[str, str] = {}
        self.others: dict[str, str] = {}
        self.withdrawn: dict[str, bool] = {}
        self.log: list[str] = []

    def put(self, **things: str) -> None:
        self.own |= things
        self._writer.write([Op(PUT, f"thing {key}", value) for key, value in things.items()])

    def remove(self, key: str, *, ended: bool = True) -> None:
        value = self.own.pop(key)
        self._writer.write([Op(ENDED if ended else GONE, f"thing {key}", value)])

    async def adopt(self, records: Mapping[str, str]) -> int:
        self.others |= records
        return sum(value == "nonsense" for value in records.values())

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        self.withdrawn |= gone
        for key in gone:
            self.others.pop(key, None)

    async def write_all(self) -> None:
        for key, value in self.own.items():
            await self._writer.wait_for_room()
            self._writer.write([Op(PUT, f"thing {key}", value)])

    async def write_changes(self, now: float) -> None:
        pass

    async def activate(self) -> None:
        self.log.append("activate")
        self.own |= self.others
        self.others.clear()
        await self.write_all()

    async def write_last_changes(self) -> None:
        self.log.append("write last changes")

    async def release(self) -> None:
        self.log.append("release")
        self.others |= self.own
        self.own.clear()


def eventually(condition: Callable[[], Any], what: str = "it to happen") -> None:
    wait_for(lambda: bool(condition()), what, 5.0)
