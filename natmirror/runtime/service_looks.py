"""Has all packet threads look at their flows every second, and reports what the looks show together."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

from natmirror.fastpath import ServiceLook
from natmirror.findings import Finding, Findings
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import Chore
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.progress_watch import ProgressWatch
from natmirror.runtime.service_watch import ServiceWatch

# Seconds
_INTERVAL = 1.0
_LOST_AFTER = 10.0
"""So long a packet thread may take for a look. One that is stuck is reported as such."""


class ServiceLooks:
    """The looks at the flows of ``engines``. It belongs to the main thread, which reads ``mailbox``, and waits for no
    packet thread. ``is_active``: this host passes the packets."""

    def __init__(
        self,
        engines: Sequence[EngineProxy],
        backends: BackendControl,
        mailbox: Mailbox,
        findings: Findings,
        *,
        is_active: bool,
    ) -> None:
        self._engines = engines
        self._backends = backends
        self._mailbox = mailbox
        self._findings = findings
        self._is_active = is_active
        self._watch = ServiceWatch(time.monotonic(), is_patient=False)
        self._number = 0
        self._begun_at = 0.0
        self._missing = 0
        self._is_first = True
        self._sums: dict[str, ServiceLook] = {}
        self._well = 0
        self.progress = ProgressWatch()
        """Whether production goes on: an end acknowledges data that the other one has sent, of any service."""
        self.chore = Chore("looks at flows", _INTERVAL, self.begin)

    def set_active(self, is_active: bool) -> None:
        """Set whether this host passes the packets, because its role in the pair has changed: forget what was seen."""
        self._is_active = is_active
        self._watch = ServiceWatch(time.monotonic(), is_patient=True)
        self._missing = 0
        self._number += 1  # looks that are under way count no more
        self._is_first = True
        self.progress.forget()
        self._report([])

    def begin(self) -> None:
        """Begin a look, unless an earlier one is under way."""
        now = time.monotonic()
        if not self._is_active or (self._missing and now - self._begun_at < _LOST_AFTER):
            return
        self._number, self._begun_at, self._missing, self._sums = self._number + 1, now, len(self._engines), {}
        for engine in self._engines:
            engine.look(self._number, partial(self._post, self._number))

    def _post(self, number: int, looks: Mapping[str, ServiceLook]) -> None:
        """Pass a packet thread's look on to the main thread; called in that packet thread."""
        self._mailbox.post(partial(self._take, number, looks))

    def _take(self, number: int, looks: Mapping[str, ServiceLook]) -> None:
        if number != self._number:
            return
        self._missing -= 1
        for name, look in looks.items():
            self._sums[name] = self._sums.get(name, ServiceLook()) + look
        if self._missing:
            return
        self._well += any(look.answered_data or look.reached_data for look in self._sums.values())
        has_failed = any(one.stops_production for one in self._findings.all())
        self.progress.look(self._well, self._begun_at, has_failed=has_failed)
        is_first, self._is_first = self._is_first, False
        if not is_first:  # which compares flows with what they were long ago, or at another host
            pools = self._backends.pools()
            self._report(self._watch.take(self._sums, pools, self._backends.pools_up(), self._begun_at))

    def _report(self, found: list[Finding]) -> None:
        self._findings.blame(self._watch.blamed)
        self._findings.replace("services", found)
