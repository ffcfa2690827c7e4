"""Send many SYNs from spoofed clients to the service.

python -m tests.live.apps.flood COUNT
"""

import socket
import sys
from ipaddress import IPv4Address

from natmirror.net.build import build
from natmirror.net.packet import SYN

SERVICE = ("10.10.0.100", 6653)


def main() -> None:
    """Send them as fast as possible."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    there = (IPv4Address(SERVICE[0]).packed, SERVICE[1])
    for number in range(int(sys.argv[1])):
        here = (IPv4Address(f"10.10.0.{128 + number % 64}").packed, 1024 + number // 64)
        sender.sendto(build(here, there, seq=number, ack=0, flags=SYN, window=1000), SERVICE)


if __name__ == "__main__":
    main()
