"""Which masters get a session for a connection, when it begins and after a reload."""

from collections.abc import Sequence

from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.faults import Faults, Work
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.sampling import why_flow_not_mirrored
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.session_states import SessionState
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Reconnect

Chosen = tuple[Mirror, EndReason | None]
"""A master, and the reason why it gets no session; None if it gets one."""


class Choice:
    """The choice of an engine's sessions."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._faults = faults

    def of_new(self, flow: MirroredFlow, backend: Endpoint | None) -> list[Chosen]:
        """Choose among the masters of a connection that is established or was picked up."""
        too_late = EndReason.PICKED_UP if flow.is_picked_up else None
        return [(mirror, self._why_not(mirror, flow, backend, too_late)) for mirror in flow.service.sessions]

    def of_added(
        self, flow: MirroredFlow, present: Sequence[MasterSession], mirrors: Sequence[Mirror], backend: Endpoint | None
    ) -> list[Chosen]:
        """Choose among those masters of the present rules for which an open connection has nothing yet."""
        names = {master.mirror.name for master in present}
        return [
            (mirror, self._why_not(mirror, flow, backend, EndReason.MIRROR_ADDED))
            for mirror in mirrors
            if mirror.name not in names
        ]

    def _why_not(
        self, mirror: Mirror, flow: MirroredFlow, backend: Endpoint | None, too_late: EndReason | None
    ) -> EndReason | None:
        """``too_late``: why a master without ``reconnect`` gets no session, if the connection's beginning was not read
        for it."""
        if Work.SESSION in self._faults.off:
            return EndReason.MIRRORING_OFF
        left_out = why_flow_not_mirrored(mirror, flow, backend)
        if left_out is EndReason.MIRROR_PAUSED and mirror.reconnect is not Reconnect.NEVER:
            left_out = None  # the session begins once the pause is over
        return too_late if left_out is None and mirror.reconnect is Reconnect.NEVER else left_out

    def is_current(self, master: MasterSession) -> bool:
        """Return whether a session stands for a master of the present rules. One that is over by the lack of
        ``reconnect`` does not if the rules have it now."""
        mirror = self._ledger.present_mirror(master)
        if mirror is None or master.has_leg:
            return master.has_leg
        was_last = master.state is SessionState.ENDED and master.mirror.reconnect is Reconnect.NEVER
        return not was_last or mirror.reconnect is Reconnect.NEVER
