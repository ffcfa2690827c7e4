"""What all sessions with each master come to: counters by name, of sessions that are over and of those at hand."""

from collections import Counter
from collections.abc import Iterable

from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.openflow.session import SwitchSession
from natmirror.reasons import EndReason

_Counters = dict[str, Counter[str]]


class SessionTotals:
    """The counters of all masters, by service and name."""

    def __init__(self) -> None:
        self._past: dict[tuple[str, str], _Counters] = {}

    def count(self, master: MasterSession, name: str, reason: EndReason) -> None:
        """Count one more of a kind."""
        self._counter(master, name)[reason] += 1

    def add(self, master: MasterSession, session: SwitchSession) -> None:
        """Add a session that is over."""
        for name, counter in session.counters().items():
            self._counter(master, name).update(counter)

    def sums(
        self, living: Iterable[tuple[MasterSession, SwitchSession]]
    ) -> dict[tuple[str, str], dict[str, dict[str, int]]]:
        """Return for each master, by service and name, what all its sessions come to, ``living`` included."""
        found: dict[tuple[str, str], _Counters] = {
            key: {name: Counter(counter) for name, counter in past.items()} for key, past in self._past.items()
        }
        for master, session in living:
            counters = found.setdefault((master.service_name, master.mirror.name), {})
            for name, counter in session.counters().items():
                counters.setdefault(name, Counter()).update(counter)
        return {key: {name: dict(counter) for name, counter in sums.items()} for key, sums in found.items()}

    def _counter(self, master: MasterSession, name: str) -> Counter[str]:
        past = self._past.setdefault((master.service_name, master.mirror.name), {})
        return past.setdefault(name, Counter())
