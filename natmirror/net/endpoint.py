"""Endpoints: an address with a port, as values, of the rules' objects, and as text."""

from functools import lru_cache
from ipaddress import IPv4Address
from typing import Protocol

Endpoint = tuple[bytes, int]
"""An address, as raw bytes whose length carries the family, and a TCP port."""


class Addressed(Protocol):
    """Anything in the rules that has an address and a port."""

    @property
    def address(self) -> IPv4Address:
        """The IPv4 address."""

    @property
    def port(self) -> int:
        """The TCP port."""


def endpoint_of(thing: Addressed) -> Endpoint:
    """Return the endpoint of a service, backend or mirror of the rules."""
    address = thing.address
    return _endpoint(int(address), address.max_prefixlen, thing.port)


@lru_cache(maxsize=4096)
def _endpoint(address: int, bits: int, port: int) -> Endpoint:
    """Return the same object each time: legs keep theirs. Looking up numbers is faster than looking up addresses, whose
    hash is computed in Python."""
    return address.to_bytes(bits // 8, "big"), port


def show(endpoint: Endpoint) -> str:
    """Return an endpoint as text: ``10.10.0.11:4711``."""
    return f"{IPv4Address(endpoint[0])}:{endpoint[1]}"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that show() has written, with a port of 1 to 65535; ValueError where the text is none."""
    address, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 0xFFFF:
        raise ValueError(f"expected an address and a port, found {text!r:.40}")
    return IPv4Address(address).packed, int(port)
