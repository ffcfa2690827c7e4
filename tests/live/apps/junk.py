"""Send junk to the service in the name of one client.

python -m tests.live.apps.junk SOURCE ack|icmp COUNT
"""

import socket
import sys
from ipaddress import IPv4Address

from natmirror.net.build import build
from natmirror.net.packet import ACK
from tests.helpers.support import icmp_error

SERVICE = ("10.10.0.100", 6653)


def main() -> None:
    """Send so many ACKs of no connection, each from another port, or ICMP errors about no connection, as fast as
    possible."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    source, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    here, there = IPv4Address(source).packed, (IPv4Address(SERVICE[0]).packed, SERVICE[1])
    error = icmp_error(source, SERVICE[0], build(there, (here, 5), seq=1, ack=1, flags=ACK, window=1000))
    for number in range(count):
        ack = build((here, 1024 + number), there, seq=number, ack=number, flags=ACK, window=1000)
        sender.sendto(ack if kind == "ack" else error, SERVICE)


if __name__ == "__main__":
    main()
