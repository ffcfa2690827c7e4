"""Send junk to the service in the name of one client.

python -m tests.live.apps.junk SOURCE ack|syn COUNT
"""

import socket
import sys
from ipaddress import IPv4Address

from natmirror.net.build import build
from natmirror.net.packet import ACK, SYN

SERVICE = ("10.10.0.100", 6653)


def main() -> None:
    """Send so many ACKs of no connection, or SYNs with data, each from another port, as fast as possible."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    source, (flags, data) = IPv4Address(sys.argv[1]).packed, {"ack": (ACK, b""), "syn": (SYN, b"x")}[sys.argv[2]]
    there = (IPv4Address(SERVICE[0]).packed, SERVICE[1])
    for number in range(int(sys.argv[3])):
        here = (source, 1024 + number)
        sender.sendto(build(here, there, seq=number, ack=0, flags=flags, window=1000, payload=data), SERVICE)


if __name__ == "__main__":
    main()
