"""The types of values that hold addresses: of hosts, of networks, of interfaces and of a Redis server."""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple
from urllib.parse import urlsplit

from natmirror.rules.scalars import Schema, ValueType
from natmirror.rules.yaml_reader import Value

OWN_ADDRESS = "an address of this host"

_MAX_DATABASE = 1_000_000
_MAX_PORT = 65535
_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ADDRESS_PATTERN = rf"{_OCTET}(\.{_OCTET}){{3}}"


def no_hosts_of(network: IPv4Network) -> dict[IPv4Address, str]:
    """Return the addresses of a network that none of its hosts has, and what each is (RFC 1122 §3.2.1.3, RFC 3021)."""
    if network.prefixlen >= 31:
        return {}
    return {
        network.network_address: f"the address of the network {network} itself",
        network.broadcast_address: f"the broadcast address of {network}",
    }


@dataclass(frozen=True)
class Address(ValueType[IPv4Address]):
    """An IPv4 address."""

    @property
    def name(self) -> str:
        return "IPv4 address"

    def read(self, value: Value) -> IPv4Address:
        return value.address()

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_ADDRESS_PATTERN}$"}


@dataclass(frozen=True)
class ClientOrAddress(ValueType[IPv4Address | None]):
    """An IPv4 address, or ``client``, which is None."""

    @property
    def name(self) -> str:
        return "client or an IPv4 address"

    def read(self, value: Value) -> IPv4Address | None:
        return None if value.scalar("client or an IPv4 address of this host") == "client" else value.address()

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^(client|{_ADDRESS_PATTERN})$"}

    def show(self, found: IPv4Address | None) -> str:
        return "client" if found is None else str(found)


@dataclass(frozen=True)
class Network(ValueType[IPv4Network]):
    """An IPv4 network."""

    @property
    def name(self) -> str:
        return "IPv4 network"

    def read(self, value: Value) -> IPv4Network:
        return value.network()

    def schema(self) -> Schema:
        return {"type": "string", "pattern": rf"^{_ADDRESS_PATTERN}(/(\d{{1,2}}|{_ADDRESS_PATTERN}))?$"}


@dataclass(frozen=True)
class InterfaceAddress(ValueType[IPv4Interface]):
    """An IPv4 address with the length of its network's prefix."""

    @property
    def name(self) -> str:
        return "IPv4 address with its prefix length"

    def read(self, value: Value) -> IPv4Interface:
        expected = "an address with its prefix length, such as 10.10.0.100/24"
        text = value.scalar(expected)
        address, slash, length = text.partition("/")
        if not slash or not length.isdecimal():
            raise value.unexpected(expected)
        try:
            found = IPv4Interface((address, int(length)))
        except (AddressValueError, ValueError):
            raise value.unexpected(expected) from None
        value.refuse_no_host(found.ip)
        if kind := no_hosts_of(found.network).get(found.ip):
            raise value.unexpected("the address of a host", f"{found.ip}, {kind}")
        return found

    def schema(self) -> Schema:
        return {"type": "string", "pattern": rf"^{_ADDRESS_PATTERN}/\d{{1,2}}$"}


class ListenAddress(NamedTuple):
    """An address of this host and a TCP port, to listen on."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True)
class ListenAt(ValueType[ListenAddress | None]):
    """An address of this host, or 0.0.0.0 for all of them, and a port."""

    @property
    def name(self) -> str:
        return "ADDRESS:PORT"

    def read(self, value: Value) -> ListenAddress:
        expected = "ADDRESS:PORT with an IPv4 address of this host, or 0.0.0.0 for all of them"
        address, _, port = value.scalar(expected).rpartition(":")
        try:
            found = ListenAddress(IPv4Address(address), int(port) if port.isascii() and port.isdecimal() else 0)
        except ValueError:
            raise value.unexpected(expected) from None
        if not 0 < found.port <= _MAX_PORT or found.address.is_multicast or found.address.is_reserved:
            raise value.unexpected(expected)
        return found

    def schema(self) -> Schema:
        return {"type": "string", "pattern": rf"^{_ADDRESS_PATTERN}:\d{{1,5}}$"}


@dataclass(frozen=True)
class RedisUrl(ValueType[str]):
    """The URL of a Redis database, as it is written. It may hold a password, so no error shows it."""

    @property
    def name(self) -> str:
        return "URL redis://ADDRESS:PORT/DATABASE"

    def read(self, value: Value) -> str:
        expected = "redis://ADDRESS:PORT/DATABASE with an IPv4 address"
        text = value.scalar(expected)
        try:
            url = urlsplit(text)
            address, port = IPv4Address(url.hostname or ""), url.port
        except ValueError:
            raise value.unexpected(expected, "another form") from None
        database = url.path.removeprefix("/")
        if url.scheme != "redis" or port == 0 or url.query or url.fragment or any(map(str.isspace, text)):
            raise value.unexpected(expected, "another form")
        if database and not (database.isascii() and database.isdecimal() and int(database) <= _MAX_DATABASE):
            raise value.unexpected(expected, f"the database {database[:40]}")
        if address.is_unspecified or address.is_multicast:
            raise value.unexpected(expected, f"the address {address}")
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[Rr][Ee][Dd][Ii][Ss]://"}
