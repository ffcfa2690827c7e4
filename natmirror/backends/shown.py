"""The JSON of backends and their health checks, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import TypedDict


class BackendState(StrEnum):
    """Whether a backend gets new connections."""

    UP = "up"
    """It gets new connections: the health checks pass."""
    UNCHECKED = "unchecked"
    """It gets new connections, whether it answers or not: its pool has no health checks."""
    DOWN = "down"
    """It gets no new connections: the health checks fail."""
    PANIC = "panic"
    """The health checks fail, those of most of the pool too, and neither a gateway nor a mirror answers: this host's
    network may have failed. It keeps its connections, and gets new ones if the pool has no sorry server."""
    DRAINING = "draining"
    """The operator has drained it: it gets no new connections, and keeps those that it has."""
    REMOVED = "removed"
    """The rules no longer name it, but it still has connections."""
    SORRY = "sorry"
    """It is the pool's sorry server: it gets connections while no other backend is available, and is not checked."""


class AdmissionEntry(TypedDict):
    """Whether a backend gets new connections, and how many."""

    state: BackendState
    """Whether it gets new connections, and why."""
    healthy: bool | None
    """True while the health checks pass; null for an unchecked backend, a sorry server and a removed backend."""
    reason: str
    """Why it is down; empty while it is not."""
    state_seconds: float | None
    """Seconds for which it has been drained, or else up or down as far as its checks say; null for a sorry server and a
    removed backend."""
    share: float | None
    """The fraction of its normal part of new connections that it gets: 0 for none, between 0 and 1 during slow start,
    then 1; null for a sorry server and a removed backend."""
    weight: int | None
    """The weight that holds: that of the last ``natmirror weight``, or else that of the rules; null for a sorry server
    and a removed backend."""
    weight_in_rules: int | None
    """The weight that the rules give it; null as above."""


class HealthEntry(TypedDict):
    """The health checks of a backend."""

    service: str
    """The service's name in the rules."""
    backend: str
    """The backend's name in the rules."""
    check: str
    """The kind of check: ``tcp``, ``openflow`` or ``exec``."""
    state: BackendState
    """``up`` or ``down``."""
    state_seconds: float
    """Seconds for which it has been up or down."""
    reason: str
    """Why the backend went up or down: the result of the check that changed its state. Before the first change:
    ``assumed up until the checks say otherwise``."""
    checks: int
    """Checks that passed or failed."""
    failed_checks: int
    """Checks that failed."""
    inconclusive_checks: int
    """Checks that this host could not make, or that failed because of this host: they do not change the state. A check
    without a route or carrier counts as failed instead if another backend or a second target answers."""
    inconclusive_reason: str
    """Why the last check said nothing about the backend; empty if it said something."""
    failed_syns: int
    """SYNs of clients that the backend refused or did not answer. While the backend is up, each counts towards ``fall``
    and brings the next check forward, but only a check takes the backend down. ``failed_checks`` leaves them out."""
    last_check_seconds: float | None
    """How long the last check took, in seconds; null before the first."""
