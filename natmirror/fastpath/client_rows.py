"""Typed views of the C structs of clients and other peers; rows.py says what such a view is."""

from typing import Protocol

from natmirror.fastpath.rows import Array


class ClientUseRow(Protocol):
    """``nm_client_use``: what a client has of a service."""

    open: int
    half_open: int
    spent: float


class ClientTableRow(Protocol):
    """``nm_clients``: the table of clients of services with limits, opaque to Python."""


class RefusalsRow(Protocol):
    """``nm_refusals``: the peers that were refused turns."""

    peers: int
    packets: int
    address: Array[int]
    most: int
