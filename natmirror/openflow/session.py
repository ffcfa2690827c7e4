"""An OpenFlow session with one master, in which natmirror plays the switch by what it sees in production.

The master gets what the switch sends by itself, and answers with its own transaction ids to whatever it asks
(answers.py); what it orders is counted, and changes nothing: no message of a master's reaches the switch. Bytes of the
master's go in, bytes for it come out of take(); messages are whole.

A session passes two events, in this order: the switch tells production who it is (until then a master's questions
wait, but ECHOs), and the master hears it from us, upon its FEATURES_REQUEST (until then the switch's messages wait).
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from natmirror.openflow.answers import ANSWERED, Answers
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
from natmirror.reasons import EndReason, WithheldReason

_MAX_EARLY_LEN = 128 << 10  # bytes of the switch's messages that wait until the master knows the switch
_MAX_WAITING_LEN = 256 << 10  # bytes of questions that wait until the switch's features are known
_MESSAGE_COST = 250  # bytes that Python's own bookkeeping takes for a message
_MAX_ANSWERS_LEN = 16 << 20  # bytes of answers that have not been sent; the largest answers that were seen have 1.2 MB

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
"""What would change the switch."""
_CHANGES = ORDERS - ANSWERED
_UNANSWERED = _CHANGES | {Type.HELLO, Type.ERROR, Type.ECHO_REPLY}


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Which of a switch's messages a master gets."""

    passes_unsolicited: bool = False
    """Answers that only production has asked for, too."""
    tells_statistics: bool = True
    """Statistics as they were seen last; else they are refused."""


class SwitchSession:
    """The switch's end of one session with a master.

    ``observer`` follows the production connection whose switch is played. Its version is known: both HELLOs were seen,
    or the connection was picked up and its switch is known from before. ValueError where it is not.
    """

    def __init__(self, observer: Observer, policy: SessionPolicy) -> None:
        if observer.version is None:
            raise ValueError("a session before the version is known")
        self.version = observer.version
        self.passed: Counter[str] = Counter()
        """Messages of the switch that the master got, by type."""
        self.withheld: Counter[str] = Counter()
        """Those that it did not get, by type and reason."""
        self.ordered: Counter[str] = Counter()
        """The master's orders, by type."""
        self.has_sent_features = False
        """Whether the master has got the switch's features."""
        self._observer = observer
        self._policy = policy
        self._framer = Framer()
        self._async_config = AsyncConfig()
        self._early: deque[Message] = deque()
        self._early_len = 0
        self._waiting: deque[Message] = deque()
        self._waiting_len = 0
        self._hello = parse(hello(self.version, 1))
        self._queue = SendQueue()
        self._queue.put(self._hello.raw)
        self._answers = Answers(
            self.version, observer, self._async_config, self._queue, tells_statistics=policy.tells_statistics
        )
        self.asked = self._answers.counts
        """The master's questions, by what became of them."""
        self._framer.version = self.version

    @property
    def unsent_len(self) -> int:
        """Bytes that wait for take()."""
        return self._queue.unsent_len

    def take(self, most: int | None = None) -> bytes:
        """Return what is to be sent to the master since the last call: whole messages, as many as have about ``most``
        bytes, all by default."""
        return self._queue.take(most)

    def settle(self, now: float) -> None:
        """Answer the open questions whose answers have come, and refuse those whose answers will not come."""
        self._answers.settle(now)

    def next_settling(self) -> float | None:
        """Return when the question that has been open longest will not wait any more; None where none is open."""
        return self._answers.next_settling()

    @property
    def held(self) -> int:
        """Bytes held of messages that cannot be passed or answered yet."""
        return self._framer.held + self._early_len + self._waiting_len + self._answers.held

    @property
    def datapath(self) -> Datapath | None:
        """The switch, once it is known."""
        return self._observer.datapath

    def counters(self) -> SessionCounters:
        """Return all that is counted."""
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
            "datapath_id": None if self.datapath is None else self.datapath.datapath_id,
            "role": self._async_config.role.name.lower(),
            "features_sent": self.has_sent_features,
            "oldest_statistics_seconds": round(self._answers.oldest_answer_seconds, 3),
            **self.counters(),
        }

    # The switch

    def from_switch(self, message_class: MessageClass, message: Message, *, has_room: bool) -> None:
        """Take a message of the switch's. Without ``has_room``, the master is far behind: PACKET_INs are left out."""
        if message_class is MessageClass.OPENING or message.kind is None or message.version != self.version:
            return
        if message_class is MessageClass.ANSWER and not self._policy.passes_unsolicited:
            return
        if not self._async_config.wants(message):
            self.withheld[f"{message.name}:{WithheldReason.NOT_WANTED}"] += 1
        elif not has_room and message.kind is Type.PACKET_IN:
            self.withheld[f"{message.name}:{WithheldReason.MASTER_BEHIND}"] += 1
        elif self.has_sent_features:
            self._pass(message)
        else:
            self._wait(message)

    def _wait(self, message: Message) -> None:
        """Keep a message until the master knows whose it is; the oldest give way."""
        self._early.append(message)
        self._early_len += len(message.raw) + _MESSAGE_COST
        while self._early_len > _MAX_EARLY_LEN:
            message = self._early.popleft()
            self._early_len -= len(message.raw) + _MESSAGE_COST
            self.withheld[f"{message.name}:{WithheldReason.BEFORE_FEATURES}"] += 1

    def _pass(self, message: Message) -> None:
        self._queue.put(message.raw)
        self.passed[message.name] += 1

    def switch_known(self, now: float) -> Iterator[None]:
        """Answer what has waited for the switch's features, which are known now: a question in each step."""
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
        """Take the next bytes of the master's, and yield its messages, each answered as it is yielded.

        Broken where they are no OpenFlow, or ask for more than can be held.
        """
        self.settle(now)
        for raw in self._framer.push(piece):
            message = parse(raw)
            self._hear(message, now)
            yield message

    def _hear(self, message: Message, now: float) -> None:
        """Count a message of the master's, and answer it or let it wait."""
        kind = message.kind
        if kind in ORDERS:
            self.ordered[message.name] += 1
        if kind is Type.HELLO and negotiated(self._hello, message) != self.version:
            raise Broken(EndReason.BAD_VERSION)
        if kind in _CHANGES and self._async_config.role is Role.SLAVE and self.version >= V13:
            self._answers.refuse(message, Refusal.IS_SLAVE)  # 1.3.5 §6.3.5
        if kind in _UNANSWERED:
            return
        if kind is Type.ECHO_REQUEST:
            self._answers.answer(message, now)
        elif self._waiting or (kind is Type.FEATURES_REQUEST and self.datapath is None):
            self._waiting.append(message)  # in order: nothing is answered before the features
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
        """Pass what has waited until the master knows the switch."""
        self.has_sent_features = True
        for early in self._early:
            self._pass(early)
        self._early.clear()
        self._early_len = 0
