"""Read a rules file: the result is the rules, or one line that says what is wrong with it and where."""

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from natmirror.errors import RulesError
from natmirror.rules.kinds import (
    Balance,
    CheckKind,
    HashInput,
    MirrorProtocol,
    Reconnect,
    Statistics,
    Unsolicited,
    WhenBehind,
    WhenDown,
    WhenNone,
)
from natmirror.rules.model import (
    DEFAULT_FLOWS,
    DEFAULT_MEMORY,
    MAX_THREADS,
    Backend,
    Health,
    Mirror,
    Pool,
    Rules,
    Service,
)
from natmirror.rules.pair_section import ha_warnings, read_ha
from natmirror.rules.scalars import read_absolute_path, read_duration, read_name, read_percent, read_port, read_size
from natmirror.rules.units import show_duration
from natmirror.rules.yaml_reader import MAX_FILE_LEN, Mapping, Value, parse

_KEYS = ("switches", "services", "mirror-memory", "max-flows", "threads", "known-switches", "ha")
_FLOWS_BOUNDS = (1024, 1 << 24)
_BUFFER_BOUNDS = (64 << 10, 1 << 30)
_MEMORY_BOUNDS = (1 << 20, 1 << 40)
_MAX_WEIGHT = 1000
_MAX_IN_ROW = 100
_MIN_CHECK_INTERVAL = 0.1  # what checks cost is the packets' loss


def load_rules(path: str | Path) -> Rules:
    """Read a rules file; RulesError says in one line what is wrong with it."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_LEN + 1)
    except OSError as error:
        raise RulesError(f"{path}: {error.strerror or error}") from None
    if len(raw) > MAX_FILE_LEN:
        raise RulesError(f"{path}: expected at most {MAX_FILE_LEN} bytes, found more")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RulesError(f"{path}:{line}: expected UTF-8 text, found byte 0x{raw[error.start]:02x}") from None
    return parse_rules(text, str(path))


def parse_rules(text: str, path: str = "<rules>") -> Rules:
    """Read the text of a rules file; ``path`` is the name that errors give it."""
    top = parse(text, path).mapping(*_KEYS)
    switches = tuple(_distinct_networks(top["switches"].list("networks")))
    services: list[Service] = []
    for value in top["services"].list("services"):
        service = _service(value.mapping("name", "address", "port", "pool", "mirrors"), switches)
        for other in services:
            if other.name == service.name:
                raise value.complain(f"expected a name of its own, found {service.name} again")
            if (other.address, other.port) == (service.address, service.port):
                here = f"{service.address}:{service.port}"
                raise value.complain(f"expected an address and port of its own, found {here} of {other.name} again")
        services.append(service)
    memory = top.get("mirror-memory", lambda value: read_size(value, _MEMORY_BOUNDS), DEFAULT_MEMORY)
    max_flows = top.get("max-flows", lambda value: value.integer(*_FLOWS_BOUNDS), DEFAULT_FLOWS)
    threads = top.get("threads", _threads, None)
    known_switches = top.get("known-switches", read_absolute_path, None)
    ha = top.get("ha", lambda value: read_ha(value, services), None)
    _refuse_masters_in_pools(top["services"], services)
    warnings = (*_warnings(services), *(ha_warnings(ha, services) if ha else ()))
    return Rules(path, switches, tuple(services), warnings, memory, max_flows, threads, known_switches, ha)


def _distinct_networks(values: list[Value]) -> Iterable[IPv4Network]:
    seen: list[IPv4Network] = []
    for value in values:
        network = value.network()
        for other in seen:
            if network.overlaps(other):
                raise value.error("networks that do not overlap", f"{network} and {other}")
        seen.append(network)
        yield network


def _service(fields: Mapping, switches: tuple[IPv4Network, ...]) -> Service:
    name = read_name(fields["name"])
    address, port = fields["address"].address(), read_port(fields["port"])

    def outside(value: Value) -> IPv4Address:
        """Read an address that is neither a client's nor the service's own."""
        found = value.address()
        for network in switches:
            if found in network:
                raise value.error(f"an address outside the switches' network {network}")
        if found == address:
            raise value.error("another address than the service's")
        return found

    if "pool" not in fields and "mirrors" not in fields:
        raise fields.value.complain("expected a pool or mirrors or both, found neither")
    pool = _pool(fields["pool"], port, outside) if "pool" in fields else None
    mirrors = _mirrors(fields["mirrors"], port, outside, switches) if "mirrors" in fields else ()
    for value, mirror in zip(fields["mirrors"].list("mirrors") if mirrors else (), mirrors, strict=True):
        if mirror.throttles and pool is None:
            raise value.complain("expected a pool where a mirror throttles: without one no packet is changed")
    return Service(name, address, port, pool, mirrors)


def _pool(value: Value, port: int, outside: Callable[[Value], IPv4Address]) -> Pool:
    fields = value.mapping("balance", "hash", "backends", "sorry", "when-none", "when-down", "slow-start", "health")
    balance = fields.get("balance", lambda value: value.choice(Balance), Balance.MAGLEV)
    if balance is not Balance.MAGLEV and "hash" in fields:
        raise fields["hash"].complain(f"expected no hash with balance {balance}, found one")
    hashed = fields.get("hash", lambda value: value.choice(HashInput), HashInput.ADDRESS)
    backends: list[Backend] = []
    for one in fields["backends"].list("backends"):
        keys = one.mapping("name", "address", "port", "weight", "max-connections")
        if balance is Balance.PRIORITY and "weight" in keys:
            raise keys["weight"].complain("expected no weight with balance priority, found one")
        backend = Backend(
            read_name(keys["name"]),
            outside(keys["address"]),
            keys.get("port", read_port, port),
            keys.get("weight", lambda value: value.integer(1, _MAX_WEIGHT), 1),
            keys.get("max-connections", lambda value: value.integer(1, _FLOWS_BOUNDS[1]), None),
        )
        _refuse_duplicate(one, backend, backends)
        backends.append(backend)
    sorry = fields.get("sorry", lambda value: _sorry(value, port, outside, backends), None)
    when_none = fields.get("when-none", lambda value: value.choice(WhenNone), WhenNone.DROP)
    when_down = fields.get("when-down", lambda value: value.choice(WhenDown), WhenDown.RESET)
    slow_start = fields.get("slow-start", read_duration, 0.0)
    health = fields.get("health", _health, None)
    return Pool(balance, hashed, tuple(backends), sorry, when_none, when_down, slow_start, health)


def _sorry(value: Value, port: int, outside: Callable[[Value], IPv4Address], backends: list[Backend]) -> Backend:
    keys = value.mapping("name", "address", "port")
    backend = Backend(read_name(keys["name"]), outside(keys["address"]), keys.get("port", read_port, port))
    _refuse_duplicate(value, backend, backends)
    return backend


def _health(value: Value) -> Health:
    optional: dict[str, Callable[[Value], Any]] = {
        "interval": _check_interval,
        "timeout": read_duration,
        "rise": lambda value: value.integer(1, _MAX_IN_ROW),
        "fall": lambda value: value.integer(1, _MAX_IN_ROW),
        "command": _command,
    }
    keys = value.mapping("check", *optional)
    check = keys["check"].choice(CheckKind)
    health = Health(check, **{key: read(keys[key]) for key, read in optional.items() if key in keys})
    if check is not CheckKind.EXEC and "command" in keys:
        raise keys["command"].complain(f"expected no command with check: {check}, found one")
    if check is CheckKind.EXEC and "command" not in keys:
        raise value.complain("expected a command with check: exec, found none")
    if health.timeout > health.interval:
        place = keys.get("timeout", lambda timeout: timeout, value)
        longest, found = show_duration(health.interval), show_duration(health.timeout)
        raise place.complain(f"expected a timeout of at most the interval, {longest}, found {found}")
    return health


def _check_interval(value: Value) -> float:
    interval = read_duration(value)
    if interval < _MIN_CHECK_INTERVAL:
        raise value.error(f"an interval of at least {show_duration(_MIN_CHECK_INTERVAL)}")
    return interval


def _command(value: Value) -> tuple[str, ...]:
    words = tuple(one.scalar("a word") for one in value.list("words, the program first"))
    if not words[0] or any("\0" in word for word in words):
        raise value.complain("expected a program and its arguments, found an empty name or a NUL")
    return words


def _mirrors(
    value: Value, port: int, outside: Callable[[Value], IPv4Address], switches: tuple[IPv4Network, ...]
) -> tuple[Mirror, ...]:
    mirrors: list[Mirror] = []
    for one in value.list("mirrors"):
        mirror = _mirror(one, port, outside, switches)
        _refuse_duplicate(one, mirror, mirrors)
        mirrors.append(mirror)
        _refuse_second_record(one, mirrors)
    return tuple(mirrors)


def _mirror(
    value: Value, port: int, outside: Callable[[Value], IPv4Address], switches: tuple[IPv4Network, ...]
) -> Mirror:
    optional: dict[str, Callable[[Value], Any]] = {
        "buffer": lambda value: read_size(value, _BUFFER_BOUNDS),
        "when-behind": lambda value: value.choice(WhenBehind),
        "throttle-limit": read_duration,
        "sample": read_percent,
        "only": lambda value: _networks_inside(value, switches),
        "source": lambda value: _source(value, outside),
        "linger": read_duration,
        "connect-timeout": read_duration,
        "stall-timeout": read_duration,
        "idle-timeout": read_duration,
        "direct": Value.boolean,
        "protocol": lambda value: value.choice(MirrorProtocol),
        **_OF_SESSIONS,
    }
    keys = value.mapping("name", "address", "port", *optional)
    given = {key.replace("-", "_"): read(keys[key]) for key, read in optional.items() if key in keys}
    mirror = Mirror(read_name(keys["name"]), outside(keys["address"]), keys.get("port", read_port, port), **given)
    if "throttle-limit" in keys and not mirror.throttles:
        raise keys["throttle-limit"].complain("expected no throttle-limit without when-behind: throttle, found one")
    for key in _OF_SESSIONS:
        if key in keys and not mirror.speaks_openflow:
            raise keys[key].complain(f"expected no {key} without protocol: openflow, found one")
    if mirror.throttles and mirror.speaks_openflow:
        raise keys["when-behind"].complain(
            "expected when-behind: drop with protocol: openflow, found throttle: whole messages are left out instead"
        )
    if mirror.direct and mirror.source is not None:
        raise keys["direct"].complain(
            "expected no direct with a source of ours, found one: clients' packets pass anyway"
        )
    return mirror


_OF_SESSIONS: dict[str, Callable[[Value], Any]] = {
    "reconnect": lambda value: value.choice(Reconnect),
    "unsolicited": lambda value: value.choice(Unsolicited),
    "statistics": lambda value: value.choice(Statistics),
    "record": lambda value: read_absolute_path(value),
}
"""Keys of mirrors with OpenFlow sessions."""


def _source(value: Value, outside: Callable[[Value], IPv4Address]) -> IPv4Address | None:
    expected = "client or an IPv4 address of this host"
    return None if value.scalar(expected) == "client" else outside(value)


def _networks_inside(value: Value, switches: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    networks = []
    for one in value.list("networks"):
        network = one.network()
        if not any(network.subnet_of(clients) for clients in switches):
            raise one.error("a network inside one of the switches' networks")
        networks.append(network)
    return tuple(networks)


def _refuse_second_record(value: Value, mirrors: list[Mirror]) -> None:
    *others, new = mirrors
    if new.record is not None and new.record in (other.record for other in others):
        raise value.complain(f"expected a file of its own to record, found {new.record} again")


def _refuse_duplicate(value: Value, new: Backend | Mirror, others: Iterable[Backend | Mirror]) -> None:
    for other in others:
        if other.name == new.name:
            raise value.complain(f"expected a name of its own, found {new.name} again")
        if (other.address, other.port) == (new.address, new.port):
            raise value.complain(f"expected an address and port of its own, found {new.address}:{new.port} again")


def _refuse_masters_in_pools(value: Value, services: list[Service]) -> None:
    """Refuse an OpenFlow mirror that is a backend too: a controller that has two connections of one switch takes that
    for a mistake, and closes one of them."""
    pools = {
        (backend.address, backend.port): service.name
        for service in services
        if service.pool
        for backend in service.pool.backends
    }
    for one, service in zip(value.list("services"), services, strict=True):
        mirrors = one.mapping("name", "address", "port", "pool", "mirrors").get("mirrors", lambda value: value, None)
        for place, mirror in zip(mirrors.list("mirrors") if mirrors else (), service.mirrors, strict=True):
            pool = pools.get((mirror.address, mirror.port))
            if mirror.speaks_openflow and pool is not None:
                here = f"{mirror.address}:{mirror.port}"
                raise place.complain(
                    f"expected a mirror with protocol: openflow outside all pools, found {here} of {pool}"
                )


def _threads(value: Value) -> int | None:
    expected = f"auto, or a power of two up to {MAX_THREADS}"
    word = value.scalar(expected)
    if word == "auto":
        return None
    if not word.isdecimal() or int(word) not in (1 << shift for shift in range(MAX_THREADS.bit_length())):
        raise value.error(expected)
    return int(word)


def _warnings(services: list[Service]) -> Iterable[str]:
    backends = Counter(
        (backend.address, backend.port) for service in services if service.pool for backend in service.pool.backends
    )
    for (address, port), count in backends.items():
        if count > 1:
            yield (
                f"backend {address}:{port} stands in {count} services: a client that uses one port for two loses"
                " the older connection, and after a restart replies to connections from before are dropped"
            )
    owners = {
        (backend.address, backend.port): service
        for service in services
        if service.pool
        for backend in service.pool.backends
    }
    for service in services:
        for mirror in service.mirrors:
            owner = owners.get((mirror.address, mirror.port), service)
            if owner is not service:
                yield (
                    f"mirror {mirror.address}:{mirror.port} of {service.name} is a backend of {owner.name}: a client"
                    f" that uses one port for both has its connection to {service.name} not mirrored there"
                )
    mirrors = Counter((mirror.address, mirror.port) for service in services for mirror in service.mirrors)
    for (address, port), count in mirrors.items():
        if count > 1:
            yield (
                f"mirror {address}:{port} stands in {count} services: a client that uses one port for two of them"
                " gets only the first connection mirrored"
            )
