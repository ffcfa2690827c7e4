"""Between production and OpenFlow masters: connections are read along, and each master has a session of its own.

All of it comes after the verdicts: what is said waits in its order (read_queue.py), and study() takes it from there. So
whatever is said, production has passed. It is read in steps of about one message, between which study() may stop:
no step takes long, whatever a peer says. What comes of it does not depend on where study() stops.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from natmirror.actions import LegEnded, Ordered
from natmirror.fastpath import NO_FLOW, SOURCE_MESSAGES, Memory
from natmirror.fastpath.flow_flags import remove_reader
from natmirror.mirror.faults import INTERNAL_ERROR, SWITCHED_OFF, Faults, Work
from natmirror.mirror.ledger import MID_CONNECTION, OWN_BACKEND, REMOVED, Ledger, MirroredFlow
from natmirror.mirror.legs import Legs
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.master_session import Connection, MasterSession
from natmirror.mirror.sessions.read_queue import Kind, ReadQueue
from natmirror.mirror.timers import Timers
from natmirror.net.packet import Endpoint, endpoint_of, show
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.decisions import By, Decisions
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import Message, Type
from natmirror.openflow.observer import MessageClass, Observer
from natmirror.openflow.session import ORDERS, Session, SessionPolicy
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 8.0  # seconds between attempts to call a master again
_ISS = 0  # inside; a session's numbers have nothing to do with the client's
_ROOM_SHARE = 2  # a master that owes this part of its buffer gets no PACKET_INs
_PIECE_LEN = 128 << 10  # bytes that a leg is given in one step
_MAX_UNFLUSHED_LEN = 64 << 10  # bytes that are read before masters are told what came of it, however much waits
_MAX_UNFLUSHED = 64  # the same for sessions


class MasterSessions:
    """All OpenFlow sessions of an engine."""

    def __init__(
        self,
        read_queue: ReadQueue,
        memory: Memory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        unread: Callable[[MirroredFlow], None],
        faults: Faults,
    ) -> None:
        """``unread`` is told of a flow that nobody reads any more."""
        self._faults = faults
        self._timers = timers
        self._read_queue = read_queue
        self._legs = legs
        self._ledger = ledger
        self.directory = Directory(memory)
        """What is known of switches."""
        self._unread = unread
        self._now = float("-inf")
        self._opened: deque[Connection] = deque()
        self._of_flows: dict[MirroredFlow, Connection] = {}
        self._connections: dict[int, Connection] = {}  # by the flow's number
        self._by_number: dict[int, tuple[MasterSession, Session]] = {}  # by number
        self._next_number = 0
        self._live: dict[tuple[str, str, int, int], MasterSession] = {}  # by service, master and datapath
        self._unflushed: dict[MasterSession, None] = {}
        # What is being done: the rest of an entry, or of what a master is told
        self._steps: Iterator[None] | None = None
        self._current: Callable[[], Connection | None] = lambda: None
        self._read_len = 0  # bytes that have been read since masters were told
        self._events: list[LegEnded] = []
        self._orders: list[Ordered] = []
        self._past: dict[tuple[str, str], dict[str, Counter[str]]] = {}

    def opened(self, flow: MirroredFlow, backend: Endpoint | None) -> bool:
        """A client's connection is established, or was met in its middle; whether some master wants to be told of
        it."""
        reasons = [(mirror, self._why_not(mirror, flow, backend)) for mirror in flow.service.sessions]
        if not reasons:
            return False
        observer = Observer(self.directory, in_middle=flow.picked_up)
        connection = Connection(flow, flow.client, flow.service.name, flow.picked_up, observer)
        connection.masters = tuple(
            MasterSession(mirror, connection, self, why_absent=why_not) for mirror, why_not in reasons
        )
        self._read_queue.add(Kind.OPENED, flow.row.id)
        self._opened.append(connection)
        self._of_flows[flow] = connection
        return any(why_not is None for _, why_not in reasons)

    def forgotten(self, flow: MirroredFlow, *, continues: bool) -> None:
        """The flow leaves the table, or begins anew there."""
        if (connection := self._of_flows.pop(flow, None)) is not None:
            connection.is_forgotten, connection.continues = True, continues
            self._read_queue.add(Kind.FORGOTTEN, flow.row.id)

    def leave(self) -> None:
        """Another host passes all connections from now on."""
        self.directory.lend(self._now)

    def _why_not(self, mirror: Mirror, flow: MirroredFlow, backend: Endpoint | None) -> str | None:
        if Work.SESSION in self._faults.off:
            return SWITCHED_OFF
        if endpoint_of(mirror) == backend:
            return OWN_BACKEND
        if flow.picked_up and mirror.reconnect == "never":
            return MID_CONNECTION
        return why_not_mirrored(mirror, flow.client[0])

    # Studying

    @property
    def has_more(self) -> bool:
        """Whether study() has something to do."""
        return self._steps is not None or bool(self._unflushed) or self._read_queue.has_more

    def study(self, now: float, is_spent: Callable[[], bool] | None = None) -> None:
        """All that waits to be read, or step by step until ``is_spent`` says that there is no more time; one step in
        any case. What legs send because of it waits for ``legs.take_sends()``."""
        self._now = now
        while self.has_more:
            self._step()
            if is_spent is not None and is_spent():
                break

    def _step(self) -> None:
        """Read a message, or tell a master what has come of some."""
        if self._steps is None:
            self._steps = self._next_steps()
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except Exception as error:  # a fault of ours costs this connection's sessions, and nobody else
            self._steps = None
            self._failed(self._current(), error)

    def _next_steps(self) -> Iterator[None]:
        """What is to be done next: the first entry that waits, unless masters are to be told first what has come of
        those before."""
        is_time = self._read_len >= _MAX_UNFLUSHED_LEN or len(self._unflushed) >= _MAX_UNFLUSHED
        is_time = is_time or not self._read_queue.has_more
        if is_time and self._unflushed:
            master = next(iter(self._unflushed))
            self._current = lambda: master.connection
            return self._flush(master)
        if is_time:
            self._read_len = 0
        kind, of, data = self._read_queue.take()
        self._read_len += len(data)
        self._current = lambda: self._connection_of(kind, of)
        return self._read_entry(kind, of, data)

    def _failed(self, connection: Connection | None, error: Exception) -> None:
        """Count a fault of ours, and end the sessions of the connection that it came up with."""
        self._faults.note(Work.SESSION, None if connection is None else show(connection.client), error)
        if connection is not None:
            self.fail(connection, INTERNAL_ERROR)

    def fail(self, connection: Connection, reason: str) -> None:
        """End a connection's sessions, whatever state a fault has left them in and whatever was still to be said to
        their masters; never raises."""
        for master in connection.masters:
            self._unflushed.pop(master, None)
            master.why_absent = master.why_absent or reason
            if master.leg is not None:
                self._legs.cut(master, master.leg, reason)
        if not connection.is_forgotten:
            remove_reader(connection.flow.row)
        with suppress(Exception):
            self._stop_reading_if_over(connection)

    def end_flow(self, flow: MirroredFlow, reason: str) -> None:
        """The same for the connection of a flow."""
        if (connection := self._of_flows.get(flow)) is not None:
            self.fail(connection, reason)

    def discard(self) -> None:
        """Throw away all that waits to be read. Sessions have holes then: their work has to be off."""
        self._read_queue.clear()
        self._opened.clear()
        self._unflushed.clear()
        self._steps = None
        # What is over may have waited to be told of that: its flow's number is going to be another's.
        self._connections = {of: one for of, one in self._connections.items() if not one.is_forgotten}
        self._by_number = {of: found for of, found in self._by_number.items() if found[0].lives}

    def _connection_of(self, kind: Kind, of: int) -> Connection | None:
        if kind in (Kind.MASTER, Kind.MASTER_LOST, Kind.ENDED):
            return self._by_number[of][0].connection if of in self._by_number else None
        return self._connections.get(of)

    def _read_entry(self, kind: Kind, of: int, data: bytes) -> Iterator[None]:
        if kind is Kind.OPENED:
            self._begin(of)
        elif kind is Kind.MASTER:
            if (found := self._by_number.get(of)) is not None:
                yield from self._from_master(*found, data, self._now)
        elif kind is Kind.MASTER_LOST:
            master = self._by_number[of][0] if of in self._by_number else None
            if master is not None and master.number == of and master.leg is not None:
                self._legs.settle(master, master.leg, master.leg.abort("hole"))
        elif kind is Kind.ENDED:
            self._retire(of)
        elif (connection := self._connections.get(of)) is not None:
            try:
                yield from self._from_production(connection, kind, data, self._now)
            except Broken as broken:
                yield from self._give_up(connection, broken.reason)
            finally:
                if kind is Kind.FORGOTTEN:
                    del self._connections[of]
                    self._release(connection)

    def _begin(self, flow_id: int) -> None:
        connection = self._opened.popleft()
        self._connections[flow_id] = connection
        if not connection.is_picked_up:
            self.directory.leave(connection.name)  # whoever was there before
        elif (datapath := self.directory.behind(connection.name)) is not None:
            connection.observer.restore(datapath)
        for master in connection.masters:
            if master.why_absent is not None:
                self._count(master, "unopened", master.why_absent)

    def _from_production(self, connection: Connection, kind: Kind, data: bytes, now: float) -> Iterator[None]:
        if kind is Kind.ORIG:
            yield from self._from_switch(connection, connection.observer.from_switch(data, now), now)
        elif kind is Kind.REPLY:
            yield from self._from_controller(connection, connection.observer.from_controller(data), now)
        elif kind in (Kind.ORIG_LOST, Kind.REPLY_LOST):
            connection.observer.lose_place(of_switch=kind is Kind.ORIG_LOST)
            if kind is Kind.ORIG_LOST:
                yield from self._end_all(connection, "hole")
        elif kind in (Kind.FINISHED, Kind.RESET, Kind.FORGOTTEN) and not connection.is_over:
            yield from self._production_over(connection, kind)

    def _production_over(self, connection: Connection, kind: Kind) -> Iterator[None]:
        connection.is_over = True
        if not connection.continues:
            self.directory.leave(connection.name)
        yield from self._flush_all(connection)
        for master in connection.masters:
            if (leg := master.leg) is None or leg.ended is not None:
                continue
            master.is_closing = True
            leg.client_gone(self._now)
            if kind is Kind.FORGOTTEN:
                packets = leg.abort("flow-expired")
            else:
                packets = leg.reset(self._now) if kind is Kind.RESET else leg.finish(self._now)
            self._legs.settle(master, leg, packets)

    def _from_switch(
        self, connection: Connection, messages: Iterable[tuple[MessageClass, Message]], now: float
    ) -> Iterator[None]:
        has_answers = False
        for what, message in messages:
            has_answers |= what is MessageClass.ANSWER
            if message.kind is Type.PACKET_IN:
                connection.decisions.saw(message, now)
            yield from self._switch_known(connection, now)
            for master in connection.masters:
                if master.why_absent is not None:
                    continue
                if not master.lives and what is not MessageClass.OPENING:
                    self._call(master)
                if master.is_open and master.session is not None:
                    master.session.from_switch(what, message, has_room=_has_room(master))
                    self._unflushed[master] = None
                elif what is MessageClass.UNASKED:
                    master.unheard += 1
            yield
        if has_answers:
            for master in connection.masters:
                if master.is_open and master.session is not None:
                    master.session.settle(now)
        self._call_all(connection)

    def _from_controller(self, connection: Connection, messages: Iterable[Message], now: float) -> Iterator[None]:
        for message in messages:
            if message.kind in ORDERS:
                connection.decisions.decided(By.BACKEND, message, now)
            yield
        self._call_all(connection)

    def _switch_known(self, connection: Connection, now: float) -> Iterator[None]:
        """The switch has told who it is: no other connection of it has a session with these masters any more."""
        datapath = connection.observer.datapath
        if datapath is None or connection.datapath is datapath:
            return
        is_another = connection.datapath is not None and connection.datapath.identity != datapath.identity
        connection.datapath = datapath
        self.directory.stands_behind(connection.name, datapath)
        if is_another:  # what was known from before was wrong
            yield from self._end_all(connection, "another-switch")
        for master in connection.masters:
            if master.why_absent is None:
                self._supersede(master, datapath)
            if master.is_open and master.session is not None:
                yield from master.session.switch_known(now)
                self._unflushed[master] = None

    def _supersede(self, master: MasterSession, datapath: Datapath) -> None:
        key = (master.service_name, master.mirror.name, *datapath.identity)
        if (older := self._live.get(key)) is not None and older is not master:
            older.why_absent = "superseded"
            if older.leg is not None and older.leg.ended is None:
                self._legs.end(older, older.leg, "superseded")
            self._stop_reading_if_over(older.connection)
        self._forget_key(master)
        self._live[key] = master
        master.key = key

    def _forget_key(self, master: MasterSession) -> None:
        if master.key is not None and self._live.get(master.key) is master:
            del self._live[master.key]
        master.key = None

    # Calling masters

    def _call_all(self, connection: Connection) -> None:
        """As soon as it is known what is spoken, each master is called for the first time."""
        for master in connection.masters:
            if master.leg is None and master.why_absent is None:
                self._call(master)

    def _call(self, master: MasterSession) -> None:
        """Open a leg, unless it is too early for that, or was tried just now."""
        now = self._now
        connection = master.connection
        is_known = connection.observer.version is not None
        if connection.is_picked_up and connection.observer.datapath is None:
            is_known = False  # nobody could say which switch this is
        if connection.is_over or not is_known or now - master.tried_at < master.pause:
            return
        if master.key is not None and self._live.get(master.key) is not master:
            return  # a younger connection of the switch has taken its place
        if not self._ledger.has(master):
            self.end_if_removed(master)
            return
        master.tried_at = now
        master.pause = min(max(_FIRST_PAUSE, 2 * master.pause), _LONGEST_PAUSE)
        number = self._next_number = (self._next_number + 1) & 0xFFFF_FFFF

        policy = SessionPolicy(
            passes_unsolicited=master.mirror.unsolicited == "pass",
            tells_statistics=master.mirror.statistics == "last-seen",
        )
        session = Session(connection.observer, policy)  # before the leg, which without a session would be nobody's

        def listener(data: bytes) -> None:
            self._read_queue.add(Kind.MASTER, number, data)

        made = self._legs.make(master, connection.client, _ISS, now, listener=listener)
        if isinstance(made, str):
            self._count(master, "unopened", made)
            master.why_absent = made if master.mirror.reconnect == "never" else None
            return
        master.leg, master.session, master.number, master.is_closing = made, session, number, False
        made.row.source, made.row.reader, made.row.flow_id = SOURCE_MESSAGES, number, NO_FLOW
        made.row.mirror_id = self._ledger.number(master)
        self._ledger.of(master).opened += 1
        self._by_number[number] = (master, session)
        self._legs.settle(master, made, made.open(now))
        self._unflushed[master] = None

    def handle_timer(self, master: MasterSession, now: float) -> None:
        """A question of a master's has waited long enough. The master is told by study()."""
        self._now = now
        try:
            if master.session is not None:
                master.session.settle(now)
                self._unflushed[master] = None
        except Exception as error:
            self._failed(master.connection, error)

    def leg_ended(self, master: MasterSession, leg: Leg, reason: str) -> None:
        """A session's leg is over."""
        self._timers.set(("session", master), None)
        self._read_queue.add(Kind.ENDED, master.number)  # first: whatever fails below, the session is let go
        self._ledger.session_ended(master, leg, reason)
        if self._now - master.tried_at >= _LONGEST_PAUSE:
            master.pause = 0.0
        if master.why_absent is None and (master.mirror.reconnect == "never" or master.connection.is_over):
            master.why_absent = reason
            self._stop_reading_if_over(master.connection)
        count, acked = int(leg.row.client_bytes), leg.acked_bytes
        client = show(master.connection.client)
        self._events.append(LegEnded(client, master.service_name, master.mirror.name, reason, count, acked))

    def _release(self, connection: Connection) -> None:
        """No circle is left for a collector of garbage."""
        if connection.is_forgotten and not any(master.lives for master in connection.masters):
            for master in connection.masters:
                self._forget_key(master)
            connection.masters = ()

    def _retire(self, number: int) -> None:
        """A session is over, and all that its master has said has been read."""
        master, session = self._by_number.pop(number)
        for name, counter in session.counters().items():
            self._counter(master, name).update(counter)
        if master.session is session:
            master.session = None
        self._release(master.connection)

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        events, self._events = self._events, []
        return events

    def _stop_reading_if_over(self, connection: Connection) -> None:
        """Nobody is told of the connection any more: it need not be read."""
        if not connection.is_forgotten and all(master.is_over for master in connection.masters):
            self._unread(connection.flow)

    def _give_up(self, connection: Connection, reason: str) -> Iterator[None]:
        """The connection cannot be followed: its sessions are over, and production goes on."""
        for master in connection.masters:
            if master.why_absent is None:
                master.why_absent = reason
                if not master.lives:
                    self._count(master, "unopened", reason)
        yield from self._end_all(connection, reason)
        self._stop_reading_if_over(connection)

    def end_if_removed(self, master: MasterSession) -> None:
        """End a session whose master the rules do not name any more: none will follow it."""
        if self._ledger.has(master):
            return
        master.why_absent = master.why_absent or REMOVED
        if master.leg is not None and master.leg.ended is None:
            self._legs.settle(master, master.leg, master.leg.abort(REMOVED))
        self._stop_reading_if_over(master.connection)

    def _end_all(self, connection: Connection, reason: str) -> Iterator[None]:
        """End the connection's legs, after what was said before."""
        yield from self._flush_all(connection)
        for master in connection.masters:
            if master.leg is not None and master.leg.ended is None:
                self._legs.settle(master, master.leg, master.leg.abort(reason))

    # Masters

    def _from_master(self, master: MasterSession, session: Session, data: bytes, now: float) -> Iterator[None]:
        leg = master.leg
        if leg is None or master.session is not session:
            return
        if not data:
            yield from self._flush(master)
            master.is_closing = True
            self._legs.settle(master, leg, leg.finish(self._now))
            return
        try:
            for message in session.from_master(data, now):
                if message.kind in ORDERS:
                    master.connection.decisions.decided(By.MASTER, message, now)
                    if master.mirror.record is not None:
                        self._record(master, message)
                yield
        except Broken as broken:
            yield from self._flush(master)
            self._legs.settle(master, leg, leg.abort(f"mirror-{broken.reason}"))
            return
        self._unflushed[master] = None

    def _record(self, master: MasterSession, message: Message) -> None:
        client = master.connection.client
        names = (master.service_name, master.mirror.name)
        self._orders.append(Ordered(*names, client, master.ordered_bytes, message.raw))
        master.ordered_bytes += len(message.raw)

    def take_orders(self) -> list[Ordered]:
        """What masters that are recorded have ordered since the last call."""
        orders, self._orders = self._orders, []
        return orders

    def _flush_all(self, connection: Connection) -> Iterator[None]:
        """What a connection's sessions have to say goes to their legs."""
        for master in connection.masters:
            yield from self._flush(master)

    def _flush(self, master: MasterSession) -> Iterator[None]:
        """What a session has to say goes to its leg, which has room for all of it, or for nothing."""
        self._unflushed.pop(master, None)
        leg, session = master.leg, master.session
        if not master.is_open or leg is None or session is None:
            return
        self._timers.set(("session", master), session.next_settling())
        counted = 0
        while session.unsaid_len and leg.ended is None:
            fresh = session.unsaid_len - counted  # all, and then what a timer has added between two pieces
            leg.row.client_bytes += fresh
            wanted = session.unsaid_len if fresh else 0
            data = session.take(_PIECE_LEN)
            counted = session.unsaid_len
            self._legs.settle(master, leg, leg.write(data, self._now, wanted=wanted))
            yield

    # Reporting

    def decisions_of(self, flow_id: int) -> Decisions | None:
        """What backend and masters have decided for the switch behind a flow."""
        connection = self._connections.get(flow_id)
        return None if connection is None else connection.decisions

    def masters_of(self, flow_id: int) -> tuple[MasterSession, ...]:
        """The sessions of a flow."""
        connection = self._connections.get(flow_id)
        return () if connection is None else connection.masters

    def sums(self) -> dict[tuple[str, str], dict[str, dict[str, int]]]:
        """For each master, by service and name, what all its sessions come to: counters by name."""
        found: dict[tuple[str, str], dict[str, Counter[str]]] = {
            key: {name: Counter(counter) for name, counter in past.items()} for key, past in self._past.items()
        }
        for master, session in self._by_number.values():
            counters = found.setdefault((master.service_name, master.mirror.name), {})
            for name, counter in session.counters().items():
                counters.setdefault(name, Counter()).update(counter)
        return {key: {name: dict(counter) for name, counter in sums.items()} for key, sums in found.items()}

    def _counter(self, master: MasterSession, name: str) -> Counter[str]:
        past = self._past.setdefault((master.service_name, master.mirror.name), {})
        return past.setdefault(name, Counter())

    def _count(self, master: MasterSession, name: str, reason: str) -> None:
        self._counter(master, name)[reason] += 1


def _has_room(master: MasterSession) -> bool:
    """Whether the master keeps up so far that it may be asked what to do with a packet."""
    return master.leg is not None and master.leg.lag_bytes < master.mirror.buffer // _ROOM_SHARE
