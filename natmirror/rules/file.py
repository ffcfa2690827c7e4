"""Read a rules file. The tables in keys.py read each value; this module builds the rules, and refuses forbidden
combinations of keys. An error is one line with the file, the line, the key and the expected value. Errors that do not
follow from each other come together (errors_found.py)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from natmirror.errors import RulesError
from natmirror.rules.addresses import OWN_ADDRESS
from natmirror.rules.keys import CLIENT_SHARE, TOP
from natmirror.rules.kinds import Balance, CheckKind, Reconnect
from natmirror.rules.mirror_keys import ONLY_OPENFLOW
from natmirror.rules.model import Backend, Health, Mirror, PerClient, Pool, Rules, Service, Timeouts
from natmirror.rules.pair_section import build_pair, pair_warnings
from natmirror.rules.tables import Fields
from natmirror.rules.units import show_duration
from natmirror.rules.warnings import memory_warnings, service_warnings
from natmirror.rules.yaml_reader import MAX_FILE_LEN, Value, parse

_ANY = IPv4Address(0)


def load_rules(path: str | Path, taken: Mapping[IPv4Address, str] | None = None) -> Rules:
    """Read a rules file; RulesError where it cannot be used. ``taken`` has the addresses that no other
    host can have, because of this host's interfaces, and what each is."""
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
    return parse_rules(text, str(path), taken)


def parse_rules(text: str, path: str = "<rules>", taken: Mapping[IPv4Address, str] | None = None) -> Rules:
    """Read the text of a rules file; ``path`` names the file in errors. RulesError as in load_rules()."""
    value = parse(text, path)
    with value.errors.kept():
        return _rules(TOP.read_partly(value), path, taken or {})
    raise value.errors.joined()


def _rules(top: Fields, path: str, taken: Mapping[IPv4Address, str]) -> Rules:
    errors = top.value.errors
    switches: tuple[IPv4Network, ...] = top["switches"]
    with errors.kept():
        _refuse_overlaps(top.place("switches"), switches)
    built: list[tuple[Fields, Service]] = []
    for fields in top["services"]:
        with errors.kept():
            service = _service(fields, switches, taken)
            _refuse_duplicate(fields.value, service, [other for _, other in built])
            built.append((fields, service))
    services = [service for _, service in built]
    _refuse_taken_ports(top, services)
    pair = None
    with errors.kept():
        pair = top["ha"] and build_pair(top["ha"], services)
    _refuse_masters_in_pools(built)
    errors.require_none()
    warnings = (
        *service_warnings(services),
        *memory_warnings(services, top["mirror-memory"] // CLIENT_SHARE),
        *(pair_warnings(pair, services) if pair else ()),
    )
    timeouts = Timeouts(**top["timeouts"].arguments()) if top["timeouts"] else Timeouts()
    return Rules(**top.arguments(path=path, services=tuple(services), warnings=warnings, ha=pair, timeouts=timeouts))


def _refuse_overlaps(value: Value, networks: Sequence[IPv4Network]) -> None:
    for place, (one, network) in enumerate(zip(value.list("networks"), networks, strict=True)):
        for other in networks[:place]:
            if network.overlaps(other):
                raise one.unexpected("networks that do not overlap", f"{network} and {other}")


def _refuse_taken_ports(top: Fields, services: Iterable[Service]) -> None:
    """Refuse an address whose port something else has, there or at all addresses (0.0.0.0)."""
    taken = [(service.address, service.port, f"of the service {service.name}") for service in services]
    for key in ("metrics", "api"):
        if (found := top[key]) is not None:
            with top.value.errors.kept():
                for address, port, whose in taken:
                    if port == found.port and (address == found.address or _ANY in (address, found.address)):
                        raise top.place(key).unexpected("an address and port of its own", f"{found} {whose}")
            taken.append((found.address, found.port, f"of {key}"))


class _Context:
    """The service, the clients and this host's addresses, which limit the values in a pool or a mirror."""

    def __init__(self, service: Fields, switches: tuple[IPv4Network, ...], taken: Mapping[IPv4Address, str]) -> None:
        self.address: IPv4Address = service["address"]
        self.port: int = service["port"]
        self.switches = switches
        self._taken = taken

    def refuse_address(self, value: Value, address: IPv4Address) -> None:
        """Refuse a backend's or mirror's address that a client or the service has."""
        for network in self.switches:
            if address in network:
                raise value.unexpected(f"an address outside the switches' network {network}")
        if address == self.address:
            raise value.unexpected("another address than the service's")

    def refuse_taken(self, value: Value, address: IPv4Address) -> None:
        """Refuse an address for which a packet never leaves this host, or reaches several hosts."""
        if kind := self._taken.get(address):
            raise value.unexpected("the address of another host", f"{address}, {kind}")

    def refuse_no_host(self, value: Value, address: IPv4Address) -> None:
        """Refuse an address that neither this host nor another one can have."""
        if (kind := self._taken.get(address, OWN_ADDRESS)) != OWN_ADDRESS:
            raise value.unexpected("the address of a host", f"{address}, {kind}")


def _service(fields: Fields, switches: tuple[IPv4Network, ...], taken: Mapping[IPv4Address, str]) -> Service:
    if not fields.is_given("pool") and not fields.is_given("mirrors"):
        raise fields.value.error("expected a pool or mirrors or both, found neither")
    context, errors = _Context(fields, switches, taken), fields.value.errors
    pool: Pool | None = None
    per_client: PerClient | None = None
    found: list[tuple[Fields, Mirror]] = []
    with errors.whole():
        with errors.kept():
            context.refuse_no_host(fields.place("address"), context.address)
        with errors.kept():
            pool = fields["pool"] and _pool(fields["pool"], context)
        for one in fields["mirrors"]:
            with errors.kept():
                mirror = _mirror(one, context)
                _refuse_beside(one.value, mirror, [other for _, other in found], has_pool=fields["pool"] is not None)
                found.append((one, mirror))
        mirrors = [mirror for _, mirror in found]
        if len(found) == len(fields["mirrors"]):  # else a twin may only be missing because of its own error
            _refuse_twins(found)
        with errors.kept():
            per_client = fields["per-client"] and _per_client(fields["per-client"], has_pool=fields["pool"] is not None)
    return Service(**fields.arguments(pool=pool, mirrors=tuple(mirrors), per_client=per_client))


def _refuse_beside(value: Value, mirror: Mirror, others: Collection[Mirror], *, has_pool: bool) -> None:
    """Refuse a mirror that its service excludes, or the service's other mirrors."""
    _refuse_duplicate(value, mirror, others)
    if mirror.record is not None and mirror.record in (other.record for other in others):
        raise value.error(f"expected a unique file to record, found {mirror.record} again")
    if mirror.throttles and not has_pool:
        raise value.error(
            "expected a pool with when-behind: throttle, found none: without a pool natmirror changes no packet"
        )


def _refuse_twins(found: Sequence[tuple[Fields, Mirror]]) -> None:
    """Refuse twins that nothing can be compared with."""
    named = {mirror.name: mirror for _, mirror in found}
    for fields, mirror in found:
        if mirror.twin is None:
            continue
        place, twin = fields.place("twin"), named.get(mirror.twin)
        with fields.value.errors.kept():
            if twin is None or twin is mirror:
                raise place.unexpected("the name of another mirror of the service")
            if not twin.speaks_openflow:
                raise place.error(f"expected a mirror with protocol: openflow, found {twin.name} without")
            if not twin.is_compared:
                raise place.error(f"expected a mirror with verdict: on, found {twin.name} without")
            if twin.twin is not None:
                raise place.error(f"expected a mirror without a twin of its own, found {twin.name} with {twin.twin}")


def _per_client(fields: Fields, *, has_pool: bool) -> PerClient:
    if not has_pool:
        raise fields.value.error(
            "expected a pool with per-client, found none: without a pool natmirror drops and answers no packet"
        )
    if not any(map(fields.is_given, ("max-connections", "new-connections"))):
        raise fields.value.error("expected max-connections or new-connections or both, found neither")
    return PerClient(**fields.arguments())


def _pool(fields: Fields, context: _Context) -> Pool:
    balance, errors = fields["balance"], fields.value.errors
    members: list[Backend] = []
    health: Health | None = None
    with errors.whole():
        with errors.kept():
            if balance is not Balance.MAGLEV and fields.is_given("hash"):
                raise fields.place("hash").error(f"expected no hash with balance {balance}, found one")
        for one in (*fields["backends"], *([fields["sorry"]] if fields["sorry"] else [])):
            with errors.kept():
                members.append(_backend(one, balance, context, members))
        with errors.kept():
            health = fields["health"] and _health(fields["health"])
    sorry = members.pop() if fields["sorry"] else None
    return Pool(**fields.arguments(backends=tuple(members), sorry=sorry, health=health))


def _backend(fields: Fields, balance: Balance, context: _Context, others: Collection[Backend]) -> Backend:
    if balance is Balance.PRIORITY and fields.is_given("weight"):
        raise fields.place("weight").error("expected no weight with balance priority, found one")
    context.refuse_address(fields.place("address"), fields["address"])
    context.refuse_taken(fields.place("address"), fields["address"])
    backend = Backend(**fields.arguments(port=fields["port"] or context.port))
    _refuse_duplicate(fields.value, backend, others)
    return backend


def _health(fields: Fields) -> Health:
    health = Health(**fields.arguments())
    if health.check is not CheckKind.EXEC and fields.is_given("command"):
        raise fields.place("command").error(f"expected no command with check: {health.check}, found one")
    if health.check is CheckKind.EXEC and not fields.is_given("command"):
        raise fields.value.error("expected a command with check: exec, found none")
    if health.command and (not health.command[0] or any("\0" in word for word in health.command)):
        raise fields.place("command").error("expected a program and its arguments, found an empty name or a NUL byte")
    if health.timeout > health.interval:
        place = fields.place("timeout") if fields.is_given("timeout") else fields.value
        longest, found = show_duration(health.interval), show_duration(health.timeout)
        raise place.error(f"expected a timeout of at most the interval, {longest}, found {found}")
    return health


def _mirror(fields: Fields, context: _Context) -> Mirror:
    errors = fields.value.errors
    with errors.whole():
        with errors.kept():
            _refuse_address_of_mirror(fields, context)
        if fields["source"] is not None:
            with errors.kept():
                context.refuse_address(fields.place("source"), fields["source"])
                context.refuse_no_host(fields.place("source"), fields["source"])
        if fields.is_given("only"):
            for value, network in zip(fields.place("only").list("networks"), fields["only"], strict=True):
                if not any(network.subnet_of(clients) for clients in context.switches):
                    errors.note(value.unexpected("a network inside one of the switches' networks"))
        mirror = Mirror(**fields.arguments(port=fields["port"] or context.port))
        with errors.kept():
            _refuse_combinations(fields, mirror)
    return mirror


def _refuse_address_of_mirror(fields: Fields, context: _Context) -> None:
    context.refuse_address(fields.place("address"), fields["address"])
    if fields["source"] is None:  # otherwise a mirror on this host gets its legs, and answers, through lo
        context.refuse_taken(fields.place("address"), fields["address"])
    else:
        context.refuse_no_host(fields.place("address"), fields["address"])


def _refuse_combinations(fields: Fields, mirror: Mirror) -> None:
    if fields.is_given("throttle-limit") and not mirror.throttles:
        raise fields.place("throttle-limit").error(
            "expected no throttle-limit without when-behind: throttle, found one"
        )
    for key in ONLY_OPENFLOW:
        if fields.is_given(key) and not mirror.speaks_openflow:
            raise fields.place(key).error(f"expected no {key} without protocol: openflow, found one")
    if mirror.throttles and mirror.speaks_openflow:
        raise fields.place("when-behind").error(
            "expected when-behind: drop with protocol: openflow, found throttle: a session leaves out whole messages"
            " instead"
        )
    _refuse_reconnect(fields, mirror)
    if mirror.direct and mirror.source is not None:
        raise fields.place("direct").error(
            "expected no direct with a source of this host, found one: the mirror's packets to clients pass anyway"
        )


def _refuse_reconnect(fields: Fields, mirror: Mirror) -> None:
    if mirror.reconnect is Reconnect.NEXT_MESSAGE and not mirror.speaks_openflow:
        raise fields.place("reconnect").error(
            "expected never or next-segment without protocol: openflow, found next-message: a raw mirror gets bytes"
        )
    if mirror.begins_again and mirror.speaks_openflow:
        raise fields.place("reconnect").error(
            "expected never or next-message with protocol: openflow, found next-segment: a session needs whole messages"
        )
    if mirror.begins_again and mirror.throttles:
        raise fields.place("reconnect").error(
            "expected reconnect: never with when-behind: throttle, found next-segment: a client is throttled only from"
            " its handshake on"
        )


def _refuse_duplicate(
    value: Value, new: Service | Backend | Mirror, others: Iterable[Service | Backend | Mirror]
) -> None:
    for other in others:
        if other.name == new.name:
            raise value.error(f"expected a unique name, found {new.name} again")
        if (other.address, other.port) == (new.address, new.port):
            found = f"{new.address}:{new.port} of {other.name}"
            raise value.error(f"expected a unique address and port, found {found} again")


def _refuse_masters_in_pools(built: Sequence[tuple[Fields, Service]]) -> None:
    """Refuse a master that is a backend too: a controller that gets two connections from one switch takes the second
    one for an error, and closes one of them."""
    backends = {
        (backend.address, backend.port): f"{service.name}/{backend.name}"
        for _, service in built
        if service.pool
        for backend in service.pool.backends
    }
    for fields, service in built:
        for one, mirror in zip(fields["mirrors"], service.mirrors, strict=True):
            backend = backends.get((mirror.address, mirror.port))
            if mirror.speaks_openflow and backend is not None:
                here = f"{mirror.address}:{mirror.port}"
                fields.value.errors.note(
                    one.value.error(
                        f"expected a mirror with protocol: openflow that is not a backend, found {here} of {backend}"
                    )
                )
