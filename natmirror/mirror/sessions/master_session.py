"""An observed connection, and its session with each master."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from natmirror.fastpath import ClientMemory
from natmirror.fastpath.flow_flags import is_unconfirmed
from natmirror.mirror.copies import MirroredFlow
from natmirror.mirror.sessions.judged import Judged
from natmirror.mirror.sessions.session_states import HAS_LEG, TRANSITIONS, SessionEvent, SessionState
from natmirror.net.endpoint import Endpoint, show
from natmirror.openflow.answers import ECHO_LIMIT
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.decisions import Decisions
from natmirror.openflow.observer import Observer
from natmirror.openflow.session import SwitchSession
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg

_CONNECTION_COST = 5000  # bytes that Python needs for an observed connection and its events in the read queue
_SESSION_COST = 12_000  # for an open session of it, besides the leg


@dataclass(slots=True, eq=False)
class MasterSession:
    """One connection's session with one master: its leg, or the reason why it has none."""

    mirror: Mirror
    connection: "Connection"
    number: int = 0
    """The number of the current session, by which the read queue names it."""
    session: SwitchSession | None = None
    leg: Leg | None = None
    state: SessionState = SessionState.WAITING
    why_absent: EndReason | None = None
    """The reason why no further session will follow; None while one may."""
    key: tuple[str, str, int, int] | None = None
    """Service, master, datapath id and auxiliary id, while this is the switch's session with the master (claims.py)."""
    is_refused: bool = False
    """Whether the switch is another client's at the moment."""
    is_paused: bool = False
    """Whether a command has paused the master."""
    tried_at: float = float("-inf")
    pause: float = 0.0
    ordered_bytes: int = 0
    """Bytes of the master's orders that were recorded."""
    messages_missed: int = 0
    """Messages of the switch that arrived while there was no session."""

    @property
    def service_name(self) -> str:
        return self.connection.service_name

    @property
    def client(self) -> Endpoint:
        return self.connection.client

    @property
    def connection_has_ended(self) -> bool:
        return self.connection.has_ended

    def move(self, event: SessionEvent) -> None:
        """Change to the next state; KeyError where the event is not possible."""
        self.state = TRANSITIONS[self.state, event]

    def give_up(self, reason: EndReason) -> None:
        """Note that no further session will follow, for a reason."""
        self.why_absent = reason
        self.move(SessionEvent.GIVEN_UP)

    @property
    def why_without_leg(self) -> EndReason | None:
        """Why the session has no leg; None if it has not begun yet."""
        if self.why_absent is not None or self.is_paused or self.is_refused:
            waits = EndReason.MIRROR_PAUSED if self.is_paused else EndReason.DATAPATH_IN_USE
            return self.why_absent or waits
        return None if self.tried_at == float("-inf") else EndReason.RECONNECTING

    def is_alive(self, now: float) -> bool:
        """Return whether messages of the switch may still come: its connection is open, and the switch has not left an
        ECHO of its controller unanswered for long. Any thread may ask."""
        connection = self.connection
        is_mute = connection.echo_asked_at is not None and now - connection.echo_asked_at >= ECHO_LIMIT
        is_gone = connection.has_ended or connection.is_forgotten or is_mute
        return self.state is not SessionState.ENDED and not is_gone

    @property
    def has_leg(self) -> bool:
        """Whether the session has an open leg."""
        return self.state in HAS_LEG


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection that natmirror observes for masters."""

    flow: MirroredFlow
    client: Endpoint
    service_name: str
    is_picked_up: bool
    """Whether the flow was picked up: its SYN did not pass here."""
    observer: Observer
    memory: ClientMemory
    holder: int
    """The client's number in ``memory``."""
    drop: Callable[["Connection"], None]
    """Gives up an unconfirmed connection: no session follows."""
    masters: tuple[MasterSession, ...] = ()
    decisions: Decisions = field(default_factory=Decisions)
    has_ended: bool = False
    is_forgotten: bool = False
    """Whether the flow has left its table: its row may be another flow's."""
    continues: bool = False
    """Whether the connection begins again here, with the same switch."""
    echo_asked_at: float | None = None
    """The time of the controller's first ECHO_REQUEST since the switch last sent something; None if there is none."""
    judged: Judged | None = None
    """The judgement of its masters, if one is compared with production's controller."""
    is_past_beginning: bool = False
    """Whether a judge that is made from now on lacks the connection's first messages."""
    datapath: Datapath | None = None
    """The switch with which the masters' sessions were last opened."""
    is_counted: bool = False
    """Whether its memory is on its client's account."""
    fixed: int = 0
    """Bytes that are counted for the connection's own objects, once it is confirmed."""
    counted: int = 0
    """Bytes that are counted for what it holds, and can be given up."""

    @property
    def name(self) -> str:
        """The connection's name in the directory: ``openflow/10.10.0.11:40001``."""
        return connection_name(self.service_name, self.client)

    @property
    def is_read(self) -> bool:
        """Whether a master may still have a session."""
        return any(master.state is not SessionState.ENDED for master in self.masters)

    # Memory

    @property
    def held(self) -> int:
        """Bytes that the connection and its sessions hold, besides their own objects."""
        sessions = sum(master.session.held for master in self.masters if master.session is not None)
        return self.observer.held + self.decisions.held + sessions

    @property
    def _is_unconfirmed(self) -> bool:
        return self.is_picked_up and not self.is_forgotten and is_unconfirmed(self.flow.row)

    def begin_counting(self) -> bool:
        """Take memory for the connection's own objects; return False if its client may not hold them. What waits is
        given up for a connection that is certain, but not for one that any sender may have invented."""
        self.is_counted = self._counts_all() or (not self._is_unconfirmed and self._counts_urgently())
        return self.is_counted

    def count(self) -> bool:
        """Take or give back memory for what the connection holds now. If the client may not hold more, what waits is
        given up; return False if that is not enough."""
        return not self.is_counted or self._counts_all() or self._counts_urgently()

    @property
    def _objects(self) -> int:
        """Bytes that its own objects need."""
        return _CONNECTION_COST + _SESSION_COST * sum(master.session is not None for master in self.masters)

    def _counts_urgently(self) -> bool:
        objects = self._objects
        self.memory.make_room(self.holder, objects - self.fixed + max(self.held - self.counted, 0))
        return self._counts_all()

    def _counts_all(self) -> bool:
        """Take or give back memory. An unconfirmed connection can be given up as a whole: any sender may have invented
        it."""
        fixed, waiting = self._objects, self.held
        if self._is_unconfirmed:
            fixed, waiting = 0, fixed + waiting
        if waiting < self.counted:
            self._counts(waiting)
        return self._counts_objects(fixed) and self._counts(waiting)

    def _counts_objects(self, fixed: int) -> bool:
        more = fixed - self.fixed
        if more < 0:
            self.memory.give(self.holder, -more)
        elif more and not self.memory.take(self.holder, more):
            return False
        self.fixed = fixed
        return True

    def _counts(self, held: int) -> bool:
        more = held - self.counted
        if more < 0:
            self.memory.give_waiting(self, self.holder, -more)
        elif more and not self.memory.take_waiting(self, self.holder, more):
            return False
        self.counted = held
        return True

    def give_up(self) -> None:
        """Forget incomplete answers, open questions and decisions, or all of an unconfirmed connection: the memory is
        needed."""
        if self._is_unconfirmed:
            self.drop(self)
            return
        self.observer.give_up()
        self.decisions.give_up()
        self._counts(min(self.held, self.counted))

    def end_counting(self) -> None:
        """Give all memory back: the connection has ended, and so have its sessions."""
        self.is_counted = False
        self._counts(0)
        self._counts_objects(0)


def connection_name(service_name: str, client: Endpoint) -> str:
    """Return a connection's name in the directory."""
    return f"{service_name}/{show(client)}"


def made(connection: Connection, chosen: Iterable[tuple[Mirror, EndReason | None]]) -> tuple[MasterSession, ...]:
    """Return a connection's sessions with masters that were chosen, each with the reason why it gets none, or None."""
    masters = []
    for mirror, why_not in chosen:
        master = MasterSession(mirror, connection, is_paused=mirror.is_paused)
        if why_not is not None:
            master.give_up(why_not)
        masters.append(master)
    return tuple(masters)
