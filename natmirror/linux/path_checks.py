"""Checks of the paths to backends and mirrors, and of programs on this host that get in the way; pure functions."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from natmirror.findings import Finding, HostCode, PathCode
from natmirror.linux.host_state import HostState, targets
from natmirror.linux.interfaces import setting_of
from natmirror.rules import Backend, Mirror, Rules, Service

_ANY = IPv4Address("0.0.0.0")


def find_path_problems(service: Service, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each backend and mirror that no packet of this host reaches."""
    for target in targets(service):
        names = {"name": target.name, "address": target.address, "service": service.name}
        if target.address in host.addresses:
            if isinstance(target, Backend) or target.source is None:
                yield PathCode.TARGET_IS_THIS_HOST.found(**names)
        elif host.routes.get(target.address) is None:
            yield (PathCode.NO_ROUTE_TO_MIRROR if isinstance(target, Mirror) else PathCode.NO_ROUTE_TO_BACKEND).found(
                **names
            )


def find_forwarding_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem where the kernel forwards nothing of what comes in by the interfaces of clients and backends. By
    which interfaces clients that are not beside this host and backends of asymmetric pools come in is unknown."""
    pools = [service.pool for service in rules.services if service.pool]
    backends = [({host.routes.get(member.address) for member in pool.members}, pool.asymmetric) for pool in pools]
    clients: set[str | None] = {link for client in host.clients for link in client.links}
    links = {*host.client_routes.values(), *clients}.union(*(side for side, _ in backends))
    closed = sorted(link for link in links if link and host.forwarding.get(link) == 0)
    if not closed:
        return
    elsewhere = set() if all(client.is_beside for client in host.clients) else host.interfaces - {"lo"}
    sides = [clients | elsewhere, *(side for side, is_asymmetric in backends if not is_asymmetric)]
    is_cut = any(side and all(host.forwarding.get(link or "") == 0 for link in side) for side in sides)
    if host.forwarding.get("all") == 0:
        settings = "net.ipv4.ip_forward=1"
    else:  # which would change nothing then
        settings = " ".join(f"{setting_of(link, 'forwarding')}=1" for link in closed)
    code = HostCode.NO_FORWARDING if is_cut else HostCode.PARTLY_FORWARDING
    yield code.found(interfaces=" and ".join(closed), settings=settings)


def find_link_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each interface without a carrier, and for each pair of interfaces with different MTUs."""
    users: dict[str, list[str]] = {}
    for client in host.clients:
        for link in client.links:
            users.setdefault(link, []).append(str(client.network))
    for service in rules.services:
        for target in targets(service):
            users.setdefault(host.routes.get(target.address) or "", []).append(target.name)
    for link, hosts in users.items():
        if link in host.details and not host.details[link].has_carrier:
            yield PathCode.LINK_DOWN.found(interface=link, hosts=", ".join(dict.fromkeys(hosts)))
    clients = {link for link in host.client_routes.values() if link in host.details}
    pools = [service.pool for service in rules.services if service.pool]
    backends = {host.routes.get(member.address) for pool in pools for member in pool.members} & host.details.keys()
    for one in sorted(link for link in clients if link):
        for other in sorted(link for link in backends if link):
            narrow, wide = sorted((one, other), key=lambda name: host.details[name].mtu)
            mtu, wide_mtu = host.details[narrow].mtu, host.details[wide].mtu
            if mtu < wide_mtu and "lo" not in (narrow, wide):
                yield PathCode.MTU_NARROWS.found(narrow=narrow, wide=wide, mtu=mtu, wide_mtu=wide_mtu)


def find_socket_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each program on this host that serves or calls a service's address in vain."""
    for service in rules.services:
        if service.pool is None:
            continue
        address, port = service.address, service.port
        if (address, port) in host.listeners or ((_ANY, port) in host.listeners and address in host.addresses):
            yield PathCode.LISTENER_BYPASSED.found(address=address, port=port, service=service.name)
        if (address, port) in host.connecting:
            yield PathCode.LOCAL_CLIENT.found(service=service.name)


def find_client_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each service whose address is beside clients to whom no network of the rules belongs."""
    for service in rules.services:
        for link, networks in host.links.items():
            if link in host.client_routes.values() or service.address not in host.addresses:
                continue
            for network in dict.fromkeys(networks):
                if service.address in network and not any(network.overlaps(one) for one in rules.switches):
                    yield PathCode.CLIENTS_NOT_IN_SWITCHES.found(
                        address=service.address, service=service.name, network=network, interface=link
                    )
