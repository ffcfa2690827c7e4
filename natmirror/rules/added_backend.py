"""A backend that a command adds to the rules: it passes the checks of a backend in a rules file.

file.py checks a file, so the rules are written as one here, with all that the checks of a backend look at.
"""

import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from natmirror.errors import RulesError
from natmirror.rules.file import parse_rules
from natmirror.rules.model import Backend, Rules, Service

_PLACE = re.compile(r"^[^:]*:\d+: (services\[\d+\]\.pool\.backends\[\d+\](\.|: ))?")


def checked_backend(
    rules: Rules, service: str, keys: Mapping[str, Any], taken: Mapping[IPv4Address, str] | None = None
) -> Backend:
    """Return the backend with these keys of a rules file, which the service of that name may have beside its own. It
    has a pool. RulesError where it may not. ``taken`` as in load_rules()."""
    written = {
        "switches": [str(network) for network in rules.switches],
        "services": [_written(one, keys if one.name == service else None) for one in rules.services],
    }
    try:
        read = parse_rules(json.dumps(written), "command", taken)
    except RulesError as error:
        why = "; ".join(_PLACE.sub("", line) for line in error.lines)
        raise RulesError(f"backend {keys['name']} of {service}: {why}") from None
    [pool] = [one.pool for one in read.services if one.name == service]
    assert pool is not None, "the caller knows that it has one"
    return pool.backends[-1]


def _written(service: Service, added: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a service as a rules file has it, with one backend more."""
    found: dict[str, Any] = {"name": service.name, "address": str(service.address), "port": service.port}
    if (pool := service.pool) is not None:
        backends = [_member(one) for one in pool.backends] + ([dict(added)] if added is not None else [])
        found["pool"] = {"balance": pool.balance, "backends": backends}
        if pool.sorry is not None:
            found["pool"]["sorry"] = _member(pool.sorry)
    if service.mirrors:
        found["mirrors"] = [
            _member(mirror)
            | {"protocol": mirror.protocol, "source": "client" if mirror.source is None else str(mirror.source)}
            for mirror in service.mirrors
        ]
    return found


def _member(one: Any) -> dict[str, Any]:
    return {"name": one.name, "address": str(one.address), "port": one.port}
