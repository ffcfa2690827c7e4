"""Which connection of a switch has the session with a master: one at a time, in all threads together.

Theory. A datapath id is what a client says of itself. A newer connection from the same address is the same switch after
it has reconnected, so its session replaces the older one. A connection from another address may be the same switch
behind another NAT, or another client that claims the id: it waits until the older connection has ended, or no longer
answers its controller.

Engines of several threads share the claims, without a lock: each operation on the dict is atomic, and the connections
of one address belong to one thread. If two threads replace the same dead session at the same time, the loser finds out
at its switch's next message, because each message asks has().
"""

from natmirror.mirror.sessions.master_session import MasterSession

SwitchKey = tuple[str, str, int, int]
"""Service, master, datapath id and auxiliary id."""


class SwitchClaims:
    """The session of each switch with each master."""

    def __init__(self) -> None:
        self._of_switches: dict[SwitchKey, MasterSession] = {}

    def has(self, master: MasterSession) -> bool:
        """Return whether a switch is this session's."""
        return master.key is not None and self._of_switches.get(master.key) is master

    def claim(self, master: MasterSession, key: SwitchKey, now: float) -> MasterSession | None:
        """Make a switch this session's, unless another client's connection that has it is alive. Return the older
        session of the same client that this one replaces, or None."""
        self.give_up(master)
        older = self._of_switches.setdefault(key, master)
        is_same_client = older.connection.client[0] == master.connection.client[0]
        if not is_same_client and older.is_alive(now):
            return None
        self._of_switches[key], master.key = master, key
        return older if is_same_client and older is not master else None

    def give_up(self, master: MasterSession) -> None:
        """Note that a session has no switch any more."""
        if master.key is not None and self._of_switches.get(master.key) is master:
            self._of_switches.pop(master.key, None)
        master.key = None
