"""Changes of the rules while natmirror runs: the changes that are possible, and rules that cover old and new ones."""

from collections.abc import Iterable
from dataclasses import replace

from natmirror.errors import RulesError
from natmirror.rules.model import Backend, Mirror, Pool, Rules, Service

Kept = tuple[Service, Backend | None]
"""A service, or a backend of it, that the rules no longer name but that still has connections."""

_FIXED_WHILE_RUNNING = ("threads", "max_flows", "known_switches", "events", "ha")


def refuse_what_cannot_change(old: Rules, new: Rules) -> None:
    """Raise RulesError where a running natmirror cannot change from the old rules to the new ones."""
    for field in _FIXED_WHILE_RUNNING:
        if getattr(old, field) != getattr(new, field):
            raise _refused(new, field.replace("_", "-"))
    has_pool = {(service.address, service.port): service.pool is not None for service in old.services}
    for place, service in enumerate(new.services):
        if has_pool.get((service.address, service.port), service.pool is not None) != (service.pool is not None):
            raise _refused(new, f"services[{place}].pool")
    if all(has_pool.values()):
        for place, service in enumerate(new.services):
            if service.pool is None:
                raise _refused(new, f"services[{place}]", "a first service without a pool cannot be added")


def _refused(rules: Rules, key: str, what: str = "cannot change") -> RulesError:
    return RulesError(f"{rules.path}: {key}: {what} while natmirror runs; restart natmirror to apply the new rules")


def merged(rules: Rules, others: Iterable[Rules | Kept]) -> Rules:
    """Return the rules, and add the clients, services, backends and mirrors that only the others have.

    A host that still has connections of all of them needs the packets of all.
    """
    switches = dict.fromkeys(rules.switches)
    services = {(service.address, service.port): service for service in rules.services}
    for other in others:
        if isinstance(other, Rules):
            switches.update(dict.fromkeys(other.switches))
        for service in other.services if isinstance(other, Rules) else [_only(*other)]:
            place = service.address, service.port
            services[place] = _merged(services[place], service) if place in services else service
    return replace(rules, switches=tuple(switches), services=tuple(services.values()))


def _only(service: Service, backend: Backend | None) -> Service:
    """Return the service without mirrors, and with no backend but this one."""
    pool = service.pool and replace(service.pool, backends=() if backend is None else (backend,), sorry=None)
    return replace(service, pool=pool, mirrors=(), per_client=None)


def _merged(one: Service, other: Service) -> Service:
    return replace(one, pool=_merged_pools(one.pool, other.pool), mirrors=_mirrors([*one.mirrors, *other.mirrors]))


def _merged_pools(one: Pool | None, other: Pool | None) -> Pool | None:
    if one is None or other is None:
        return one
    backends = {(backend.address, backend.port): backend for backend in (*other.members, *one.members)}
    return replace(one, backends=tuple(backends.values()), sorry=None)


def _mirrors(mirrors: list[Mirror]) -> tuple[Mirror, ...]:
    return tuple({(mirror.address, mirror.port, mirror.source): mirror for mirror in mirrors}.values())
