"""Records of pinned bindings: ``flow openflow/10.10.0.11:40001`` → ``10.20.0.12:6653``."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, CLAIM_SEEN, RELEASE
from natmirror.net.endpoint import Endpoint, parse_endpoint, show
from natmirror.replication.record_kind import PacketThread, RecordWriter, ask, slices
from natmirror.replication.store import ENDED, GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "flow"
_SLICE = 100  # bindings that a thread adopts between two batches of packets
_CLAIM_INTERVAL = 30.0  # seconds between two sweeps in which guests that send packets become this host's own
_OPS = {BindingEvent.BOUND: PUT, BindingEvent.FORGOTTEN: GONE, BindingEvent.ENDED: ENDED}

Binding = tuple[str, Endpoint, Endpoint]
"""Service, client, backend."""


class BindingRecords:
    """The RecordKind of pinned bindings."""

    name = _KIND
    is_held = True

    def __init__(self, threads: Sequence[PacketThread], writer: RecordWriter) -> None:
        self._threads = threads
        self._writer = writer
        self._is_active = False
        self._next_claim_at = 0.0

    def report(self, changes: Iterable[BindingChange]) -> None:
        """Write a packet thread's changes of bindings; called in that thread."""
        self._writer.write([Op(_OPS[one.event], _key(one.service, one.client), show(one.backend)) for one in changes])

    async def adopt(self, records: Mapping[str, str]) -> int:
        """Adopt other hosts' records; return how many were rejected as invalid here, or for want of room."""
        rejected = 0
        for thread, chunk in self._by_thread(records):
            found = [one for key in chunk if (one := _binding(key, records[key])) is not None]
            rejected += (
                len(chunk) - len(found) + int(await ask(thread, partial(thread.replication.adopt_bindings, found)))
            )
        return rejected

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Forget other hosts' bindings with these keys; the value says whether the connection has ended."""
        for thread, chunk in self._by_thread(gone):
            found = [(*one, gone[key]) for key in chunk if (one := _service_and_client(key)) is not None]
            await ask(thread, partial(thread.replication.withdraw_bindings, found))

    async def write_all(self) -> None:
        """Write all of this host's bindings again."""
        await self._sweep(ANNOUNCE)

    async def write_changes(self, now: float) -> None:
        """On the active host, make guests whose packets pass here its own, every 30 s."""
        if self._is_active and now >= self._next_claim_at:
            self._next_claim_at = now + _CLAIM_INTERVAL
            await self._sweep(CLAIM_SEEN)

    async def activate(self) -> None:
        """Make all guests this host's own: it is the active host now."""
        self._is_active = True
        await self._sweep(CLAIM_ALL)

    async def write_last_changes(self) -> None:
        """Do nothing: the packet threads report each change when it happens."""

    async def release(self) -> None:
        """Make all bindings guests: the other host is the active one now."""
        self._is_active = False
        await self._sweep(RELEASE)

    async def _sweep(self, how: int) -> None:
        for thread in self._threads:
            first: int | None = 0
            while first is not None:
                await self._writer.wait_for_room()
                first = await ask(thread, partial(thread.replication.sweep_bindings, first, how))

    def _by_thread(self, keys: Iterable[str]) -> Iterable[tuple[PacketThread, list[str]]]:
        parts: list[list[str]] = [[] for _ in self._threads]
        for key in keys:
            parts[_shard(key, len(parts))].append(key)
        return (
            (thread, chunk) for thread, part in zip(self._threads, parts, strict=True) for chunk in slices(part, _SLICE)
        )


def _key(service: str, client: Endpoint) -> str:
    return f"{_KIND} {service}/{show(client)}"


def _shard(key: str, count: int) -> int:
    try:
        return shard_of_client(key, count)
    except ValueError:
        return 0


def _binding(key: str, value: str) -> Binding | None:
    found = _service_and_client(key)
    try:
        return None if found is None else (*found, parse_endpoint(value))
    except ValueError:
        return None


def _service_and_client(key: str) -> tuple[str, Endpoint] | None:
    service, _, client = key.rpartition("/")
    try:
        return service, parse_endpoint(client)
    except ValueError:
        return None
