"""The answers to a master's questions: those that the switch gave in production when its controller asked the same.

A question whose answer may be under way in production stays open for ANSWER_TIMEOUT; BARRIERs wait behind it. Requests
that production never made, or that would change the switch, are refused. Roles, the asynchronous configuration and
bundles are granted, but only in the session's own state.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from struct import Struct
from typing import NamedTuple, TypeVar

from natmirror.openflow.async_config import AsyncConfig, Role
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.values import BundleControl, RoleRequest, SetAsync
from natmirror.openflow.datapath import CONFIG, FEATURES, NO_MULTIPART, Answer, Key, Ports, multipart_key
from natmirror.openflow.messages import (
    BAD_REQUEST,
    BUNDLE_BAD_TYPE,
    BUNDLE_FAILED,
    HEADER_LEN,
    MORE,
    MULTIPART_HEADER_LEN,
    NICIRA,
    ROLE_BAD,
    ROLE_REQUEST_FAILED,
    ROLE_STALE,
    STATISTICS,
    Message,
    Multipart,
    Refusal,
    Type,
    build,
    error,
    multipart_of,
)
from natmirror.openflow.observer import Observer
from natmirror.openflow.send_queue import SendQueue
from natmirror.openflow.shown import RequestOutcome
from natmirror.openflow.tables.statistics import MALFORMED, MODELLED, Bodies

ECHO_LIMIT = 12.0
"""Seconds without a message of the switch after which the master's ECHO gets no answer: Open vSwitch drops a silent
controller after twice its probe interval of 5 s."""
ANSWER_TIMEOUT = 2.0
"""Seconds that a question stays open while the switch's answer may be under way in production."""
_MAX_OPEN = 16  # open questions
_MAX_BEGUN = 16  # incomplete questions, of which more parts will come; the oldest are forgotten first
_DEFAULT_CONFIG = Struct("!HH").pack(0, 128)  # OFPC_FRAG_NORMAL, OFP_DEFAULT_MISS_SEND_LEN
_N_TABLES_AT = 12  # in a FEATURES_REPLY's body
_NX_ROLE_REQUEST, _NX_ROLE_REPLY = 10, 11
_NX_TLV_TABLE_REQUEST = 25
_NX_ROLES = {0: Role.EQUAL, 1: Role.MASTER, 2: Role.SLAVE}
_BUNDLE_REQUESTS = (0, 2, 4, 6)  # OPEN, CLOSE, COMMIT, DISCARD


StatisticsSource = Callable[[int, bytes, Bodies, int], bool]
"""Asks what the master's own orders have made, after all orders so far: gets a number for the question, the message,
the switch's own table statistics, and its number of tables. Returns False if nothing knows them; else
statistics_answered() follows, or nothing."""
BodyType = TypeVar("BodyType", RoleRequest, SetAsync, BundleControl)


class _Open(NamedTuple):
    """A question that cannot be answered yet, or a BARRIER (without a key) behind one."""

    message: Message
    key: Key | None
    until: float
    number: int = 0
    """By which it was asked elsewhere; 0: the switch's answer may come in production."""


class Answers:
    """The answers to one master. They go into ``queue``, and the role and configuration that the master sets go into
    ``async_config``."""

    def __init__(
        self,
        version: int,
        observer: Observer,
        async_config: AsyncConfig,
        queue: SendQueue,
        *,
        answers_statistics: bool,
    ) -> None:
        self.counts: Counter[RequestOutcome] = Counter()
        """The master's requests, by outcome."""
        self.oldest_answer_seconds = 0.0
        """The age of the oldest statistics that the master got."""
        self.statistics_source: StatisticsSource | None = None
        """Asks for the statistics of the flow tables by the master's own orders."""
        self._version = version
        self._observer = observer
        self._async_config = async_config
        self._queue = queue
        self._answers_statistics = answers_statistics
        self._config: bytes | None = None
        self._open: list[_Open] = []
        self._numbers = count(1)
        self._begun: OrderedDict[tuple[int, int], None] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of open questions."""
        return sum(len(one.message.raw) for one in self._open)

    def settle(self, now: float) -> None:
        """Answer the open questions whose answers have come, and refuse those whose answers will not come."""
        still: list[_Open] = []
        for one in self._open:
            if one.key is None and not still:
                self._reply(one.message, Type.BARRIER_REPLY)
            elif one.key is None or (now < one.until and self._waits(one, one.key, now)):
                still.append(one)
            else:
                self._answer_with(one.message, one.key, now)
        self._open = still

    def _waits(self, one: _Open, key: Key, now: float) -> bool:
        return bool(one.number) or (self._answer_to(key) is None and self._may_come(key, now))

    @property
    def has_features(self) -> bool:
        return self._answer_to(FEATURES) is not None

    def _answer_to(self, key: Key) -> Answer | Ports | None:
        return None if self._observer.datapath is None else self._observer.datapath.answers.get(key)

    def next_deadline(self) -> float | None:
        """Return the deadline of the oldest open question; None where none is open."""
        return self._open[0].until if self._open else None

    def _may_come(self, key: Key, now: float) -> bool:
        """Return whether production may still get the answer: the controller has asked, or its session has just begun.
        Controllers ask the same questions at about the same time, when a switch connects."""
        return now - self._observer.known_at <= ANSWER_TIMEOUT or self._observer.awaits(key)

    def answer(self, message: Message, now: float) -> None:
        """Answer a question, now or once the switch has answered it in production. Refuse a question that a master may
        not ask."""
        handler = _HANDLERS.get(message.kind) if message.kind is not None else None
        if handler is None:
            self.refuse(message, Refusal.BAD_TYPE)
        else:
            handler(self, message, now)

    def _reply(self, message: Message, kind: Type, body: bytes = b"") -> None:
        self._queue.put_answer(build(self._version, kind, message.xid, body), HEADER_LEN + len(body))
        self.counts[RequestOutcome.ANSWERED] += 1

    def refuse(self, message: Message, code: int, kind: int = BAD_REQUEST) -> None:
        """Answer with an ERROR."""
        refusal = error(message, kind, code)
        self._queue.put_answer(refusal, len(refusal))
        self.counts[RequestOutcome.REFUSED] += 1

    def _decode(self, message: Message, kind: type[BodyType]) -> BodyType | None:
        """Return the value of a request; refuse one that is malformed, and return None."""
        try:
            body = decode(message)
        except MalformedBody:
            body = None
        if isinstance(body, kind):
            return body
        self.refuse(message, Refusal.BAD_LEN)
        return None

    def _echo(self, message: Message, now: float) -> None:
        if now - self._observer.heard_at > ECHO_LIMIT:
            self.counts[RequestOutcome.UNANSWERED] += 1  # the switch is silent, so its session is silent too
        else:
            self._reply(message, Type.ECHO_REPLY, message.body)

    def _barrier(self, message: Message, now: float) -> None:
        """Answer when all earlier questions are answered."""
        if self._open and len(self._open) < _MAX_OPEN:
            self._open.append(_Open(message, None, now + ANSWER_TIMEOUT))
        else:
            self._reply(message, Type.BARRIER_REPLY)

    def _features(self, message: Message, now: float) -> None:
        self._answer_with(message, FEATURES, now)

    def _get_config(self, message: Message, now: float) -> None:
        known = self._observer.datapath and self._observer.datapath.answers.get(CONFIG)
        config = self._config or (known.bodies[0][:4] if known else b"")
        self._reply(message, Type.GET_CONFIG_REPLY, config if len(config) == 4 else _DEFAULT_CONFIG)

    def _set_config(self, message: Message, now: float) -> None:
        if len(message.body) < 4:
            return self.refuse(message, Refusal.BAD_LEN)
        self._config = message.body[:4]
        return None

    def _ask_multipart(self, message: Message, now: float) -> None:
        try:
            kind, flags, body = multipart_of(message)
        except ValueError:
            self.refuse(message, Refusal.BAD_LEN)
            return
        question_id = (message.xid, kind)
        is_continuation = question_id in self._begun
        self._begun.pop(question_id, None)
        if flags & MORE:
            self._begun[question_id] = None
            if len(self._begun) > _MAX_BEGUN:
                self._begun.popitem(last=False)
        elif kind == Multipart.TABLE_FEATURES and (body or is_continuation):
            self.refuse(message, Refusal.EPERM)  # it would change the tables
        elif is_continuation:
            self.refuse(message, Refusal.BAD_MULTIPART)  # no other request has several parts
        elif kind in STATISTICS and not self._answers_statistics:
            self.refuse(message, Refusal.EPERM)
        else:
            key = multipart_key(self._version, kind, body)
            if kind not in MODELLED or not self._ask_elsewhere(message, key, now):
                self._answer_or_wait(message, key, now)

    def _ask_elsewhere(self, message: Message, key: Key, now: float) -> bool:
        """Ask what the master's own orders have made; return False if nothing knows that."""
        if self.statistics_source is None or len(self._open) >= _MAX_OPEN:
            return False
        known, features, number = self._answer_to(key), self._answer_to(FEATURES), next(self._numbers)
        n_tables = features.bodies[0][_N_TABLES_AT] if features is not None else 0
        if not self.statistics_source(number, message.raw, known.bodies if known else (), n_tables):
            return False
        self._open.append(_Open(message, key, now + ANSWER_TIMEOUT, number))
        return True

    def statistics_answered(self, number: int, bodies: Bodies | None, now: float) -> None:
        """Answer the question with this number, unless its time is over; as in production where ``bodies`` is None,
        and by a refusal where they are MALFORMED."""
        found = next((one for one in self._open if one.number == number), None)
        if found is None or found.key is None:
            return
        if bodies is None:
            self._open[self._open.index(found)] = found._replace(number=0)
        else:
            self._open.remove(found)
            if bodies == MALFORMED:
                self.refuse(found.message, Refusal.BAD_LEN)
            else:
                self._reply_in_parts(found.message, multipart_of(found.message)[0], bodies)
        self.settle(now)

    def _ask_queues(self, message: Message, now: float) -> None:
        self._answer_or_wait(message, (Type.QUEUE_GET_CONFIG_REPLY, NO_MULTIPART, message.body), now)

    def _answer_or_wait(self, message: Message, key: Key, now: float) -> None:
        """Answer, or let the question wait. Later questions do not wait for it, but BARRIERs do."""
        if self._answer_to(key) is None and len(self._open) < _MAX_OPEN and self._may_come(key, now):
            self._open.append(_Open(message, key, now + ANSWER_TIMEOUT))
        else:
            self._answer_with(message, key, now)

    def _answer_with(self, message: Message, key: Key, now: float) -> None:
        """Answer as the switch did when its controller asked the same; refuse if it did not ask."""
        answer = self._answer_to(key)
        if answer is None:
            self.refuse(message, Refusal.BAD_TYPE if key[1] == NO_MULTIPART else Refusal.BAD_MULTIPART)
            return
        if key[0] is not Type.MULTIPART_REPLY:
            self._reply(message, key[0], answer.bodies[0])
            return
        if key[1] in STATISTICS:
            self.oldest_answer_seconds = max(self.oldest_answer_seconds, now - answer.at)
        self._reply_in_parts(message, key[1], answer.bodies)

    def _reply_in_parts(self, message: Message, kind: int, bodies: tuple[bytes, ...]) -> None:
        length = sum(map(len, bodies)) + len(bodies) * (HEADER_LEN + MULTIPART_HEADER_LEN.get(self._version, 8))
        self._queue.put_answer(_parts(self._version, message.xid, kind, bodies), length)
        self.counts[RequestOutcome.ANSWERED] += 1

    def _ask_role(self, message: Message, now: float) -> None:
        request = self._decode(message, RoleRequest)
        if request is None:
            return None
        try:
            is_granted = self._async_config.request_role(request.role, request.generation_id)
        except ValueError:
            return self.refuse(message, ROLE_BAD, ROLE_REQUEST_FAILED)
        if not is_granted:
            return self.refuse(message, ROLE_STALE, ROLE_REQUEST_FAILED)
        generation = self._async_config.generation_id
        body = Struct("!I4xQ").pack(self._async_config.role, (1 << 64) - 1 if generation is None else generation)
        return self._reply(message, Type.ROLE_REPLY, body)

    def _get_async(self, message: Message, now: float) -> None:
        self._reply(message, Type.GET_ASYNC_REPLY, self._async_config.get_async(self._version))

    def _set_async(self, message: Message, now: float) -> None:
        if (wanted := self._decode(message, SetAsync)) is not None:
            self._async_config.set_async(wanted)

    def _bundle(self, message: Message, now: float) -> None:
        """Grant to open, close, commit or discard a bundle, without any effect (1.4.1 §7.3.9): an answer's type is its
        request's plus one."""
        request = self._decode(message, BundleControl)
        if request is None:
            return None
        if request.kind not in _BUNDLE_REQUESTS:
            return self.refuse(message, BUNDLE_BAD_TYPE, BUNDLE_FAILED)
        answer = Struct("!IHH").pack(request.bundle_id, request.kind + 1, request.flags)
        return self._reply(message, Type.BUNDLE_CONTROL, answer)

    def _experimenter(self, message: Message, now: float) -> None:
        """Answer role requests, which are an extension in 1.0. Refuse TLV table requests, and other experimenters; the
        rest of Open vSwitch's extensions ask for no answer."""
        if len(message.body) < 8:
            return self.refuse(message, Refusal.BAD_LEN)
        experimenter, subtype = Struct("!II").unpack_from(message.body)
        if experimenter != NICIRA:
            return self.refuse(message, Refusal.BAD_EXPERIMENTER)
        if subtype == _NX_TLV_TABLE_REQUEST:
            return self.refuse(message, Refusal.BAD_EXPERIMENTER)
        if subtype != _NX_ROLE_REQUEST:
            return None
        if len(message.body) < 12:
            return self.refuse(message, Refusal.BAD_LEN)
        number = Struct("!I").unpack_from(message.body, 8)[0]
        if number not in _NX_ROLES:
            return self.refuse(message, Refusal.EPERM)
        self._async_config.role = _NX_ROLES[number]
        return self._reply(message, Type.EXPERIMENTER, Struct("!III").pack(NICIRA, _NX_ROLE_REPLY, number))


def _parts(version: int, xid: int, kind: int, bodies: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield a multipart answer in the same number of messages in which the switch sent it."""
    padding = bytes(MULTIPART_HEADER_LEN.get(version, 8) - 4)
    last = len(bodies) - 1
    for index, body in enumerate(bodies):
        head = Struct("!HH").pack(kind, MORE if index < last else 0) + padding
        yield build(version, Type.MULTIPART_REPLY, xid, head + body)


_HANDLERS: dict[Type, Callable[[Answers, Message, float], None]] = {
    Type.ECHO_REQUEST: Answers._echo,
    Type.BARRIER_REQUEST: Answers._barrier,
    Type.FEATURES_REQUEST: Answers._features,
    Type.GET_CONFIG_REQUEST: Answers._get_config,
    Type.SET_CONFIG: Answers._set_config,
    Type.MULTIPART_REQUEST: Answers._ask_multipart,
    Type.QUEUE_GET_CONFIG_REQUEST: Answers._ask_queues,
    Type.ROLE_REQUEST: Answers._ask_role,
    Type.GET_ASYNC_REQUEST: Answers._get_async,
    Type.SET_ASYNC: Answers._set_async,
    Type.BUNDLE_CONTROL: Answers._bundle,
    Type.EXPERIMENTER: Answers._experimenter,
}
ANSWERED = frozenset(_HANDLERS)
"""The types of messages to which a master gets an answer."""
