"""Endpoints, each an address and a port: as values, from the rules' objects, and as text."""

from functools import lru_cache
from ipaddress import IPv4Address
from typing import Protocol

Endpoint = tuple[bytes, int]
"""An address and a TCP port. The address is raw bytes; their number gives the address family."""


class Addressed(Protocol):
    """An object of the rules that has an address and a port."""

    @property
    def address(self) -> IPv4Address: ...

    @property
    def port(self) -> int: ...


def endpoint_of(host: Addressed) -> Endpoint:
    """Return the endpoint of a service, backend or mirror of the rules."""
    address = host.address
    family = address.__class__
    return _endpoint(int(address), family, host.port)  # type: ignore[arg-type]  # mypy takes the hash of its objects


@lru_cache(maxsize=4096)
def _endpoint(address: int, family: type[IPv4Address], port: int) -> Endpoint:
    """Return the same object for the same endpoint, because every leg keeps one. The cache's key has the address as a
    number and its class, because hashing an IPv4Address takes longer."""
    return family(address).packed, port


def show(endpoint: Endpoint) -> str:
    """Return an endpoint as text: ``10.10.0.11:4711``."""
    return f"{IPv4Address(endpoint[0])}:{endpoint[1]}"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that show() wrote. Raise ValueError if the text is no endpoint with a port of 1 to 65535."""
    address, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 0xFFFF:
        raise ValueError(f"expected an address and a port, found {text!r:.40}")
    return IPv4Address(address).packed, int(port)


def parse_client(text: str) -> tuple[bytes, int | None]:
    """Return a client's address and port, or None for the port where the text has none. Raise ValueError if it is
    neither an IPv4 address nor an endpoint."""
    try:
        return parse_endpoint(text) if ":" in text else (IPv4Address(text).packed, None)
    except ValueError:
        raise ValueError(
            f"expected an IPv4 address, or one with a port as in 10.10.0.11:40001, found {text!r:.40}"
        ) from None
