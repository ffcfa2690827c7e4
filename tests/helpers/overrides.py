"""Overrides for tests: the time of day is the manual clock's."""

from natmirror.backends.admission import Admission, AdmissionChange
from natmirror.rules import Override, OverrideKind, Rules, place_of
from natmirror.rules.overrides import OverrideKey


def override(
    rules: Rules, kind: OverrideKind, name: str, *, at: float = 0.0, kept: bool = False, weight: int | None = None
) -> Override:
    """Return an override of a backend or mirror of the rules' first service."""
    [service, *_] = rules.services
    places = {mirror.name: place_of(mirror) for mirror in service.mirrors}
    if service.pool is not None:
        places |= {backend.name: place_of(backend) for backend in service.pool.backends}
    return Override(kind, service.name, name, places[name], at, kept, weight)


def drain(one: Admission, backend: str, now: float, deadline: float | None = None) -> list[AdmissionChange]:
    """Drain a backend of the service openflow."""
    until = None if deadline is None else now + deadline
    return follow(one, Override(OverrideKind.DRAIN, "openflow", backend, "", now, until=until), now)


def undrain(one: Admission, backend: str, now: float) -> list[AdmissionChange]:
    """End a drain."""
    return end(one, (OverrideKind.DRAIN, "openflow", backend), now)


def follow(one: Admission, fresh: Override, now: float) -> list[AdmissionChange]:
    """Add an override."""
    return one.follow(one.overrides.including(fresh), now, now)


def end(one: Admission, key: OverrideKey, now: float) -> list[AdmissionChange]:
    """Take an override back."""
    return one.follow(one.overrides.without(key), now, now)
