"""Typed views of the C structs that hold sums over rows; rows.py says what such a view is."""

from typing import Protocol

from natmirror.fastpath.rows import Array


class AccountSums(Protocol):
    """``nm_account_sums``: the sums over the flows of one account."""

    client_bytes: int
    connections: int


class LegSums(Protocol):
    """``nm_leg_sums``: the sums over a mirror's open legs."""

    legs: int
    unanswered: int
    client_bytes: int
    session_bytes: int
    held_bytes: int
    sent_bytes: int
    acked_bytes: int
    consumed_bytes: int
    retransmits: int
    timeouts: int
    in_flight_bytes: int
    oldest_at: float
    srtt: float


class BehindRow(Protocol):
    """``nm_behind``: a leg whose mirror is behind."""

    since: float
    id: int


class TimesRow(Protocol):
    """``nm_times``: a histogram of durations."""

    counts: Array[int]
    sum: float


class MirrorTimesRow(Protocol):
    """``nm_mirror_times``: what the acknowledgements of one mirror have shown."""

    lags: TimesRow
    round_trips: TimesRow


class TallyRow(Protocol):
    """``nm_tally``: some flows of a service."""

    flows: int
    clients: int
    backends: int
    client: Array[int]
    backend: Array[int]


class GroupRow(Protocol):
    """``nm_group``: the flows of some clients; for C only."""

    stuck: int
    passing: int


class ServiceLookRow(Protocol):
    """``nm_service_look``: what the flows of a service show."""

    answered: int
    answered_data: int
    reached: int
    reached_data: int
    connected: int
    connecting: int
    asking: int
    telling: int
    tries: int
    open: TallyRow
    waiting: TallyRow
    unreached: TallyRow
    stuck: TallyRow
    calling: TallyRow
    greeted: TallyRow
    unconnected: TallyRow
    groups: Array[GroupRow]
    stuck_groups: int
    passing_groups: int
