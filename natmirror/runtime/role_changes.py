"""The consequences of a change of this host's role: which host has the legs, and which resets connections."""

import time
from collections.abc import Sequence

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.ha.member import PairMember
from natmirror.ha.role import RELEASE_DELAY, HostRole, RoleSource
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import NEVER, Chore
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.service_looks import ServiceLooks
from natmirror.runtime.shared_state import SharedState


class RoleChanges:
    """Applies the role of ``member`` to the run. It belongs to the main thread."""

    def __init__(
        self,
        member: PairMember,
        backends: BackendControl,
        looks: ServiceLooks,
        engines: Sequence[EngineProxy],
        shared: SharedState | None,
        ring: EventRing,
        *,
        is_active: bool,
    ) -> None:
        self._member = member
        self._backends = backends
        self._looks = looks
        self._engines = engines
        self._shared = shared
        self._ring = ring
        self._is_active = is_active
        self._has_followed = False
        self.leg_removal = Chore("end of the legs on a backup", NEVER, self._end_legs, NEVER)
        """A chore for the main thread; due if the other host gets the packets, and no state is shared with it."""

    def follow(self) -> None:
        """Apply the role now and at each change, and tell of each change."""
        self._member.on_role(self._on_role)

    def _on_role(self, role: HostRole) -> None:
        was_active, self._is_active = self._is_active, role is HostRole.MASTER
        # 1. Legs. Where state is shared, the other host activates them. Otherwise they end here, after RELEASE_DELAY:
        #    if the role comes back by then, no leg ends.
        if self._shared is not None:
            self._shared.set_active(self._is_active)
        elif self._is_active:
            self.leg_removal.due_at = NEVER
        elif was_active:
            self.leg_removal.due_at = time.monotonic() + RELEASE_DELAY
        # 2. Only the active host resets the connections of dead backends.
        self._backends.set_active(self._is_active)
        # 3. Only the active host sees whether backends answer clients.
        self._looks.set_active(self._is_active)
        # 4. The event. The first call brings the role that each host has before it knows its own. The member logs.
        pair = self._member.show()
        if self._has_followed and pair is not None:
            how = "as keepalived reports" if pair["source"] is RoleSource.KEEPALIVED else "as its addresses show"
            text = f"this host is {role} now, {how}"
            self._ring.add(EventKind.ROLE_CHANGED, EventSeverity.WARNING, text, code=role, is_logged=False)
        self._has_followed = True

    def _end_legs(self) -> None:
        for engine in self._engines:
            engine.release()
