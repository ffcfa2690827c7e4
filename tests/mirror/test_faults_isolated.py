"""An exception in mirroring does not change a verdict on production's packets.

The test finds the functions by itself: it observes which functions of mirroring the scenario enters, and makes each of
them raise in a run of its own, once or always.
"""

import heapq
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

import pytest

from natmirror._ffi import lib
from natmirror.actions import Accept, Hook, Send, Verdict
from natmirror.engine.engine import Engine
from natmirror.fastpath import NO_FLOW
from natmirror.mirror.ledger import LEG_SUMS
from natmirror.net import seq
from natmirror.net.build import build as build_packet
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, RST, SYN, Segment
from natmirror.openflow.messages import V13, Type, build, hello
from natmirror.replay.ideal_mirror import IdealMirror
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, KEY
from tests.helpers.support import C1, CLIENT, SERVICE, assert_adds_up, at, at_once, icmp_error, packet, segment

PRODUCTION = (
    *("natmirror.actions.", "natmirror.fastpath.", "natmirror.nat.", "natmirror.replay.", "natmirror.rules."),
    *(f"natmirror.engine.{name}." for name in ("counters", "engine", "failover", "forwarding", "icmp_errors")),
    *(f"natmirror.engine.{name}." for name in ("mirror_endpoints", "mirror_packets", "report")),
    *(f"natmirror.net.{name}." for name in ("build", "checksum", "endpoint", "icmp", "packet", "prefixes", "seq")),
    "natmirror.tcp.acceptance.",
    "natmirror.tcp.breaks.",
    "natmirror.tcp.following.",
    "natmirror.tcp.syns.",
    "natmirror.tcp.tracker.",
    *(f"natmirror.mirror.{name}." for name in ("faults", "guard", "guarded", "outgoing", "teardown", "timers")),
)
"""The modules of production, the guarded door, and the model of the mirrors; all others belong to mirroring."""

RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors:
      - {name: raw, address: 10.20.0.13, reconnect: next-segment}
      - {name: patient, address: 10.20.0.14, when-behind: throttle, buffer: 64KiB}
      - {name: master, address: 10.20.0.15, protocol: openflow, reconnect: next-message, verdict: on}
"""
NO_LEG = int(lib.NM_NO_LEG)
RAW, MASTER = at("10.20.0.13", 6653), at("10.20.0.15", 6653)
SCALE = bytes((1, 3, 3, 7))
FEATURES = (7).to_bytes(8, "big") + bytes((0, 0, 0, 0, 254, 0, 0, 0)) + bytes(8)
HELLO = hello(V13, 1)
FEATURES_REQUEST, FEATURES_REPLY = build(V13, Type.FEATURES_REQUEST, 9), build(V13, Type.FEATURES_REPLY, 9, FEATURES)
PACKET_INS = [build(V13, Type.PACKET_IN, number, bytes(24) + bytes([number]) * 200) for number in range(6)]
ORDERS = [build(V13, Type.FLOW_MOD, number, bytes(48)) for number in range(6)]
BULK = build(V13, Type.ECHO_REQUEST, 9, bytes(30_000))
MASTER_BYTES = HELLO + FEATURES_REQUEST + build(V13, Type.ECHO_REQUEST, 3) + ORDERS[4]


class Mirrors(IdealMirror):
    """Raw mirrors that acknowledge, and a master that sends HELLO, questions and an order."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[tuple[Endpoint, Endpoint], dict[int, bytes]] = {}
        self.first: dict[tuple[Endpoint, Endpoint], int] = {}
        self.reset: set[tuple[Endpoint, Endpoint]] = set()
        self._greeted: set[tuple[Endpoint, Endpoint]] = set()

    def answer(self, segment: Segment) -> list[bytes]:
        leg = ((segment.src, segment.sport), (segment.dst, segment.dport))
        if segment.flags & SYN:
            self.first[leg], self.data[leg] = seq.add(segment.seq, 1), {}
            self.reset.discard(leg)
            self._greeted.discard(leg)
        elif segment.flags & RST:
            self.reset.add(leg)
        elif segment.payload_len:
            self.data.setdefault(leg, {})[seq.diff(segment.seq, self.first.get(leg, 0))] = segment.payload
        answers = super().answer(segment)
        if leg[1] == MASTER and segment.payload_len and leg not in self._greeted:
            self._greeted.add(leg)
            here = build_packet(
                leg[1],
                leg[0],
                seq=1_000_001,
                ack=seq.add(segment.seq, segment.payload_len),
                flags=ACK,
                window=0xFFFF,
                payload=MASTER_BYTES,
            )
            answers.append(here)
        return answers


class Scene:
    """Clients' connections through an engine, with mirrors that answer, on a manual clock."""

    def __init__(self, *, fast: bool) -> None:
        self.engine: Engine = Engine(at_once(parse_rules(RULES)), key=KEY, fast=fast)
        self.now = 1000.0
        self.mirrors = Mirrors()
        self.verdicts: list[Verdict] = []
        self.streams: list[tuple[Endpoint, bytearray]] = []
        self._coming: list[tuple[float, int, bytes]] = []
        self._count = 0

    def production(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> None:
        decision = self.engine.receive(raw, hook, self.now, checksum)
        self.verdicts.append(decision.verdict)
        self._take(decision.sends)

    def ask(self, question: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return the answer to another thread's question; ``otherwise`` where the engine raises, as that thread would
        see."""
        try:
            return question()
        except Injected:
            return otherwise

    def wait(self, seconds: float) -> None:
        """Let time pass: the mirrors' answers come, timers run."""
        until = self.now + seconds
        for _ in range(10_000):
            timer = self.engine.next_timer()
            coming = self._coming[0][0] if self._coming else None
            due = min((when for when in (timer, coming) if when is not None), default=None)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            if coming == due:
                answer = heapq.heappop(self._coming)[2]
                self._take(self.engine.receive(answer, Hook.PREROUTING, self.now, Checksum.VALID).sends)
            else:
                self._take(self.engine.handle_timer(self.now))
        else:
            pytest.fail("timers stay due")
        self.now = until

    def _take(self, sends: list[Send]) -> None:
        for send in sends:
            for one in finish(send.packet, send.segment_len):
                for answer in self.mirrors.answer(segment(one)):
                    self._count += 1
                    heapq.heappush(self._coming, (self.now + 0.001, self._count, answer))


def play(scene: Scene) -> None:
    """Play connections in which everything happens to a stream; the third reuses the ports of the first."""
    for client, iss in ((CLIENT, ISS), (at("10.10.0.12", 40001), 5), (CLIENT, 77)):
        connection(scene, client, iss)
    handover = scene.engine.replicated_legs
    records = scene.ask(lambda: handover.records(handover.ids(), everything=True), [])
    scene.ask(handover.release)
    for record in records:
        scene.ask(partial(handover.adopt, record, scene.now))
    scene.ask(lambda: handover.take_over(scene.now))
    scene.wait(0.1)
    connection(scene, at("10.10.0.13", 40001), 9)
    scene.ask(lambda: scene.engine.snapshot(scene.now))
    scene.ask(lambda: scene.engine.flows(scene.now))
    scene.wait(700.0)  # flows and legs expire, and work is switched on again
    connection(scene, at("10.10.0.14", 40001), 11)
    scene.ask(scene.engine.take_events)
    scene._take(scene.engine.close())


def connection(scene: Scene, client: Endpoint, iss: int) -> None:
    sent = answered = 0

    stream = bytearray()
    scene.streams.append((client, stream))

    def up(letters: str, data: bytes = b"", *, ahead: int = 0) -> None:
        nonlocal sent
        numbers = seq.add(iss, 1 + sent + ahead), seq.add(IRS, 1 + answered)
        scene.production(packet(client, SERVICE, letters, *numbers, data), Hook.PREROUTING)
        if not ahead:
            stream.extend(data)
            sent += len(data) + letters.count("F")

    def down(letters: str, data: bytes = b"") -> None:
        nonlocal answered
        numbers = seq.add(IRS, 1 + answered), seq.add(iss, 1 + sent)
        scene.production(packet(C1, client, letters, *numbers, data), Hook.FORWARD)
        answered += len(data) + letters.count("F")

    scene.production(packet(client, SERVICE, "S", iss, options=SCALE), Hook.PREROUTING)
    scene.production(packet(C1, client, "SA", IRS, seq.add(iss, 1), options=SCALE), Hook.FORWARD)
    up("A")
    scene.wait(0.01)
    up("PA", HELLO)
    down("PA", HELLO + FEATURES_REQUEST)
    up("PA", FEATURES_REPLY)
    scene.wait(0.01)
    for number, message in enumerate(PACKET_INS):
        down("A")
        if number == 2:  # the next one comes first, and is repeated after it
            up("PA", PACKET_INS[3], ahead=len(message))
            scene.wait(0.01)
        up("PA", message)
        down("PA", ORDERS[number])
        scene.wait(0.05)
    number = seq.add(scene.mirrors.first.get((client, RAW), 0), sent)
    scene.production(icmp_error("10.20.0.1", "10.10.0.11", packet(client, RAW, "A", number), mtu=1400), Hook.FORWARD)
    up("PA", BULK)
    down("A")
    scene.wait(0.5)
    if iss == 77:
        return  # it stays open
    up("FA")
    down("FA")
    up("A")
    scene.wait(1.0)


def seen(verdicts: list[Verdict]) -> list[object]:
    """Return production's verdicts without the window: after a failed throttle it is the backend's own."""
    shown: list[object] = []
    for verdict in verdicts:
        if isinstance(verdict, Accept) and verdict.packet is not None and verdict.packet[9] == 6:
            one = segment(verdict.packet)
            ends = (one.src, one.sport, one.dst, one.dport)
            shown.append((*ends, one.seq, one.ack, one.flags, one.payload))
        else:
            shown.append(verdict if isinstance(verdict, Accept) else type(verdict))
    return shown


# Finding the functions that may raise


def entered() -> list[str]:
    """Return the functions of mirroring that the scenario enters, as module:name."""
    found: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname
        if module.startswith("natmirror.") and not f"{module}.".startswith(PRODUCTION):
            found[f"{module}:{name}"] = None

    for fast in (True, False):
        scene = Scene(fast=fast)
        sys.setprofile(watch)
        try:
            play(scene)
        finally:
            sys.setprofile(None)
    return sorted(name for name in found if "<" not in name and can_raise(name))


def owner(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    *outer, last = path.split(".")
    thing: Any = importlib.import_module(module)
    for part in outer:
        thing = getattr(thing, part)
    return thing, last


def can_raise(name: str) -> bool:
    """Return whether a function can be replaced by name."""
    thing, last = owner(name)
    raw = inspect.getattr_static(thing, last, None)
    return isinstance(raw, property | staticmethod) or inspect.isfunction(raw)


class Injected(Exception):
    """The exception that a function is made to raise."""


@contextmanager
def raising(name: str, *, always: bool, late: bool = False) -> Iterator[list[int]]:
    """Make a function raise, the first time or always, or ``late``: after its work is done. Yield a list with an entry
    for each time that it raised."""
    thing, last = owner(name)
    raw = inspect.getattr_static(thing, last)
    raised: list[int] = []
    whole: Any = raw.fget if isinstance(raw, property) else raw.__func__ if isinstance(raw, staticmethod) else raw

    def instead(*arguments: Any, **named: Any) -> Any:
        if always or not raised:
            raised.append(1)
            if late:
                done = whole(*arguments, **named)
                list(islice(done, 1000) if inspect.isgenerator(done) else ())  # a generator may never end
            raise Injected(name)
        return whole(*arguments, **named)

    replaced = (
        property(instead)
        if isinstance(raw, property)
        else staticmethod(instead)
        if isinstance(raw, staticmethod)
        else instead
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thing, last, replaced)
        if inspect.ismodule(thing):  # other modules have imported it by name
            for module in [one for known, one in sys.modules.items() if known.startswith("natmirror.")]:
                if getattr(module, last, None) is raw:
                    patch.setattr(module, last, replaced)
        yield raised


ENTERED = entered()
CALLED_FROM_TABLES = {
    *(f"natmirror.openflow.answers:Answers.{name}" for name in ("_echo", "_features")),
    "natmirror.openflow.bodies.flows:decode_flow_mod",
    "natmirror.openflow.bodies.packets:decode_packet_in",
}
"""Functions that are called from a table, where the replacement has no effect."""
UNDISTURBED: dict[bool, list[object]] = {}


def undisturbed(*, fast: bool) -> list[object]:
    if fast not in UNDISTURBED:
        scene = Scene(fast=fast)
        play(scene)
        UNDISTURBED[fast] = seen(scene.verdicts)
    return UNDISTURBED[fast]


def test_the_scenario_reaches_all_of_mirroring() -> None:
    modules = {name.partition(":")[0].removeprefix("natmirror.") for name in ENTERED}
    assert modules >= {
        *("mirror.backpressure", "mirror.ledger", "mirror.legs", "mirror.mirroring"),
        *("mirror.adoption", "mirror.copies", "mirror.leg_outcomes", "mirror.report"),
        *(f"mirror.sessions.{name}" for name in ("open_sessions", "relay", "replies", "sessions", "totals")),
        *("openflow.observer", "openflow.answers", "openflow.session", "tcp.leg", "tcp.reassembler", "tcp.resumption"),
    }
    assert len(ENTERED) > 200


@pytest.mark.parametrize(("fast", "always"), [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize("name", ENTERED)
def test_a_fault_in_mirroring_costs_no_packet(name: str, always: bool, fast: bool) -> None:
    expected = undisturbed(fast=fast)
    scene = Scene(fast=fast)
    with raising(name, always=always) as raised:
        play(scene)
    assert seen(scene.verdicts) == expected
    assert raised or fast or name in CALLED_FROM_TABLES  # the C gear does not call all of them
    if not always:
        assert_mirrors_have_no_other_bytes(scene)


ENDING = (
    *(f"teardown:Teardown.{name}" for name in ("end", "end_leg", "drop", "_end_all", "_end_copies")),
    *(
        "sessions.sessions:MasterSessions.fail",
        "sessions.sessions:MasterSessions.end_flow",
        "legs:Legs.cut",
        "leg_outcomes:LegOutcomes.cut",
    ),
)
FAILING = ("mirroring:Mirroring.feed", "mirroring:Mirroring.open", "mirroring:Mirroring.flow_forgotten")


@pytest.mark.parametrize("ending", ENDING)
@pytest.mark.parametrize(
    "name", [*FAILING, "legs:Legs.receive", "legs:Legs.handle_timer", "backpressure:Backpressure.accepted"]
)
def test_a_fault_while_failed_work_is_ended_costs_no_packet_either(name: str, ending: str, fast: bool) -> None:
    expected = undisturbed(fast=fast)
    scene = Scene(fast=fast)
    with raising(f"natmirror.mirror.{name}", always=True), raising(f"natmirror.mirror.{ending}", always=True):
        play(scene)
    assert seen(scene.verdicts) == expected


def assert_mirrors_have_no_other_bytes(scene: Scene) -> None:
    """Check that each raw mirror got the beginning of one of its client's streams, without a gap."""
    for (client, mirror), pieces in scene.mirrors.data.items():
        if mirror == MASTER:
            continue
        got = bytearray()
        for offset, piece in sorted(pieces.items()):
            assert offset <= len(got), "a gap"
            got[offset:] = piece
        assert any(stream.startswith(got) for one, stream in scene.streams if one == client)


@pytest.mark.parametrize("name", ENTERED)
def test_after_a_call_that_fails_at_its_end_every_leg_has_a_row_and_an_owner(name: str) -> None:
    scene = Scene(fast=True)
    with raising(name, always=False, late=True):
        play(scene)
    assert seen(scene.verdicts) == undisturbed(fast=True)
    scene.wait(1.0)
    assert_every_leg_has_a_row_and_an_owner(scene.engine)

    scene = Scene(fast=False)
    with raising(name, always=False, late=True):
        connection(scene, CLIENT, ISS)
    connection(scene, CLIENT, 77)
    assert_every_leg_has_a_row_and_an_owner(scene.engine)


def assert_every_leg_has_a_row_and_an_owner(one: Engine) -> None:
    """Check that Python's legs, their rows in C, the flows that C links them to, and the sessions agree."""
    legs, rows, flows = one._legs.living, one._gear.legs, one._gear.flows
    assert len(rows) == len(legs)
    linked: dict[int, set[int]] = {}
    for flow_id in flows.ids():
        found, number = linked.setdefault(flow_id, set()), int(flows.row(flow_id).first_leg)  # type: ignore[union-attr]
        while number != NO_LEG:
            row = rows.row(number)
            assert row is not None, "a removed row gets bytes"
            assert number not in found
            found.add(number)
            number = int(row.next_of_flow)
    for number, owner in legs.items():
        assert owner.leg is not None
        assert owner.leg.ended is None
        assert owner.leg.row.flow_id == NO_FLOW or number in linked[owner.leg.row.flow_id]
    for flow, stream in one._mirroring.streams.items():
        assert one._nat.has_object(flow)
        assert {leg.row.id for _, leg in stream.alive()} == linked[flow.row.id]
    for master, session in one._sessions._open_sessions.by_number.values():
        assert master.has_leg
        assert master.session is session


BOOKKEEPING = (
    "natmirror.mirror.copies",
    "natmirror.mirror.ledger",
    *(f"natmirror.tcp.leg_counts:LegCounts.{name}" for name in LEG_SUMS),
)


@pytest.mark.parametrize("name", [name for name in ENTERED if not name.startswith(BOOKKEEPING)])
def test_after_a_fault_the_ledger_adds_up_and_new_connections_are_copied(name: str) -> None:
    scene = Scene(fast=False)
    with raising(name, always=False):
        connection(scene, CLIENT, ISS)
    connection(scene, at("10.10.0.12", 40001), 77)
    scene.wait(1.0)
    snapshot = scene.engine.snapshot(scene.now)
    assert_adds_up(snapshot)
    raw = next(mirror for mirror in snapshot["mirrors"] if mirror["name"] == "raw")
    assert raw["legs"] == 1
    assert raw["pending_bytes"] == 0
    assert sum(snapshot["faults"]["internal_errors"].values()) <= 2
