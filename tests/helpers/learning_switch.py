"""A learning switch as a controller, in styles that have the same effects, and a network that it controls beside a
judge."""

from dataclasses import dataclass, field, replace
from random import Random

from natmirror.openflow.bodies.elements import NO_BUFFER, ReservedPort
from natmirror.openflow.bodies.values import FlowFlag, FlowMod
from natmirror.openflow.messages import V10, Message
from natmirror.openflow.tables.entries import sends_to_port
from natmirror.openflow.tables.walk import walk
from tests.helpers.comparison import (
    MIRROR,
    PRODUCTION,
    TABLE_MISS,
    Scene,
    flow_removed_message,
    frame,
    packet_in,
    packet_out,
)
from tests.helpers.flow_tables import apply, fields, flow_mod, output, removed

FLOOD = output(ReservedPort.FLOOD)


@dataclass(eq=False)
class LearningSwitch:
    """A controller like os-ken's learning switch, with a style of its own."""

    version: int
    cookie: int = 0
    out_first: bool = False
    lag: float = 0.0
    jitter: float = 0.0
    pause: float = 0.0
    idle_timeout: int = 0
    reports: bool = True
    both_ways: bool = False
    sends: bool = True
    """Whether it sends the frame, besides its rules."""
    is_serial: bool = True
    """Whether it finishes with a PACKET_IN before it begins with the next."""
    random: Random = field(default_factory=lambda: Random(1))
    ports: dict[int, int] = field(default_factory=dict)
    free_at: float = 0.0

    def programme(self) -> list[Message | FlowMod]:
        return [] if self.version == V10 else [replace(TABLE_MISS, cookie=self.cookie)]

    def answer(self, src: int, dst: int, data: bytes, in_port: int, buffer_id: int) -> list[Message | FlowMod]:
        self.ports[src] = in_port
        actions = output(self.ports[dst]) if dst in self.ports else FLOOD
        orders: list[Message | FlowMod] = []
        if dst in self.ports:
            orders.append(self.rule(src, dst))
            if self.both_ways:
                orders.insert(self.random.randrange(2), self.rule(dst, src))
        if not self.sends and orders:
            return orders[::-1] if self.out_first else orders
        shown = packet_out(
            b"" if buffer_id != NO_BUFFER else data, actions, in_port, version=self.version, buffer_id=buffer_id
        )
        orders.append(shown)
        return orders[::-1] if self.out_first else orders

    def rule(self, src: int, dst: int) -> FlowMod:
        return flow_mod(
            match=fields(in_port=self.ports[src], eth_dst=dst, eth_src=src),
            priority=10,
            instructions=apply(self.ports[dst]),
            idle_timeout=self.idle_timeout,
            flags=FlowFlag.SEND_FLOW_REM * self.reports,
            cookie=self.cookie,
        )

    def times(self, now: float, count: int) -> list[float]:
        """Return when it sends its orders: after those that it has sent before."""
        at = now + self.lag + self.random.random() * self.jitter
        at = max(self.free_at, at) if self.is_serial else at
        found = []
        for _ in range(count):
            found.append(at)
            at += self.random.random() * self.pause
        self.free_at = found[-1] if found else self.free_at
        return found


class Network:
    """A switch with hosts, a controller in production, and one as a mirror; frames go as production's rules say."""

    def __init__(self, production: LearningSwitch, mirror: LearningSwitch, *, buffered: bool = False) -> None:
        self.scene = Scene(version=production.version)
        self.controllers = {PRODUCTION: production, MIRROR: mirror}
        self.buffered = buffered
        self.waiting: list[tuple[float, int, str, Message | FlowMod]] = []
        self.count = 0
        self.used: dict[object, float] = {}
        self.packet_ins = 0
        for who, one in self.controllers.items():
            self.send(who, one.programme())

    def send(self, who: str, orders: list[Message | FlowMod]) -> None:
        times = self.controllers[who].times(self.scene.now, len(orders))
        for at, order in zip(times, orders, strict=True):
            self.count += 1
            self.waiting.append((at, self.count, who, order))

    def run(self, until: float) -> None:
        """Have the orders arrive that are due."""
        while self.waiting and min(self.waiting)[0] <= until:
            one = min(self.waiting)
            self.waiting.remove(one)
            self.scene.wait(max(0.0, one[0] - self.scene.now))
            self.scene.orders(one[2], one[3])
        self.scene.wait(max(0.0, until - self.scene.now))

    def expire(self) -> None:
        """Remove rules of production's that are idle, as the switch does, and say so if they ask for it."""
        now, model = self.scene.now, self.scene.judge._production.model
        for rule in list(model.state.rules.values()):
            used = max(self.used.get(rule.key, 0.0), rule.made_at)
            if rule.idle_timeout and now - used >= rule.idle_timeout and rule.reports_removal:
                gone = removed(
                    rule.key.match,
                    priority=rule.key.priority,
                    idle_timeout=rule.idle_timeout,
                    duration=now - rule.made_at,
                )
                self.scene.switch(flow_removed_message(gone))

    def frame(self, src: int, dst: int, kind: int) -> None:
        """Have a host send a frame."""
        self.expire()
        now, data = self.scene.now, frame(src, dst, kind)
        match = {
            "in_port": src,
            "eth_dst": dst,
            "eth_src": src,
            "eth_type": kind,
            "vlan_vid": 0,
            "vlan_pcp": 0,
            "ip_proto": 1,
        }
        outcome = walk(self.scene.judge._production.model, match, now)
        for rule in outcome.met:
            if not sends_to_port(rule.instructions, ReservedPort.CONTROLLER):
                self.used[rule.key] = now
                rule.used_at = now if rule.reports_removal else rule.used_at
                return
        buffer_id = self.packet_ins % 256 if self.buffered else NO_BUFFER
        told = packet_in(data, src, version=self.scene.version, buffer_id=buffer_id)
        self.packet_ins += 1
        self.scene.switch(told)
        for who, one in self.controllers.items():
            self.send(who, one.answer(src, dst, data, src, buffer_id))
