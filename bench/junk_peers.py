"""The programs of bench.junk: a server, clients that behave well, and a host that sends junk.

python -m bench.junk_peers serve
python -m bench.junk_peers ask
python -m bench.junk_peers send KIND RATE DSCP
"""

import json
import os
import random
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address

from natmirror.lab.topology import SERVICE
from natmirror.net.build import build, rewrite
from natmirror.net.checksum import Checksum, ones_sum
from natmirror.net.packet import ACK, PSH, RST, SYN, Segment, parse

PORT = 6653
OVER = "over"
"""What ``ask`` prints when it sends no more requests of a measurement; the figures follow."""

_MEASURED_PRIORITY, _JUNK_PRIORITY = 2, 1
_CONNECTIONS = 20
_INTERVAL = 0.02  # seconds between two requests of a connection
_MESSAGE = bytes(100)
_MAX_WAIT = 20.0  # seconds for the last replies; a connection without its reply then counts as lost

SENDER = "10.10.0.11"
_SENDER, _SERVICE = IPv4Address(SENDER).packed, IPv4Address(SERVICE).packed
_VARIETY = 8192  # different packets, sent again and again
BURST = 32
"""Packets that are sent at once, at most."""
_PAUSE = 0.00005  # seconds
_WARM_UP = 0.5  # seconds
_ALL_PROTOCOLS = 3  # ETH_P_ALL in linux/if_ether.h


def _take_precedence(priority: int) -> None:
    """Have the kernel run this process as soon as it has something to do: it never has much. Of several, the one with
    the higher priority comes first."""
    with suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))


def serve() -> None:
    """Run a server that sends back what it gets."""
    _take_precedence(_MEASURED_PRIORITY)
    with socket.create_server(("", PORT), backlog=100) as server:
        while True:
            threading.Thread(target=_echo, args=(server.accept()[0],), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(1 << 16):
            connection.sendall(data)


# Clients that behave well


class Client:
    """A connection that sends a request every _INTERVAL seconds, or later if it has to wait for the last reply."""

    def __init__(self) -> None:
        self.sock = socket.create_connection((SERVICE, PORT))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask_at = 0.0
        self._asked_at = 0.0
        self._missing = 0

    @property
    def is_waiting(self) -> bool:
        return self._missing > 0

    def ask(self, now: float) -> None:
        """Send a request."""
        self.sock.sendall(_MESSAGE)
        self._asked_at, self._missing = now, len(_MESSAGE)
        self.ask_at = max(self.ask_at + _INTERVAL, now)

    def read(self) -> float | None:
        """Read what has come; return the seconds that the reply took, once it is complete. OSError where the connection
        has ended."""
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        self._missing -= len(data)
        return None if self._missing else time.perf_counter() - self._asked_at


def ask() -> None:
    """Run the clients: for each line of the input, measure for that many seconds, and print the figures."""
    _take_precedence(_MEASURED_PRIORITY)
    clients = [Client() for _ in range(_CONNECTIONS)]
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_measure(clients, float(line))), flush=True)


def _measure(clients: list[Client], seconds: float) -> dict[str, float]:
    """Return the figures of requests that were sent in this time. Remove clients whose connection was lost."""
    began = time.perf_counter()
    before, times = len(clients), list[float]()
    for number, client in enumerate(clients):
        client.ask_at = began + _INTERVAL * number / len(clients)
    with selectors.DefaultSelector() as replies:
        for client in clients:
            replies.register(client.sock, selectors.EVENT_READ, client)
        while (now := time.perf_counter()) < began + seconds and clients:
            for client in clients:
                if not client.is_waiting and client.ask_at <= now:
                    with suppress(OSError):  # read() raises it too
                        client.ask(now)
            due = min((client.ask_at for client in clients if not client.is_waiting), default=now + _INTERVAL)
            times += _read(replies, clients, due - time.perf_counter())
        print(OVER, flush=True)
        until = time.perf_counter() + _MAX_WAIT
        while any(client.is_waiting for client in clients) and (left := until - time.perf_counter()) > 0:
            times += _read(replies, clients, left)
    clients[:] = [client for client in clients if not client.is_waiting]
    times = sorted(times) or [_MAX_WAIT]
    return {
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "lost": before - len(clients),
    }


def _read(replies: selectors.BaseSelector, clients: list[Client], timeout: float) -> Iterator[float]:
    """Wait for replies; yield the time that each took. Remove clients whose connection has ended."""
    for key, _ in replies.select(max(0.0, timeout)):
        client: Client = key.data
        try:
            took = client.read()
        except OSError:
            replies.unregister(client.sock)
            clients.remove(client)
            continue
        if took is not None:
            yield took


# Junk


class Pace:
    """Tells how many packets are due at a rate, in packets a second. A sender that was stopped does not make up for
    that: a network has no higher rate than its own either."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._sent_until = now

    def due(self, now: float) -> int:
        """Return the number of packets to send now; the caller sends them."""
        count = int((now - self._sent_until) * self._rate)
        self._sent_until = now if count > BURST else self._sent_until + count / self._rate
        return min(count, BURST)


def send(kind: str, rate: float, dscp: int) -> None:
    """Send junk at this rate, in packets a second, for ever; 0: as fast as possible. After a while, print the rate.
    ``dscp`` is the packets' differentiated services code point (RFC 2474 3)."""
    if rate:
        _take_precedence(_JUNK_PRIORITY)
    else:  # clients and servers, which share its core, come first
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.connect((SERVICE, 0))
    with KINDS[kind]() as made:
        packets = [packet[:1] + bytes([dscp << 2]) + packet[2:] for packet in made]  # the kernel fills in the checksum
        began = said = time.perf_counter()
        sent, pace = 0, Pace(rate, began)
        while True:
            now = time.perf_counter()
            due = pace.due(now) if rate else BURST
            if not due:
                time.sleep(_PAUSE)
            for _ in range(due):
                with suppress(OSError):  # the device's queue is full
                    raw.send(packets[sent % len(packets)])
                sent += 1
            if now - said > _WARM_UP:
                said = now
                print(f"{sent / (now - began):.0f}", flush=True)


@contextmanager
def _of_no_connection(flags: int, payload: bytes = b"") -> Iterator[list[bytes]]:
    """Yield TCP packets with random numbers."""
    yield [
        build(
            *((_SENDER, random.randrange(1024, 65536)), (_SERVICE, PORT)),
            seq=random.getrandbits(32),
            ack=random.getrandbits(32) if flags & ACK else 0,
            flags=flags,
            window=1000,
            payload=payload,
        )
        for _ in range(_VARIETY)
    ]


@contextmanager
def _retransmissions() -> Iterator[list[bytes]]:
    """Open a connection; yield a data packet of it that its server has acknowledged."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS)) as sniffer,
        socket.create_connection((SERVICE, PORT)) as connection,
    ):
        connection.sendall(_MESSAGE)
        connection.recv(len(_MESSAGE), socket.MSG_WAITALL)
        while True:
            packet, (_, _, direction, *_) = sniffer.recvfrom(1 << 16)
            if direction == socket.PACKET_OUTGOING and packet.endswith(_MESSAGE):
                break
        sent = parse(packet, Checksum.PARTIAL)
        assert isinstance(sent, Segment)
        yield [rewrite(sent, source=(sent.src, sent.sport))]  # its checksum is complete


@contextmanager
def _icmp_errors() -> Iterator[list[bytes]]:
    """Yield ICMP errors about packets of no connection."""
    packets = []
    for number in range(_VARIETY):
        ends = (_SERVICE, PORT), (_SENDER, 1024 + number)
        inner = build(*ends, seq=number, ack=number, flags=ACK, window=1000)[:28]
        body = struct.pack("!BBHI", 3, 1, 0, 0) + inner
        body = body[:2] + struct.pack("!H", 0xFFFF - ones_sum(body)) + body[4:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, 64, socket.IPPROTO_ICMP, 0)
        packets.append(head + _SENDER + _SERVICE + body)  # the kernel writes the header's checksum
    yield packets


KINDS: dict[str, Callable[[], AbstractContextManager[list[bytes]]]] = {
    "ACKs of no connection": partial(_of_no_connection, ACK),
    "RSTs of no connection": partial(_of_no_connection, RST),
    "data of no connection": partial(_of_no_connection, PSH | ACK, b"x"),
    "SYNs": partial(_of_no_connection, SYN),
    "SYNs with data": partial(_of_no_connection, SYN, b"x"),
    "retransmissions": _retransmissions,
    "ICMP errors": _icmp_errors,
}
"""What yields the packets of each kind of junk, by its name."""


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["ask"]:
            ask()
        case ["send", kind, rate, dscp]:
            send(kind, float(rate), int(dscp))
