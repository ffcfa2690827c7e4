"""A switch, its controller and a master that say anything in sensible TCP, with a verdict on the master and without:
production and the session are the same, no call fails, and the memory stays within its account."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from natmirror.net.build import finish
from natmirror.openflow.comparison.court import Court
from natmirror.openflow.comparison.court_memory import CourtMemory
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.messages import Message, Type, build, hello, parse
from natmirror.openflow.session import SwitchSession
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.comparison import (
    TABLE_MISS,
    error_message,
    flow_mod_message,
    frame,
    packet_in,
    packet_out,
    to_host,
)
from tests.helpers.flow_tables import output
from tests.helpers.hostile.payloads import SAMPLES
from tests.helpers.openflow import ALL, features
from tests.helpers.openflow_sessions import Master
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import RULES, assert_adds_up, segment

OPENFLOW = "10.20.0.13, protocol: openflow, reconnect: next-message, warm-up: 0s, verdict: "
STEPS = 120
MAX_RUNS = 25


class Ends:
    """The switch, its controller and the master of one engine's connection. The master answers what it gets, as far as
    TCP asks for it."""

    def __init__(self, one: RelativeEngine) -> None:
        self.engine = one
        self.connection = ClientConnection(one)
        self.master = Master(self.connection, may_be_late=True)
        self.sent: list[bytes] = []
        """All that the engine has sent on in production, and to the master."""

    def begin(self, version: int) -> None:
        self.connection.connect()
        self.say("switch", hello(version, 1))
        self.say("controller", hello(version, 1) + build(version, Type.FEATURES_REQUEST, 5))
        self.say("switch", features(version, 5))
        self.say("master", hello(version, 1) + build(version, Type.FEATURES_REQUEST, 7))

    def say(self, who: str, data: bytes) -> None:
        """Have one of them send bytes, in one segment."""
        if who == "master":
            if self.has_session:
                self.master.say(data)
        elif who == "switch":
            self.sent.append(self.connection.from_client("PA", data).raw)
        else:
            self.sent.append(self.connection.from_backend("PA", data).raw)
        self.read()

    @property
    def has_session(self) -> bool:
        """Whether the master has a leg that it may send on."""
        return self.master.iss is not None and not self.master.ended

    def close(self) -> None:
        """Have the master close its session, if it has one."""
        if self.has_session:
            self.master.close()
            self.read()

    def read(self) -> None:
        """Have the master read what has come."""
        self.sent += [one.raw for one in self.connection.to_mirror]
        self.master.take()

    def wait(self, seconds: float) -> None:
        """Let time pass, with all timers that are due in it."""
        connection, until = self.connection, self.connection.now + seconds
        for _ in range(10_000):
            due = self.engine.next_timer()
            if due is None or due > until:
                break
            connection.now = max(connection.now, due)
            for send in self.engine.handle_timer(connection.now):
                connection.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
            self.read()
        connection.now = until

    def shown(self) -> Any:
        """Return what the engine shows, without what it shows of verdicts."""
        snapshot: Any = self.engine.snapshot(self.connection.now)
        assert_adds_up(snapshot)
        del snapshot["mirror_memory"]
        for mirror in snapshot["mirrors"]:
            mirror.pop("comparison", None)
        return snapshot


class Talk:
    """What they say, by chance but the same for each seed."""

    def __init__(self, seed: int, *everyone: Ends) -> None:
        self.random = Random(seed)
        self.version = self.random.choice(ALL)
        self._everyone = everyone
        self._seen: list[bytes] = [frame()]
        self._orders: list[Message] = []
        self._broken_part = self.random.choice((0.0, 0.0, 0.01))

    def step(self) -> None:
        """Have one of them say something, or let time pass."""
        act = self.random.choices(("switch", "controller", "master", "both", "wait", "close"), (6, 2, 2, 5, 4, 0.1))[0]
        if act == "wait":
            seconds = self.random.choice((0.001, 0.02, 0.06, 0.5, 2.1, 3.0, 12.0, 70.0))
            self._each(lambda ends: ends.wait(seconds))
        elif act == "close":
            self._each(Ends.close)
        elif act == "both":  # the order of both is the same, or the other way round
            says = self._messages("controller")
            for who in self.random.sample(("controller", "master"), 2):
                self._say(who, says if self.random.random() < 0.8 else self._messages("master"))
        else:
            self._say(act, self._messages(act))

    def _each(self, do: Any) -> None:
        for ends in self._everyone:
            do(ends)

    def _say(self, who: str, messages: list[bytes]) -> None:
        data = b"".join(messages)
        places = sorted(
            {0, len(data), *(self.random.randrange(len(data) + 1) for _ in range(self.random.choice((0, 2))))}
        )
        for at, end in pairwise(places):
            self._each(lambda ends, part=data[at:end]: ends.say(who, part))

    def _messages(self, who: str) -> list[bytes]:
        found = [self._message(who) for _ in range(self.random.choice((1, 1, 2, 5)))]
        return [self._changed(raw) if self.random.random() < 0.03 else raw for raw in found]

    def _changed(self, raw: bytes) -> bytes:
        """Return a message with other bytes in some places, in the same length."""
        data, first = bytearray(raw), 0 if self.random.random() < self._broken_part else 8
        for _ in range(3):
            if len(data) > first:
                data[self.random.randrange(first, len(data))] = self.random.choice((0, 1, 4, 8, 0x7F, 0xFF))
        return bytes(data)

    def _message(self, who: str) -> bytes:
        version, draw = self.version, self.random
        if draw.random() < 0.3:
            return draw.choice(SAMPLES[version])
        if who == "switch":
            return self._of_switch(version, draw.random())
        data, host, xid = draw.choice(self._seen), draw.choice((1, 2, 3)), draw.randrange(20)
        timeouts = {"idle_timeout": draw.choice((0, 1, 5)), "flags": draw.choice((0, 1)), "cookie": draw.choice((0, 9))}
        found = draw.choice(
            (
                packet_out(data, output(host), version=version, xid=xid),
                flow_mod_message(to_host(host, host, **timeouts), version=version, xid=xid),
                flow_mod_message(TABLE_MISS, version=version, xid=xid),
                parse(build(version, Type.BARRIER_REQUEST, xid)),
            )
        )
        self._orders = [*self._orders[-20:], found]
        return found.raw

    def _of_switch(self, version: int, chance: float) -> bytes:
        draw = self.random
        if chance < 0.7 or not self._orders:
            data = frame(draw.choice((1, 2)), draw.choice((1, 2, 3)), draw.choice((0x0800, 0x0806)))
            self._seen = [*self._seen[-5:], data]
            buffer_id = draw.choice((0xFFFF_FFFF, 7))
            return packet_in(data, draw.choice((1, 2)), version=version, buffer_id=buffer_id).raw
        order = draw.choice(self._orders)
        if chance < 0.85:
            return error_message(order).raw
        return build(version, Type.BARRIER_REPLY, order.xid)


def play(seed: int, *everyone: Ends) -> None:
    """Play a run; compare what all have got."""
    talk = Talk(seed, *everyone)
    first, *others = everyone
    for ends in everyone:
        ends.begin(talk.version)
    for _ in range(STEPS):
        talk.step()
        for ends in everyone:
            memory = ends.engine.snapshot(ends.connection.now)["mirror_memory"]
            assert 0 <= memory["used_bytes"] <= memory["limit_bytes"]
            assert memory["largest_client_bytes"] <= memory["client_limit_bytes"]
            assert 0 <= ends.engine.court_memory.used <= ends.engine.court_memory.limit
            for news in ends.engine.faults.take_news():
                raise getattr(news, "error", AssertionError(str(news)))
        for other in others:
            assert other.sent == first.sent
            assert other.shown() == first.shown()
    for ends in everyone:
        ends.connection.from_client("RA")
        ends.wait(100_000.0)
        engine_ = ends.engine
        engine_.court.prune(())
        assert (engine_.court_memory.used, engine_.court._dockets, engine_.statements.held) == (0, {}, {})
        for datapath in list(engine_.directory._datapaths.values()):
            engine_.directory.forget(datapath)
        assert engine_.snapshot(ends.connection.now)["mirror_memory"]["used_bytes"] == 0
        assert not engine_.faults.counts


def ends_of(verdict: str, more: str = "") -> Ends:
    return Ends(engine(more + RULES.replace("10.20.0.13}", f"{OPENFLOW}{verdict}}}")))


@settings(max_examples=MAX_RUNS, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, (1 << 32) - 1))
def test_a_verdict_changes_neither_production_nor_the_session(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:  # statistics of its own rules are what a verdict adds to a session
        patch.setattr(SwitchSession, "ask_statistics_from", lambda session, source: None)
        play(seed, ends_of("off"), ends_of("on"))


@settings(max_examples=MAX_RUNS, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, (1 << 32) - 1), size=st.sampled_from(("2MiB", "4MiB", "8MiB", "32MiB")))
def test_a_verdict_keeps_within_the_account(seed: int, size: str) -> None:
    play(seed, ends_of("on", f"mirror-memory: {size}\n"))


def test_the_runs_have_answers_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Judge] = []
    begin = Judge.__init__

    def begin_noted(judge: Judge, *arguments: Any, **options: Any) -> None:
        begin(judge, *arguments, **options)
        made.append(judge)

    monkeypatch.setattr(Judge, "__init__", begin_noted)
    results: Counter[str] = Counter()
    for seed in range(12):
        ends = ends_of("on")
        monkeypatch.setattr(ends.engine.comparisons, "forget", lambda *key: None)
        with pytest.raises(AssertionError):  # the sums keep their memory
            play(seed, ends)
        sums = ends.engine.comparisons.get("openflow", "master")
        assert sums is not None
        results.update({str(name): count for name, count in sums.show()["answers"].items()})
        results.update({str(name): count for name, count in sums.show()["differences"].items()})
    assert made
    missing = {"equal", "differs", "unanswered", "not-comparable", "rule-different", "frame-missing"} - set(+results)
    assert not missing, results


@settings(max_examples=MAX_RUNS, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, (1 << 32) - 1))
def test_judges_that_are_late_find_the_same(seed: int) -> None:
    ends = ends_of("on")
    said: list[bytes] = []
    engine_, push = ends.engine, ends.engine.court.push

    def noted(parts: Sequence[bytes]) -> None:
        said.extend(parts)
        push(parts)

    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_.court, "push", noted)
        patch.setattr(engine_.court, "prune", lambda compared: found.append(_answers(engine_.comparisons)))
        with pytest.raises(AssertionError):  # the sums keep their memory
            play(seed, ends)
    memory = CourtMemory(engine_.court_memory.limit, engine_.court_memory.client_limit)
    comparisons = Comparisons(memory)
    late = Court(memory, comparisons, lambda *answer: None, _no_fault)
    late.push(said)
    while late.step(ends.connection.now):
        pass
    assert [_answers(comparisons)] == found


def _answers(comparisons: Comparisons) -> Any:
    sums = comparisons.get("openflow", "master")
    return None if sums is None else (sums.show()["answers"], sums.show()["differences"])


def _no_fault(client: str, error: Exception) -> None:
    raise error
