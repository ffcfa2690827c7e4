"""A judge with a clock that tests turn, messages for it, and what it has found out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from struct import pack
from typing import Any

from natmirror.openflow.bodies.actions import encode_actions
from natmirror.openflow.bodies.elements import NO_BUFFER, Actions, Match, ReservedPort
from natmirror.openflow.bodies.group_values import GroupMod
from natmirror.openflow.bodies.instructions import encode_instructions
from natmirror.openflow.bodies.matches import encode_match
from natmirror.openflow.bodies.v10_matches import encode_v10_match
from natmirror.openflow.bodies.values import FlowCommand, FlowMod, FlowRemoved
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.results import (
    AnswerResult,
    ComparedAnswer,
    ComparedOrder,
    ComparedTables,
    NotComparable,
)
from natmirror.openflow.messages import V10, V13, V14, V15, Message, Type, build, parse
from tests.helpers.flow_tables import TestAccount, apply, fields, flow_mod

PRODUCTION, MIRROR = "production", "m1"
IP, ARP = 0x0800, 0x0806


def frame(src: int = 1, dst: int = 2, kind: int = IP, payload: bytes = b"") -> bytes:
    """Return an Ethernet frame; with an IP header, or an ARP request, of its kind."""
    head = dst.to_bytes(6, "big") + src.to_bytes(6, "big") + pack("!H", kind)
    if kind == ARP:
        return head + bytes.fromhex("0001080006040001") + pack("!6sI6sI", src.to_bytes(6, "big"), src, bytes(6), dst)
    if kind == IP:
        return head + pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), 0, 0, 64, 1, 0, src, dst) + b"\x08\0" + payload
    return head + payload


def packet_in(
    data: bytes,
    in_port: int = 1,
    *,
    version: int = V13,
    buffer_id: int = NO_BUFFER,
    reason: int = 0,
    table: int = 0,
    xid: int = 0,
    metadata: int | None = None,
) -> Message:
    """Return a PACKET_IN."""
    if version == V10:
        return parse(build(V10, Type.PACKET_IN, xid, pack("!IHHBx", buffer_id, len(data), in_port, reason) + data))
    more = {} if metadata is None else {"metadata": metadata}
    match = encode_match(fields(in_port=in_port, **more))
    head = pack("!IHBBQ", buffer_id, len(data), reason, table, 0)
    return parse(build(version, Type.PACKET_IN, xid, head + match + bytes(2) + data))


_COMMANDS = tuple(FlowCommand)


def _port16(port: int) -> int:
    return port & 0xFFFF


def flow_mod_message(mod: FlowMod, *, version: int = V13, xid: int = 0) -> Message:
    """Return a FLOW_MOD as a message."""
    number = _COMMANDS.index(mod.command)
    if version == V10:
        head = pack(
            "!QHHHHIHH",
            mod.cookie,
            number,
            mod.idle_timeout,
            mod.hard_timeout,
            mod.priority,
            mod.buffer_id,
            _port16(mod.out_port),
            mod.flags,
        )
        return parse(
            build(V10, Type.FLOW_MOD, xid, encode_v10_match(mod.match) + head + _v10_actions(mod.instructions))
        )
    head = pack(
        "!QQBBHHHIIIHH",
        mod.cookie,
        mod.cookie_mask,
        mod.table,
        number,
        mod.idle_timeout,
        mod.hard_timeout,
        mod.priority,
        mod.buffer_id,
        mod.out_port,
        mod.out_group,
        mod.flags,
        mod.importance,
    )
    body = head + encode_match(mod.match) + encode_instructions(version, mod.instructions)
    return parse(build(version, Type.FLOW_MOD, xid, body))


def _v10_actions(instructions: Any) -> bytes:
    return b"".join(encode_actions(V10, one.args[0]) for one in instructions)


def packet_out(
    data: bytes, actions: Actions, in_port: int = 1, *, version: int = V13, buffer_id: int = NO_BUFFER, xid: int = 0
) -> Message:
    """Return a PACKET_OUT."""
    raw = encode_actions(version, actions)
    if version == V10:
        head = pack("!IHH", buffer_id, _port16(in_port), len(raw))
    elif version == V15:
        head = pack("!IH2x", buffer_id, len(raw)) + encode_match(fields(in_port=in_port))
    else:
        head = pack("!IIH6x", buffer_id, in_port, len(raw))
    return parse(build(version, Type.PACKET_OUT, xid, head + raw + data))


def group_mod_message(mod: GroupMod) -> Message:
    """Return a GROUP_MOD of 1.3 that adds an ALL group."""
    buckets = b""
    for one in mod.buckets:
        raw = encode_actions(V13, one.actions)
        buckets += pack("!HHII4x", 16 + len(raw), one.weight, one.watch_port, one.watch_group) + raw
    return parse(build(V13, Type.GROUP_MOD, 0, pack("!HBxI", 0, 0, mod.group_id) + buckets))


def flow_removed_message(removed: FlowRemoved, *, version: int = V13) -> Message:
    """Return a FLOW_REMOVED of 1.3 or 1.4 as a message."""
    assert version in (V13, V14)
    seconds = int(removed.duration)
    head = pack(
        "!QHBBIIHHQQ",
        removed.cookie,
        removed.priority,
        removed.reason,
        removed.table,
        seconds,
        int((removed.duration - seconds) * 1e9),
        removed.idle_timeout,
        removed.hard_timeout,
        0,
        0,
    )
    return parse(build(version, Type.FLOW_REMOVED, 0, head + encode_match(removed.match)))


def error_message(request: Message, kind: int = 5, code: int = 1) -> Message:
    """Return the ERROR by which a switch refuses a request."""
    return parse(build(request.version, Type.ERROR, request.xid, pack("!HH", kind, code) + request.raw[:64]))


def barrier() -> Message:
    return parse(build(V13, Type.BARRIER_REQUEST, 1))


TABLE_MISS = flow_mod(priority=0, instructions=apply(ReservedPort.CONTROLLER))


def to_host(dst: int, port: int, **more: Any) -> FlowMod:
    """Return a rule that sends all frames for a host to a port."""
    return flow_mod(match=fields(eth_dst=dst), instructions=apply(port), priority=10, **more)


class Recorder:
    """A collector that keeps all results."""

    def __init__(self) -> None:
        self.answers: list[ComparedAnswer] = []
        self.orders: list[ComparedOrder] = []
        self.tables: list[ComparedTables] = []
        self.walks: list[tuple[int, int]] = []
        self.ends: list[tuple[float, str]] = []
        self.resolutions: list[float] = []

    def answered(self, compared: ComparedAnswer) -> None:
        self.answers.append(compared)

    def ordered(self, compared: ComparedOrder) -> None:
        self.orders.append(compared)

    def compared_tables(self, compared: ComparedTables) -> None:
        self.tables.append(compared)

    def walked(self, alike: int, count: int) -> None:
        self.walks.append((alike, count))

    def session_ended(self, at: float, reason: str) -> None:
        self.ends.append((at, reason))

    def resolved(self, at: float) -> None:
        self.resolutions.append(at)

    # What tests ask

    @property
    def results(self) -> list[AnswerResult | NotComparable]:
        return [one.result if one.why_not is None else one.why_not for one in self.answers]

    @property
    def texts(self) -> list[str]:
        """The differences of answers and of orders."""
        answers = [found.text for one in self.answers for found in one.differences]
        return answers + [one.difference.text for one in self.orders]

    @property
    def differs(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.texts
            or any(one.differing_count or one.differing_seconds for one in self.tables)
            or any(alike != count for alike, count in self.walks)
        )


class Scene:
    """A judge of one connection, with mirrors."""

    def __init__(
        self,
        *mirrors: str,
        version: int = V13,
        warm_up: float = 0.0,
        limit: int = 1 << 30,
        is_picked_up: bool = False,
    ) -> None:
        self.now = 1000.0
        self.version = version
        self.account = TestAccount(limit)
        self.judge = Judge(version, self.account, self.now, is_picked_up=is_picked_up)
        self.found: dict[str, Recorder] = {}
        for name in mirrors or (MIRROR,):
            self.join(name, warm_up=warm_up)
        self.longest_call = 0

    @property
    def recorder(self) -> Recorder:
        return self.found[MIRROR]

    def join(self, name: str = MIRROR, *, warm_up: float = 0.0, is_open: bool = False) -> None:
        collector = self.found.setdefault(name, Recorder())
        self.judge.joined(name, collector, self.now, warm_up=warm_up, is_open=is_open)

    def settle(self) -> None:
        steps = sum(1 for _ in self.judge.settle(self.now))
        self.longest_call = max(self.longest_call, steps)

    def wait(self, seconds: float) -> None:
        """Turn the clock, and settle whenever it is due."""
        end = self.now + seconds
        while (due := self.judge.next_deadline()) is not None and due <= end:
            assert due >= self.now
            self.now = due
            self.settle()
        self.now = end
        self.settle()

    def switch(self, message: Message, *, told: Iterable[str] | None = None) -> Message:
        """Have the switch send a message, which mirrors get, by default all."""
        self.judge.from_switch(message, self.now)
        for name in self.found if told is None else told:
            self.judge.told(name, message, self.now)
        self.settle()
        return message

    def sees(self, data: bytes, in_port: int = 1, *, told: Iterable[str] | None = None, **more: Any) -> Message:
        """Have the switch send a PACKET_IN."""
        return self.switch(packet_in(data, in_port, version=self.version, **more), told=told)

    def orders(self, who: str, *messages: Message | FlowMod) -> None:
        """Have production or a mirror send orders at once."""
        for one in messages:
            message = flow_mod_message(one, version=self.version) if isinstance(one, FlowMod) else one
            if who == PRODUCTION:
                self.judge.from_controller(message, self.now)
            else:
                self.judge.from_master(who, message, self.now)
            self.settle()

    def both(self, *messages: Message | FlowMod) -> None:
        """Have production and all mirrors send the same orders."""
        for who in (PRODUCTION, *self.found):
            self.orders(who, *messages)

    def close(self) -> None:
        self.judge.close(self.now)
        assert self.account.used == 0
        assert self.judge.held == 0


def with_cookie(mods: Sequence[FlowMod], cookie: int) -> list[FlowMod]:
    return [replace(mod, cookie=cookie) for mod in mods]


def exact(match: Match) -> dict[str, int]:
    """Return a match without masks as fields."""
    return {one.name: one.value for one in match if one.mask is None}
