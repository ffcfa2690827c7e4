"""The ``ha`` section of a rules file: the pair of hosts."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Interface
from urllib.parse import urlsplit

from natmirror.rules.kinds import Balance
from natmirror.rules.model import DEFAULT_ADVERT_INTERVAL, Host, Pair, Service, Side
from natmirror.rules.scalars import read_duration, read_matching, read_name
from natmirror.rules.yaml_reader import Value

_MAX_ID = 255  # RFC 9568 §5.2.3
_PRIORITIES = (1, 254)  # RFC 9568 §5.2.4: 0 and 255 have meanings of their own
_MAX_ADVERT_HUNDREDTHS = (1 << 12) - 1  # RFC 9568 §5.2.7: twelve bits of hundredths of a second
_EXACT = 1e-9
_KEY_LENS = (16, 1024)  # the least as for a random key of 64 bits in hexadecimal digits
_MAX_DATABASE = 1_000_000

_INTERFACE = re.compile(r"[^\s/:\"#!{}]{1,15}")  # what Linux allows, less what means something in keepalived.conf


def read_ha(value: Value, services: Sequence[Service]) -> Pair:
    """The pair that looks after these services."""
    keys = value.mapping("hosts", "switch-side", "pool-side", "advert-interval", "state", "key")
    switch_side, pool_side = _side(keys["switch-side"]), _side(keys["pool-side"])
    if switch_side.vrrp_id == pool_side.vrrp_id:
        raise keys["pool-side"].complain(f"expected a vrrp-id of its own, found {pool_side.vrrp_id} again")
    if shared := set(_bare(switch_side)) & set(_bare(pool_side)):
        raise keys["pool-side"].complain(f"expected addresses of its own, found {min(shared)} again")
    _refuse_service_outside(keys["switch-side"], switch_side, services)
    one, other = _hosts(keys["hosts"], {*_bare(switch_side), *_bare(pool_side)})
    _refuse_sources_of_one_host(value, (one, other), services)
    return Pair(
        (one, other),
        switch_side,
        pool_side,
        keys.get("advert-interval", _advert_interval, DEFAULT_ADVERT_INTERVAL),
        keys.get("state", _redis_url, None),
        keys.get("key", _secret, None),
    )


def ha_warnings(pair: Pair, services: Sequence[Service]) -> Iterator[str]:
    """What the two cannot know of each other's connections, and keys without an effect."""
    if pair.key is not None and pair.state is None:
        yield "ha.key is set, but nothing is shared (ha.state): it has no effect"
    for service in services:
        if pair.state is not None or service.pool is None:
            continue
        reasons = [] if service.pool.balance is Balance.MAGLEV else [f"balance: {service.pool.balance}"]
        reasons += ["max-connections"] if any(one.max_connections for one in service.pool.backends) else []
        if reasons:
            yield (
                f"service {service.name} has {' and '.join(reasons)}, and nothing is shared (ha.state): a"
                " connection whose client speaks first after a move goes to the backend that maglev would give it,"
                " and ends unless that is its own"
            )


def _bare(side: Side) -> list[IPv4Address]:
    return [address.ip for address in side.addresses]


def _hosts(value: Value, virtual: set[IPv4Address]) -> list[Host]:
    hosts: list[Host] = []
    values = value.list("two hosts")
    if len(values) != 2:
        raise value.complain(f"expected two hosts, found {len(values)}")
    for one in values:
        keys = one.mapping("name", "switch-side", "pool-side", "priority")
        for side in ("switch-side", "pool-side"):
            if keys[side].address() in virtual:
                raise keys[side].error("the host's own address, which it has at all times")
        host = Host(
            read_name(keys["name"]),
            keys["switch-side"].address(),
            keys["pool-side"].address(),
            keys["priority"].integer(*_PRIORITIES),
        )
        for other in hosts:
            if host.name == other.name:
                raise one.complain(f"expected a name of its own, found {host.name} again")
            if host.priority == other.priority:
                raise one.complain(f"expected a priority of its own, found {host.priority} again")
        taken = {address for other in hosts for address in (other.switch_side, other.pool_side)}
        if again := {host.switch_side, host.pool_side} & taken:
            raise one.complain(f"expected addresses of its own, found {min(again)} again")
        hosts.append(host)
    return hosts


def _side(value: Value) -> Side:
    keys = value.mapping("interface", "addresses", "vrrp-id")
    addresses: list[IPv4Interface] = []
    for one in keys["addresses"].list("addresses such as 10.10.0.100/24"):
        address = _interface_address(one)
        if address.ip in (other.ip for other in addresses):
            raise one.complain(f"expected each address once, found {address.ip} twice")
        addresses.append(address)
    interface = read_matching(keys["interface"], _INTERFACE, "the name of a network interface")
    return Side(interface, tuple(addresses), keys["vrrp-id"].integer(1, _MAX_ID))


def _interface_address(value: Value) -> IPv4Interface:
    expected = "an address with the length of its network, such as 10.10.0.100/24"
    text = value.scalar(expected)
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal():
        raise value.error(expected)
    try:
        return IPv4Interface((address, int(length)))
    except (AddressValueError, ValueError):
        raise value.error(expected) from None


def _refuse_service_outside(value: Value, side: Side, services: Sequence[Service]) -> None:
    """Nobody would answer for the address of a service that lies beside the virtual ones."""
    for service in services:
        beside = any(service.address in address.network for address in side.addresses)
        if service.pool is not None and beside and service.address not in _bare(side):
            raise value.complain(
                f"expected the address of service {service.name}, {service.address}, among the virtual ones,"
                f" found {', '.join(map(str, _bare(side)))}"
            )


def _refuse_sources_of_one_host(value: Value, hosts: Sequence[Host], services: Sequence[Service]) -> None:
    """Both go by the same rules, and legs from an address that the other host has do not come back."""
    owned = {address: host for host in hosts for address in (host.switch_side, host.pool_side)}
    for service in services:
        for mirror in service.mirrors:
            if mirror.source in owned:
                raise value.complain(
                    f"expected a virtual address as source of mirror {mirror.name} of service {service.name},"
                    f" found {mirror.source}, which {owned[mirror.source].name} alone has"
                )


def _advert_interval(value: Value) -> float:
    interval = read_duration(value)
    hundredths = round(interval * 100)
    if hundredths == 0 or hundredths > _MAX_ADVERT_HUNDREDTHS or abs(hundredths / 100 - interval) > _EXACT:
        raise value.error("an interval from 10ms to 40.95s in steps of 10ms")
    return interval


def _secret(value: Value) -> str:
    """An error shows nothing of it but its length."""
    expected = f"a secret text of {_KEY_LENS[0]} to {_KEY_LENS[1]} characters"
    text = value.scalar(expected)
    if not _KEY_LENS[0] <= len(text) <= _KEY_LENS[1]:
        raise value.error(expected, f"one of {len(text)}")
    return text


def _redis_url(value: Value) -> str:
    """Left as it stands; an error does not show it, since it may hold a password."""
    expected = "redis://ADDRESS:PORT/DATABASE with an IPv4 address"
    text = value.scalar(expected)
    try:
        url = urlsplit(text)
        address, port = IPv4Address(url.hostname or ""), url.port
    except ValueError:
        raise value.error(expected, "another form") from None
    database = url.path.removeprefix("/")
    if url.scheme != "redis" or port == 0 or url.query or url.fragment or any(map(str.isspace, text)):
        raise value.error(expected, "another form")
    if database and not (database.isascii() and database.isdecimal() and int(database) <= _MAX_DATABASE):
        raise value.error(expected, f"the database {database[:40]}")
    if address.is_unspecified or address.is_multicast:
        raise value.error(expected, f"the address {address}")
    return text
