"""An OpenFlow session with one master: natmirror plays the switch, from what it observes in production.

The master gets the switch's asynchronous messages, and answers to its questions with its own transaction ids
(answers.py). Its orders are counted, and change nothing: no message of a master reaches the switch. from_master() takes
the master's bytes, and take() returns whole messages for the master.

Two events happen in a session, in this order. The switch sends its features in production: until then the master's
questions wait, except ECHOs. The master gets these features in answer to its FEATURES_REQUEST: until then the switch's
messages wait.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from natmirror.openflow.answers import ANSWERED, Answers, StatisticsSource
from natmirror.openflow.async_config import AsyncConfig, Role
from natmirror.openflow.datapath import Datapath
from natmirror.openflow.framer import Broken, Framer
from natmirror.openflow.messages import (
    V13,
    VERSIONS,
    Message,
    Refusal,
    Type,
    hello,
    negotiated,
    parse,
)
from natmirror.openflow.observer import MessageClass, Observer
from natmirror.openflow.send_queue import SendQueue
from natmirror.openflow.shown import SessionCounters, SessionEntry
from natmirror.openflow.tables.statistics import Bodies
from natmirror.reasons import EndReason, WithheldReason

_MAX_EARLY_LEN = 128 << 10  # bytes of the switch's messages that wait until the master knows the switch
_MAX_WAITING_LEN = 256 << 10  # bytes of questions that wait until the switch's features are known
_MESSAGE_COST = 250  # bytes that Python needs for a message besides its bytes
_EARLY_COST = _MESSAGE_COST + 60  # the same with the reason why it is withheld
_MAX_ANSWERS_LEN = 16 << 20  # bytes of unsent answers; the largest answers seen so far have 1.2 MB

ORDERS = frozenset(
    (
        Type.PACKET_OUT,
        Type.FLOW_MOD,
        Type.GROUP_MOD,
        Type.PORT_MOD,
        Type.TABLE_MOD,
        Type.METER_MOD,
        Type.SET_CONFIG,
        Type.SET_ASYNC,
        Type.BUNDLE_ADD_MESSAGE,
        Type.BUNDLE_CONTROL,
        Type.ROLE_REQUEST,
        Type.EXPERIMENTER,
    )
)
"""The messages that would change the switch."""
_CHANGES = ORDERS - ANSWERED
_UNANSWERED = _CHANGES | {Type.HELLO, Type.ERROR, Type.ECHO_REPLY}


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """The choice of the switch's messages that a master gets."""

    passes_unsolicited: bool = False
    """Whether it gets answers to production's questions, too."""
    answers_statistics: bool = True
    """Whether it gets statistics, as last seen; else its requests are refused."""


class SessionListener(Protocol):
    """An object that follows the messages of a session."""

    def passed(self, message: Message) -> None:
        """Notice that the master gets a message of the switch, perhaps after it has waited."""

    def withheld(self, message: Message, reason: WithheldReason) -> None:
        """Notice that the master will not get a message of the switch."""

    def took(self, message: Message) -> None:
        """Notice that the session has taken a message of the master, and has not refused it as a slave's."""


class SwitchSession:
    """The switch's end of one session with a master.

    ``observer`` follows the production connection of the switch that natmirror plays. Its version has to be known:
    from both HELLOs, or because the switch of a picked up connection is known. ValueError where it is not.
    """

    def __init__(self, observer: Observer, policy: SessionPolicy) -> None:
        if observer.version is None:
            raise ValueError("a session needs a connection whose version is known")
        self.version = observer.version
        self.passed: Counter[str] = Counter()
        """The switch's messages that the master got, by type."""
        self.withheld: Counter[str] = Counter()
        """The switch's messages that the master did not get, by type and reason."""
        self.ordered: Counter[str] = Counter()
        """The master's orders, by type."""
        self.has_sent_features = False
        """Whether the master has got the switch's features."""
        self.listener: SessionListener | None = None
        """The object that is to know of the session's messages."""
        self._observer = observer
        self._policy = policy
        self._framer = Framer()
        self._async_config = AsyncConfig()
        self._early: deque[tuple[Message, WithheldReason]] = deque()
        self._early_len = 0
        self._waiting: deque[Message] = deque()
        self._waiting_len = 0
        self._hello = parse(hello(self.version, 1))
        self._queue = SendQueue()
        self._queue.put(self._hello.raw)
        self._answers = Answers(
            self.version, observer, self._async_config, self._queue, answers_statistics=policy.answers_statistics
        )
        self.asked = self._answers.counts
        """The master's questions, by outcome."""
        self._framer.version = self.version

    @property
    def unsent_len(self) -> int:
        """Bytes that wait for take()."""
        return self._queue.unsent_len

    def take(self, most: int | None = None) -> bytes:
        """Remove and return the next messages for the master, of about ``most`` bytes together; by default all."""
        return self._queue.take(most)

    def settle(self, now: float) -> None:
        """Answer the open questions whose answers have come, and refuse those whose answers will not come."""
        self._answers.settle(now)

    def ask_statistics_from(self, source: StatisticsSource) -> None:
        """Answer the master's questions for flow, aggregate and table statistics by its own orders, as far as
        ``source`` knows them; else as the switch has answered its controller."""
        self._answers.statistics_source = source

    def statistics_answered(self, number: int, bodies: Bodies | None, now: float) -> None:
        """Take what was asked for with this number: None if it is not known, MALFORMED if the question is."""
        self._answers.statistics_answered(number, bodies, now)

    def next_deadline(self) -> float | None:
        """Return the deadline of the oldest open question; None where none is open."""
        return self._answers.next_deadline()

    @property
    def held(self) -> int:
        """Bytes of messages that cannot be passed or answered yet, or that wait for take()."""
        return self._framer.held + self._early_len + self._waiting_len + self._answers.held + self._queue.held

    @property
    def datapath(self) -> Datapath | None:
        """The switch, once it is known."""
        return self._observer.datapath

    def counters(self) -> SessionCounters:
        """Return the session's counters."""
        return {
            "messages_passed": dict(self.passed),
            "messages_withheld": dict(self.withheld),
            "requests": dict(self.asked),
            "orders": dict(self.ordered),
        }

    def shown(self) -> SessionEntry:
        """Return the session's state and counters as values for JSON."""
        return {
            "version": VERSIONS[self.version],
            "datapath_id": None if self.datapath is None else self.datapath.identity.datapath_id,
            "role": self._async_config.role.name.lower(),
            "features_sent": self.has_sent_features,
            "oldest_statistics_seconds": round(self._answers.oldest_answer_seconds, 3),
            **self.counters(),
        }

    # The switch

    def from_switch(self, message_class: MessageClass, message: Message, *, has_room: bool) -> None:
        """Take a message of the switch. Without ``has_room`` the master is far behind: it gets no PACKET_INs."""
        if message_class is MessageClass.HANDSHAKE or message.kind is None or message.version != self.version:
            return
        if message_class is MessageClass.ANSWER and not self._policy.passes_unsolicited:
            return
        if not self._async_config.wants(message):
            self._withhold(message, WithheldReason.NOT_WANTED)
        elif not has_room and message.kind is Type.PACKET_IN:
            self._withhold(message, WithheldReason.MASTER_BEHIND)
        elif self.has_sent_features:
            self._pass(message)
        else:
            self._wait(message)

    def _withhold(self, message: Message, reason: WithheldReason) -> None:
        self.withheld[f"{message.name}:{reason}"] += 1
        if self.listener is not None:
            self.listener.withheld(message, reason)

    def _wait(self, message: Message) -> None:
        """Withhold a message until the master has the switch's features; drop the oldest for it."""
        reason = WithheldReason.SWITCH_UNKNOWN if self.datapath is None else WithheldReason.BEFORE_FEATURES
        self.withheld[f"{message.name}:{reason}"] += 1
        self._early.append((message, reason))
        self._early_len += len(message.raw) + _EARLY_COST
        while self._early_len > _MAX_EARLY_LEN:
            oldest, why = self._early.popleft()
            self._early_len -= len(oldest.raw) + _EARLY_COST
            if self.listener is not None:
                self.listener.withheld(oldest, why)

    def _pass(self, message: Message) -> None:
        self._queue.put(message.raw)
        self.passed[message.name] += 1
        if self.listener is not None:
            self.listener.passed(message)

    def switch_known(self, now: float) -> Iterator[None]:
        """Answer the questions that waited for the switch's features, one in each step."""
        while self._waiting:
            message = self._waiting.popleft()
            self._waiting_len -= len(message.raw) + _MESSAGE_COST
            if self._queue.answers_len > _MAX_ANSWERS_LEN:
                self._answers.refuse(message, Refusal.EPERM)
            else:
                self._answer(message, now)
            yield

    # The master

    def from_master(self, piece: bytes, now: float) -> Iterator[Message]:
        """Take the master's next bytes, and yield its messages; each is answered before it is yielded.

        Broken where the bytes are not OpenFlow, or the answers need more memory than a session may hold.
        """
        self.settle(now)
        for raw in self._framer.push(piece):
            message = parse(raw)
            self._take_message(message, now)
            yield message

    def _take_message(self, message: Message, now: float) -> None:
        """Count a message of the master, and answer it or let it wait."""
        kind = message.kind
        if kind in ORDERS:
            self.ordered[message.name] += 1
        if kind is Type.HELLO and negotiated(self._hello, message) != self.version:
            raise Broken(EndReason.BAD_VERSION)
        if kind in _CHANGES and self._async_config.role is Role.SLAVE and self.version >= V13:
            self._answers.refuse(message, Refusal.IS_SLAVE)  # 1.3.5 §6.3.5
        elif self.listener is not None:
            self.listener.took(message)
        if kind in _UNANSWERED:
            return
        if kind is Type.ECHO_REQUEST:
            self._answers.answer(message, now)
        elif self._waiting or (kind is Type.FEATURES_REQUEST and self.datapath is None):
            self._waiting.append(message)  # no question is answered before the features, to keep the order
            self._waiting_len += len(message.raw) + _MESSAGE_COST
        else:
            self._answer(message, now)
        if self._queue.answers_len > _MAX_ANSWERS_LEN or self._waiting_len > _MAX_WAITING_LEN:
            raise Broken(EndReason.MIRROR_ASKS_TOO_MUCH)

    def _answer(self, message: Message, now: float) -> None:
        self._answers.answer(message, now)
        if message.kind is Type.FEATURES_REQUEST and not self.has_sent_features and self._answers.has_features:
            self._features_sent()

    def _features_sent(self) -> None:
        """Pass the messages that waited for the master to get the switch's features."""
        self.has_sent_features = True
        for early, reason in self._early:
            self._pass(early)
            self.withheld[f"{early.name}:{reason}"] -= 1
        self.withheld = +self.withheld  # without zeros
        self._early.clear()
        self._early_len = 0
