"""The packet threads of a run, one for each shard of the clients."""

import os

from natmirror.engine.engine import Engine
from natmirror.fastpath import ConnectionCounts, Memory
from natmirror.linux.cores import thread_count
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.rules import Rules
from natmirror.rules.shards import Shard
from natmirror.runtime.worker import Worker, WorkerListener

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
