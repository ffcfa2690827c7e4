"""The traffic of each service, as values for JSON."""

from collections.abc import Iterable
from typing import TypedDict

from natmirror.fastpath import Gear
from natmirror.rules import Service


class ServiceTraffic(TypedDict):
    """A service's traffic since natmirror started. Where this host picks a connection up a second time, the sums lose
    what it had before."""

    service: str
    """The service's name in the rules."""
    flows: int
    """Its open connections."""
    connections: int
    """Connections that it has had: opened here, picked up or adopted, also those that no backend has accepted."""
    client_packets: int
    """Packets that clients have sent."""
    client_bytes: int
    """Bytes that clients have sent, without headers; what was sent again counts once."""
    backend_packets: int
    """Packets that backends have sent."""
    backend_bytes: int
    """Bytes that backends have sent, counted in the same way."""


def traffic(services: Iterable[tuple[int, Service]], gear: Gear) -> list[ServiceTraffic]:
    """Return the traffic of services, each given with its number."""
    sums, planned = gear.traffic(gear.handle.plan.service_count), gear.handle.plan.services
    return [
        {
            "service": service.name,
            "flows": planned[number].flows - planned[number].closed,
            "connections": sums[number].connections,
            "client_packets": sums[number].client_packets,
            "client_bytes": sums[number].client_bytes,
            "backend_packets": sums[number].backend_packets,
            "backend_bytes": sums[number].backend_bytes,
        }
        for number, service in services
    ]
