"""Each bug of a controller beside production is named, with evidence, and nothing else is said."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from natmirror.openflow.bodies.elements import Action, Instruction, ReservedPort
from natmirror.openflow.bodies.values import FlowMod
from natmirror.openflow.comparison.results import AnswerResult, NotComparable
from natmirror.openflow.messages import V13, Message
from tests.helpers.comparison import ARP, IP, MIRROR, packet_out
from tests.helpers.flow_tables import fields, flow_mod, output
from tests.helpers.learning_switch import LearningSwitch, Network

Change = Callable[[FlowMod], FlowMod | None]
EXTRA = flow_mod(match=fields(eth_type=IP, ip_proto=17, udp_dst=53), priority=20)


@dataclass(eq=False)
class Faulty(LearningSwitch):
    """The learning switch with a bug."""

    change: Change = lambda mod: mod
    change_out: Callable[[bytes, Message, int], Message | None] = lambda data, message, in_port: message
    extra: tuple[FlowMod, ...] = ()
    silence: float = 0.0

    def programme(self) -> list[Message | FlowMod]:
        return [*(self.change(mod) or mod for mod in super().programme() if isinstance(mod, FlowMod)), *self.extra]

    def answer(self, src: int, dst: int, data: bytes, in_port: int, buffer_id: int) -> list[Message | FlowMod]:
        orders = super().answer(src, dst, data, in_port, buffer_id)
        if self.random.random() < self.silence:
            return []
        kept: list[Message | FlowMod | None] = [
            self.change(one) if isinstance(one, FlowMod) else self.change_out(data, one, in_port) for one in orders
        ]
        return [one for one in kept if one is not None]


def _priority(mod: FlowMod) -> FlowMod:
    return mod if not mod.priority else replace(mod, priority=11)


def _port(mod: FlowMod) -> FlowMod:
    to = {one.name: one.value for one in mod.match}.get("eth_dst")
    return replace(mod, instructions=(Instruction("apply_actions", (output(4),)),)) if to == 2 else mod


def _no_port(mod: FlowMod) -> FlowMod:
    return replace(mod, match=tuple(one for one in mod.match if one.name != "in_port"))


def _rewrites(mod: FlowMod) -> FlowMod:
    if not mod.priority:
        return mod
    actions = (Action("set_field", fields(eth_src=9)), *mod.instructions[0].args[0])
    return replace(mod, instructions=(Instruction("apply_actions", (actions,)),))


def _floods(data: bytes, message: Message, in_port: int) -> Message:
    return packet_out(data, output(ReservedPort.FLOOD), in_port)


BUGS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "priority": ({"change": _priority}, {"priority 11 for 10"}),
    "port": ({"change": _port}, {"output:4 for output:2"}),
    "timeout": (
        {"change": lambda mod: replace(mod, idle_timeout=50) if mod.priority else mod},
        {"idle_timeout 50 for 1"},
    ),
    "hard timeout": (
        {"change": lambda mod: replace(mod, hard_timeout=50) if mod.priority else mod},
        {"hard_timeout 50 for 0"},
    ),
    "match": ({"change": _no_port}, {"match without in_port"}),
    "rewritten": (
        {"change": _rewrites},
        {f"set_field:00:00:00:00:00:09->eth_src,output:{port} for output:{port}" for port in range(1, 5)},
    ),
    "extra": ({"extra": (EXTRA,)}, {"a rule more: add priority=20,udp,tp_dst=53 actions=drop"}),
    "silence": ({"silence": 0.05}, {"no answer"}),
    "floods": ({"change_out": _floods}, {f"frame FLOOD for output:{port}" for port in range(1, 5)}),
    "no frames": ({"change_out": lambda *_: None}, {"the frame is not sent on", "no answer"}),
    "no rules": ({"change": lambda mod: None if mod.priority else mod}, {"a rule is missing"}),
    "late": ({"lag": 0.2}, set()),
}


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_is_named(bug: str) -> None:
    faults, texts = BUGS[bug]
    network = Network(LearningSwitch(V13, idle_timeout=1), Faulty(V13, idle_timeout=1, **faults))
    random = Random(3)
    network.run(network.scene.now + 1.0)
    while network.packet_ins < 100:
        src, dst = random.sample(range(1, 5), 2)
        network.frame(src, dst, random.choice([IP, ARP]))
        network.run(network.scene.now + random.choice([0.01, 0.3, 0.7]))
    network.run(network.scene.now + 20.0)
    recorder = network.scene.recorder
    assert set(recorder.texts) <= texts
    assert bool(recorder.texts) is bool(texts)
    assert len(recorder.answers) == network.packet_ins
    for one in recorder.answers:
        assert (one.evidence is not None) is bool(one.differences)
    if bug == "late":
        assert all(one.lag == pytest.approx(0.2) for one in recorder.answers if one.lag is not None)
    if bug == "silence":
        assert 0 < recorder.results.count(AnswerResult.UNANSWERED) < 12


def test_a_forgotten_table_miss_is_named_and_makes_the_rest_not_comparable() -> None:
    class Forgetful(LearningSwitch):
        def programme(self) -> list[Message | FlowMod]:
            return []

    network = Network(LearningSwitch(V13), Forgetful(V13))
    network.run(network.scene.now + 1.0)
    for number in range(20):
        network.frame(1 + number % 3, 1 + (number + 1) % 3, IP)
        network.run(network.scene.now + 0.5)
    network.run(network.scene.now + 10.0)
    recorder = network.scene.recorder
    assert recorder.texts == ["a rule is missing: add priority=0 actions=CONTROLLER:65535"]
    assert Counter(recorder.results)[NotComparable.NO_RULE] > 1


def test_a_crash_is_named() -> None:
    network = Network(LearningSwitch(V13, idle_timeout=1), LearningSwitch(V13, idle_timeout=1))
    scene, recorder = network.scene, network.scene.recorder
    mirror = network.controllers[MIRROR]
    random = Random(5)
    for number in range(60):
        if number == 30:
            scene.judge.ended(MIRROR, "reset", scene.now, is_fault=True)
            network.controllers[MIRROR] = LearningSwitch(V13, idle_timeout=1)
            network.controllers[MIRROR].programme()
        if number == 34:
            scene.join()
            network.send(MIRROR, mirror.programme())
        src, dst = random.sample(range(1, 5), 2)
        network.frame(src, dst, IP)
        network.run(scene.now + 0.3)
    network.run(scene.now + 10.0)
    assert [reason for _, reason in recorder.ends] == ["reset"]
    assert {text.split(" for ")[0] for text in recorder.texts} <= {"frame FLOOD", "a rule is missing", "no answer"}
    assert recorder.results[-1] is AnswerResult.EQUAL
