"""The records of legs between the store and the packet threads."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, cast

from natmirror.replication.legs import LegRecords
from natmirror.replication.record_kind import PacketThread
from natmirror.replication.store import PUT, Op


class Replication:
    """The engine's side: it records what it is asked."""

    def __init__(self) -> None:
        self.adopted: list[Any] = []
        self.delivered: list[Any] = []
        self.lacking: list[dict[str, Any]] = []

    def adopt_legs(self, records: Sequence[Any]) -> int:
        self.adopted += records
        return 0

    def deliver_missing(self, records: Sequence[Any]) -> None:
        self.delivered += records

    def lacking_records(self) -> list[dict[str, Any]]:
        lacking, self.lacking = self.lacking, []
        return lacking

    def mirrored_ids(self) -> list[int]:
        return []

    def take_gone_legs(self) -> list[tuple[str, str]]:
        return []

    def activate_legs(self) -> None:
        pass


class Thread:
    def __init__(self) -> None:
        self.replication = Replication()

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(question())
        return future


class Writer:
    def __init__(self) -> None:
        self.written: list[Op] = []

    def write(self, ops: list[Op]) -> None:
        self.written += ops

    async def wait_for_room(self) -> None:
        pass


def record(port: int, missing_to: int | None) -> dict[str, Any]:
    return {"service": "openflow", "client": f"10.10.0.11:{port}", "missing_to": missing_to}


def texts(*records: dict[str, Any]) -> dict[str, str]:
    return {f"{one['service']}/{one['client']}": json.dumps(one) for one in records}


def test_a_standby_host_adopts_records_and_an_active_one_delivers_what_another_host_lacks() -> None:
    thread, writer = Thread(), Writer()
    legs = LegRecords([cast(PacketThread, thread)], writer, clock=lambda: 0.0)
    whole, lacking = record(1, None), record(2, 77)
    assert asyncio.run(legs.adopt({**texts(whole), "openflow/10.10.0.11:3": "nonsense"})) == 1
    assert thread.replication.adopted == [whole]
    asyncio.run(legs.activate())
    assert asyncio.run(legs.adopt({**texts(whole, lacking), "openflow/10.10.0.11:3": "nonsense"})) == 0
    assert (thread.replication.adopted, thread.replication.delivered) == ([whole], [lacking])


def test_records_of_connections_that_lack_bytes_do_not_wait_for_the_next_scan() -> None:
    thread, writer = Thread(), Writer()
    legs = LegRecords([cast(PacketThread, thread)], writer, clock=lambda: 0.0)
    asyncio.run(legs.activate())
    asyncio.run(legs.write_changes(0.0))
    thread.replication.lacking = [record(2, 77)]
    asyncio.run(legs.write_changes(0.01))
    [op] = writer.written
    assert (op.what, op.key, json.loads(op.value)) == (PUT, "leg openflow/10.10.0.11:2", record(2, 77))
