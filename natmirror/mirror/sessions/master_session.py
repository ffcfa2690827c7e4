"""One connection that is read along, and its session with each master."""

from dataclasses import dataclass, field

from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.sessions.session_states import HAS_LEG, TRANSITIONS, SessionEvent, SessionState
from natmirror.net.endpoint import Endpoint, show
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.decisions import Decisions
from natmirror.openflow.observer import Observer
from natmirror.openflow.session import SwitchSession
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg


@dataclass(slots=True, eq=False)
class MasterSession:
    """One connection's session with one master: with its leg, or why there is none."""

    mirror: Mirror
    connection: "Connection"
    number: int = 0
    """Of the session at hand."""
    session: SwitchSession | None = None
    leg: Leg | None = None
    state: SessionState = SessionState.WAITING
    why_absent: EndReason | None = None
    """Why there will be no session any more, once the one at hand is over."""
    key: tuple[str, str, int, int] | None = None
    """Whose session it is: service, master, datapath id and auxiliary id."""
    tried_at: float = float("-inf")
    pause: float = 0.0
    ordered_bytes: int = 0
    """Of its orders, as far as they are recorded."""
    messages_missed: int = 0
    """Messages of the switch's that came while there was no session."""

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self.connection.service_name

    @property
    def client_is_gone(self) -> bool:
        """Whether the client's connection is over."""
        return self.connection.is_over

    def move(self, event: SessionEvent) -> None:
        """Go to the state that follows; KeyError where none does."""
        self.state = TRANSITIONS[self.state, event]

    def give_up(self, reason: EndReason) -> None:
        """No session will follow the one at hand, or the next one that is still waited for."""
        self.why_absent = reason
        self.move(SessionEvent.GIVEN_UP)

    @property
    def lives(self) -> bool:
        """Whether it has a leg that has not ended."""
        return self.state in HAS_LEG


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection that is read along for masters."""

    flow: MirroredFlow
    client: Endpoint
    service_name: str
    is_picked_up: bool
    """Its flow began in mid-connection."""
    observer: Observer
    masters: tuple[MasterSession, ...] = ()
    decisions: Decisions = field(default_factory=Decisions)
    is_over: bool = False
    is_forgotten: bool = False
    """The flow has left its table: its row may be another's."""
    continues: bool = False
    """It begins again here: the switch behind it is the same."""
    datapath: Datapath | None = None
    """As far as the masters have been told."""

    @property
    def name(self) -> str:
        """How the directory calls it."""
        return f"{self.service_name}/{show(self.client)}"
