"""What follows from this host's role in a pair: which host passes the packets, and whose the legs are."""

import time
from collections.abc import Sequence

from natmirror.ha.member import PairMember
from natmirror.ha.role import RELEASE_DELAY, HostRole
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import NEVER, Chore
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.shared_state import SharedState


class RoleChanges:
    """Applies the role of ``member`` to the run. It belongs to the main thread."""

    def __init__(
        self,
        member: PairMember,
        backends: BackendControl,
        engines: Sequence[EngineProxy],
        shared: SharedState | None,
        *,
        is_active: bool,
    ) -> None:
        self._member = member
        self._backends = backends
        self._engines = engines
        self._shared = shared
        self._is_active = is_active
        self.leg_removal = Chore("end of the legs on a backup", NEVER, self._end_legs, NEVER)
        """Due where the other host takes the packets, and legs are not shared with it."""

    def follow(self) -> None:
        """Apply the role now and whenever it changes."""
        self._member.on_role(self._on_role)

    def _on_role(self, role: HostRole) -> None:
        was_active, self._is_active = self._is_active, role is HostRole.MASTER
        # 1. Legs. Where they are shared the other host goes on with them. Else they end here, but not at once: a role
        #    that comes back within RELEASE_DELAY costs no leg.
        if self._shared is not None:
            self._shared.set_active(self._is_active)
        elif self._is_active:
            self.leg_removal.due_at = NEVER
        elif was_active:
            self.leg_removal.due_at = time.monotonic() + RELEASE_DELAY
        # 2. Connections of dead backends are reset by the active host alone.
        self._backends.set_active(self._is_active)

    def _end_legs(self) -> None:
        for engine in self._engines:
            engine.stand_down()
