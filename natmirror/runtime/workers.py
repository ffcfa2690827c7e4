"""The packet threads of a run, one for each shard of the clients."""

import logging
import os
from collections.abc import Sequence

from natmirror.engine.engine import Engine
from natmirror.events import EventRing
from natmirror.fastpath import ConnectionCounts, Memory
from natmirror.linux.cores import thread_count
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.rules import Rules
from natmirror.rules.shards import Shard
from natmirror.runtime.run_events import add_end_of_thread
from natmirror.runtime.worker import Worker
from natmirror.runtime.worker_listener import WorkerListener

log = logging.getLogger("natmirror")

_MAX_PULSE_INTERVAL = 1.0  # seconds in which an idle packet thread completes a round


def make_workers(
    rules: Rules, listener: WorkerListener, memory: Memory, counts: ConnectionCounts, beat_interval: float | None
) -> list[Worker]:
    """Return the packet threads of these rules, which do not run yet. ``beat_interval``: the seconds in which each has
    to make progress, or None."""
    pulse_interval = _MAX_PULSE_INTERVAL if beat_interval is None else min(_MAX_PULSE_INTERVAL, beat_interval / 2)
    is_shared = rules.ha is not None and rules.ha.state is not None
    key, claims, count = os.urandom(16), SwitchClaims(), thread_count(rules)
    return [
        Worker(
            rules,
            shard,
            Engine(rules, key=key, shard=shard, memory=memory, connection_counts=counts, switch_claims=claims),
            listener,
            is_replicated=is_shared,
            pulse_interval=pulse_interval,
        )
        for shard in (Shard(number, count) for number in range(count))
    ]


def note_ended(workers: Sequence[Worker], ended: dict[int, str], ring: EventRing) -> None:
    """Note in ``ended``, by their numbers, the workers that have failed for good, and tell of each once. The others
    continue; raise the failure of the first one if all have failed."""
    for number, worker in enumerate(workers):
        if worker.failure is not None and number not in ended:
            ended[number] = f"{type(worker.failure).__name__}: {worker.failure}"
            text = "packet thread %d has ended: no packet of its clients passes until natmirror is restarted: %s"
            log.critical(text, number, ended[number], exc_info=worker.failure)
            add_end_of_thread(ring, text % (number, ended[number]))
    if len(ended) == len(workers):
        raise_first_failure(workers)


def raise_first_failure(workers: Sequence[Worker]) -> None:
    """Raise the failure of the first worker that has failed, if one has."""
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure
