"""The sums of comparisons in one engine: what was found about each master, over all its switches, also those whose
connections have ended.

A SwitchResults is the Collector of one switch's connection. All memory that grows is taken from an account, and what
has no room is counted without its words.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from natmirror.openflow.comparison.conditions import AGREED_COST, Agreed
from natmirror.openflow.comparison.found import MAX_LINES, Found, SessionEnd, TablesNow, nothing_found
from natmirror.openflow.comparison.hosts import HOSTS_COST, HostCounts
from natmirror.openflow.comparison.lags import LagHistogram, bucket_of
from natmirror.openflow.comparison.periods import PERIOD_COST, Period, Periods, add_since
from natmirror.openflow.comparison.results import (
    AnswerResult,
    ComparedAnswer,
    ComparedOrder,
    ComparedTables,
    Difference,
    DifferenceKind,
    Evidence,
)
from natmirror.openflow.comparison.shown import ComparisonEntry, TableState
from natmirror.openflow.comparison.signatures import Example, Signature, Signatures
from natmirror.openflow.tables.state import Account

_MAX_ENDS = 16
"""The latest ends of sessions that are kept."""
_BASE_COST = 4000 + AGREED_COST + HOSTS_COST
"""Bytes that Python needs for the sums of a master without periods and signatures."""
_LINES_OF_SWITCH, _MAX_LINE_LEN = 5, 300
_SWITCH_COST = 1000 + _LINES_OF_SWITCH * _MAX_LINE_LEN
"""Bytes for a connection."""
_UNRESOLVED_COST = 100
"""Bytes for a connection's difference that is not resolved."""


class MasterSums:
    """The sums of one master of a service, at one address. ``now`` and the times of results are the engine's."""

    def __init__(self, account: Account, address: str, now: float) -> None:
        self.address = address
        """The master's address and port."""
        self._account = account
        self._began_at = now
        self._held = 0  # without the signatures'
        self._has_room = self._take(_BASE_COST)
        self._periods = Periods()
        self._periods_cost = 0
        self._agreed = Agreed()
        self._hosts = HostCounts()
        self._signatures = Signatures(account, self._renumber)
        self._switches: dict[SwitchResults, None] = {}
        self._ends: deque[SessionEnd] = deque(maxlen=_MAX_ENDS)
        self._latest = now
        self._answers: Counter[AnswerResult] = Counter()
        self._differences: Counter[DifferenceKind] = Counter()
        self._table_seconds = dict.fromkeys(TableState, 0.0)
        self._lags = LagHistogram()

    @property
    def held(self) -> int:
        """Bytes on the account."""
        return self._held + self._signatures.held

    def of_switch(self, client: str) -> "SwitchResults":
        """Return the collector of a switch's connection, until its close(). ``client`` is its address and port."""
        made = SwitchResults(self, client)
        made.has_room = self._take(_SWITCH_COST)
        self._switches[made] = None
        return made

    def give_up(self) -> None:
        """Forget the examples, because their memory is needed."""
        self._signatures.give_up()

    @property
    def has_switches(self) -> bool:
        """Whether results of a connection may still come."""
        return bool(self._switches)

    def close(self) -> None:
        """Give all memory back, and take no more results: the master is no longer compared."""
        for switch in self._switches:
            switch.detach()
        self._switches.clear()
        self._signatures.close()
        self._give(self._held)

    def show(self) -> ComparisonEntry:
        """Return the sums since the start as values for JSON."""
        return {
            "answers": {result: self._answers[result] for result in AnswerResult},
            "differences": dict(self._differences),
            "table_seconds": {state: round(self._table_seconds[state], 3) for state in TableState},
            "differing_rules": sum(one.tables.differing_count for one in self._switches if one.tables is not None),
            "lag": self._lags.show(),
            "held_bytes": self.held,
        }

    def since(self, moment: float) -> Found:
        """Return what was found since a moment."""
        moment = max(moment, self._began_at)
        window = Period(moment, moment)
        add_since(window, tuple(self._periods))
        in_window = sum(window.differences.values()) + window.other_differences
        return Found(
            self._began_at,
            window,
            sum(self._differences.values()) - in_window,
            self._agreed.copy(),
            self._hosts.copy(),
            [
                (one.copy(), self._signatures.level(one.family), window.differences[one.number])
                for one in self._signatures
                if window.differences[one.number]
            ],
            self._tables_now(moment),
            [one for one in self._ends if one.at >= moment],
            self.held,
        )

    def _tables_now(self, moment: float) -> TablesNow:
        now = TablesNow(connections=len(self._switches))
        for switch in self._switches:
            now.sessions += switch.has_session
            now.lacked_memory += switch.lacked_memory_at >= moment
            now.left_out += switch.left_out_at >= moment
            if (tables := switch.tables) is None:
                continue
            now.differing_count += tables.differing_count
            now.doubtful += tables.doubtful
            if tables.not_followed is None:
                now.followed += 1
            else:
                now.not_followed[tables.not_followed] += 1
            room = MAX_LINES - len(now.differing)
            now.differing += [f"{switch.client} {line}" for line in tables.differing[:room]]
        return now

    # What SwitchResults reports

    def answered(self, switch: "SwitchResults", compared: ComparedAnswer) -> None:
        """Count an answer."""
        period = self._period(compared.at)
        self._answers[compared.result] += 1
        period.results[compared.result] += 1
        if compared.why_not is not None:
            period.not_comparable[compared.why_not] += 1
        if compared.lag is not None:
            self._lags.add(compared.lag)
            period.lags[bucket_of(compared.lag)] += 1
        if compared.result is AnswerResult.EQUAL and compared.fields is not None and self._has_room:
            self._agreed.add(compared.fields, has_rules=compared.has_rules)
        if compared.result is not AnswerResult.NOT_COMPARABLE and compared.fields is not None:
            self._hosts.add(compared.fields)
        found: dict[int, Signature] = {}  # each counts once, since a rate is a share of the answers
        for difference in compared.differences:
            signature = self._signature_of(difference, compared.at, is_asked=True)
            if signature is not None and signature.number not in found:
                found[signature.number] = signature
                self._count(switch, signature, compared.at, compared.evidence)
                if compared.fields is not None:
                    signature.causes.add(compared.fields)
                    signature.hosts.add(compared.fields)

    def ordered(self, switch: "SwitchResults", compared: ComparedOrder) -> None:
        """Count a difference of orders that answer no PACKET_IN."""
        signature = self._signature_of(compared.difference, compared.at, is_asked=False)
        if signature is not None:
            self._count(switch, signature, compared.at, compared.evidence)

    def compared_tables(self, compared: ComparedTables) -> None:
        """Count the time in which tables were compared."""
        period = self._period(compared.at)
        period.table_seconds += compared.seconds
        period.differing_seconds += compared.differing_seconds
        self._table_seconds[TableState.DIFFERENT] += compared.differing_seconds
        self._table_seconds[TableState.EQUAL] += compared.seconds - compared.differing_seconds

    def walked(self, alike: int, count: int) -> None:
        """Count walks of frames."""
        period = self._period(self._latest)
        period.walked += count
        period.alike += alike

    def session_ended(self, switch: "SwitchResults", at: float, reason: str) -> None:
        """Count an end of a session."""
        self._period(at).sessions_ended += 1
        self._ends.append(SessionEnd(at, switch.client, reason))
        difference = Difference(DifferenceKind.SESSION_ENDED, f"the session ended: {reason}")
        if (signature := self._signature_of(difference, at, is_asked=False)) is not None:
            self._count(switch, signature, at, None)

    def resolved(self, switch: "SwitchResults", at: float) -> None:
        """Note that a switch no longer shows its differences."""
        for number in switch.unresolved:
            if (signature := self._signatures.get(number)) is not None:
                signature.unresolved -= 1
                if not signature.unresolved:
                    signature.resolved_at = at
        self._give(_UNRESOLVED_COST * len(switch.unresolved))
        switch.unresolved.clear()

    def closed(self, switch: "SwitchResults", at: float) -> None:
        """Forget a connection that has ended, and with it the tables that differed."""
        self.resolved(switch, at)
        del self._switches[switch]
        if switch.has_room:
            self._give(_SWITCH_COST)

    def _signature_of(self, difference: Difference, at: float, *, is_asked: bool) -> Signature | None:
        """Return the signature of a difference; None, after counting it among the others, if it has none."""
        period = self._period(at)  # first: a new one has old signatures forgotten
        signature = self._signatures.find(difference, at, is_asked=is_asked)
        if signature is None:
            self._differences[difference.kind] += 1
            period.other_differences += 1
        return signature

    def _count(self, switch: "SwitchResults", signature: Signature, at: float, evidence: Evidence | None) -> None:
        self._differences[signature.family.kind] += 1
        signature.count += 1
        signature.last_at, signature.counted_at = max(signature.last_at, at), self._latest
        self._period(at).differences[signature.number] += 1
        signature.resolved_at = None
        if signature.number not in switch.unresolved and self._take(_UNRESOLVED_COST):
            switch.unresolved.add(signature.number)
            signature.unresolved += 1
        if evidence is not None and signature.example is None:
            self._signatures.keep_example(signature, Example(at, switch.client, switch.datapath_id, evidence))

    def _period(self, at: float) -> Period:
        """Return the period in which a report is counted: the present one, also for what happened a little before."""
        self._latest = max(self._latest, at)
        if self._periods.begin(self._latest):
            self._signatures.forget_before(self._periods.begin_at)
            self._account_periods()
        return self._periods.at(self._latest)

    def _account_periods(self) -> None:
        """Take the memory of the periods; without it, forget the examples."""
        more = self._periods.cost + PERIOD_COST - self._periods_cost
        if more < 0:
            self._give(-more)
        elif not self._take(more):
            self.give_up()
            if not self._take(more):
                return
        self._periods_cost += more

    def _renumber(self, old: int, new: int) -> None:
        self._periods.renumber(old, new)
        for switch in self._switches:
            if old in switch.unresolved:
                switch.unresolved.discard(old)
                if new in switch.unresolved and (kept := self._signatures.get(new)) is not None:
                    kept.unresolved -= 1
                    self._give(_UNRESOLVED_COST)
                switch.unresolved.add(new)

    def _take(self, count: int) -> bool:
        if not self._account.take(count):
            return False
        self._held += count
        return True

    def _give(self, count: int) -> None:
        self._account.give(count)
        self._held -= count


class SwitchResults:
    """The results about one connection of a switch with one master: a Collector. After close() it takes nothing: a
    judge may still have work for a master that is not compared any more."""

    def __init__(self, sums: MasterSums, client: str) -> None:
        self._sums: MasterSums | None = sums
        self.client = client
        """The switch's address and port."""
        self.datapath_id: int | None = None
        """The switch's datapath id, once it is known."""
        self.has_session = False
        """Whether the master has a session for the connection now."""
        self.has_room = False
        """Whether its memory is on the account: without, no rules that differ are kept."""
        self.lacked_memory_at = float("-inf")
        """When something was last forgotten for lack of memory."""
        self.left_out_at = float("-inf")
        """When messages were last left out because the judges were behind."""
        self.tables: ComparedTables | None = None
        """The latest report about the tables."""
        self.unresolved: set[int] = set()
        """The signatures of differences that are not resolved."""

    def answered(self, compared: ComparedAnswer) -> None:
        if self._sums is not None:
            self._sums.answered(self, compared)

    def ordered(self, compared: ComparedOrder) -> None:
        if self._sums is not None:
            self._sums.ordered(self, compared)

    def compared_tables(self, compared: ComparedTables) -> None:
        if compared.differing:
            lines = compared.differing[: _LINES_OF_SWITCH if self.has_room else 0]
            self.tables = replace(compared, differing=tuple(line[:_MAX_LINE_LEN] for line in lines))
        else:
            self.tables = compared
        if self._sums is not None:
            self._sums.compared_tables(compared)

    def walked(self, alike: int, count: int) -> None:
        if self._sums is not None:
            self._sums.walked(alike, count)

    def session_ended(self, at: float, reason: str) -> None:
        if self._sums is not None:
            self._sums.session_ended(self, at, reason)

    def resolved(self, at: float) -> None:
        if self._sums is not None:
            self._sums.resolved(self, at)

    def close(self, at: float) -> None:
        """Notice that the switch's connection has ended, or that the master is not compared any more."""
        if self._sums is not None:
            self._sums.closed(self, at)
            self._sums = None

    def detach(self) -> None:
        """Take nothing any more: the sums end before the connection."""
        self._sums = None


class Comparisons:
    """The sums of all masters with ``verdict: on`` in one engine. ``account`` bounds their memory."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sums: dict[tuple[str, str], MasterSums] = {}

    def of_master(self, service: str, mirror: str, address: str, now: float) -> MasterSums:
        """Return the sums of a master of a service; they begin if there are none of this address. Those of another
        address are about another program, and are forgotten."""
        found = self._sums.get((service, mirror))
        if found is None or found.address != address:
            self.forget(service, mirror)
            found = self._sums[service, mirror] = MasterSums(self._account, address, now)
        return found

    def get(self, service: str, mirror: str) -> MasterSums | None:
        """Return the sums of a master; None if nothing was compared."""
        return self._sums.get((service, mirror))

    def __iter__(self) -> Iterator[tuple[tuple[str, str], MasterSums]]:
        """Return the sums with their service and mirror."""
        return iter(self._sums.items())

    def since(self, service: str, mirror: str, address: str, moment: float) -> Found:
        """Return what was found about a master at this address since a moment."""
        sums = self.get(service, mirror)
        return nothing_found(moment) if sums is None or sums.address != address else sums.since(moment)

    def show(self, service: str, mirror: str) -> ComparisonEntry | None:
        """Return a master's sums since the start as values for JSON; None if nothing was compared."""
        sums = self.get(service, mirror)
        return None if sums is None else sums.show()

    def forget(self, service: str, mirror: str) -> None:
        """Forget the sums of a master that is no longer compared."""
        if (sums := self._sums.pop((service, mirror), None)) is not None:
            sums.close()

    @property
    def held(self) -> int:
        """Bytes on the account."""
        return sum(sums.held for sums in self._sums.values())
