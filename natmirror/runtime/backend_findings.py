"""Findings about pools by their health checks and the operator's drains. Pure: the states come as arguments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from natmirror.backends.shown import AdmissionEntry, BackendState, HealthEntry
from natmirror.findings import Finding, PathCode
from natmirror.rules import Pool, Rules, WhenNone

States = Mapping[tuple[str, str], AdmissionEntry]
"""Each backend's state, by its service's and its own name."""


def backend_findings(rules: Rules, states: States, health: Sequence[HealthEntry]) -> Iterator[Finding]:
    """Yield the checks that say nothing, the pools in panic, and the pools without a backend for new connections."""
    checks = {(one["service"], one["backend"]): one for one in health}
    for service in rules.services:
        if service.pool is not None:
            yield from _inconclusive(service.name, service.pool, checks)
            yield from _closed(service.name, service.pool, states)


def _inconclusive(service: str, pool: Pool, checks: Mapping[tuple[str, str], HealthEntry]) -> Iterator[Finding]:
    for backend in pool.backends:
        entry = checks.get((service, backend.name))
        if entry is not None and entry["inconclusive_reason"]:
            yield PathCode.CHECK_SAYS_NOTHING.found(
                name=backend.name,
                service=service,
                address=backend.address,
                state=entry["state"],
                reason=entry["inconclusive_reason"],
            )


def _closed(service: str, pool: Pool, states: States) -> Iterator[Finding]:
    of = {backend: states[service, backend.name] for backend in pool.backends}
    panicking = [backend.name for backend, entry in of.items() if entry["state"] is BackendState.PANIC]
    drained = [backend.name for backend, entry in of.items() if entry["state"] is BackendState.DRAINING]
    down = [backend for backend, entry in of.items() if entry["state"] is BackendState.DOWN]
    if panicking:
        where = "its sorry server" if pool.sorry is not None else "all its backends"
        yield PathCode.POOL_IN_PANIC.found(pool=service, where=where, names=", ".join(panicking))
    elif len(drained) == len(of):
        yield PathCode.ALL_DRAINED.found(pool=service, fate=_fate(pool), name=drained[0])
    elif len(drained) + len(down) == len(of):
        code = PathCode.NO_BACKEND_UP if pool.sorry is None else PathCode.SORRY_ALONE
        reasons = [f"{one.name}: {of[one]['reason']}" for one in down] + [f"{name}: drained" for name in drained]
        found = code.found(pool=service, fate=_fate(pool), reasons="; ".join(reasons), host=down[0].address)
        yield replace(found, is_excused=True)


def _fate(pool: Pool) -> str:
    """Return what becomes of new connections while no backend is open."""
    if pool.sorry is not None:
        return f"go to the sorry server {pool.sorry.name}"
    return "are refused" if pool.when_none is WhenNone.REFUSE else "are dropped"
