"""Send ICMP errors to the service: its packets are too large for the path to their clients.

python -m tests.live.apps.router CLIENT:PORT...
"""

import socket
import sys

from natmirror.net.build import build
from natmirror.net.packet import ACK
from tests.helpers.support import SERVICE, at, icmp_error

ROUTER, SERVICE_ADDRESS = "10.10.0.11", "10.10.0.100"


def main() -> None:
    """Send one error for each client."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for end in sys.argv[1:]:
        address, port = end.split(":")
        about = build(SERVICE, at(address, int(port)), seq=1, ack=1, flags=ACK, window=1)
        sender.sendto(icmp_error(ROUTER, SERVICE_ADDRESS, about, mtu=1400), (SERVICE_ADDRESS, 0))


if __name__ == "__main__":
    main()
