"""What becomes of a frame in a switch with a model's tables: 1.3.5 §5.1 and §5.9.

The result is a set of outputs, each with what the frame's headers have become, or the reason why it cannot be known. A
choice that only the switch makes, such as the bucket of a SELECT group, is an output of its own with all its options:
so two models with the same choice give equal results.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from natmirror.openflow.bodies.action_sets import action_set
from natmirror.openflow.bodies.elements import ANY_GROUP, Action, Actions, ReservedPort
from natmirror.openflow.bodies.group_values import Bucket, GroupType
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import GroupKey, Rule
from natmirror.openflow.tables.frame import Changes, Frame, is_cut_off
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.packed import PackedFrame

_MAX_BUCKETS = 256  # buckets that one frame meets
_MAX_DEPTH = 8  # groups that send to groups
_NO_OUTPUT = (ReservedPort.ANY, ReservedPort.UNSET)


class Output(NamedTuple):
    """A frame that leaves by a port, which may be a reserved one."""

    port: int
    changes: Changes = ()
    """What differs from the frame that came in."""


class Choice(NamedTuple):
    """A group of whose buckets the switch takes one."""

    type: GroupType
    options: tuple[frozenset["Output | Choice"], ...]
    """The outputs of each bucket."""


Outputs = frozenset[Output | Choice]


@dataclass(slots=True)
class Outcome:
    """What becomes of a frame."""

    outputs: Outputs
    """Where it goes, as far as it is known; empty if it is dropped."""
    met: tuple[Rule, ...] = ()
    """The rules that it meets, in this order."""
    unknown: str | None = None
    """Why its outputs cannot be known; None if they are."""
    is_doubtful: bool = False
    """Whether it meets a rule that may be gone, or a table that may have rules which natmirror does not know."""

    @property
    def goes_to_controller(self) -> bool:
        """Whether it reaches the controller, for certain."""
        return any(one.port == ReservedPort.CONTROLLER for one in self.outputs if isinstance(one, Output))

    @property
    def may_go_to_controller(self) -> bool:
        """Whether it reaches the controller in one of the choices."""
        return _has_controller(self.outputs)


def _has_controller(outputs: Outputs) -> bool:
    return any(
        one.port == ReservedPort.CONTROLLER if isinstance(one, Output) else any(map(_has_controller, one.options))
        for one in outputs
    )


@dataclass(frozen=True, slots=True)
class Ports:
    """What is known of a switch's ports."""

    numbers: frozenset[int] | None = None
    """The ports to which ALL and FLOOD send; None if they are unknown. Then both stay outputs of their own."""
    is_live: Callable[[int], bool | None] = lambda port: None
    """Return whether a port's link is up; None if that is unknown."""


UNKNOWN_PORTS = Ports()


class _UnknownError(Exception):
    """The outputs cannot be known, for the reason in the argument."""


def walk(
    model: Model,
    fields: Mapping[str, int],
    now: float,
    *,
    table: int = 0,
    ports: Ports = UNKNOWN_PORTS,
    packed: PackedFrame | None = None,
) -> Outcome:
    """Return what becomes of a frame with these fields that enters a table. ``packed``: the same fields as integers, if
    these are known.

    Meters are taken to pass it. NORMAL stays an output of its own: what the switch has learned is unknown.
    """
    return _Walk(model, ports, now).run(lambda one: one.enter(Frame(fields, packed), table))


def carry_out(
    model: Model, actions: Actions, fields: Mapping[str, int], now: float, *, ports: Ports = UNKNOWN_PORTS
) -> Outcome:
    """Return what becomes of a frame that a PACKET_OUT sends with these actions."""
    return _Walk(model, ports, now).run(lambda one: one.apply(actions, Frame(fields)))


class _Walk:
    def __init__(self, model: Model, ports: Ports, now: float) -> None:
        self._model = model
        self._state = model.state
        self._ports = ports
        self._now = now
        self._met: list[Rule] = []
        self._outputs: set[Output | Choice] = set()
        self._is_doubtful = False
        self._buckets = 0
        self._depth = 0
        self._entries = 0  # of the tables: a PACKET_OUT may enter them, and a rule there again

    def run(self, start: "Callable[[_Walk], None]") -> Outcome:
        unknown = None
        try:
            start(self)
        except _UnknownError as error:
            unknown = str(error)
        return Outcome(frozenset(self._outputs), tuple(self._met), unknown, self._is_doubtful)

    def enter(self, frame: Frame, table: int) -> None:
        """Have a frame meet the rules of a table and of those to which it goes from there."""
        if self._state.not_followed is not None:
            raise _UnknownError(f"the tables are not followed: {self._state.not_followed}")
        self._entries += 1
        if self._entries > 2:
            raise _UnknownError("a PACKET_OUT enters the tables more than twice")
        if is_cut_off(frame.fields):
            raise _UnknownError("the frame is cut off")
        written: Actions = ()
        onward: int | None = table
        while onward is not None:
            table = onward
            rule = self._find(frame, table)
            if rule is None:
                if self._model.version == V10:
                    self._output(ReservedPort.CONTROLLER, frame)  # 1.0.0 §3.4: a frame without a match
                break  # 1.3.5 §5.4 drops it; Open vSwitch still does the actions that earlier tables have written
            self._met.append(rule)
            self._is_doubtful = self._is_doubtful or self._model.is_doubtful(rule, self._now)
            onward = None
            for name, args in rule.instructions:
                if name == "apply_actions":
                    self.apply(args[0], frame)
                elif name == "clear_actions":
                    written = ()
                elif name == "write_actions":
                    written += args[0]
                elif name == "write_metadata":
                    frame.set_metadata(*args)
                elif name == "goto_table":
                    onward = args[0]
                elif name not in ("meter", "stat_trigger"):
                    raise _UnknownError(f"a rule has an instruction that natmirror does not know: {name}")
            if onward is not None and onward <= table:
                raise _UnknownError("a rule goes to an earlier table")
        self._apply_set(action_set(written), frame)

    def _find(self, frame: Frame, table: int) -> Rule | None:
        self._is_doubtful = self._is_doubtful or not self._state.known.has(table)
        index = self._state.index(table)
        if index is None:
            return None
        if frame.is_opaque:
            raise _UnknownError("an action has made headers that natmirror does not know")
        packed = frame.packed
        found = index.find(packed)
        priority = found[0].key.priority if found else -1
        if any(rule.key.priority >= priority for rule in index.may_match(packed)):
            raise _UnknownError("a rule matches a field that the frame does not show")
        if len({rule.instructions for rule in found}) > 1:
            raise _UnknownError("rules of equal priority overlap")
        return found[0] if found else None

    def _apply_set(self, actions: Actions, frame: Frame) -> None:
        """Do the actions of an action set or a bucket. With a group it sends nothing to a port itself (1.3.5 §5.10)."""
        if any(one.name == "group" for one in actions):
            actions = tuple(one for one in actions if one.name != "output")
        self.apply(actions, frame)

    def apply(self, actions: Actions, frame: Frame) -> None:
        """Do actions in turn."""
        for action in actions:
            name, args = action
            if name == "output":
                self._output(args[0], frame)
            elif name == "enqueue":
                queued = frame.copy()
                queued.change(Action("set_queue", (args[1],)))
                self._output(args[0], queued)
            elif name == "group":
                self._enter_group(args[0], frame)
            elif not frame.change(action):
                raise _UnknownError(f"a rule has an action that natmirror does not know: {name}")

    def _output(self, port: int, frame: Frame) -> None:
        in_port = frame.in_port
        if port == ReservedPort.TABLE:
            self.enter(frame.copy(), 0)
        elif port == ReservedPort.IN_PORT:
            if in_port is None:
                raise _UnknownError("the frame's port is unknown")
            self._outputs.add(Output(in_port, frame.changes()))
        elif port in (ReservedPort.ALL, ReservedPort.FLOOD) and self._ports.numbers is not None:
            self._outputs.update(Output(one, frame.changes()) for one in self._ports.numbers if one != in_port)
        elif port != in_port and port not in _NO_OUTPUT:  # 1.3.5 §4.5: back only by the port IN_PORT
            self._outputs.add(Output(port, frame.changes()))

    # Groups

    def _enter_group(self, number: int, frame: Frame) -> None:
        group = self._state.groups.get(GroupKey(number))
        if group is None:
            if not self._state.known.groups:
                raise _UnknownError(f"group {number} is not known")
            return
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _UnknownError("groups send to each other")
        if group.type is GroupType.ALL:
            for bucket in group.buckets:
                self._enter_bucket(bucket, frame)
        elif group.type is GroupType.INDIRECT:
            for bucket in group.buckets[:1]:
                self._enter_bucket(bucket, frame)
        else:
            self._choose(group.type, self._candidates(group.type, group.buckets), frame)
        self._depth -= 1

    def _candidates(self, kind: GroupType, buckets: tuple[Bucket, ...]) -> list[Bucket]:
        """Return the buckets of which the switch takes one: in a fast failover group the first one that is live, in a
        SELECT group any with a weight (1.3.5 §5.6.1)."""
        if kind is GroupType.SELECT:
            return [one for one in buckets if one.weight]
        found = []
        for one in buckets:
            is_live = self._is_live(one)
            if is_live is not False:
                found.append(one)
            if is_live:
                break
        return found

    def _is_live(self, bucket: Bucket) -> bool | None:
        """Return whether a bucket is live; None if that is unknown."""
        if bucket.watch_group != ANY_GROUP:
            return None
        return False if bucket.watch_port == ReservedPort.ANY else self._ports.is_live(bucket.watch_port)

    def _choose(self, kind: GroupType, buckets: list[Bucket], frame: Frame) -> None:
        """Take the only bucket, or enter all options as one output. The order of a SELECT group's options means
        nothing."""
        before, options = self._outputs, []
        for bucket in buckets:
            self._outputs = set()
            self._enter_bucket(bucket, frame)
            options.append(frozenset(self._outputs))
        self._outputs = before
        if len(set(options)) <= 1:
            self._outputs.update(*options[:1])
            return
        if kind is GroupType.SELECT:
            options = sorted(set(options), key=repr)
        self._outputs.add(Choice(kind, tuple(options)))

    def _enter_bucket(self, bucket: Bucket, frame: Frame) -> None:
        self._buckets += 1
        if self._buckets > _MAX_BUCKETS:
            raise _UnknownError("the frame meets too many buckets")
        self._apply_set(bucket.actions, frame.copy())
