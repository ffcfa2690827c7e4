"""Copies that begin again (``reconnect: next-segment``): which ones wait, and when each may begin.

Theory. A copy that has ended while its client's connection goes on waits for a break in the client's stream
(tcp/breaks.py), and begins there with a new leg. The bytes until then are lost as ``reconnecting``. A mirror that is
down must not get a SYN for each segment of each client. So a mirror *works* from the moment when it accepts a leg to
the moment when it resets, stalls or refuses one. While it works, all copies that wait may begin. Otherwise one of them
probes it: the others wait until the probe's leg is open, or has failed and the back-off is over, which grows from 1 to
60 seconds. Copies of new connections begin with their handshakes, whatever the mirror's state, and count as well. A
copy that has begun again and whose leg ends within 5 seconds, or that finds no room for a leg, waits for a minute by
itself.

The C gear looks for breaks only in flows with NM_FLOW_RECONNECTS, and punts data there only if the flow's account may
begin: all flows whose copies have fared alike share an account, so opening a mirror's gate costs no pass over flows.
Which copies wait by themselves is part of an account, so no gate that they do not use makes C punt.
"""

from dataclasses import dataclass

from natmirror.fastpath import NEVER, Gear
from natmirror.fastpath.flow_flags import (
    clear_revoked,
    is_ambiguous,
    is_mptcp,
    is_skipped,
    is_unseen,
    set_mptcp,
    set_reconnects,
)
from natmirror.mirror.copies import MirroredStream, StreamCopy
from natmirror.mirror.copy_states import GOES_ON, StreamState
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import Legs
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.net.packet import Segment
from natmirror.reasons import EndReason
from natmirror.tcp.breaks import begins_at_break

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a failed attempt to reach a mirror, the first and the longest; each is twice as long as the last."""
_SHORT_LIFE = 5.0
"""Seconds: a leg that ends sooner after its opening makes its copy wait."""
_OWN_PAUSE = 60.0
"""Seconds for which such a copy waits."""

_FINAL = frozenset(
    (
        *(EndReason.CLOSED, EndReason.CLIENT_RESET, EndReason.FLOW_EXPIRED, EndReason.LINGER_TIMEOUT),
        *(EndReason.NO_ACKNOWLEDGEMENTS, EndReason.MPTCP, EndReason.INTERNAL_ERROR, EndReason.MIRRORING_OFF),
        *(EndReason.MIRROR_REMOVED, EndReason.STOPPED, EndReason.RELEASED),
        *(EndReason.NOT_SELECTED, EndReason.NOT_SAMPLED, EndReason.MIRROR_IS_BACKEND),
    )
)
"""The reasons after which a copy does not begin again: nothing is missing, or it would not help."""
_REFUSALS = frozenset((EndReason.REFUSED, EndReason.UNREACHABLE, EndReason.CONNECT_TIMEOUT))
"""The mirror has not accepted a leg."""
_FAILURES = frozenset((EndReason.MIRROR_RESET, EndReason.STALLED, EndReason.RESUME_TIMEOUT))
"""The mirror has failed to serve an open leg."""

_Key = tuple[str, str]


@dataclass(slots=True)
class _Gate:
    """What decides whether copies for one mirror may begin again."""

    works: bool = True
    pause: float = 0.0
    opens_at: float = 0.0
    """While the mirror does not work: when the next probe may begin."""
    probe: StreamCopy | None = None
    """The copy whose leg is being opened while the mirror does not work."""

    @property
    def begin_at(self) -> float:
        """When a copy may begin: 0 for at any time, NEVER while another one probes."""
        return 0.0 if self.works else NEVER if self.probe is not None else self.opens_at


class Reconnection:
    """The copies of one engine that wait to begin again."""

    def __init__(self, gear: Gear, timers: Timers, legs: Legs, ledger: Ledger) -> None:
        self._gear = gear
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._gates: dict[_Key, _Gate] = {}
        self._mirrors_of: dict[int, tuple[_Key, ...]] = {}  # by account: the mirrors for which its flows' copies wait

    @property
    def _now(self) -> float:
        return self._legs.now

    # What happens to copies

    def leg_opened(self, copy: StreamCopy) -> None:
        """Note that the mirror has accepted the copy's leg: it works."""
        copy.opened_at = self._now
        gate = self._gate(copy)
        gate.works, gate.pause, gate.probe = True, 0.0, None
        self._move_gate(copy)

    def leg_ended(self, copy: StreamCopy, reason: EndReason) -> None:
        """Note what the end of the copy's leg says about its mirror, and about the copy."""
        gate, opened_at = self._gate(copy), copy.opened_at
        was_probe = gate.probe is copy
        if was_probe:
            gate.probe = None
        if reason in _REFUSALS and (was_probe or not gate.pause):
            gate.works = False
            gate.pause = min(max(_FIRST_PAUSE, 2 * gate.pause), _LONGEST_PAUSE)
            gate.opens_at = self._now + gate.pause
        elif reason in _FAILURES and gate.works:
            gate.works, gate.opens_at = False, self._now
        is_young = opened_at is None or self._now - opened_at < _SHORT_LIFE
        if copy.has_begun_again and is_young and reason not in _REFUSALS and reason is not EndReason.MIRROR_PAUSED:
            copy.not_before = self._now + _OWN_PAUSE
        copy.opened_at = None
        self._move_gate(copy)

    def leg_refused(self, copy: StreamCopy) -> None:
        """Note that there was no leg for a copy that was to begin again: it waits for a minute."""
        copy.not_before = self._now + _OWN_PAUSE

    def follow(self, stream: MirroredStream) -> None:
        """Follow a change of the stream's copies: set its account, make each copy wait that has ended and may begin
        again, and have C look for breaks if one may begin now."""
        waiting = []
        for copy in stream.copies:
            if self._may_wait(copy):
                copy.ended_as = copy.why_ended
                self._ledger.change_fate(copy, EndReason.RECONNECTING)
            if copy.waits:
                waiting.append(copy)
                copy.pauses = copy.not_before > self._now
            else:
                copy.pauses = False
        row = stream.flow.row
        row.account = self._ledger.account_number(stream)
        ready = [copy for copy in waiting if not copy.pauses]
        if ready and row.account not in self._mirrors_of:
            self._mirrors_of[row.account] = tuple((copy.service_name, copy.mirror.name) for copy in ready)
            self._set_account(row.account)
        set_reconnects(row, bool(ready))
        later = min((copy.not_before for copy in waiting if copy.pauses), default=None) if waiting else None
        self._timers.set((TimerKind.RECONNECT, stream.flow), later)

    def _may_wait(self, copy: StreamCopy) -> bool:
        stream, reason = copy.stream, copy.why_ended
        if reason is None or copy.waits or reason in _FINAL or stream.state not in GOES_ON or stream.is_released:
            return False
        mirror = self._ledger.present_mirror(copy)
        row = stream.flow.row
        may_begin = mirror is not None and mirror.begins_again and not mirror.is_paused
        return may_begin and not is_mptcp(row) and not is_ambiguous(row)

    def give_up(self, stream: MirroredStream, reason: EndReason) -> None:
        """End the waiting of the stream's copies: from now on the client's bytes are lost for another reason."""
        for copy in stream.copies:
            if copy.waits:
                self._ledger.change_fate(copy, reason)
        self.follow(stream)

    def follow_rules(self, copy: StreamCopy) -> None:
        """Follow a reload, for a copy without a living leg; follow() has to come afterwards."""
        mirror = self._ledger.present_mirror(copy)
        if mirror is not None:
            copy.mirror = mirror
        if copy.waits and (mirror is None or mirror.is_paused or not mirror.begins_again):
            self._ledger.change_fate(copy, self._ledger.why_ended_by_rules(copy) or copy.ended_as)
        elif mirror is not None and copy.why_ended is EndReason.MIRROR_REMOVED:
            self._ledger.change_fate(copy, EndReason.MIRROR_ADDED)

    # Beginning

    def due(self, stream: MirroredStream, segment: Segment) -> list[StreamCopy]:
        """Return the copies that may begin again with a segment of the client, which the tracker has followed."""
        row = stream.flow.row
        if stream.state is not StreamState.COPYING or stream.ends_later or not begins_at_break(row, segment):
            return []
        ready = [copy for copy in stream.copies if copy.waits and not copy.pauses]
        copies = [copy for copy in ready if self.begins_at(copy) <= self._now]
        if not copies:  # C does not punt the segment then
            return []
        if segment.mptcp():
            set_mptcp(row)
            self.give_up(stream, EndReason.MPTCP)
            return []
        if is_skipped(row) or is_unseen(row):  # another version of this data may have passed
            return []
        clear_revoked(row.orig)
        return copies

    def begins_at(self, copy: StreamCopy) -> float:
        """Return when a copy that waits may begin: NEVER while another one probes the mirror, a time in the past for
        at once."""
        return max(copy.not_before, self._gate(copy).begin_at)

    def begins(self, copy: StreamCopy) -> None:
        """Note that the copy's new leg is about to be opened; while its mirror does not work, the copy probes it."""
        copy.has_begun_again = True
        gate = self._gate(copy)
        if not gate.works:
            gate.probe = copy
            self._move_gate(copy)

    # Gates

    def _gate(self, copy: StreamCopy) -> _Gate:
        return self._gates.setdefault((copy.service_name, copy.mirror.name), _Gate())

    def _move_gate(self, copy: StreamCopy) -> None:
        """Have C follow a change of the gate of the copy's mirror."""
        key = copy.service_name, copy.mirror.name
        for account, mirrors in self._mirrors_of.items():
            if key in mirrors:
                self._set_account(account)

    def _set_account(self, account: int) -> None:
        gates = (self._gates.setdefault(key, _Gate()) for key in self._mirrors_of[account])
        self._gear.set_begin_at(account, min(gate.begin_at for gate in gates))
