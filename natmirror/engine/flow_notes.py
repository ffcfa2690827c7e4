"""A note of a flow: what a packet thread keeps of it in a few microseconds, for any thread to show later as values for
JSON, which takes longer."""

from typing import NamedTuple

from natmirror.fastpath.flow_flags import is_guest
from natmirror.fastpath.flow_states import SHOWN_STATES, FlowState, State
from natmirror.fastpath.row_copies import flow_in, leg_in
from natmirror.mirror.leg_notes import LegNote
from natmirror.mirror.shown import FlowEntry
from natmirror.net.endpoint import Endpoint, show


class FlowNote(NamedTuple):
    """A flow with its legs as it was at the time ``at``, which is one as in Engine."""

    at: float
    service: str
    backend: str | None
    row: bytes
    """A copy of the flow's row."""
    legs: list[LegNote]

    @property
    def number(self) -> int:
        """The flow's number in the table."""
        return flow_in(self.row).id

    def show(self) -> FlowEntry:
        """Return the flow as values for JSON."""
        row = flow_in(self.row)
        guest = is_guest(row)
        return {
            "service": self.service,
            "client": show((bytes(row.client[0:4]), row.client_port)),
            "backend": self.backend,
            "state": SHOWN_STATES[State(row.state)],
            "idle_seconds": None if guest and not row.seen_at else round(self.at - row.seen_at, 3),
            "guest": guest,
            "mirrored": bool(self.legs),
            "client_bytes": row.orig.bytes,
            "backend_bytes": row.reply.bytes,
            "legs": [leg.show(self.at) for leg in self.legs],
        }


class GoneNote(NamedTuple):
    """A leg that has outlived its flow, as it was at the time ``at``, which is one as in Engine."""

    at: float
    service: str
    client: Endpoint
    leg: LegNote

    @property
    def number(self) -> int:
        """The leg's number in the table."""
        return leg_in(self.leg.row).id

    def show(self) -> FlowEntry:
        """Return, as values for JSON, a flow in state ``gone`` with this leg."""
        leg = self.leg.show(self.at)
        return {
            "service": self.service,
            "client": show(self.client),
            "backend": None,
            "state": FlowState.GONE,
            "idle_seconds": None,
            "guest": False,
            "mirrored": True,
            "client_bytes": leg["client_bytes"],
            "backend_bytes": None,
            "legs": [leg],
        }
