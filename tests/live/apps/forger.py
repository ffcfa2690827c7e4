"""A mirror that forges packets of the connections that it gets copies of, with every address that it can know.

python -m tests.live.apps.forger PORT --service ADDRESS --backends ADDRESS,... --connections N --count N

Once it has seen ``--connections`` legs, it forges ``--count`` RSTs, data segments and SYNs each, from each source: from
the service and from a backend to the client, from the client to the service and to a backend. Their sequence numbers
are those of the leg to this host, or near them. All have the window WINDOW, by which a capture recognises them. At the
end it prints "done".
"""

import argparse
import random
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address

from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, PSH, RST, SYN, Malformed, Segment, parse

WINDOW = 4242
DATA = b"forged " * 10
_ETHERTYPE_IP = 0x0800
_AROUND = (0, 0, 0, 0, 1, -1, 2, -70, 70, 1460, -1460, 65_535, -65_535)
_RATE = 2000  # packets a second
_KINDS = {"RST": RST, "data": PSH | ACK, "SYN": SYN}


@dataclass(slots=True)
class Leg:
    """What this host knows of a connection: the next number of the leg's client side, and its own next number."""

    theirs: int
    ours: int


class Watcher:
    """Reads the packets that arrive at this host."""

    def __init__(self, port: int) -> None:
        self.legs: dict[Endpoint, Leg] = {}
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERTYPE_IP))
        self._socket.bind(("eth0", _ETHERTYPE_IP))
        self._socket.setblocking(False)

    def look(self) -> None:
        """Read the packets that have arrived."""
        while True:
            try:
                raw = self._socket.recv(1 << 17)
            except BlockingIOError:
                return
            try:
                segment = parse(raw)
            except Malformed:
                continue
            if not isinstance(segment, Segment) or segment.dport != self._port or not segment.flags & ACK:
                continue
            client = (segment.src, segment.sport)
            if segment.flags & (RST | FIN):
                self.legs.pop(client, None)
            else:
                self.legs[client] = Leg(segment.seq + segment.seq_len, segment.ack)


def forged(names: str, client: Endpoint, leg: Leg, there: Endpoint, flags: int) -> bytes:
    """Return a packet with another host's address: ``to client``, or else to a service or backend."""
    around = random.choice(_AROUND)
    data = DATA if flags & PSH else b""
    if names == "to client":
        source, destination, number, ack = there, client, leg.ours + around, leg.theirs
    else:
        source, destination, number, ack = client, there, leg.theirs + around, leg.ours
    return build(
        source,
        destination,
        seq=number & 0xFFFF_FFFF,
        ack=ack & 0xFFFF_FFFF if flags & ACK else 0,
        flags=flags,
        window=WINDOW,
        payload=data,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--service", required=True)
    parser.add_argument("--backends", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    watcher = Watcher(arguments.port)
    print("watching", flush=True)
    while len(watcher.legs) < arguments.connections:
        watcher.look()
        time.sleep(0.01)
    service = (IPv4Address(arguments.service).packed, arguments.port)
    backends = [(IPv4Address(one).packed, arguments.port) for one in arguments.backends.split(",")]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = dict.fromkeys(_KINDS, 0)
    for number in range(arguments.count):
        watcher.look()
        if not watcher.legs:
            break
        for kind, flags in _KINDS.items():
            for names, ends in (
                ("to client", [service]),
                ("to client", backends),
                ("to service", [service]),
                ("", backends),
            ):
                client, leg = random.choice(list(watcher.legs.items()))
                packet = forged(names, client, leg, ends[number % len(ends)], flags)
                raw.sendto(packet, (str(IPv4Address(packet[16:20])), 0))
                sent[kind] += 1
        time.sleep(12 / _RATE)
    print("done", sent, flush=True)


if __name__ == "__main__":
    main()
