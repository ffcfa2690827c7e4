"""The JSON of backends and their health checks, field by field: the reference takes its sentences from here."""

from enum import StrEnum
from typing import TypedDict


class BackendState(StrEnum):
    """Whether a backend takes connections."""

    UP = "up"
    """It takes new connections: the health checks pass, or there are none."""
    DOWN = "down"
    """It takes no new connections: the health checks fail."""
    DRAINING = "draining"
    """The operator has drained it: it takes no new connections, and keeps those that it has."""
    REMOVED = "removed"
    """It is not in the rules any more, and has connections left."""
    SORRY = "sorry"
    """It is the pool's sorry server: it takes connections while no other backend does, and is not checked."""


class AdmissionEntry(TypedDict):
    """Whether a backend takes new connections, and how many."""

    state: BackendState
    """Whether it takes connections."""
    healthy: bool | None
    """Whether the health checks pass, or there are none; null for a sorry server and a removed backend."""
    reason: str
    """Why it is down; empty while it is not."""
    state_seconds: float | None
    """For how long it has been healthy or not, in seconds; null for a sorry server and a removed backend."""
    share: float | None
    """Its share of the new connections that its weight gives it: 0 while it takes none, below 1 during the slow start,
    then 1; null for a sorry server and a removed backend."""


class HealthEntry(TypedDict):
    """The health checks of a backend, and their result."""

    service: str
    """The service's name in the rules."""
    backend: str
    """The backend's name in the rules."""
    check: str
    """The kind of check: ``tcp``, ``openflow`` or ``exec``."""
    state: BackendState
    """``up`` or ``down``."""
    state_seconds: float
    """For how long it has been up or down, in seconds."""
    reason: str
    """The result of the last check that counted."""
    checks: int
    """Checks that passed or failed."""
    failed_checks: int
    """Those of them that failed."""
    inconclusive_checks: int
    """Checks that said nothing about the backend, since this host could not make them: they do not count."""
    failed_syns: int
    """SYNs of clients that the backend refused or did not answer: each brings the next check forward."""
    last_check_seconds: float | None
    """How long the last check took, in seconds; null before the first."""
