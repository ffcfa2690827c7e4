"""The section ``ha`` of a rules file: build the pair, and refuse what several keys together exclude."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from natmirror.rules.kinds import Balance
from natmirror.rules.model import Backend, Host, Mirror, Pair, Service, Side
from natmirror.rules.tables import Fields
from natmirror.rules.yaml_reader import Value


def build_pair(fields: Fields, services: Sequence[Service]) -> Pair:
    """Build the pair that serves these services; RulesError where its keys exclude each other."""
    switch_side, pool_side = _side(fields["switch-side"]), _side(fields["pool-side"])
    if switch_side.vrrp_id == pool_side.vrrp_id:
        raise fields.place("pool-side").error(f"expected a unique vrrp-id, found {pool_side.vrrp_id} again")
    if shared := set(_bare(switch_side)) & set(_bare(pool_side)):
        raise fields.place("pool-side").error(f"expected unique addresses, found {min(shared)} again")
    _refuse_service_outside(fields.place("switch-side"), switch_side, services)
    hosts = _hosts(fields["hosts"], {*_bare(switch_side), *_bare(pool_side)})
    _refuse_sources_of_one_host(fields.value, hosts, services)
    _refuse_targets_on_the_hosts(fields.value, hosts, {*_bare(switch_side), *_bare(pool_side)}, services)
    return Pair(**fields.arguments(hosts=hosts, switch_side=switch_side, pool_side=pool_side))


def pair_warnings(pair: Pair, services: Sequence[Service]) -> Iterator[str]:
    """Yield a sentence for each key without effect, and for each service whose bindings the standby host lacks."""
    if pair.key is not None and pair.state is None:
        yield "ha.key is set without ha.state: it has no effect, because the hosts share nothing"
    for service in services:
        if pair.state is not None or service.pool is None:
            continue
        reasons = [] if service.pool.balance is Balance.MAGLEV else [f"balance: {service.pool.balance}"]
        reasons += ["max-connections"] if any(one.max_connections for one in service.pool.backends) else []
        if reasons:
            yield (
                f"service {service.name} has {' and '.join(reasons)} without ha.state: when the other host takes over,"
                " a connection whose client sends first goes to the backend that maglev gives it, and is reset where"
                " that is not its own"
            )


def _bare(side: Side) -> list[IPv4Address]:
    """Return a side's virtual addresses without their prefix lengths."""
    return [address.ip for address in side.addresses]


def _hosts(found: Sequence[Fields], virtual: set[IPv4Address]) -> tuple[Host, ...]:
    hosts: list[Host] = []
    for fields in found:
        for side in ("switch-side", "pool-side"):
            if fields[side] in virtual:
                raise fields.place(side).unexpected("the host's own address, not a virtual one")
        host = Host(**fields.arguments())
        for other in hosts:
            if host.name == other.name:
                raise fields.value.error(f"expected a unique name, found {host.name} again")
            if host.priority == other.priority:
                raise fields.value.error(f"expected a unique priority, found {host.priority} again")
        taken = {address for other in hosts for address in (other.switch_side, other.pool_side)}
        if again := {host.switch_side, host.pool_side} & taken:
            raise fields.value.error(f"expected unique addresses, found {min(again)} again")
        hosts.append(host)
    return tuple(hosts)


def _side(fields: Fields) -> Side:
    side = Side(**fields.arguments())
    addresses = _bare(side)
    for place, value in enumerate(fields.place("addresses").list("addresses")):
        if addresses[place] in addresses[:place]:
            raise value.error(f"expected each address once, found {addresses[place]} twice")
    return side


def _refuse_service_outside(value: Value, side: Side, services: Sequence[Service]) -> None:
    """Refuse a service in a virtual address's network that has none of the virtual addresses: no host would answer ARP
    for it."""
    for service in services:
        is_in_network = any(service.address in address.network for address in side.addresses)
        if service.pool is not None and is_in_network and service.address not in _bare(side):
            raise value.error(
                f"expected the address of service {service.name}, {service.address}, among the virtual ones,"
                f" found {', '.join(map(str, _bare(side)))}"
            )


def _refuse_sources_of_one_host(value: Value, hosts: Sequence[Host], services: Sequence[Service]) -> None:
    """Refuse a mirror's source that one host has: both hosts have the same rules, and the other's legs would get no
    answers."""
    owners = {address: host for host in hosts for address in (host.switch_side, host.pool_side)}
    for service in services:
        for mirror in service.mirrors:
            if mirror.source in owners:
                raise value.error(
                    f"expected a virtual address as source of mirror {mirror.name} of service {service.name},"
                    f" found {mirror.source}, which only {owners[mirror.source].name} has"
                )


def _refuse_targets_on_the_hosts(
    value: Value, hosts: Sequence[Host], virtual: set[IPv4Address], services: Sequence[Service]
) -> None:
    """Refuse a backend, or a mirror without a source, with an address of the pair: packets to it would not leave the
    host."""
    own = virtual | {address for host in hosts for address in (host.switch_side, host.pool_side)}
    for service in services:
        mirrors = [mirror for mirror in service.mirrors if mirror.source is None]
        targets: list[Backend | Mirror] = [*(service.pool.members if service.pool else ()), *mirrors]
        for target in targets:
            if target.address in own:
                raise value.error(
                    f"expected no backend or mirror on the hosts of the pair, found {target.name} of service"
                    f" {service.name} with {target.address}"
                )
