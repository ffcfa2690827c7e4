"""Values and models for tests of flow tables, and strategies that draw orders of a small world, so that they meet."""

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from natmirror.openflow.bodies.elements import (
    ALL_GROUPS,
    ALL_METERS,
    ALL_TABLES,
    ANY_GROUP,
    Action,
    Actions,
    Instruction,
    Instructions,
    Match,
    MatchField,
    ReservedPort,
)
from natmirror.openflow.bodies.group_values import (
    Band,
    Bucket,
    GroupCommand,
    GroupMod,
    GroupType,
    MeterCommand,
    MeterMod,
)
from natmirror.openflow.bodies.values import Body, ErrorMessage, FlowCommand, FlowFlag, FlowMod, FlowRemoved, Opaque
from natmirror.openflow.messages import V10, V13, Message, Type
from natmirror.openflow.tables.entries import Entry, Key
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.production import ProductionModel, Removal
from natmirror.openflow.tables.state import State
from natmirror.openflow.tables.steps import finish

FLOW_MOD_FAILED = {V10: 3, V13: 5}
_T = TypeVar("_T")


class TestAccount:
    """An account with a limit, in bytes."""

    __test__ = False

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit, self.used = limit, 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count
        assert self.used >= 0


def production(version: int = V13, account: TestAccount | None = None) -> ProductionModel:
    return ProductionModel(version, account or TestAccount())


def mirror(of: ProductionModel, account: TestAccount | None = None) -> MirrorModel:
    return MirrorModel(of.version, account or TestAccount(), of)


def fields(**values: int | tuple[int, int]) -> Match:
    """Return a match; a pair is a value and a mask."""
    pairs = [(name, one if isinstance(one, tuple) else (one, None)) for name, one in sorted(values.items())]
    return tuple(MatchField(name, value, mask) for name, (value, mask) in pairs)


def output(*ports: int) -> Actions:
    return tuple(Action("output", (port, 65535) if port == ReservedPort.CONTROLLER else (port,)) for port in ports)


def apply(*ports: int) -> Instructions:
    """Return instructions that send to ports."""
    return (Instruction("apply_actions", (output(*ports),)),) if ports else ()


def applying(*actions: Action) -> Instructions:
    return (Instruction("apply_actions", (actions,)),)


def flow_mod(command: FlowCommand = FlowCommand.ADD, match: Match = (), **values: Any) -> FlowMod:
    """Return a FLOW_MOD for table 0 and priority 1, unless the values say otherwise."""
    return FlowMod(
        command, values.pop("table", 0), values.pop("priority", 1), match, values.pop("instructions", ()), **values
    )


def removed(match: Match = (), **values: Any) -> FlowRemoved:
    """Return a FLOW_REMOVED by idle timeout."""
    known = {"cookie": 0, "reason": 0, "idle_timeout": 0, "hard_timeout": 0, "duration": 0.0, "packets": 0, "bytes": 0}
    return FlowRemoved(values.pop("table", 0), values.pop("priority", 1), match, **{**known, **values})


def message(kind: Type | None, xid: int = 0, version: int = V13, raw: bytes = b"") -> Message:
    return Message(version, kind, xid, raw)


_KINDS = {FlowMod: Type.FLOW_MOD, GroupMod: Type.GROUP_MOD, MeterMod: Type.METER_MOD}


def order(model: Model, body: Body, now: float, xid: int = 0, *, raw: bytes = b"") -> None:
    """Have a controller order something."""
    finish(model.ordered(message(_KINDS.get(type(body), Type.BARRIER_REQUEST), xid, model.version, raw), body, now))


def refuse(model: ProductionModel, xid: int, now: float, *, data: bytes = b"", kind: int | None = None) -> None:
    """Have the switch refuse an order."""
    number = FLOW_MOD_FAILED.get(model.version, 5) if kind is None else kind
    finish(model.reported(message(Type.ERROR, xid), ErrorMessage(number, 0, data), now))


def report(model: ProductionModel, body: Body, now: float) -> Removal | None:
    """Have the switch report a removal."""
    return finish(model.reported(message(Type.FLOW_REMOVED), body, now))


def barrier(model: ProductionModel, xid: int, now: float) -> None:
    """Have a controller send a BARRIER, and the switch answer it."""
    finish(model.ordered(message(Type.BARRIER_REQUEST, xid), Opaque("", b""), now))
    finish(model.reported(message(Type.BARRIER_REPLY, xid), Opaque("", b""), now))


def contents(state: State) -> dict[Key, tuple[object, ...]]:
    """Return all entries of a state as values that can be compared."""

    def value(entry: Entry | None) -> tuple[object, ...]:
        assert entry is not None
        names = ("effect", "cookie", "flags", "importance", "made_at", "modified_at")
        return tuple(getattr(entry, name, None) for name in names)

    return {key: value(state.get(key)) for key in state.all_keys()}


# Strategies

_small = st.integers(1, 2)
_macs = st.one_of(_small, st.sampled_from([(0, 1), (1, 1), (2, 3)]))
matches = st.fixed_dictionaries(
    {},
    optional={"in_port": _small, "eth_dst": _macs, "eth_src": _macs, "oxm_ffff_1_4_00000001": _small},
).map(lambda one: fields(**one))
actions = st.lists(
    st.one_of(
        st.integers(1, 3).map(lambda port: Action("output", (port,))),
        _small.map(lambda number: Action("group", (number,))),
        _small.map(lambda value: Action("set_field", (MatchField("eth_dst", value),))),
    ),
    max_size=3,
).map(tuple)


def _instructions(parts: Sequence[Any]) -> Instructions:
    applied, meter, onward = parts
    found = [Instruction("meter", (meter,))] if meter else []
    found += [Instruction("apply_actions", (applied,))] if applied else []
    return tuple(found + ([Instruction("goto_table", (2,))] if onward else []))


instructions = st.tuples(actions, st.integers(0, 2), st.booleans()).map(_instructions)
flow_mods = st.builds(
    FlowMod,
    st.sampled_from([FlowCommand.ADD, FlowCommand.ADD, *FlowCommand]),
    st.sampled_from([0, 1]),
    _small,
    matches,
    instructions,
    cookie=st.integers(0, 3),
    cookie_mask=st.sampled_from([0, 0, 1, 3]),
    idle_timeout=st.sampled_from([0, 1, 5]),
    hard_timeout=st.sampled_from([0, 2, 6]),
    flags=st.sampled_from([0, FlowFlag.SEND_FLOW_REM, FlowFlag.CHECK_OVERLAP]),
    out_port=st.sampled_from([ReservedPort.ANY, ReservedPort.ANY, 1]),
    out_group=st.sampled_from([ANY_GROUP, ANY_GROUP, 1]),
).map(lambda one: _everywhere(one))
_buckets = st.lists(st.builds(Bucket, actions, weight=st.integers(0, 2)), max_size=2).map(tuple)
group_mods = st.builds(
    GroupMod,
    st.sampled_from([GroupCommand.ADD, GroupCommand.MODIFY, GroupCommand.DELETE]),
    st.sampled_from([1, 2, ALL_GROUPS]),
    st.sampled_from([GroupType.ALL, GroupType.SELECT]),
    _buckets,
)
meter_mods = st.builds(
    MeterMod,
    st.sampled_from([MeterCommand.ADD, MeterCommand.DELETE]),
    st.sampled_from([1, 2, ALL_METERS]),
    bands=st.integers(1, 2).map(lambda rate: (Band("drop", rate, 0),)),
)
orders = st.one_of(flow_mods, flow_mods, flow_mods, group_mods, meter_mods)


def _everywhere(mod: FlowMod) -> FlowMod:
    """Return a deletion from all tables for some deletions; a deletion's filters are for deletions only."""
    if not mod.command.is_delete:
        return FlowMod(
            mod.command,
            mod.table,
            mod.priority,
            mod.match,
            mod.instructions,
            mod.cookie,
            0 if mod.command is FlowCommand.ADD else mod.cookie_mask,
            mod.idle_timeout,
            mod.hard_timeout,
            mod.flags,
        )
    table = ALL_TABLES if mod.idle_timeout else mod.table
    return FlowMod(
        mod.command, table, mod.priority, mod.match, (), mod.cookie, mod.cookie_mask, out_port=mod.out_port,
        out_group=mod.out_group,
    )  # fmt: skip


def result_of(steps: Generator[None, None, _T]) -> _T:
    """Do all steps, and return the generator's value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
