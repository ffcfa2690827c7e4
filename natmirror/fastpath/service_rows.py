"""Typed views of the structs that a service's row has; rows.py says what such a view is."""

from typing import Protocol


class TrafficRow(Protocol):
    """``nm_traffic``: the traffic of some flows."""

    connections: int
    client_packets: int
    client_bytes: int
    backend_packets: int
    backend_bytes: int


class LimitsRow(Protocol):
    """``nm_limits``: a service's limits for each client."""

    max_connections: int
    rate: float
    burst: float
