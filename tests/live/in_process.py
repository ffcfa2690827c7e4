"""Ends of connections in the test's own process: servers of the lab's hosts, and raw access to their links."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from pyroute2 import netns

from natmirror.lab.topology import Lab
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import Malformed, Segment, parse

_ETHERTYPE_IP = 0x0800
_ROOM = 1 << 22  # bytes that wait for this process


@contextmanager
def inside(lab: Lab, host: str) -> Iterator[None]:
    """Make sockets in a host's namespace, where they stay."""
    netns.pushns(lab.ns(host))
    try:
        yield
    finally:
        netns.popns()


class Sink:
    """A server of the kernel's TCP on a host: it reads each connection to its end and keeps its bytes. To each read it
    answers ``answer``. A context manager that ends its connections."""

    def __init__(self, lab: Lab, host: str, port: int, *, answer: bytes = b"", room: int = _ROOM) -> None:
        """``room``: the receive buffer of each connection, in bytes."""
        self.received: dict[Endpoint, bytearray] = {}
        self.ended: set[Endpoint] = set()
        """The connections that have ended, by the client's endpoint."""
        self._answer = answer
        with inside(lab, host):
            self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self._listener.bind(("0.0.0.0", port))
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._listener, backlog=1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._read(reader, writer))  # asyncio would log that its own was cancelled
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port = writer.get_extra_info("peername")
        client = (IPv4Address(address).packed, port)
        received = self.received.setdefault(client, bytearray())
        try:
            with suppress(OSError):
                while data := await reader.read(1 << 16):
                    received += data
                    writer.write(self._answer)
            self.ended.add(client)
        finally:
            writer.close()


class Wire:
    """A host's link: sends IPv4 packets with any addresses to the load balancer, and reads those that come. A context
    manager for a running event loop."""

    def __init__(self, lab: Lab, host: str, gateway_link: str) -> None:
        """``gateway_link``: the load balancer's link on the same network."""
        self._gateway = bytes.fromhex(_mac(lab, "lb", gateway_link).replace(":", ""))
        with inside(lab, host):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERTYPE_IP))
            self._socket.bind(("eth0", _ETHERTYPE_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
        self._takers: dict[Endpoint, Callable[[Segment], None]] = {}

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Send a packet."""
        self._socket.sendto(packet, ("eth0", _ETHERTYPE_IP, 0, 0, self._gateway))

    def on_segment(self, here: Endpoint, take: Callable[[Segment], None]) -> None:
        """Call ``take`` with each segment for an endpoint of this host."""
        self._takers[here] = take

    def _look(self) -> None:
        while True:
            try:
                segment = parse(self._socket.recv(1 << 17, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return
            except Malformed:
                continue
            if isinstance(segment, Segment) and (take := self._takers.get((segment.dst, segment.dport))):
                take(segment)


def own_no_kernel(lab: Lab, host: str, address: str) -> None:
    """Have packets for an address come to a client host's link though its kernel does not own it and never answers."""
    lab.sysctl(host, ip_forward=0)
    lab.run("lb", ["ip", "neigh", "replace", address, "lladdr", _mac(lab, host, "eth0"), "dev", "sw0"])


def _mac(lab: Lab, host: str, link: str) -> str:
    return lab.run(host, ["cat", f"/sys/class/net/{link}/address"]).strip()
