"""Send packets with any source address through a gateway.

python -m tests.live.apps.spoofer MAC PACKET...

MAC is the gateway's; a packet is IPv4 in hexadecimal digits, from the IP header on.
"""

import socket
import sys

_ETHERTYPE_IP = 0x0800


def main() -> None:
    """Send each packet once."""
    gateway = bytes.fromhex(sys.argv[1].replace(":", ""))
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    for packet in sys.argv[2:]:
        sender.sendto(bytes.fromhex(packet), ("eth0", _ETHERTYPE_IP, 0, 0, gateway))


if __name__ == "__main__":
    main()
