"""A worker's engine for other threads: the worker's thread serves their requests between packets.

Long work is cut into slices, and packets pass between the slices.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import thread_time
from typing import Any, Protocol, TypeVar

from natmirror.actions import Send
from natmirror.backends.admission import Kill, Share
from natmirror.engine.engine import Engine
from natmirror.engine.explained import ConnectionEntry, NewConnectionEntry
from natmirror.engine.flow_notes import FlowNote, GoneNote
from natmirror.engine.report import KeptDecisions
from natmirror.engine.shown import Counts, Snapshot
from natmirror.fastpath import Clients, Look, ServiceLook
from natmirror.linux.nftables import ServiceBackend
from natmirror.mirror.faults import Work
from natmirror.mirror.shown import FlowEntry
from natmirror.openflow.tables.statistics import Bodies
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import Mirror, Rules
from natmirror.rules.reload import Kept
from natmirror.runtime.selection import Selection

_T = TypeVar("_T")

_ANSWER_TIMEOUT = 5.0
_FLOWS_SLICE = 200
_LOOK_SLICE = 2000  # C looks at some ten flows in a microsecond
_NOTED_SLICE = 6  # to note a flow takes some 5 us, in which no packet passes
_SHOWN_SLICE = 6  # to show something takes some 30
_BEHIND_SLICE = 64  # C finds the worst among thousands of legs in some 50 us
_CLIENT_SLICE = 500  # C looks at some ten flows in a microsecond
_SLICES_AT_ONCE = 16  # of numbers of which nothing is shown
_ONE_ADDRESS = 0xFFFFFFFF
_SWITCHES_SLICE = 1
_ASKING_SECONDS = 0.00015  # of the thread, before and after each question: Python's code and data are in no cache

FlowPosition = tuple[bool, int]
"""The position of a flow in the walk through all of an engine's: whether it is a leg that has outlived its flow, and
the number of the leg or flow."""
FIRST: FlowPosition = (False, 0)


class EngineThread(Protocol):
    """The thread that an engine belongs to."""

    def post(self, do: Callable[[], None]) -> None:
        """Have the thread call a function soon."""

    def ask(self, question: Callable[[], Any], timeout: float | None) -> Any:
        """Have the thread call a function; return its result. TimeoutError where that takes too long."""

    def send(self, sends: list[Send]) -> None:
        """Send synthesised packets; called in the thread itself."""


class EngineProxy:
    """The engine of ``thread``, for all other threads.

    Methods that return something wait for the thread, and raise TimeoutError where it does not answer soon. Of the
    methods that return nothing, only reload() and set_marks() wait: for as long as it takes.
    """

    def __init__(self, engine: Engine, replication: EngineAdapter, thread: EngineThread, rules: Rules) -> None:
        self._engine = engine
        self._replication = replication
        self._thread = thread
        self._rules = rules
        self.answering_seconds = 0.0
        """The processor time that the thread has taken for answers, without what it has done for the host, and a part
        of what others have taken."""

    # What the API shows

    def snapshot(self) -> Snapshot:
        """Return the engine's counters: those of services and of mirrors as they are some packets after the others,
        because to add up either takes as long."""
        counts: Counts = self._ask(lambda: self._engine.counts(time.monotonic()))
        services = self._ask(self._engine.services)
        return {**counts, "services": services, "mirrors": self._ask(lambda: self._engine.mirrors(time.monotonic()))}

    def clients(self, most: int) -> tuple[dict[bytes, bool], bool]:
        """Return what Engine.clients() returns."""
        found: tuple[dict[bytes, bool], bool] = self._ask(lambda: self._engine.clients(most))
        return found

    def flows(self, wanted: Selection, first: FlowPosition = FIRST) -> Iterator[list[tuple[FlowPosition, FlowEntry]]]:
        """Yield the flows that are wanted, with their legs, and the position of each, some at a time: those from the
        position ``first`` on, in order. First come the flows, then legs that have outlived theirs."""
        lingers, number = first
        if not lingers:
            for part in self._noted(wanted, number):
                yield _shown(wanted, part)
        leg_ids = sorted(self._ask(self._engine.leg_ids))

        def leg_ids_from(first: int, most: int) -> list[int]:
            start = bisect_left(leg_ids, first)
            return leg_ids[start : start + most]

        for lingering in self._slices(leg_ids_from, self._lingering_now, number if lingers else 0):
            yield _shown(wanted, lingering)

    def _noted(self, wanted: Selection, first: int) -> Iterator[list[FlowNote]]:
        """Yield the flows that may be wanted, slice by slice, from the number ``first`` on."""

        def next_slice(first: int) -> tuple[list[FlowNote], int | None]:
            noted, following = list[FlowNote](), first
            for _ in range(_SLICES_AT_ONCE):
                ids, after = self._engine.flow_ids_of(wanted.clients, following, _NOTED_SLICE - len(noted))
                noted += self._engine.note_flows(time.monotonic(), ids, wanted.of_kinds)
                has_looked_at_many = after is not None and after - first >= _LOOK_SLICE
                if after is None or not ids or len(noted) >= _NOTED_SLICE or has_looked_at_many:
                    return noted, after
                following = after
            return noted, following

        yield from self._steps(next_slice, first)

    def flows_behind(self, wanted: Selection, seconds: float) -> Iterator[list[tuple[FlowPosition, FlowEntry]]]:
        """Yield the flows that are wanted of which a mirror has been behind for so long, some at a time, each with its
        position: that of the leg that has been behind longest first. A flow comes once for each such leg."""
        then, after, found = time.monotonic() - seconds, None, [(0.0, 0)]
        while found:
            found = self._ask(partial(self._engine.legs_behind, then, after, _BEHIND_SLICE))
            for some in _slices([leg_id for _, leg_id in found], _NOTED_SLICE):
                yield _shown(wanted, self._ask(partial(self._behind_now, wanted, some)))
            after = found[-1] if found else None

    def _behind_now(self, wanted: Selection, leg_ids: Sequence[int]) -> list[FlowNote | GoneNote]:
        noted: list[FlowNote | GoneNote] = []
        for leg_id in leg_ids:
            number = self._engine.flow_of_leg(leg_id)
            if number is None:
                noted += self._lingering_now([leg_id])
            else:
                noted += self._engine.note_flows(time.monotonic(), [number], wanted.of_kinds)
        return noted

    def _lingering_now(self, leg_ids: Sequence[int]) -> list[GoneNote]:
        return self._engine.note_lingering(time.monotonic(), leg_ids)

    def count_flows(self, kinds: Callable[[FlowEntry], Iterable[_T]]) -> Counter[_T]:
        """Return how many flows are of each kind; ``kinds`` returns those of a flow."""
        noted = self._noted(Selection({}, of_legs=False), 0)
        return Counter(kind for flows in noted for flow in flows for kind in kinds(flow.show()))

    def foresee(self, address: bytes, port: int | None, service: str | None) -> list[NewConnectionEntry]:
        """Return what EngineExplanation.foresee() returns."""
        explanation = self._engine.explanation
        found: list[NewConnectionEntry] = self._ask(
            lambda: explanation.foresee(address, port, service, time.monotonic())
        )
        return found

    def connections_of(self, address: bytes, port: int | None, most: int) -> tuple[list[ConnectionEntry], int]:
        """Return a client's connections, at most ``most`` of them, and the number of all."""
        explanation = self._engine.explanation
        ids: list[int] = []
        first: int | None = 0
        if port is not None:
            ids, first = self._ask(lambda: explanation.ids_of((address, port))), None
        clients = Clients(int.from_bytes(address), _ONE_ADDRESS)
        while first is not None:
            more, first = self._ask(partial(self._engine.flow_ids_of, clients, first, _CLIENT_SLICE))
            ids += more
        shown: list[ConnectionEntry] = []
        for some in _slices(ids[:most], _SHOWN_SLICE):
            shown += self._ask(partial(self._connections_now, some))
        return shown, len(ids)

    def _connections_now(self, ids: list[int]) -> list[ConnectionEntry]:
        return self._engine.explanation.connections(ids, time.monotonic())

    def decisions(self, first: int) -> Iterator[list[tuple[int, KeptDecisions]]]:
        """Yield the orders of backends and masters for each switch, some at a time, each with its flow's number: those
        from the number ``first`` on."""

        def take(ids: Sequence[int]) -> list[tuple[int, KeptDecisions]]:
            return [(number, one) for number in ids for one in self._engine.decisions([number])]

        yield from self._slices(self._engine.flow_ids_from, take, first)

    def _slices(
        self, ids_from: Callable[[int, int], list[int]], show: Callable[[list[int]], list[_T]], start: int
    ) -> Iterator[list[_T]]:
        """Yield what the engine shows of numbers, slice by slice. ``ids_from`` returns the next numbers from one on. A
        slice is short in what it shows, and in the numbers of which it shows nothing."""

        def next_slice(first: int) -> tuple[list[_T], int | None]:
            shown: list[_T] = []
            for _ in range(_SLICES_AT_ONCE):
                ids = ids_from(first, _SHOWN_SLICE - len(shown))
                if not ids:
                    return shown, None
                shown += show(ids)
                first = ids[-1] + 1
                if len(shown) >= _SHOWN_SLICE:
                    break
            return shown, first

        yield from self._steps(next_slice, start)

    def _steps(self, next_slice: Callable[[int], tuple[list[_T], int | None]], first: int) -> Iterator[list[_T]]:
        """Yield slices, one with each question; ``next_slice`` returns it, and the number to go on with."""
        following: int | None = first
        while following is not None:
            shown, following = self._ask(partial(next_slice, following))
            yield shown

    def look(self, number: int, report: Callable[[dict[str, ServiceLook]], None]) -> None:
        """Have the thread look at all flows, in slices, and call ``report`` with what each service's show. ``number``
        counts looks from 1 on."""
        self._thread.post(lambda: self._look_on(self._engine.begin_look(number), 0, report))

    def _look_on(self, look: Look, first: int, report: Callable[[dict[str, ServiceLook]], None]) -> None:
        following = look.at(first, _LOOK_SLICE, time.monotonic())
        if following is None:
            report(self._engine.end_look(look))
        else:
            self._thread.post(lambda: self._look_on(look, following, report))

    # Known switches

    def known_switches(self) -> list[dict[str, Any]]:
        """Return the known switches, as plain values for restore_switch()."""
        clients = self._thread.ask(lambda: self._engine.directory.connections(time.monotonic()), _ANSWER_TIMEOUT)
        known: list[dict[str, Any]] = []
        for start in range(0, len(clients), _SWITCHES_SLICE):
            some = clients[start : start + _SWITCHES_SLICE]
            known += self._thread.ask(partial(self._switches_now, some), _ANSWER_TIMEOUT)
        return [entry for entry in known if entry is not None]

    def _switches_now(self, clients: Sequence[str]) -> list[dict[str, Any] | None]:
        now = time.monotonic()
        return [self._engine.directory.plain(client, now) for client in clients]

    def restore_switch(self, entry: dict[str, Any]) -> None:
        """Restore a switch that known_switches() returned in an earlier run, before the thread starts. KeyError,
        TypeError or ValueError where the entry is malformed."""
        self._engine.directory.restore(entry, time.monotonic())

    # Rules

    def reload(self, rules: Rules) -> None:
        """Apply other rules.

        1. Flows of switches that are no longer served end. 2. The engine applies the rules. 3. Deadlines of flows
        follow other timeouts. Bindings that were derived and are pinned now, or the reverse, are reported to the other
        host. 4. Legs to removed mirrors end. 5. If mirrors have changed, their flows follow.
        """
        has_other_mirrors = _mirrors(self._rules) != _mirrors(rules)
        flow_ids = self._wait_for(self._engine.flow_ids) if set(self._rules.switches) - set(rules.switches) else []
        self._wait_for_slices(flow_ids, lambda ids: self._engine.expel(rules.switches, ids, time.monotonic()))
        self._wait_for(partial(self._replication.reload, rules))
        self._rules = rules
        first: int | None = 0
        while first is not None:
            first = self._wait_for(partial(self._replication.sweep_bindings, first, 0))
        leg_ids = self._wait_for(self._engine.leg_ids)
        self._wait_for_slices(leg_ids, lambda ids: self._engine.end_removed(ids, time.monotonic()))
        flow_ids = self._wait_for(self._engine.flow_ids) if has_other_mirrors else []
        self._wait_for_slices(flow_ids, lambda ids: self._engine.follow_mirrors(ids, time.monotonic()))

    def prune(self) -> list[Kept]:
        """Forget removed services and backends that have no connections; return those that still have some."""
        return list(self._wait_for(self._replication.prune))

    @property
    def unlisted_backends(self) -> int:
        """Return the number of backends that were added, since the start, for another host's connections."""
        return self._engine.unlisted_backends

    def set_marks(self, marks: Mapping[ServiceBackend, int]) -> None:
        """Have the kernel translate packets between these services and backends, by these marks."""
        self._wait_for(partial(self._engine.set_marks, marks))

    # Backends, mirrors and the host's role

    def set_share(self, change: Share) -> None:
        """Set a backend's share of new connections, and its weight."""
        set_share = partial(self._engine.set_share, change.service, change.backend, change.share, change.weight)
        self._thread.post(set_share)

    def kill(self, change: Kill) -> None:
        """Reset a backend's connections."""
        self._thread.post(lambda: self._in_slices(self._engine.flow_ids(), partial(self._kill_now, change)))

    def _kill_now(self, change: Kill, ids: list[int]) -> list[Send]:
        kill = self._engine.repeat_resets if change.is_repeated else self._engine.kill
        with suppress(ValueError):  # a reload has just removed the backend
            return kill(change.service, change.backend, ids, time.monotonic())
        return []

    def release(self) -> None:
        """End the legs: another host passes the packets from now on, and no state is shared with it."""
        self._thread.post(lambda: self._in_slices(self._engine.flow_ids(), self._release_now))

    def _release_now(self, ids: list[int]) -> list[Send]:
        return self._engine.release_flows(ids, time.monotonic())

    def set_path_mtu(self, mirror: tuple[bytes, int], mtu: int) -> None:
        """Set the MTU of the host's route to a mirror, in bytes."""
        self._thread.post(lambda: self._engine.set_path_mtu(mirror, mtu))

    def resume_mirroring(self) -> None:
        """Switch the parts of mirroring on again that are off after internal errors."""
        self._thread.post(self._engine.faults.resume)

    # The judges of masters, in another process

    def judge(self) -> None:
        """Have all connections judged by a process that has just begun."""
        self._thread.post(lambda: self._in_slices(self._engine.flow_ids(), self._judge_now))

    def _judge_now(self, ids: list[int]) -> list[Send]:
        return self._engine.judge(ids, time.monotonic())

    def take_statistics(self, session: int, question: int, bodies: Bodies | None) -> None:
        """Take the answer to a master's question about its own rules."""
        self._thread.post(
            lambda: self._thread.send(self._engine.take_statistics(session, question, bodies, time.monotonic()))
        )

    def judge_failed(self, client: str, error: Exception) -> None:
        """Take a fault in the judge of a client's connection."""
        self._thread.post(lambda: self._engine.faults.note(Work.VERDICT, client, error))

    # Requests to the thread

    def _ask(self, question: Callable[[], Any]) -> Any:
        return self._thread.ask(partial(self._answer, question), _ANSWER_TIMEOUT)

    def _answer(self, question: Callable[[], Any]) -> Any:
        began_at = thread_time()
        try:
            return question()
        finally:
            self.answering_seconds += thread_time() - began_at + _ASKING_SECONDS

    def _wait_for(self, question: Callable[[], Any]) -> Any:
        return self._thread.ask(question, None)

    def _wait_for_slices(self, ids: list[int], do: Callable[[list[int]], list[Send]]) -> None:
        """Have the thread do something slice by slice; return when all slices are done."""
        for chunk in _slices(ids):
            self._wait_for(partial(self._send, do, chunk))

    def _in_slices(self, ids: list[int], do: Callable[[list[int]], list[Send]]) -> None:
        """Do something slice by slice, between packets; called in the thread itself."""
        chunk, others = ids[:_FLOWS_SLICE], ids[_FLOWS_SLICE:]
        if others:  # before this slice: an exception costs no other slice
            self._thread.post(lambda: self._in_slices(others, do))
        self._send(do, chunk)

    def _send(self, do: Callable[[list[int]], list[Send]], ids: list[int]) -> None:
        self._thread.send(do(ids))


def _shown(wanted: Selection, noted: Iterable[FlowNote | GoneNote]) -> list[tuple[FlowPosition, FlowEntry]]:
    """Return those of the noted flows that are wanted, as values for JSON."""
    shown = (((isinstance(one, GoneNote), one.number), one.show()) for one in noted)
    return [(position, flow) for position, flow in shown if wanted.takes(flow)]


def _mirrors(rules: Rules) -> list[tuple[str, tuple[Mirror, ...]]]:
    return [(service.name, service.mirrors) for service in rules.services]


def _slices(ids: list[int], length: int = _FLOWS_SLICE) -> list[list[int]]:
    return [ids[start : start + length] for start in range(0, len(ids), length)]
