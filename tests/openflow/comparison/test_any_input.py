"""Any messages at any time: nothing is raised, all stays within its bounds, and no step takes long."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from struct import pack
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natmirror.openflow.bodies.elements import ALL_TABLES
from natmirror.openflow.bodies.statistics import encode_flow_stats
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowStats
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.results import AnswerResult
from natmirror.openflow.messages import HEADER, V10, V13, V14, V15, Message, Multipart, Type, build, parse
from tests.helpers.comparison import (
    MIRROR,
    PRODUCTION,
    TABLE_MISS,
    Recorder,
    Scene,
    error_message,
    flow_mod_message,
    flow_removed_message,
    frame,
    packet_in,
    packet_out,
    to_host,
)
from tests.helpers.flow_tables import TestAccount, apply, fields, flow_mod, flow_mods, output, removed
from tests.helpers.openflow_bodies import corpus

VERSIONS = (V10, V13, V14, V15)
CORPORA = {version: [parse(raw) for raw in corpus(version)] for version in VERSIONS}
LINES_PER_STEP = 25_000
"""Lines of Python in one step, most of them of a look through all rules: about 1 ms."""

frames = st.builds(frame, st.integers(1, 3), st.integers(1, 3), st.sampled_from([0x0800, 0x0806, 0x88CC]))
parts = st.one_of(
    st.tuples(st.just("corpus"), st.integers(0, 40)),
    st.tuples(st.just("raw"), st.binary(max_size=80)),
    st.tuples(st.just("mod"), flow_mods),
    st.tuples(st.just("out"), frames),
    st.tuples(st.just("in"), frames),
)
senders = st.sampled_from(["switch", "switch", PRODUCTION, PRODUCTION, "a", "a", "b"])
happenings = st.tuples(
    st.sampled_from(["message"] * 12 + ["join", "end", "fault", "remove", "missed", "give_up", "withheld"]),
    senders,
    parts,
    st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.06, 1.0, 3.0, 11.0]),
    st.sampled_from([0, 1, 1000]),
)


def _message(version: int, part: tuple[str, Any], xid: int) -> Any:
    kind, what = part
    if kind == "corpus":
        return CORPORA[version][what % len(CORPORA[version])]
    if kind == "raw":
        return parse(HEADER.pack(version, len(what) % 36, 8 + len(what), xid) + what)
    if kind == "in":
        return packet_in(what, 1, version=version, xid=xid)
    if kind == "out":
        return packet_out(what, output(2), version=version, xid=xid)
    mod = replace(what, match=tuple(one for one in what.match if not one.name.startswith("oxm") and one.mask is None))
    if version == V10:
        mod = replace(mod, instructions=apply(1), table=0, out_group=0xFFFF_FFFF)
    return flow_mod_message(mod, version=version, xid=xid)


@settings(max_examples=200)
@given(
    st.sampled_from(VERSIONS), st.lists(happenings, max_size=60), st.sampled_from([0, 20_000, 1 << 30]), st.booleans()
)
def test_any_messages_raise_nothing_and_stay_within_the_bounds(
    version: int, all_happenings: list[Any], limit: int, is_picked_up: bool
) -> None:
    account, now = TestAccount(limit), 100.0
    judge = Judge(version, account, now, is_picked_up=is_picked_up)
    found = {"a": Recorder(), "b": Recorder()}
    packet_ins = 0
    for number, (what, sender, part, pause, most) in enumerate(all_happenings):
        now += pause
        other = "b" if sender == "b" else "a"
        message = _message(version, part, number)
        if what == "join":
            judge.joined(other, found[other], now, warm_up=float(most % 3))
        elif what in ("end", "fault"):
            judge.ended(other, "reset", now, is_fault=what == "fault")
        elif what == "remove":
            judge.removed(other, now)
        elif what == "missed":
            judge.missed(now)
        elif what == "give_up":
            judge.give_up(now)
        elif what == "withheld":
            judge.withheld(other, message, now, is_wanted=most > 0)
        elif sender == "switch":
            packet_ins += message.kind is Type.PACKET_IN
            judge.from_switch(message, now)
            judge.told(other, message, now)
        elif sender == PRODUCTION:
            judge.from_controller(message, now)
        else:
            judge.from_master(sender, message, now)
        for count, _ in enumerate(judge.settle(now)):
            if count >= most:
                break
        due = judge.next_deadline()
        assert due is None or due > 0
        assert account.used <= limit
        assert judge.held < 1 << 20
    for _ in judge.settle(now + 30.0):
        pass
    for name in found:
        assert len(found[name].answers) <= packet_ins
    judge.close(now + 31.0)
    assert (account.used, judge.held, judge.next_deadline()) == (0, 0, None)
    judge.from_switch(packet_in(b""), now + 32.0)
    judge.joined("c", Recorder(), now + 32.0, warm_up=0.0)
    assert list(judge.settle(now + 33.0)) == []
    assert judge.model_of("c") is None


def test_messages_that_are_never_settled_are_bounded() -> None:
    one = Scene()
    for number in range(5000):
        one.judge.from_switch(packet_in(frame(1, number)), one.now)
    assert one.judge.held < 3_000_000
    one.wait(10.0)
    assert AnswerResult.DIFFERS not in one.recorder.results
    one.close()


@pytest.mark.parametrize("at", range(0, 12))
def test_an_account_may_close_its_judge_in_the_middle_of_a_step(at: int) -> None:
    class Closing(TestAccount):
        def take(self, count: int) -> bool:
            nonlocal at
            at -= 1
            if not at:
                judge.close(2.0)
                return False
            return super().take(count)

        def give(self, count: int) -> None:
            self.used -= count

    account = Closing()
    judge = Judge(V13, account, 1.0)
    judge.joined(MIRROR, Recorder(), 1.0, warm_up=0.0)
    for number in range(6):
        message = flow_mod_message(to_host(number, 1))
        judge.from_controller(message, 1.0)
        judge.from_master(MIRROR, message, 1.0)
        for _ in judge.settle(1.0):
            pass
    judge.close(3.0)
    assert account.used == 0


# Slow input


class Lines:
    """Counts the lines of Python of each step."""

    def __init__(self) -> None:
        self.most = 0

    def steps(self, steps: Iterator[None]) -> None:
        before = sys.gettrace()
        while True:
            count = 0

            def trace(frame: FrameType, event: str, argument: Any) -> Any:
                nonlocal count
                count += event == "line"
                return trace

            sys.settrace(trace)
            try:
                next(steps)
            except StopIteration:
                return
            finally:
                sys.settrace(before)
                self.most = max(self.most, count)


MANY = 2000
DELETE_ALL = flow_mod(FlowCommand.DELETE)


def _crowd(*, idle_timeout: int = 0, hard_timeout: int = 0) -> Scene:
    """Return a scene in which both sides have many rules."""
    one = Scene()
    for number in range(MANY):
        mod = flow_mod(
            match=fields(eth_dst=number),
            flags=FlowFlag.SEND_FLOW_REM,
            idle_timeout=idle_timeout,
            hard_timeout=hard_timeout,
            instructions=apply(2),
        )
        for who in (PRODUCTION, MIRROR):
            message = flow_mod_message(mod, xid=number)
            if who == PRODUCTION:
                one.judge.from_controller(message, one.now)
            else:
                one.judge.from_master(who, message, one.now)
        one.settle()
    one.wait(1.0)
    return one


def _list(count: int) -> Iterator[Message]:
    entries = [
        encode_flow_stats(V13, Multipart.FLOW, FlowStats(0, 1, fields(eth_dst=number), apply(3)))
        for number in range(count)
    ]
    for at in range(0, count, 100):
        head = pack("!HH4x", Multipart.FLOW, at + 100 < count)
        yield parse(build(V13, Type.MULTIPART_REPLY, 9, head + b"".join(entries[at : at + 100])))


def _ask() -> Message:
    head = pack("!HH4xB3xII4xQQ", Multipart.FLOW, 0, 0xFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0)
    return parse(build(V13, Type.MULTIPART_REQUEST, 9, head + pack("!HH4x", 1, 4)))


def _deletes(one: Scene) -> None:
    one.judge.from_controller(flow_mod_message(DELETE_ALL, xid=9999), one.now)
    one.judge.from_master(MIRROR, flow_mod_message(DELETE_ALL), one.now)


def _refuses_a_deletion(one: Scene) -> None:
    one.orders(PRODUCTION, flow_mod_message(DELETE_ALL, xid=9999))
    one.orders(PRODUCTION, flow_mod_message(flow_mod(FlowCommand.MODIFY, instructions=apply(3)), xid=5555))
    one.judge.from_switch(error_message(flow_mod_message(DELETE_ALL, xid=9999)), one.now)


def _modifies(one: Scene) -> None:
    one.judge.from_controller(flow_mod_message(flow_mod(FlowCommand.MODIFY, instructions=apply(3))), one.now)


def _joins(one: Scene) -> None:
    one.wait(20.0)
    one.join("late")


def _lists(one: Scene) -> None:
    one.orders(PRODUCTION, _ask())
    for part in _list(MANY):
        one.judge.from_switch(part, one.now)


def _loses(one: Scene) -> None:
    one.judge.missed(one.now)
    one.judge.from_controller(flow_mod_message(flow_mod(FlowCommand.DELETE, table=0xFF)), one.now)


def _sends_a_frame_that_all_rules_may_match(one: Scene) -> None:
    one.both(TABLE_MISS, flow_mod(match=fields(in_port=1), instructions=apply(2), idle_timeout=1))
    one.wait(5.0)
    gone = removed(fields(in_port=1), priority=1, idle_timeout=1, duration=5.0)
    one.judge.from_switch(flow_removed_message(gone), one.now)
    one.judge.from_switch(packet_in(frame(1, 2)), one.now)


@pytest.mark.parametrize(
    "happens",
    [
        _deletes,
        _refuses_a_deletion,
        _modifies,
        _joins,
        _lists,
        _loses,
        _sends_a_frame_that_all_rules_may_match,
    ],
)
def test_each_step_is_short(happens: Callable[[Scene], None]) -> None:
    one, lines = _crowd(idle_timeout=2), Lines()
    happens(one)
    lines.steps(one.judge.settle(one.now))
    for _ in range(20):
        one.now += 1.0
        lines.steps(one.judge.settle(one.now))
    assert lines.most < LINES_PER_STEP
    one.close()


def test_the_ends_of_many_hard_timeouts_take_short_steps() -> None:
    one, lines = _crowd(hard_timeout=3), Lines()
    one.now += 60.0
    lines.steps(one.judge.settle(one.now))
    assert lines.most < LINES_PER_STEP
    assert one.judge.model_of(MIRROR).state.count == 0  # type: ignore[union-attr]
    one.close()


@pytest.mark.parametrize("steps", range(1, 12))
def test_memory_may_be_given_up_between_two_steps(steps: int) -> None:
    one = Scene()
    for number in range(20):
        one.orders(PRODUCTION, to_host(number, 1))
        one.orders(MIRROR, to_host(number + 100, 1))
    one.now += 8.0
    work = one.judge.settle(one.now)
    for _ in range(steps):
        next(work, None)
    one.judge.give_up(one.now)
    for _ in work:
        pass
    one.wait(10.0)
    assert one.judge.held >= 0
    one.close()


def test_a_session_begins_though_its_messages_were_forgotten() -> None:
    one = Scene()
    one.judge.give_up(one.now)
    one.wait(1.0)
    one.both(flow_mod(FlowCommand.DELETE, table=ALL_TABLES), TABLE_MISS)
    one.sees(frame(1, 2))
    one.both(to_host(1, 1))
    one.wait(10.0)
    assert one.recorder.results == [AnswerResult.EQUAL]
    one.close()
