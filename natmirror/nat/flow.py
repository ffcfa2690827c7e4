"""A client's connection as one engine knows it."""

from dataclasses import dataclass

from natmirror.fastpath import FlowRow
from natmirror.fastpath.flow_flags import is_direct, is_picked_up
from natmirror.fastpath.flow_states import State
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import Segment
from natmirror.rules import Backend, Service


@dataclass(slots=True, eq=False)
class Flow:
    """A client's connection: its numbers in ``row``, which is the C gear's struct, and the state that only Python
    has."""

    row: FlowRow
    client: Endpoint
    service: Service
    backend: Backend | None
    """None for a service without a pool, and for a client that is connected to a backend directly."""
    syn_data: bytes = b""
    """The data in the client's SYN."""
    new_syn: Segment | None = None
    """A SYN inside an open connection, which the backend has not accepted yet."""
    new_syn_at: float = 0.0
    new_syn_replies: int = 0
    """The number of the backend's packets up to ``new_syn_at``; a later one shows that the old connection lives."""

    @property
    def is_picked_up(self) -> bool:
        """Whether the flow was picked up: its SYN did not pass here."""
        return is_picked_up(self.row)

    @property
    def state(self) -> State:
        return State(self.row.state)

    @property
    def is_direct(self) -> bool:
        """Whether the client is connected to the backend's own endpoint: its packets pass unchanged."""
        return is_direct(self.row)

    def is_first_syn(self, syn: Segment) -> bool:
        """Return whether a SYN is the one that opened this connection, delayed or repeated."""
        return not is_picked_up(self.row) and not is_direct(self.row) and self.row.iss == syn.seq
