"""Records in Redis.

The keys of a pair with VRRP id 51, in format 1:

================================ =====================================================================================
``natmirror:51:1:records``       a hash: key → ``host time value``, the time in seconds by Redis's clock
``natmirror:51:1:changes``       a channel: the ops that a host has just done, as JSON ``[host, what, key, value, …]``
``natmirror:51:formats``         a set: the formats in which hosts have written lately
================================ =====================================================================================

A single script does all writes. So records, channel and lifetimes always agree, and no other host's op falls into one
run of it. The stored keys expire an hour after the last host has written.
"""

import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from natmirror.replication.store import ENDED, GONE, PUT, RECORD_LIFETIME, Op, Record, StoreError

log = logging.getLogger("natmirror")

_FORMAT = "1"
_CONNECT_TIMEOUT = 1.0
_ANSWER_TIMEOUT = 2.0
_AT_ONCE = 500  # ops in one run of the script, which no other client's command interrupts
_MAX_RUN_LEN = 256 << 10  # characters of these ops, unless a single op is longer
_SCAN = 500
_MAX_TIME_LEN = 12  # digits of a time in seconds
_MAX_RECORD_LEN = 1 << 20  # bytes of a key and its value: natmirror writes records of 640 KiB at most
_MAX_MESSAGE_LEN = 2 << 20  # characters: while JSON is read, no Python code runs in any thread
_MAX_MESSAGES = 200  # in one call, so that a flood of them stops neither writing nor the beats

_WRITE = """
local host, now = ARGV[1], redis.call('TIME')[1]
local done = {host}
for at = 4, #ARGV, 3 do
    local what, key, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local is_done = what == 'put'
    if is_done then
        redis.call('HSET', KEYS[1], key, host .. ' ' .. now .. ' ' .. value)
    else
        local owner, old = string.match(redis.call('HGET', KEYS[1], key) or '', '^(%S+) %S+ (.*)$')
        is_done = owner ~= nil and ((what == 'gone' and owner == host) or (what == 'ended' and old == value))
        if is_done then
            redis.call('HDEL', KEYS[1], key)
        end
    end
    if is_done then
        done[#done + 1] = what
        done[#done + 1] = key
        done[#done + 1] = value
    end
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
if #done > 1 then
    redis.call('PUBLISH', KEYS[3], cjson.encode(done))
end
"""
# A record that is too long does not even leave Redis.
_READ = """
local found, skipped, example = {}, 0, ''
local reply = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for at = 1, #reply[2], 2 do
    local key, value = reply[2][at], reply[2][at + 1]
    if #key + #value <= tonumber(ARGV[3]) then
        found[#found + 1] = key
        found[#found + 1] = value
    else
        skipped, example = skipped + 1, string.sub(key, 1, 80)
    end
end
return {reply[1], found, skipped, example}
"""
_PURGE = """
for at = 1, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
        redis.call('HDEL', KEYS[1], ARGV[at])
    end
end
"""


class RedisStore:
    """A Store in Redis. ``url`` comes from the rules, ``pair`` distinguishes pairs that share one Redis, and ``host``
    (without blanks) identifies the writer."""

    def __init__(self, url: str, pair: str, host: str) -> None:
        self._url = url
        self._host = host
        prefix = f"natmirror:{pair}"
        self._records, self._changes = f"{prefix}:{_FORMAT}:records", f"{prefix}:{_FORMAT}:changes"
        self._formats = f"{prefix}:formats"
        self._redis: Any = None
        self._subscription: Any = None
        self._foreign: set[str] = set()
        self._had_foreign_data = False
        self.skipped = 0

    async def connect(self) -> None:
        """Connect and subscribe: from now on read_changes() misses nothing."""
        with _translated():
            # No retries: a client that reconnects by itself would miss the changes of the meantime.
            self._redis = Redis.from_url(
                self._url,
                decode_responses=True,
                encoding_errors="replace",
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=_CONNECT_TIMEOUT,
                socket_timeout=_ANSWER_TIMEOUT,
            )
            self._write, self._scan, self._purge = map(self._redis.register_script, (_WRITE, _READ, _PURGE))
            self._subscription = self._redis.pubsub()
            await self._subscription.subscribe(self._changes)
            message = await self._subscription.get_message(timeout=_ANSWER_TIMEOUT)
            if message is None or message["type"] != "subscribe":
                raise StoreError("Redis does not confirm the subscription")
            foreign = {str(one) for one in await self._redis.smembers(self._formats)} - {_FORMAT}
            if foreign - self._foreign:
                log.warning(
                    "shared state: ignoring records of format %s, written by a natmirror of another version; run the"
                    " same version on both hosts",
                    ", ".join(sorted(foreign)),
                )
                self._foreign |= foreign
            await self.beat()

    async def load(self) -> AsyncIterator[list[Record]]:
        """Yield all records, some hundreds at a time; remove expired ones."""
        with _translated():
            now, cursor, self.skipped = int((await self._redis.time())[0]), "", 0
            while cursor != "0":
                which = [cursor or "0", _SCAN, _MAX_RECORD_LEN]
                cursor, found, skipped, key = await self._scan(keys=[self._records], args=which)
                if skipped:
                    self._skip(f"a record of more than {_MAX_RECORD_LEN} bytes, {key}", skipped)
                records, dead = [], []
                for key, raw in zip(found[::2], found[1::2], strict=True):
                    parts = raw.split(" ", 2)
                    if len(parts) < 3 or not parts[1].isdecimal() or len(parts[1]) > _MAX_TIME_LEN:
                        self._skip(key)
                    elif now - int(parts[1]) > RECORD_LIFETIME:
                        dead += [key, raw]
                    else:
                        records.append(Record(key, parts[2], parts[0] == self._host))
                if dead:
                    await self._purge(keys=[self._records], args=dead)
                yield records

    async def write(self, ops: Sequence[Op]) -> None:
        """Do these ops in order."""
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for run in _runs(ops):
                    await self._run([field for op in run for field in (op.what, op.key, op.value)], pipe)
                await pipe.execute()

    async def read_changes(self, timeout: float) -> list[Op]:
        """Return other hosts' ops since the last call, in order; wait up to ``timeout`` seconds for the first."""
        ops: list[Op] = []
        with _translated():
            for _ in range(_MAX_MESSAGES):
                message = await self._subscription.get_message(timeout=0.0 if ops else timeout)
                if message is None:
                    break
                if message["type"] != "message":
                    raise StoreError("the connection was lost and made again")
                ops += self._read(message["data"])
        return ops

    def _read(self, text: str) -> list[Op]:
        """Return the ops of a message; none if it is this host's own, or malformed."""
        try:
            if len(text) > _MAX_MESSAGE_LEN:
                raise ValueError("too long")
            words = json.loads(text)
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("not written by natmirror")
            host, *fields = words
            ops = [Op(*fields[at : at + 3]) for at in range(0, len(fields), 3)]
            if not all(op.what in (PUT, GONE, ENDED) for op in ops):
                raise ValueError("not written by natmirror")
        except (TypeError, ValueError, RecursionError):
            self._skip(text)
            return []
        return [] if host == self._host else ops

    async def beat(self) -> None:
        """Renew the lifetime of the pair's keys, and find out whether Redis answers."""
        with _translated():
            await self._run([], self._redis)

    async def close(self) -> None:
        """Disconnect; connect() may follow."""
        for one in (self._subscription, self._redis):
            if one is not None:
                with suppress(RedisError, OSError):
                    await one.aclose()
        self._subscription = self._redis = None

    async def _run(self, fields: list[str], client: Any) -> None:
        keys = [self._records, self._formats, self._changes]
        await self._write(keys=keys, args=[self._host, _FORMAT, int(RECORD_LIFETIME), *fields], client=client)

    def _skip(self, what: str, count: int = 1) -> None:
        """Count records or messages that natmirror has not written, and warn of the first."""
        self.skipped += count
        if not self._had_foreign_data:
            self._had_foreign_data = True
            log.warning(
                "shared state: ignoring data in Redis that natmirror has not written: %.80r; keep other programs"
                " from writing to its keys natmirror:*",
                what,
            )


def _runs(ops: Sequence[Op]) -> Iterator[list[Op]]:
    """Yield the ops in lists, each for one run of the script."""
    run: list[Op] = []
    length = 0
    for op in ops:
        more = len(op.key) + len(op.value)
        if run and (len(run) == _AT_ONCE or length + more > _MAX_RUN_LEN):
            yield run
            run, length = [], 0
        run.append(op)
        length += more
    if run:
        yield run


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        text = str(error) or type(error).__name__
        raise StoreError(text) from None
