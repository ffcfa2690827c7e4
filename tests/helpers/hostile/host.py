"""One host in both gears."""

from collections.abc import Callable
from typing import TypeVar

from natmirror.actions import Hook, Send, Verdict
from natmirror.fastpath import Memory
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.packet import Segment
from natmirror.rules import Rules
from tests.helpers.hostile.streams import Streams
from tests.helpers.judged_engine import JudgedEngine
from tests.helpers.support import segment

_T = TypeVar("_T")
_KEY = bytes(range(16))
_MAX_CALLS = 2000  # of handle_timer() until nothing is due: each does a bounded part


class Host:
    """Two engines with the same rules, one with its C gear off. Each call goes to both, and both have to do the same.
    If peers may run out of turns, which only C has, there is one engine.

    ``on_send`` is called with each segment that they send.
    """

    def __init__(
        self, rules: Rules, *, memory: int, on_send: Callable[[Segment], None], limits_turns: bool = False
    ) -> None:
        self.rules = rules
        self.now = 1000.0
        self.limits_turns = limits_turns
        gears = (True,) if limits_turns else (True, False)
        self.engines = [JudgedEngine(rules, key=_KEY, fast=fast, memory=Memory(memory)) for fast in gears]
        self._streams = Streams()
        self._on_send = on_send

    def receive(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> Verdict:
        """Return the verdict on a packet."""
        if hook is Hook.PREROUTING:
            self._streams.note(raw)
        decision = self.both(lambda engine: engine.receive(raw, hook, self.now, checksum))
        self.note(decision.sends)
        return decision.verdict

    def both(self, do: Callable[[JudgedEngine], _T]) -> _T:
        """Return what both engines have to return."""
        one, *others = [do(engine) for engine in self.engines]
        assert all(other == one for other in others), "the gears differ"
        return one

    def send(self, do: Callable[[JudgedEngine], list[Send]]) -> None:
        """Call something that returns packets to send."""
        self.note(self.both(do))

    def flush(self) -> None:
        """Send the packets that a command has left, as a packet thread does before it receives."""
        self.send(lambda engine: engine._outgoing.drain())

    def command(self, do: Callable[[JudgedEngine], _T]) -> _T | str:
        """Return what both engines have to return, or the text of the ValueError by which both refuse a command."""

        def outcome(engine: JudgedEngine) -> _T | str:
            try:
                return do(engine)
            except ValueError as error:
                return str(error)

        return self.both(outcome)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do all that is due then."""
        self.now += seconds
        for _ in range(_MAX_CALLS):
            if not any(self._is_due(engine) for engine in self.engines):
                return
            self.send(lambda engine: engine.handle_timer(self.now))
        raise AssertionError("a timer stays due")

    def next_timer(self) -> float | None:
        """Return the time of the earliest timer of both engines, or None."""
        return min((when for engine in self.engines if (when := engine.next_timer()) is not None), default=None)

    def _is_due(self, engine: JudgedEngine) -> bool:
        when = engine.next_timer()
        return when is not None and when <= self.now

    def note(self, sends: list[Send]) -> None:
        """Take packets that both engines send."""
        for send in sends:
            for raw in finish(send.packet, send.segment_len):
                sent = segment(raw)
                self._streams.check(self.engines[0], sent)
                self._on_send(sent)
