"""The parts of mirroring in one engine, built in the order of their dependencies.

The legs and the ledger come first; then throttles, reconnection, adoption and the open sessions; then LegOutcomes,
which informs all of them when a leg moves or ends; last the sessions and the streams, which move legs and apply the
outcomes.
"""

from collections.abc import Callable

from natmirror.fastpath import Gear
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.faults import Faults
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.mirroring import Mirroring
from natmirror.mirror.outgoing import Outgoing
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.rule_changes import RuleChanges
from natmirror.mirror.sessions.claims import SwitchClaims
from natmirror.mirror.sessions.judges import Judges
from natmirror.mirror.sessions.open_sessions import OpenSessions
from natmirror.mirror.sessions.read_queue import ReadQueue
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.sessions.statement_queue import StatementQueue
from natmirror.mirror.sessions.totals import SessionTotals
from natmirror.mirror.timers import Timers
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Rules
from natmirror.tcp.initial_numbers import Numbers


class MirrorParts:
    """The parts that GuardedMirroring, Teardown and MirrorReport work with."""

    def __init__(
        self,
        rules: Rules,
        gear: Gear,
        in_use: Callable[[Endpoint, Endpoint], bool],
        ports: range,
        numbers: Numbers,
        claims: SwitchClaims,
    ) -> None:
        """For ``in_use``, ``ports`` and ``numbers`` see Legs."""
        self.gear = gear
        self.streams: dict[MirroredFlow, MirroredStream] = {}
        """The stream of each mirrored flow, from its handshake on."""
        self.faults = Faults()
        self.guard = Guard(self.faults)
        self.timers = Timers()
        self.outgoing = Outgoing()
        self.legs = Legs(gear.legs, gear.memory, self.outgoing, in_use, ports, numbers)
        self.ledger = Ledger(rules.services)
        self.statements = StatementQueue(gear.memory)
        """What the judges of masters with ``verdict: on`` get to know."""
        read_queue, totals = ReadQueue(gear), SessionTotals()
        self.backpressure = Backpressure(self.timers, self.outgoing, self.streams)
        self.reconnection = Reconnection(gear, self.timers, self.legs, self.ledger)
        self.adoption = Adoption(self.timers, self.legs, self.ledger, self.reconnection, self.streams)
        judges = Judges(self.ledger, self.faults, self.statements)
        open_sessions = OpenSessions(
            *(read_queue, self.timers, self.legs, self.ledger, totals, claims, judges, self.streams)
        )
        self.outcomes = LegOutcomes(
            *(self.legs, self.ledger, self.guard, self.backpressure, self.adoption, self.reconnection, open_sessions)
        )
        self.sessions = MasterSessions(
            *(read_queue, gear.memory, self.timers, self.legs, self.ledger),
            *(self.outcomes, open_sessions, totals, judges, self.faults),
        )
        self.mirroring = Mirroring(
            *(gear.memory, gear.hold, self.timers, self.legs, self.ledger, self.backpressure, self.adoption),
            *(self.reconnection, self.outcomes, self.sessions, read_queue, self.guard, self.streams),
            shares_state=rules.ha is not None and rules.ha.state is not None,
        )
        self.rule_changes = RuleChanges(
            *(self.ledger, self.reconnection, self.mirroring, self.sessions),
            *(read_queue, gear.memory, self.streams),
        )
