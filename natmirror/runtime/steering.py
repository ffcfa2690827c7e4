"""Where new connections go: tells the packets' threads, and the log, what pools decide by health, orders and time."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from natmirror.backends.admission import Admission, AdmissionChange, Kill
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Rules
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")


class Steering:
    """It belongs to the main thread."""

    def __init__(self, pool: Admission, workers: Sequence[Worker], *, is_active: bool) -> None:
        self._pool = pool
        self._workers = workers
        self._is_active = is_active

    def set_active(self, is_active: bool) -> None:
        """Whether this host passes the packets: what another one believes of a backend is not to cost the active one's
        connections."""
        self._is_active = is_active
        if is_active:
            self._apply(self._pool.dead())

    def tick(self, now: float) -> float | None:
        """Do what is due; return when something is next, None where nothing is."""
        self._apply(self._pool.tick(now))
        return self._pool.next_tick(now)

    def reload(self, rules: Rules) -> None:
        """Go by other rules, which the threads go by already."""
        shares = {key: shown["share"] for key, shown in self._pool.show(0.0).items()}
        self._apply(self._pool.reload(rules, time.monotonic()), shares)

    def drain(self, words: Mapping[str, Any]) -> None:
        """Obey ``{"service": …, "backend": …, "deadline": seconds or null}``; KeyError, TypeError or ValueError where
        it is something else."""
        deadline = words.get("deadline")
        until = None if deadline is None else float(deadline)
        self._apply(self._pool.drain(str(words["service"]), str(words["backend"]), until, time.monotonic()))

    def enable(self, words: Mapping[str, Any]) -> None:
        """Obey ``{"service": …, "backend": …}``, likewise."""
        self._apply(self._pool.enable(str(words["service"]), str(words["backend"]), time.monotonic()))

    def heed_health(self, service: str, backend: str, place: Endpoint, *, is_up: bool, reason: str, at: float) -> None:
        """A backend is up, or down, since a time."""
        with suppress(ValueError):  # the rules do not name it any more: a reload has come in between
            changes = self._pool.set_health(service, backend, is_up=is_up, reason=reason, now=at, place=place)
            why = "" if is_up else f": {reason}"
            log.warning("%s/%s is %s%s", service, backend, "up" if is_up else "down", why)
            self._apply(changes)

    def _apply(
        self, changes: list[AdmissionChange], known: Mapping[tuple[str, str], float] = MappingProxyType({})
    ) -> None:
        """Tell the threads, and the log what is not ``known``: shares by service and backend."""
        for change in changes:
            if isinstance(change, Kill) and not self._is_active:
                continue
            if isinstance(change, Kill) and change.is_repeated:
                log.debug("resetting the connections of %s/%s once more", change.service, change.backend)
            elif isinstance(change, Kill):
                log.info("resetting the connections of %s/%s", change.service, change.backend)
            elif known.get((change.service, change.backend)) != change.share:
                log.info("%s/%s takes %.0f %% of its part", change.service, change.backend, 100 * change.share)
            for worker in self._workers:
                if isinstance(change, Kill):
                    worker.kill(change)
                else:
                    worker.set_share(change)
