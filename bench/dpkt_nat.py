"""The simplest NAT in Python: netfilterqueue gives it each packet, dpkt parses and builds it.

python dpkt_nat.py SERVICE BACKEND PORT
"""

import socket
import sys

import dpkt
from netfilterqueue import NetfilterQueue, Packet

_QUEUE = 1
_MAX_LEN = 8192


def main() -> None:
    """Translate until killed."""
    service, backend = (socket.inet_aton(word) for word in sys.argv[1:3])
    port = int(sys.argv[3])

    def translate(packet: Packet) -> None:
        ip = dpkt.ip.IP(packet.get_payload())
        if ip.dst == service and ip.data.dport == port:
            ip.dst = backend
        elif ip.src == backend and ip.data.sport == port:
            ip.src = service
        ip.sum = ip.data.sum = 0  # has dpkt compute both checksums
        packet.set_payload(bytes(ip))
        packet.accept()

    queue = NetfilterQueue()
    queue.bind(_QUEUE, translate, max_len=_MAX_LEN)
    print("ready")
    queue.run()


if __name__ == "__main__":
    main()
