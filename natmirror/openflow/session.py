"""A session with one master: the switch's part of it is played here, from what production has shown.

The master gets what the switch says by itself, and answers with its own transaction ids to whatever it asks; what it
orders is granted on paper, and counted. Nothing of it reaches the switch. Bytes of the master's go in, bytes for it
come out of take(); messages are whole.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from natmirror.openflow.async_config import AsyncConfig, Role
from natmirror.openflow.datapath import CONFIG, FEATURES, NO_MULTIPART, Answer, Datapath, Key, Ports, multipart_key
from natmirror.openflow.framer import Broken, Framer
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
    V13,
    VERSIONS,
    Message,
    Multipart,
    Refusal,
    Type,
    build,
    error,
    hello,
    multipart_of,
    negotiated,
    parse,
)
from natmirror.openflow.observer import MessageClass, Observer

ECHO_LIMIT = 12.0
"""Seconds since the switch was heard after which the master's ECHO is left unanswered: Open vSwitch gives up a silent
controller after twice its probe interval, 10 s."""
PATIENCE = 2.0
"""Seconds that a question is kept open where the switch's answer to it may be under way in production."""
_MAX_OPEN = 16  # questions that are kept open
_MAX_EARLY_LEN = 128 << 10  # bytes that wait until the master knows whom it is talking to
_MAX_WAITING_LEN = 256 << 10  # bytes of questions that wait until the switch has told who it is
_MESSAGE_COST = 250  # bytes that Python's own bookkeeping takes for a message
_MAX_ANSWERS_LEN = 16 << 20  # bytes of answers that nobody has taken; the largest answers that were seen have 1.2 MB
_DEFAULT_CONFIG = Struct("!HH").pack(0, 128)  # OFPC_FRAG_NORMAL, OFP_DEFAULT_MISS_SEND_LEN
_NX_ROLE_REQUEST, _NX_ROLE_REPLY = 10, 11
_NX_TLV_TABLE_REQUEST = 25
_NX_ROLES = {0: Role.EQUAL, 1: Role.MASTER, 2: Role.SLAVE}
_BUNDLE_REQUESTS = (0, 2, 4, 6)  # OPEN, CLOSE, COMMIT, DISCARD
_MAX_BEGUN = 16  # questions of a master's of which more parts are to come; the oldest are forgotten first

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


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What of the switch's a master is told."""

    passes_unsolicited: bool = False
    """Answers that only production has asked for, too."""
    tells_statistics: bool = True
    """Statistics as they were seen last; else they are refused."""


class Session:
    """One master's. ``production`` is the connection that it is told of, whose HELLOs were both seen, or which was met
    in its middle and whose switch is known."""

    def __init__(self, production: Observer, manners: SessionPolicy) -> None:
        if production.version is None:
            raise ValueError("a session before the version is known")
        self.version = production.version
        self.passed: Counter[str] = Counter()
        """The switch's own messages that the master got, by type."""
        self.withheld: Counter[str] = Counter()
        """Those that it did not get, by type and the reason why."""
        self.asked: Counter[str] = Counter()
        """Its questions, by what became of them: ``answered``, ``refused``, ``unheard``."""
        self.ordered: Counter[str] = Counter()
        """What it ordered, by type."""
        self.is_introduced = False
        """Whether the master knows the switch."""
        self.oldest_answer_seconds = 0.0
        """The age of the oldest statistics that it was told."""
        self._production = production
        self._manners = manners
        self._framer = Framer()
        self._wishes = AsyncConfig()
        self._config: bytes | None = None
        self._early: deque[Message] = deque()
        self._early_len = 0
        self._waiting: deque[Message] = deque()
        self._waiting_len = 0
        self._open: list[tuple[Message, Key | None, float]] = []
        """Questions that cannot be answered yet, and BARRIERs, which have no key, behind them; until when they wait."""
        self._begun: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._answers_len = 0
        self._hello = parse(hello(self.version, 1))
        self._out: deque[bytes | Iterator[bytes]] = deque((self._hello.raw,))
        self.unsaid_len = len(self._hello.raw)
        """Bytes that wait for take()."""
        self._framer.version = self.version

    def take(self, most: int | None = None) -> bytes:
        """What is to be sent to the master since the last call: whole messages, as many as have about ``most`` bytes,
        all by default. Long answers are put together only here."""
        taken: list[bytes] = []
        length = 0
        while self._out and (most is None or length < most):
            first = self._out[0]
            raw = first if isinstance(first, bytes) else next(first, b"")
            if first is raw or not raw:
                self._out.popleft()
            taken.append(raw)
            length += len(raw)
        self.unsaid_len -= length
        if not self.unsaid_len:
            self._out.clear()
            self._answers_len = 0
        return b"".join(taken)

    @property
    def held(self) -> int:
        """Bytes held of what cannot be said or answered yet."""
        return self._framer.held + self._early_len + self._waiting_len + sum(len(one.raw) for one, *_ in self._open)

    @property
    def datapath(self) -> Datapath | None:
        """The switch, once it is known."""
        return self._production.datapath

    def counters(self) -> dict[str, Counter[str]]:
        """All that is counted, by name."""
        return {"passed": self.passed, "withheld": self.withheld, "asked": self.asked, "ordered": self.ordered}

    def shown(self) -> dict[str, Any]:
        """What has been said, as plain values."""
        return {
            "version": VERSIONS[self.version],
            "datapath_id": None if self.datapath is None else self.datapath.datapath_id,
            "role": self._wishes.role.name.lower(),
            "introduced": self.is_introduced,
            "oldest_answer_seconds": round(self.oldest_answer_seconds, 3),
            **{name: dict(counter) for name, counter in self.counters().items()},
        }

    # The switch

    def from_switch(self, said: MessageClass, message: Message, *, has_room: bool) -> None:
        """A message of the switch's. Where the master is far behind and there is no room, PACKET_INs are left out."""
        if said is MessageClass.OPENING or message.kind is None or message.version != self.version:
            return
        if said is MessageClass.ANSWER and not self._manners.passes_unsolicited:
            return
        if not self._wishes.wants(message):
            self.withheld[f"{message.name}:unwanted"] += 1
        elif not has_room and message.kind is Type.PACKET_IN:
            self.withheld[f"{message.name}:behind"] += 1
        elif self.is_introduced:
            self._pass(message)
        else:
            self._wait(message)

    def _wait(self, message: Message) -> None:
        """The master does not know yet whose message this is."""
        self._early.append(message)
        self._early_len += len(message.raw) + _MESSAGE_COST
        while self._early_len > _MAX_EARLY_LEN:
            message = self._early.popleft()
            self._early_len -= len(message.raw) + _MESSAGE_COST
            self.withheld[f"{message.name}:early"] += 1

    def _pass(self, message: Message) -> None:
        self._out.append(message.raw)
        self.unsaid_len += len(message.raw)
        self.passed[message.name] += 1

    def switch_known(self, now: float) -> Iterator[None]:
        """The switch has told its features: who asked for them before gets them now, and all that waited behind; a
        question in each step."""
        while self._waiting:
            message = self._waiting.popleft()
            self._waiting_len -= len(message.raw) + _MESSAGE_COST
            if self._answers_len > _MAX_ANSWERS_LEN:
                self._refuse(message, Refusal.EPERM)
            else:
                self._answer(message, now)
            yield

    # The master

    def from_master(self, piece: bytes, now: float) -> Iterator[Message]:
        """The next of what the master has sent: gives its messages, each answered when it is asked for. Broken where it
        is no OpenFlow, or asks for more than can be held."""
        self.settle(now)
        for raw in self._framer.push(piece):
            message = parse(raw)
            self._hear(message, now)
            yield message

    def _hear(self, message: Message, now: float) -> None:
        """A message of the master's."""
        kind = message.kind
        if kind in ORDERS:
            self.ordered[message.name] += 1
        if kind is Type.HELLO and negotiated(self._hello, message) != self.version:
            raise Broken("of-version")
        if kind in _CHANGES and self._wishes.role is Role.SLAVE and self.version >= V13:
            self._refuse(message, Refusal.IS_SLAVE)  # 1.3.5 §6.3.5
        if kind in _UNANSWERED:
            return
        if kind is Type.ECHO_REQUEST:
            self._echo(message, now)
        elif self._waiting or (kind is Type.FEATURES_REQUEST and self.datapath is None):
            self._waiting.append(message)  # in order: nothing is said before the introduction
            self._waiting_len += len(message.raw) + _MESSAGE_COST
        else:
            self._answer(message, now)
        if self._answers_len > _MAX_ANSWERS_LEN or self._waiting_len > _MAX_WAITING_LEN:
            raise Broken("too-much-asked")

    def settle(self, now: float) -> None:
        """Answer the open questions whose answers have come, and refuse those whose answers will not come."""
        still: list[tuple[Message, Key | None, float]] = []
        for message, key, until in self._open:
            if key is None and not still:
                self._reply(message, Type.BARRIER_REPLY)
            elif key is None or (self._known(key) is None and now < until and self._may_come(key, now)):
                still.append((message, key, until))
            else:
                self._tell(message, key, now)
        self._open = still

    def _known(self, key: Key) -> Answer | Ports | None:
        return None if self.datapath is None else self.datapath.answers.get(key)

    def next_settling(self) -> float | None:
        """When the question that has been open longest will not wait any more; None where none is open."""
        return self._open[0][2] if self._open else None

    def _may_come(self, key: Key, now: float) -> bool:
        """Controllers ask the same questions at about the same time: when they meet a switch."""
        return now - self._production.known_at <= PATIENCE or self._production.awaits(key)

    def _answer(self, message: Message, now: float) -> None:
        handler = _HANDLERS.get(message.kind) if message.kind is not None else None
        if handler is None:
            self._refuse(message, Refusal.BAD_TYPE)
        else:
            handler(self, message, now)

    def _say(self, answer: bytes | Iterator[bytes], length: int) -> None:
        self._out.append(answer)
        self.unsaid_len += length
        self._answers_len += length

    def _reply(self, message: Message, kind: Type, body: bytes = b"") -> None:
        self._say(build(self.version, kind, message.xid, body), HEADER_LEN + len(body))
        self.asked["answered"] += 1

    def _refuse(self, message: Message, code: int, kind: int = BAD_REQUEST) -> None:
        refusal = error(message, kind, code)
        self._say(refusal, len(refusal))
        self.asked["refused"] += 1

    def _echo(self, message: Message, now: float) -> None:
        if now - self._production.heard_at > ECHO_LIMIT:
            self.asked["unheard"] += 1  # the switch is silent, and so is its shadow
        else:
            self._reply(message, Type.ECHO_REPLY, message.body)

    def _barrier(self, message: Message, now: float) -> None:
        """It is answered when all that came before it has been."""
        if self._open and len(self._open) < _MAX_OPEN:
            self._open.append((message, None, now + PATIENCE))
        else:
            self._reply(message, Type.BARRIER_REPLY)

    def _features(self, message: Message, now: float) -> None:
        self._tell(message, FEATURES, now)
        if self.datapath is not None and FEATURES in self.datapath.answers and not self.is_introduced:
            self.is_introduced = True
            for early in self._early:
                self._pass(early)
            self._early.clear()
            self._early_len = 0

    def _get_config(self, message: Message, now: float) -> None:
        known = self.datapath and self.datapath.answers.get(CONFIG)
        told = self._config or (known.bodies[0][:4] if known else b"")
        self._reply(message, Type.GET_CONFIG_REPLY, told if len(told) == 4 else _DEFAULT_CONFIG)

    def _set_config(self, message: Message, now: float) -> None:
        if len(message.body) < 4:
            return self._refuse(message, Refusal.BAD_LEN)
        self._config = message.body[:4]
        return None

    def _ask_multipart(self, message: Message, now: float) -> None:
        try:
            kind, flags, body = multipart_of(message)
        except ValueError:
            return self._refuse(message, Refusal.BAD_LEN)
        place = (message.xid, kind)
        is_continuation = place in self._begun
        self._begun.pop(place, None)
        if flags & MORE:
            self._begun[place] = None
            if len(self._begun) > _MAX_BEGUN:
                self._begun.popitem(last=False)
            return None
        if kind == Multipart.TABLE_FEATURES and (body or is_continuation):
            return self._refuse(message, Refusal.EPERM)  # it would change the tables
        if is_continuation:
            return self._refuse(message, Refusal.BAD_MULTIPART)  # nothing else is so long
        if kind in STATISTICS and not self._manners.tells_statistics:
            return self._refuse(message, Refusal.EPERM)
        return self._find_out(message, multipart_key(self.version, kind, body), now)

    def _ask_queues(self, message: Message, now: float) -> None:
        self._find_out(message, (Type.QUEUE_GET_CONFIG_REPLY, NO_MULTIPART, message.body), now)

    def _find_out(self, message: Message, key: Key, now: float) -> None:
        """Only this question waits, and BARRIERs, not what comes behind it."""
        if self._known(key) is None and len(self._open) < _MAX_OPEN and self._may_come(key, now):
            self._open.append((message, key, now + PATIENCE))
        else:
            self._tell(message, key, now)

    def _tell(self, message: Message, key: Key, now: float) -> None:
        """What the switch has told in production when it was asked the same."""
        answer = self._known(key)
        if answer is None:
            self._refuse(message, Refusal.BAD_TYPE if key[1] == NO_MULTIPART else Refusal.BAD_MULTIPART)
            return
        if key[0] is not Type.MULTIPART_REPLY:
            self._reply(message, key[0], answer.bodies[0])
            return
        if key[1] in STATISTICS:
            self.oldest_answer_seconds = max(self.oldest_answer_seconds, now - answer.at)
        bodies = answer.bodies
        length = sum(map(len, bodies)) + len(bodies) * (HEADER_LEN + MULTIPART_HEADER_LEN.get(self.version, 8))
        self._say(_parts(self.version, message.xid, key[1], bodies), length)
        self.asked["answered"] += 1

    def _ask_role(self, message: Message, now: float) -> None:
        if len(message.body) < 16:
            return self._refuse(message, Refusal.BAD_LEN)
        role, generation_id = Struct("!I4xQ").unpack_from(message.body)
        try:
            is_granted = self._wishes.ask_role(role, generation_id)
        except ValueError:
            return self._refuse(message, ROLE_BAD, ROLE_REQUEST_FAILED)
        if not is_granted:
            return self._refuse(message, ROLE_STALE, ROLE_REQUEST_FAILED)
        generation = self._wishes.generation_id
        told = Struct("!I4xQ").pack(self._wishes.role, (1 << 64) - 1 if generation is None else generation)
        return self._reply(message, Type.ROLE_REPLY, told)

    def _get_async(self, message: Message, now: float) -> None:
        self._reply(message, Type.GET_ASYNC_REPLY, self._wishes.get_async(self.version))

    def _set_async(self, message: Message, now: float) -> None:
        try:
            self._wishes.set_async(self.version, message.body)
        except ValueError:
            self._refuse(message, Refusal.BAD_LEN)

    def _bundle(self, message: Message, now: float) -> None:
        """Opened, closed, committed and discarded on paper (1.4.1 §7.3.9): each request's number plus one is its
        answer's."""
        if len(message.body) < 8:
            return self._refuse(message, Refusal.BAD_LEN)
        bundle, kind, flags = Struct("!IHH").unpack_from(message.body)
        if kind not in _BUNDLE_REQUESTS:
            return self._refuse(message, BUNDLE_BAD_TYPE, BUNDLE_FAILED)
        return self._reply(message, Type.BUNDLE_CONTROL, Struct("!IHH").pack(bundle, kind + 1, flags))

    def _experimenter(self, message: Message, now: float) -> None:
        """Of Open vSwitch's extensions only roles, as 1.0 has none, and mapped options have answers. Of others nothing
        is known."""
        if len(message.body) < 8:
            return self._refuse(message, Refusal.BAD_LEN)
        experimenter, subtype = Struct("!II").unpack_from(message.body)
        if experimenter != NICIRA:
            return self._refuse(message, Refusal.BAD_EXPERIMENTER)
        if subtype == _NX_TLV_TABLE_REQUEST:
            return self._refuse(message, Refusal.BAD_EXPERIMENTER)
        if subtype != _NX_ROLE_REQUEST:
            return None
        if len(message.body) < 12:
            return self._refuse(message, Refusal.BAD_LEN)
        number = Struct("!I").unpack_from(message.body, 8)[0]
        if number not in _NX_ROLES:
            return self._refuse(message, Refusal.EPERM)
        self._wishes.role = _NX_ROLES[number]
        return self._reply(message, Type.EXPERIMENTER, Struct("!III").pack(NICIRA, _NX_ROLE_REPLY, number))


def _parts(version: int, xid: int, kind: int, bodies: tuple[bytes, ...]) -> Iterator[bytes]:
    """A multipart answer in as many messages as it came in."""
    padding = bytes(MULTIPART_HEADER_LEN.get(version, 8) - 4)
    last = len(bodies) - 1
    for place, body in enumerate(bodies):
        head = Struct("!HH").pack(kind, MORE if place < last else 0) + padding
        yield build(version, Type.MULTIPART_REPLY, xid, head + body)


_HANDLERS = {
    Type.ECHO_REQUEST: Session._echo,
    Type.BARRIER_REQUEST: Session._barrier,
    Type.FEATURES_REQUEST: Session._features,
    Type.GET_CONFIG_REQUEST: Session._get_config,
    Type.SET_CONFIG: Session._set_config,
    Type.MULTIPART_REQUEST: Session._ask_multipart,
    Type.QUEUE_GET_CONFIG_REQUEST: Session._ask_queues,
    Type.ROLE_REQUEST: Session._ask_role,
    Type.GET_ASYNC_REQUEST: Session._get_async,
    Type.SET_ASYNC: Session._set_async,
    Type.BUNDLE_CONTROL: Session._bundle,
    Type.EXPERIMENTER: Session._experimenter,
}
_CHANGES = ORDERS - _HANDLERS.keys()
_UNANSWERED = (ORDERS - _HANDLERS.keys()) | {Type.HELLO, Type.ERROR, Type.ECHO_REPLY}
