"""Follows Open vSwitch and the model of its tables through the same random orders, and compares them."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, unpack_from

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.bodies.values import Body, ErrorMessage, FlowStats, FlowStatsReply, Opaque
from natmirror.openflow.messages import V10, V15, VERSIONS, Message, Multipart, Type, build, multipart_of, parse
from natmirror.openflow.tables.entries import STATE_FLAGS, Rule, RuleKey
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.steps import finish
from tests.live.truth.frames import AppCtl, Tracer, random_fields
from tests.live.truth.line import Line
from tests.live.truth.orders import Orders

_MAX_BURST = 12
_POLL_SHARE = 0.05  # of the bursts: with a request for statistics of the controller in their middle
_AGE_TOLERANCE = 0.5  # seconds, beside those in which the switch has not yet carried out an order or answered
_FRAMES_EACH = 3  # bursts
_NO_BUCKET = 0xFFFF_FFFF
_LEEWAY = 2.0  # seconds in which both have to be equal once


class Unlimited:
    """An account without a limit."""

    def __init__(self) -> None:
        self.used = 0

    def take(self, count: int) -> bool:
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count
        assert self.used >= 0


@dataclass
class Figures:
    """What a run has found."""

    version: int
    steps: int = 0
    seconds: float = 0.0
    comparisons: int = 0
    rules: int = 0
    """Rules that were compared."""
    doubtful: int = 0
    """Rules that the switch had removed, and the model called doubtful."""
    refused: int = 0
    alone: int = 0
    """Orders that were given alone, so that the state before them was known."""
    refused_alone: int = 0
    predicted: int = 0
    """Of these, the refusals that the model of a mirror would have predicted."""
    removed: int = 0
    """FLOW_REMOVEDs."""
    frames: int = 0
    """Frames whose outputs were compared."""
    differences: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        orders = f"{VERSIONS[self.version]}: {self.steps:,} orders in {self.seconds:.0f} s, {self.refused:,} refused"
        predicted = f"of {self.alone:,} given alone {self.refused_alone:,} refused, {self.predicted:,} predicted"
        compared = f"{self.comparisons:,} comparisons of {self.rules:,} rules, {self.doubtful:,} doubtful ones gone"
        found = f"{self.frames:,} frames; {len(self.differences)} differences"
        return f"{orders}; {predicted}; {self.removed:,} removed; {compared}; {found}"


class Comparison:
    """One run in one version, on one switch."""

    def __init__(self, management: Path, version: int, seed: int, appctl: AppCtl) -> None:
        self.figures = Figures(version)
        self._version = version
        self._line = Line(management, version)
        self._orders = Orders(version, seed)
        self._account = Unlimited()
        self._model = ProductionModel(version, self._account)
        self._tracer = Tracer(appctl)
        self._latest: list[str] = []
        """The messages of the latest burst."""
        self._longest_burst = 0.0
        """In seconds: for so long at most an order was given that the switch had not carried out."""

    def run(self, steps: int) -> Figures:
        """Give that many orders; return what was found."""
        begun = time.monotonic()
        self._begin()
        self._longest_burst = time.monotonic() - begun
        while self.figures.steps < steps and not self.figures.differences:
            self._burst()
        self.figures.seconds = time.monotonic() - begun
        self._give(self._orders.delete_all())
        self._settle()
        self._model.close(time.monotonic())
        assert self._account.used == 0, f"{self._account.used} bytes are not given back"
        self._line.close()
        return self.figures

    def _begin(self) -> None:
        """Give some orders before the model follows; then it gets the rules from an answer to the controller."""
        for raw in self._orders.delete_all():
            self._line.send(raw)
        self._line.barrier()
        for _ in range(20):
            for raw in self._orders.order():
                if parse(raw).kind is Type.FLOW_MOD:
                    self._line.send(raw)
        self._line.barrier()
        self._poll()
        if self._version > V10:
            self._give(self._orders.delete_all()[1:])  # so that the model knows all groups and meters
        self._settle()
        self._compare()

    # One burst

    def _burst(self) -> None:
        rng, begun = self._orders.random, time.monotonic()
        self._latest.clear()
        count = rng.randint(1, _MAX_BURST)
        for _ in range(count):
            messages = self._orders.order()
            if count == len(messages) == 1:
                self._give_alone(messages[0])
            else:
                self._give(messages)
            self.figures.steps += 1
        if rng.random() < _POLL_SHARE:
            request = self._line.flow_request()
            self._line.send(request.raw)
            self._order(request)
            self._give(self._orders.order())
            parts, others = self._line.answer_to(request)
            for message in [*others, *parts]:
                self._report(message)
        self._settle()
        self._longest_burst = max(self._longest_burst, time.monotonic() - begun)
        self._compare()
        if self.figures.comparisons % _FRAMES_EACH == 0:
            self._compare_frame()

    def _compare_frame(self) -> None:
        """Compare what becomes of a frame. A rule may go while the switch traces it, so a difference counts if it
        lasts."""
        fields = random_fields(self._orders.random)
        deadline = time.monotonic() + _LEEWAY
        while True:
            now = time.monotonic()
            finish(self._model.expire(now))
            is_compared, difference = self._tracer.compare(self._model, fields, now)
            if not difference or now > deadline:
                break
            self._settle()
        self.figures.frames += is_compared
        if difference:
            self.figures.differences.append(difference)

    def _give_alone(self, raw: bytes) -> None:
        """Give an order that the model must not predict to be refused if the switch accepts it."""
        try:
            predicted = self._model.predicted_refusal(decode(parse(raw)))
        except MalformedBody:
            predicted = "malformed"
        refused = self.figures.refused
        self._give([raw])
        self._settle()
        is_refused = self.figures.refused > refused
        self.figures.alone += 1
        self.figures.refused_alone += is_refused
        self.figures.predicted += is_refused and predicted is not None
        if predicted is not None and not is_refused and not self._model.doubtful_rules(time.monotonic()):
            self.figures.differences += [
                f"the switch accepts what is predicted to be refused: {predicted}",
                *self._latest,
            ]

    def _give(self, messages: list[bytes]) -> None:
        for raw in messages:
            self._line.send(raw)
            self._order(parse(raw))

    def _order(self, message: Message) -> None:
        now = time.monotonic()
        try:
            body = decode(message)
        except MalformedBody:
            self.figures.kinds["malformed"] += 1
            finish(self._model.ordered_unknown(message, now))
            return
        self.figures.kinds[type(body).__name__] += 1
        self._latest.append(f"{message.xid}: {body}")
        finish(self._model.ordered(message, body, now))

    def _settle(self) -> None:
        request, said = self._line.barrier()
        self._order(request)
        for message in said:
            self._report(message)

    def _report(self, message: Message) -> None:
        if message.kind is Type.FLOW_REMOVED:
            self.figures.removed += 1
        body: Body = Opaque("", b"")
        if message.kind is not Type.BARRIER_REPLY:
            body = decode(message)
        if isinstance(body, ErrorMessage):
            self.figures.refused += 1
            self.figures.kinds[f"error {body.kind}/{body.code}"] += 1
            self._latest.append(f"{message.xid} refused: {body.kind}/{body.code}")
        finish(self._model.reported(message, body, time.monotonic()))

    def _poll(self) -> None:
        request = self._line.flow_request()
        self._line.send(request.raw)
        self._order(request)
        parts, others = self._line.answer_to(request)
        for message in [*others, *parts]:
            self._report(message)

    # Comparison

    def _compare(self) -> None:
        """Compare all tables. The switch reports a removal after it has removed the rule, so a difference counts if it
        lasts."""
        self.figures.comparisons += 1
        began_at = time.monotonic()
        deadline = began_at + _LEEWAY
        while found := self._differences():
            if began_at > deadline:
                self.figures.differences += [f"after {self.figures.steps} orders: {one}" for one in found]
                self.figures.differences += self._latest
                return
            self._settle()
            began_at = time.monotonic()

    def _differences(self) -> list[str]:
        asked_at = time.monotonic()
        parts = self._asked(self._line.ask(Multipart.FLOW))
        now = time.monotonic()
        age_tolerance = _AGE_TOLERANCE + self._longest_burst + now - asked_at
        finish(self._model.expire(now))
        listed: dict[RuleKey, FlowStats] = {}
        for part in parts:
            reply = decode(part)
            assert isinstance(reply, FlowStatsReply)
            listed |= {RuleKey(one.table, one.priority, one.match): one for one in reply.flows}
        state = self._model.state
        if state.not_followed is not None:
            return [f"not followed: {state.not_followed}"]
        found = [f"only the switch has {listed[key]}" for key in listed.keys() - state.rules.keys()]
        gone = [state.rules[key] for key in state.rules.keys() - listed.keys()]
        found += [f"only the model has {rule}" for rule in gone if not self._model.is_doubtful(rule, now)]
        for key in listed.keys() & state.rules.keys():
            found += self._compare_rule(state.rules[key], listed[key], now, age_tolerance)
        if self._version > V10:
            found += self._compare_groups() + self._compare_meters()
        if not found:
            self.figures.rules += len(listed)
            self.figures.doubtful += len(gone)
        return found

    def _asked(self, answer: tuple[list[Message], list[Message]]) -> list[Message]:
        """Report what came with an answer, and return the answer's parts."""
        parts, others = answer
        for message in others:
            self._report(message)
        return parts

    def _compare_rule(self, rule: Rule, flow: FlowStats, now: float, age_tolerance: float) -> list[str]:
        is_v10 = self._version == V10
        ours = (rule.instructions, rule.cookie, rule.idle_timeout, rule.hard_timeout)
        theirs = (flow.instructions, flow.cookie, flow.idle_timeout, flow.hard_timeout)
        more = (rule.flags, rule.importance) == (flow.flags & STATE_FLAGS, flow.importance)
        if ours != theirs or not (is_v10 or more):
            return [f"the model has {rule}, the switch {flow}"]
        if abs(now - rule.made_at - flow.duration) > age_tolerance:
            return [f"the model's rule has lived for {now - rule.made_at:.2f} s, the switch's {flow}"]
        return []

    def _compare_groups(self) -> list[str]:
        listed: dict[int, object] = {}
        for entry in self._entries(self._line.ask_groups()):
            kind, number = unpack_from("!2xBxI", entry)
            rest = entry[8:]
            if self._version == V15:
                rest = pack("!H2xI", unpack_from("!H", rest)[0], _NO_BUCKET) + rest[8:]
            mod = self._decoded(Type.GROUP_MOD, pack("!HBxI", 0, kind, number) + rest)
            assert isinstance(mod, GroupMod)
            listed[number] = mod.type, mod.buckets
        ours = {one.key.group_id: (one.type, one.buckets) for one in self._model.state.groups.values()}
        return [] if ours == listed else [f"the model has the groups {ours}, the switch {listed}"]

    def _compare_meters(self) -> list[str]:
        listed: dict[int, object] = {}
        for entry in self._entries(self._line.ask_meters()):
            mod = self._decoded(Type.METER_MOD, bytes(2) + entry[2:])
            assert isinstance(mod, MeterMod)
            listed[mod.meter_id] = mod.flags, mod.bands
        ours = {one.key.meter_id: (one.flags, one.bands) for one in self._model.state.meters.values()}
        return [] if ours == listed else [f"the model has the meters {ours}, the switch {listed}"]

    def _entries(self, answer: tuple[list[Message], list[Message]]) -> Iterator[bytes]:
        """Yield the entries of an answer, each of which begins with its length."""
        for part in self._asked(answer):
            body = multipart_of(part)[2]
            while body:
                length = int.from_bytes(body[:2], "big")
                yield body[:length]
                body = body[length:]

    def _decoded(self, kind: Type, body: bytes) -> Body:
        """Decode a description as the order that would make it."""
        return decode(parse(build(self._version, kind, 0, body)))
