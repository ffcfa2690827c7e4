"""Records in a real Redis, which the test starts on a Unix socket of its own."""

import asyncio
import logging
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from natmirror.lab.process import wait_for
from natmirror.replication.redis_store import RedisStore
from natmirror.replication.store import ENDED, GONE, PUT, RECORD_LIFETIME, Op, Record, StoreError

PAGE = Path(__file__).parents[2] / "docs" / "pair.md"
RECORDS = "natmirror:51:1:records"


class Server:
    """redis-server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self, *options: str) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._directory)]
        self.process = subprocess.Popen([*command, "--save", "", *options], stdout=subprocess.DEVNULL)
        wait_for(self._answers, "redis-server to answer")

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except (redis.AuthenticationError, redis.ResponseError):
            return True
        except redis.ConnectionError:
            return False

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, decode_responses=True)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(5.0)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A redis-server that the test may stop."""
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.client().flushall()
    return one_server


def run(test: Callable[..., Awaitable[None]], server: Server, *hosts: str) -> None:
    """Run a test with connected stores of these hosts."""

    async def inside() -> None:
        stores = [RedisStore(server.url, "51", host) for host in hosts]
        try:
            for store in stores:
                await store.connect()
            await test(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(inside())


def keys_of(server: Server) -> list[str]:
    return [str(key) for key in server.client().scan_iter()]


async def loaded(store: RedisStore) -> list[Record]:
    return sorted([record async for records in store.load() for record in records], key=lambda record: record.key)


async def changes(store: RedisStore) -> list[Op]:
    return await store.read_changes(1.0)


def test_a_host_gets_the_changes_and_records_that_another_host_writes(server: Server) -> None:
    async def test(one: RedisStore, other: RedisStore) -> None:
        ops = [Op(PUT, "flow a/10.10.0.1:5", "x y  z"), Op(PUT, "b", "ü\n"), Op(PUT, "c", ""), Op(GONE, "b")]
        await one.write(ops)
        assert await changes(other) == [*ops[:3], Op(GONE, "b", "")]
        assert await loaded(other) == [Record("c", "", False), Record("flow a/10.10.0.1:5", "x y  z", False)]
        assert [record.is_own for record in await loaded(one)] == [True, True]
        assert await one.read_changes(0.01) == [], "a host does not get its own changes"

    run(test, server, "one", "other")


def test_a_host_removes_its_own_records_and_those_of_ended_connections(server: Server) -> None:
    async def test(one: RedisStore, other: RedisStore) -> None:
        await one.write([Op(PUT, key, "1") for key in "abc"])
        await other.write([Op(PUT, "b", "2")])
        await one.write([Op(GONE, "a"), Op(GONE, "b"), Op(ENDED, "c", "2"), Op(GONE, "none")])
        assert await loaded(one) == [Record("b", "2", False), Record("c", "1", True)]
        await other.write([Op(ENDED, "c", "1")])
        assert await loaded(one) == [Record("b", "2", False)]
        assert await changes(one) == [Op(PUT, "b", "2"), Op(ENDED, "c", "1")]

    run(test, server, "one", "other")


def test_many_records_are_loaded_in_pieces(server: Server) -> None:
    async def test(one: RedisStore, other: RedisStore) -> None:
        await one.write([Op(PUT, str(number), "v" * 20) for number in range(5000)])
        assert len(await loaded(other)) == 5000
        assert len([record async for records in other.load() for record in records if len(records) < 2000]) == 5000
        ops: list[Op] = []
        while len(ops) < 5000:
            ops += await changes(other)
        assert [op.key for op in ops] == [str(number) for number in range(5000)]

    run(test, server, "one", "other")


def test_the_keys_of_a_pair_that_no_longer_writes_expire(server: Server) -> None:
    async def test(one: RedisStore) -> None:
        await one.write([Op(PUT, "a", "1")])
        for key in keys_of(server):
            assert 0 < server.client().ttl(key) <= RECORD_LIFETIME
            server.client().expire(key, 5)
        await one.beat()
        assert {server.client().ttl(key) > 5 for key in keys_of(server)} == {True}
        assert len(keys_of(server)) == 2

    run(test, server, "one")


def test_a_record_that_no_host_has_written_again_expires(server: Server) -> None:
    async def test(one: RedisStore) -> None:
        now = int(server.client().time()[0])
        server.client().hset(RECORDS, "old", f"dead {now - int(RECORD_LIFETIME) - 2} 1")
        server.client().hset(RECORDS, "young", f"dead {now - 10} 1")
        assert await loaded(one) == [Record("young", "1", False)]
        assert server.client().hkeys(RECORDS) == ["young"]

    run(test, server, "one")


def test_other_pairs_and_formats_are_left_alone_and_logged_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.client().hset("natmirror:52:1:records", "a", "other 1 1")
    server.client().hset("natmirror:51:2:records", "a", "newer 1 1")
    server.client().sadd("natmirror:51:formats", "2")
    server.client().hset(RECORDS, mapping={"a": "nonsense", "b": "host notime 1", "c": "host"})
    server.client().hset(RECORDS, "d", b"\xff 1 \xfe")

    async def test(one: RedisStore) -> None:
        assert await loaded(one) == []
        server.client().publish("natmirror:51:1:changes", "nonsense")
        server.client().publish("natmirror:51:1:changes", '["host", "explode", "a", "b"]')
        server.client().publish("natmirror:51:1:changes", '["host", "put", "a", "1"]')
        assert await changes(one) or await changes(one) == [Op(PUT, "a", "1")]
        await one.close()
        await one.connect()

    with caplog.at_level(logging.WARNING):
        run(test, server, "one")
    assert [record.getMessage().split(": ")[1].split(",")[0] for record in caplog.records] == [
        "ignoring records of format 2",
        "ignoring data in Redis that natmirror has not written",
    ]
    assert server.client().exists("natmirror:52:1:records", "natmirror:51:2:records") == 2


NONSENSE = [
    "[" * 100_000,
    '["h","put","k",' + "[" * 50_000 + "]" * 50_000 + "]",
    "[" + "9" * 5000 + "]",
    '["h","put","k",["v"]]',
    '["h","put"]',
    '[["h"],"put","k","v"]',
    '{"a": 1}',
    "7",
    '["h","put","k","' + "v" * (2 << 20) + '"]',
]


def test_messages_that_are_nested_huge_or_nonsense_cost_only_themselves(server: Server) -> None:
    async def test(one: RedisStore, other: RedisStore) -> None:
        for text in NONSENSE:
            server.client().publish("natmirror:51:1:changes", text)
        await other.write([Op(PUT, "a", "1")])
        ops: list[Op] = []
        while not ops:
            ops = await changes(one)
        assert ops == [Op(PUT, "a", "1")]
        assert one.skipped == len(NONSENSE)
        assert await loaded(one) == [Record("a", "1", False)]
        assert one.skipped == 0, "a load counts from 0 again"

    run(test, server, "one", "other")


def test_records_that_are_too_long_stay_in_redis_and_are_counted(server: Server) -> None:
    async def test(one: RedisStore, other: RedisStore) -> None:
        longest = "v" * (1 << 20)
        server.client().hset(RECORDS, mapping={f"flow {number}": f"x 1 {longest}" for number in range(3)})
        server.client().hset(RECORDS, f"flow {longest}", "x 1 1")
        server.client().hset(RECORDS, "flow 7", f"x {'9' * 5000} 1")
        await other.write([Op(PUT, "flow 8", "v" * 600_000), *(Op(PUT, f"flow {n}", "v" * 5000) for n in range(9, 99))])
        assert {record.key for record in await loaded(one)} == {f"flow {number}" for number in range(8, 99)}
        assert one.skipped == 5
        ops: list[Op] = []
        while len(ops) < 91:
            ops += await changes(one)
        assert one.skipped == 5, "what natmirror writes itself is never too long"

    run(test, server, "one", "other")


def test_a_flood_of_messages_does_not_keep_the_reader(server: Server) -> None:
    async def test(one: RedisStore) -> None:
        for _ in range(500):
            server.client().publish("natmirror:51:1:changes", "nonsense")
        assert await changes(one) == []
        assert 0 < one.skipped < 500

    run(test, server, "one")


def test_a_redis_that_ends_is_an_error_and_the_store_can_connect_again(fresh: Server) -> None:

    async def test(one: RedisStore) -> None:
        fresh.stop()
        fresh.start()  # before the store has noticed
        with pytest.raises(StoreError):
            for _ in range(3):
                await one.read_changes(0.2)
        await one.close()
        await one.connect()
        await one.write([Op(PUT, "a", "1")])
        fresh.stop()
        for attempt in (one.beat, lambda: one.write([Op(PUT, "a", "1")]), lambda: loaded(one)):
            with pytest.raises(StoreError):
                await attempt()
        await one.close()
        with pytest.raises(StoreError):
            await one.connect()

    run(test, fresh, "one")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--requirepass", "secret"], "Authentication required"), (["--maxmemory", "1"], "used memory > 'maxmemory'")],
    ids=["password", "memory"],
)
def test_a_refusal_by_redis_is_an_error_with_redis_s_own_text(fresh: Server, options: list[str], words: str) -> None:
    fresh.stop()
    fresh.start(*options)
    with pytest.raises(StoreError, match=words):
        run(_write_something, fresh, "one")


async def _write_something(one: RedisStore) -> None:
    await one.write([Op(PUT, "a", "1")])


def test_the_redis_user_from_the_documents_has_the_permissions_that_are_needed_and_no_others(fresh: Server) -> None:
    [line] = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    user natmirror ")]
    fresh.stop()
    fresh.start(f"--{line}")
    fresh.url = f"unix://natmirror:PASSWORD@{fresh.socket}"

    async def test(one: RedisStore, other: RedisStore) -> None:
        await one.write([Op(PUT, "flow a", "1"), Op(PUT, "flow b", "2")])
        await other.write([Op(ENDED, "flow a", "1")])
        await one.beat()
        assert [op.key for op in await other.read_changes(1.0)] == ["flow a", "flow b"]
        assert await loaded(other) == [Record("flow b", "2", False)]

    run(test, fresh, "a", "b")
    client = fresh.client()
    for forbidden in (client.keys, client.config_get, lambda: client.hget("natmirror", "a")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()


def test_a_redis_that_hangs_is_an_error_within_four_seconds(fresh: Server) -> None:

    async def test(one: RedisStore) -> None:
        fresh.process.send_signal(signal.SIGSTOP)
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(StoreError):
            await one.beat()
        assert asyncio.get_running_loop().time() - began_at < 4
        fresh.process.send_signal(signal.SIGCONT)

    run(test, fresh, "one")


def test_cancelling_a_wait_for_changes_is_no_error(server: Server) -> None:
    async def test(one: RedisStore) -> None:
        reading: asyncio.Task[Any] = asyncio.create_task(one.read_changes(10.0))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    run(test, server, "one")
