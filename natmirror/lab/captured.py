"""What a link's capture says about TCP connections: the witness of the demo, which knows nothing of natmirror."""

from hashlib import sha256
from pathlib import Path

import dpkt

_NUMBERS = 1 << 32
_HALF = 1 << 31


class _Stream:
    """A client's bytes, by their place behind its SYN, and how many of them its server has acknowledged."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._pieces: dict[int, bytes] = {}
        self._acked = 0

    def add(self, seq: int, data: bytes) -> None:
        if data:
            place = self._place(seq)
            self._pieces[place] = max(self._pieces.get(place, b""), data, key=len)

    def acknowledge(self, ack: int) -> None:
        place = self._place(ack)
        if place < _HALF:
            self._acked = max(self._acked, place)

    def delivered(self) -> bytes:
        """Return the bytes that were acknowledged. The number that a FIN takes is no byte."""
        got = bytearray()
        for place, data in sorted(self._pieces.items()):
            got[place : place + len(data)] = data
        return bytes(got[: self._acked])

    def _place(self, number: int) -> int:
        return (number - self._first) % _NUMBERS


def delivered(captures: list[Path], port: int, clients: str, until: float) -> dict[str, bytes]:
    """Return the bytes of each connection to ``port`` that its server has acknowledged, by the client's address and
    port; of clients whose addresses begin with ``clients``. The captures are of Ethernet links; ``until``, in seconds
    since 1970, is the time of the last packet that counts."""
    streams: dict[str, _Stream] = {}
    for capture in captures:
        with capture.open("rb") as file:
            for at, frame in dpkt.pcap.Reader(file):
                if at <= until:
                    _read(frame, port, streams)
    found = {client: stream.delivered() for client, stream in streams.items() if client.startswith(clients)}
    return {client: data for client, data in found.items() if data}


def digest(streams: dict[str, bytes]) -> str:
    """Return the beginning of the SHA-256 of all streams with their clients."""
    together = sha256()
    for client, data in sorted(streams.items()):
        together.update(f"{client} {len(data)} ".encode() + data)
    return together.hexdigest()[:16]


def _read(frame: bytes, port: int, streams: dict[str, _Stream]) -> None:
    ip = dpkt.ethernet.Ethernet(frame).data
    if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.tcp.TCP):
        return
    tcp = ip.data
    if tcp.dport == port:
        client = _endpoint(ip.src, tcp.sport)
        if tcp.flags & dpkt.tcp.TH_SYN:
            streams.setdefault(client, _Stream((tcp.seq + 1) % _NUMBERS))
        elif client in streams:
            streams[client].add(tcp.seq, tcp.data)
    elif tcp.sport == port and tcp.flags & dpkt.tcp.TH_ACK:
        client = _endpoint(ip.dst, tcp.dport)
        if client in streams:
            streams[client].acknowledge(tcp.ack)


def _endpoint(address: bytes, port: int) -> str:
    return f"{dpkt.utils.inet_to_str(address)}:{port}"
