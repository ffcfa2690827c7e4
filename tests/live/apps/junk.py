"""Send junk to the service in the name of one client.

python -m tests.live.apps.junk SOURCE COUNT
"""

import socket
import sys
from ipaddress import IPv4Address

from natmirror.net.build import build
from natmirror.net.packet import ACK, SYN

SERVICE = ("10.10.0.100", 6653)


def main() -> None:
    """Send so many ACKs of no connection, and as many SYNs with data, from ever new ports, as fast as possible."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    source, count = IPv4Address(sys.argv[1]).packed, int(sys.argv[2])
    there = (IPv4Address(SERVICE[0]).packed, SERVICE[1])
    for number in range(count):
        here = (source, 1024 + number % 60_000)
        sender.sendto(build(here, there, seq=number, ack=number, flags=ACK, window=1000), SERVICE)
        sender.sendto(build(here, there, seq=number, ack=0, flags=SYN, window=1000, payload=b"x"), SERVICE)


if __name__ == "__main__":
    main()
