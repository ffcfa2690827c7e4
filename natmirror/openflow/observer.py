"""Observes a production connection: the messages of a switch and its controller. Their packets do not change.

An Observer distinguishes the switch's asynchronous messages from answers to its controller. It enters the answers into
the directory, for masters that ask the same, and knows when the switch last sent something.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from struct import Struct

from natmirror.openflow.datapath import CONFIG, FEATURES, NO_MULTIPART, Datapath, Key, multipart_key
from natmirror.openflow.directory import Directory
from natmirror.openflow.framer import Broken, Framer
from natmirror.openflow.messages import (
    HEADER_LEN,
    MORE,
    NICIRA,
    VERSIONS,
    Message,
    Multipart,
    Type,
    datapath_of,
    multipart_of,
    negotiated,
    parse,
)
from natmirror.reasons import EndReason, NotKeptReason

_MAX_SKIPPED_LEN = 16 << 20  # bytes of a picked up connection without a recognised message
_TLS_RECORDS = (b"\x16\x03", b"\x17\x03")  # RFC 8446 §5.1: handshake, application data
_MAX_PENDING = 1024  # questions without an answer; the oldest are forgotten first
_MAX_QUESTION_LEN = 1024  # bytes of a question's body: the answer to a longer one is not kept
_MAX_PARTS_LEN = 2 << 20  # bytes of multipart answers that are still incomplete
_MAX_PARTS = 1024
"""Messages of one answer. Open vSwitch sends the features of its 254 tables in one message each."""
_PART_COST = 50  # bytes that Python needs for a part besides its body
_QUESTION_COST = 1000  # for an open question besides its body
_EXPERIMENT_COST = 150  # for the id of an EXPERIMENTER

_QuestionId = tuple[int, Type, int]
"""The fields by which an answer belongs to its question: transaction id, the answer's type, the multipart type."""

_KEPT = frozenset((Type.FEATURES_REPLY, Type.GET_CONFIG_REPLY, Type.QUEUE_GET_CONFIG_REPLY))
"""Answers of one message that are kept."""
_ASYNCHRONOUS = frozenset(
    (
        Type.PACKET_IN,
        Type.FLOW_REMOVED,
        Type.PORT_STATUS,
        Type.ROLE_STATUS,
        Type.TABLE_STATUS,
        Type.REQUESTFORWARD,
        Type.CONTROLLER_STATUS,
        Type.ECHO_REQUEST,
    )
)
"""Asynchronous messages (§6.1.2 of 1.3.5, 1.4.1 and 1.5.1), and the switch's ECHO_REQUEST, as a sign of life."""
_NICIRA_ASYNCHRONOUS = {Struct("!II").pack(NICIRA, subtype) for subtype in (14, 17, 30)}
"""NXT_FLOW_REMOVED, NXT_PACKET_IN and NXT_PACKET_IN2."""


class MessageClass(Enum):
    """The occasion on which a switch sends a message."""

    ASYNCHRONOUS = auto()
    """The switch sends it on its own."""
    ANSWER = auto()
    """It answers the controller's question."""
    HANDSHAKE = auto()
    """It is a HELLO."""


def key_of(message: Message) -> Key | None:
    """Return the key of a request's answer; None where answers are not kept. ValueError where it is too short."""
    match message.kind:
        case Type.FEATURES_REQUEST:
            return FEATURES
        case Type.GET_CONFIG_REQUEST:
            return CONFIG
        case Type.QUEUE_GET_CONFIG_REQUEST:
            return Type.QUEUE_GET_CONFIG_REPLY, NO_MULTIPART, message.body
        case Type.MULTIPART_REQUEST:
            kind, _, body = multipart_of(message)
            return multipart_key(message.version, kind, body)
    return None


@dataclass(slots=True, eq=False)
class _Question:
    """A question of the controller, with the parts of the answer so far. Without a key the answer is not kept."""

    key: Key | None
    asked: Key | None
    """The key at first, which counts in ``_awaited``."""
    parts: list[bytes] = field(default_factory=list)
    held: int = 0

    @property
    def asked_len(self) -> int:
        """Bytes of the question's body."""
        return 0 if self.asked is None else len(self.asked[2])


class Observer:
    """The observer of one production connection of a switch. Both ``from_`` methods raise Broken if the rest of the
    connection cannot be read.

    ``connection`` is its name in the directory. ``is_picked_up``: the connection was picked up, so that its streams may
    begin within a message.
    """

    def __init__(self, directory: Directory, connection: str, *, is_picked_up: bool = False) -> None:
        self.version: int | None = None
        """The version that both HELLOs agree on; without HELLOs, that of the first message."""
        self.datapath: Datapath | None = None
        """The switch, once it has sent its features."""
        self.heard_at = float("-inf")
        """The time when the switch last sent something, in seconds."""
        self.known_at = float("-inf")
        """The time when it first sent its features on this connection, in seconds."""
        self.questions = 0
        """The number of the controller's open questions."""
        self._directory = directory
        self._connection = connection
        self._switch = Framer(is_picked_up=is_picked_up)
        self._controller = Framer(is_picked_up=is_picked_up)
        self._hellos: dict[Framer, Message] = {}
        # Questions with the same id are answered in their order
        self._pending: OrderedDict[_QuestionId, deque[_Question]] = OrderedDict()
        self._awaited: Counter[Key | None] = Counter()
        self._parts_held = self._asked_len = 0
        self._begun: _QuestionId | None = None  # the controller's question with more parts to come
        self._experiments: OrderedDict[int, None] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of incomplete messages, of the first HELLO, open questions and incomplete answers."""
        return (
            self._switch.held
            + self._controller.held
            + sum(len(hello.raw) for hello in self._hellos.values())
            + self._parts_held
            + self._asked_len
            + _QUESTION_COST * self.questions
            + _EXPERIMENT_COST * len(self._experiments)
        )

    def from_controller(self, piece: bytes) -> Iterator[Message]:
        """Take the controller's next bytes, and yield the messages that are complete now."""
        for raw in self._controller.push(piece):
            message = parse(raw)
            if message.version != self.version:
                self._learn_version(self._controller, message)
            if message.kind is Type.EXPERIMENTER:
                self._experiments[message.xid] = None
                if len(self._experiments) > _MAX_PENDING:
                    self._experiments.popitem(last=False)
            else:
                self._take_question(message)
            yield message

    def from_switch(self, piece: bytes, now: float) -> Iterator[tuple[MessageClass, Message]]:
        """Take the switch's next bytes, and yield the messages that are complete now, with their classes."""
        self.heard_at = now
        if self._switch.seeks_start and self._switch.skipped_bytes > _MAX_SKIPPED_LEN:
            raise Broken(EndReason.NO_MESSAGE_FOUND)
        if self._switch.seeks_start and piece[:2] in _TLS_RECORDS:
            raise Broken(EndReason.TLS)
        for raw in self._switch.push(piece):
            message = parse(raw)
            if message.version != self.version:
                self._learn_version(self._switch, message)
            yield self._classify(message, now), message

    def note_gap(self, *, of_switch: bool) -> None:
        """Note that bytes of one end are missing here: forget the open questions, whose answers may be among them."""
        (self._switch if of_switch else self._controller).note_gap()
        self._forget_questions()

    def stop(self) -> None:
        """Forget all messages and questions: no session follows any more."""
        for framer in (self._switch, self._controller):
            framer.note_gap()
        self._hellos.clear()
        self._experiments.clear()
        self._forget_questions()

    def give_up(self) -> None:
        """Forget the open questions and their incomplete answers, because their memory is needed."""
        if self.questions:
            self._directory.count_not_kept(NotKeptReason.NO_MEMORY)
        self._forget_questions()
        self._experiments.clear()

    def _forget_questions(self) -> None:
        self._pending.clear()
        self._awaited.clear()
        self._begun = None
        self.questions = self._parts_held = self._asked_len = 0

    def awaits(self, key: Key) -> bool:
        """Return whether the controller has asked for this and the switch has not answered yet."""
        return self._awaited[key] > 0

    def restore(self, datapath: Datapath) -> None:
        """Set the switch of a picked up connection, as the directory knows it."""
        self.datapath = datapath

    def _learn_version(self, framer: Framer, message: Message) -> None:
        """Set the version, from both HELLOs or from the first message of a picked up connection.

        Broken where it changes later.
        """
        if self.version is not None:
            if message.kind is not Type.HELLO and message.kind is not Type.ERROR:
                raise Broken(EndReason.BAD_VERSION)  # it came in one piece with the HELLO
            return
        if message.kind is Type.HELLO:
            self._hellos.setdefault(framer, message)
            if len(self._hellos) < 2:
                return
            version = negotiated(*self._hellos.values())
        elif framer.version is not None:
            version = framer.version
        else:
            return
        if version not in VERSIONS:
            raise Broken(EndReason.BAD_VERSION)
        self.version = self._switch.version = self._controller.version = version
        self._hellos.clear()
        if self.datapath is not None and self.datapath.version != version:
            self.datapath = None

    def _classify(self, message: Message, now: float) -> MessageClass:
        kind = message.kind
        if kind in _ASYNCHRONOUS:
            if kind is Type.PORT_STATUS and self.datapath is not None:
                self._directory.port_changed(self.datapath, message, now)
            return MessageClass.ASYNCHRONOUS
        if kind is Type.HELLO:
            return MessageClass.HANDSHAKE
        if kind is Type.EXPERIMENTER:
            return self._classify_experiment(message)
        if kind is Type.MULTIPART_REPLY:
            self._take_part(message, now)
        elif kind is Type.ERROR:
            self._take_error(message)
        elif kind in _KEPT:
            self._take_answer(self._question_of(message.xid, kind), message.body, now, is_last=True)
        return MessageClass.ANSWER

    def _classify_experiment(self, message: Message) -> MessageClass:
        """Classify an EXPERIMENTER. Nicira's PACKET_INs are asynchronous, with ids that controllers use as well."""
        if message.raw[HEADER_LEN : HEADER_LEN + 8] in _NICIRA_ASYNCHRONOUS or message.xid not in self._experiments:
            return MessageClass.ASYNCHRONOUS
        del self._experiments[message.xid]
        return MessageClass.ANSWER

    # Questions and answers

    def _take_question(self, message: Message) -> None:
        try:
            key = key_of(message)
            is_continued = message.kind is Type.MULTIPART_REQUEST and bool(multipart_of(message)[1] & MORE)
        except ValueError:
            return
        if key is None:
            return
        question_id = (message.xid, *key[:2])
        is_continuation, self._begun = question_id == self._begun, question_id if is_continued else None
        if is_continued:
            return
        is_kept = not is_continuation and len(key[2]) <= _MAX_QUESTION_LEN and key[1] != Multipart.FLOW_MONITOR
        kept = key if is_kept else None
        question = _Question(kept, kept)
        self._pending.setdefault(question_id, deque()).append(question)
        self._awaited[question.asked] += 1
        self._asked_len += question.asked_len
        self.questions += 1
        if self.questions > _MAX_PENDING:
            self._directory.count_not_kept(NotKeptReason.TOO_MANY_QUESTIONS)
            self._close(next(iter(self._pending)))

    def _question_of(self, xid: int, kind: Type) -> _QuestionId:
        """Return the question that an answer of one message belongs to.

        Features belong to the only open question for them, whatever their transaction id: CPqD's ofsoftswitch13 sends
        another one on its first connection.
        """
        question_id = (xid, kind, NO_MULTIPART)
        if kind is Type.FEATURES_REPLY and question_id not in self._pending and self._awaited[FEATURES] == 1:
            return next(one for one in self._pending if one[1] is kind)
        return question_id

    def _close(self, question_id: _QuestionId) -> _Question:
        """Remove and return the oldest pending question with this id."""
        alike = self._pending[question_id]
        question = alike.popleft()
        if not alike:
            del self._pending[question_id]
        self._awaited[question.asked] -= 1
        if not self._awaited[question.asked]:
            del self._awaited[question.asked]
        self.questions -= 1
        self._asked_len -= question.asked_len
        self._parts_held -= question.held
        return question

    def _take_part(self, message: Message, now: float) -> None:
        """Take a part of a multipart answer, which is complete with its last part."""
        try:
            multipart, flags, body = multipart_of(message)
        except ValueError:
            return
        self._take_answer((message.xid, Type.MULTIPART_REPLY, multipart), body, now, is_last=not flags & MORE)

    def _take_answer(self, question_id: _QuestionId, body: bytes, now: float, *, is_last: bool) -> None:
        if question_id not in self._pending:
            self._directory.count_not_kept(NotKeptReason.NOT_ASKED)
            return
        question = self._pending[question_id][0]
        cost = len(body) + _PART_COST
        if question.key is not None and (self._parts_held + cost > _MAX_PARTS_LEN or len(question.parts) >= _MAX_PARTS):
            self._directory.count_not_kept(NotKeptReason.TOO_LONG)
            self._parts_held -= question.held
            question.key, question.parts, question.held = None, [], 0
        if question.key is not None:
            question.parts.append(body)
            question.held += cost
            self._parts_held += cost
        if is_last:
            self._close(question_id)
            if question.key is not None:
                self._learn(question.key, tuple(question.parts), now)

    def _take_error(self, message: Message) -> None:
        """Close the question that an ERROR refuses: the ERROR has the beginning of the question (1.3.5 §7.5.4)."""
        data = message.body[4:]
        if len(data) < HEADER_LEN or data[0] not in VERSIONS:
            return
        try:
            key = key_of(parse(data))
        except ValueError:
            return
        if key is not None and (question_id := (message.xid, *key[:2])) in self._pending:
            self._close(question_id)

    def _learn(self, key: Key, bodies: tuple[bytes, ...], now: float) -> None:
        if key == FEATURES and self.version is not None:
            is_first = self.datapath is None
            try:
                ids = datapath_of(self.version, bodies[0])
            except ValueError:
                return
            self.datapath = self._directory.enter(self._connection, *ids, self.version)
            if is_first:
                self.known_at = now
        if self.datapath is not None:
            self._directory.learn(self.datapath, key, bodies, now)
