"""The open sessions: when a session may open a leg to its master, which older one it replaces, and its orders.

Theory. A session opens its leg once the OpenFlow version is known; that of a picked up connection once the switch is
known. If the master cannot be reached, or ends the session, the next leg is opened after a pause that doubles with each
attempt, when the switch sends its next message. Only one connection of a switch has a session with a master: claims.py.
"""

from natmirror.actions import LegEnded, Order
from natmirror.fastpath import NO_FLOW, SOURCE_MESSAGES
from natmirror.mirror.copies import MirroredFlow, MirroredStream, stop_reading
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegOutcome, Legs
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.mirror.sessions.judges import Judges
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.session_states import SessionEvent, SessionState
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.net.endpoint import show
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.messages import Message
from natmirror.openflow.session import SessionPolicy, SwitchSession
from natmirror.reasons import EndReason
from natmirror.rules import Reconnect, Statistics, Unsolicited
from natmirror.tcp.leg import Leg

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 8.0  # seconds between attempts to open a leg to a master
_ISS = 0  # the leg's own; a session's sequence numbers are unrelated to the client's


class OpenSessions:
    """The open sessions of an engine, and their masters' orders. MasterSessions sets ``now`` before it calls."""

    def __init__(
        self,
        read_queue: ReadQueue,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        totals: SessionTotals,
        claims: SwitchClaims,
        judges: Judges,
        streams: dict[MirroredFlow, MirroredStream],
    ) -> None:
        self.now = float("-inf")
        self.by_number: dict[int, tuple[MasterSession, SwitchSession]] = {}
        """The open sessions, and ended ones until all bytes of their masters have been read."""
        self._read_queue = read_queue
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._totals = totals
        self._claims = claims
        self._judges = judges
        self._streams = streams
        self._next_number = 0
        self._orders: list[Order] = []

    # Beginning

    def may_open(self, master: MasterSession) -> bool:
        """Return whether a session may open a leg to its master: enough is known, and the pause is over."""
        connection = master.connection
        is_known = connection.observer.version is not None
        if connection.is_picked_up and connection.observer.datapath is None:
            is_known = False  # the switch is unknown
        if connection.has_ended or not is_known or self.now - master.tried_at < master.pause:
            return False
        return connection.observer.datapath is None or self._claims.has(master)

    def open(self, master: MasterSession) -> LegOutcome | None:
        """Open a leg and begin a session. Return None if there is no leg, after counting the reason."""
        now = self.now
        connection = master.connection
        number = self._next_number = (self._next_number + 1) & 0xFFFF_FFFF
        holder = connection.holder

        policy = SessionPolicy(
            passes_unsolicited=master.mirror.unsolicited is Unsolicited.PASS,
            answers_statistics=master.mirror.statistics is Statistics.LAST_SEEN,
        )
        session = SwitchSession(connection.observer, policy)  # before the leg, which is useless without it

        def listener(data: bytes) -> None:
            self._read_queue.add(ReadEvent.MASTER, number, data, holder)

        made = self._legs.make(master, connection.client, _ISS, now, listener=listener)
        if isinstance(made, EndReason):
            self._totals.count_not_opened(master.service_name, master.mirror.name, made)
            if master.mirror.reconnect is Reconnect.NEVER:
                master.give_up(made)
            return None
        master.leg, master.session, master.number = made, session, number
        master.move(SessionEvent.LEG_OPENED)
        made.row.source, made.row.reader, made.row.flow_id = SOURCE_MESSAGES, number, NO_FLOW
        made.row.mirror_id = self._ledger.mirror_id(master)
        self._ledger.totals_of(master).opened += 1
        self.by_number[number] = (master, session)
        self._judges.session_opened(master, session)
        return self._legs.collect(master, made, made.open(now))

    def note_attempt(self, master: MasterSession) -> None:
        """Note an attempt to open a leg: the pause before the next one doubles."""
        master.tried_at = self.now
        master.pause = min(max(_FIRST_PAUSE, 2 * master.pause), _LONGEST_PAUSE)

    def has_switch(self, master: MasterSession) -> bool:
        """Return whether the connection's switch is this session's, so that no other has one with the master."""
        return self._claims.has(master)

    def claim_switch(self, master: MasterSession, datapath: Datapath) -> MasterSession | None:
        """Make the switch this session's if it may be. Return the client's older session that this one replaces, or
        None."""
        key = (master.service_name, master.mirror.name, *datapath.identity[1:])
        return self._claims.claim(master, key, self.now)

    def unclaim_switch(self, master: MasterSession) -> None:
        """Note that this is no longer a switch's session with the master."""
        self._claims.give_up(master)

    # Ending

    def leg_ended(self, master: MasterSession, leg: Leg, reason: EndReason) -> LegEnded:
        """End a session whose leg has ended."""
        self._timers.set((TimerKind.QUESTION_TIMEOUT, master), None)
        # First, so that the session is removed even if a step below fails
        self._read_queue.add(ReadEvent.ENDED, master.number)
        master.move(SessionEvent.LEG_ENDED)
        self._ledger.session_ended(master, leg, reason)
        self._judges.leg_ended(master, reason)
        if self.now - master.tried_at >= _LONGEST_PAUSE:
            master.pause = 0.0
        is_over = master.mirror.reconnect is Reconnect.NEVER and not master.is_refused
        is_last = is_over or master.connection.has_ended
        if is_last and master.state is SessionState.WAITING:
            master.give_up(reason)
            self.stop_reading_if_ended(master.connection)
        count, acked = int(leg.row.client_bytes), leg.acked_bytes
        client = show(master.connection.client)
        return LegEnded(client, master.service_name, master.mirror.name, reason, count, acked)

    def retire(self, number: int) -> Connection:
        """Remove an ended session, after all bytes of its master have been read, and return its connection."""
        master, session = self.by_number.pop(number)
        self._totals.add(master, session)
        self._judges.session_ended(number)
        if master.session is session:
            master.session = None
        return master.connection

    def drop_ended(self) -> list[Connection]:
        """Remove the sessions whose legs have ended, and return their connections."""
        ended = [number for number, (master, _) in self.by_number.items() if not master.has_leg]
        for number in ended:
            self._judges.forget_session(number)
        return [self.by_number.pop(number)[0].connection for number in ended]

    def stop_reading_if_ended(self, connection: Connection) -> None:
        """Stop reading a connection for which no master can have a session any more."""
        if not connection.is_forgotten and not connection.is_read:
            stop_reading(connection.flow, self._streams.get(connection.flow))

    # Orders

    def keep_order(self, master: MasterSession, message: Message) -> None:
        """Keep a master's order for take_orders()."""
        names = (master.service_name, master.mirror.name)
        self._orders.append(Order(*names, master.connection.client, master.ordered_bytes, message.raw))
        master.ordered_bytes += len(message.raw)

    def take_orders(self) -> list[Order]:
        """Return the orders that recorded masters have sent since the last call."""
        orders, self._orders = self._orders, []
        return orders
