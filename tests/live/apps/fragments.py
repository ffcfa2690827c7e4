"""Send a SYN to the service as two IP fragments; the second has no ports.

python -m tests.live.apps.fragments
"""

import socket
import struct

import dpkt

SERVICE = ("10.10.0.100", 6653)
FIRST_LEN = 24


def main() -> None:
    """Send them."""
    source, destination = socket.inet_aton("10.10.0.11"), socket.inet_aton(SERVICE[0])
    tcp = dpkt.tcp.TCP(sport=40_404, dport=SERVICE[1], seq=1, flags=dpkt.tcp.TH_SYN, win=1000, data=b"x" * 40)
    whole = bytes(dpkt.ip.IP(src=source, dst=destination, p=6, ttl=64, data=tcp, len=20 + len(tcp)))[20:]
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for at, flags_and_offset in ((0, 0x2000), (FIRST_LEN, FIRST_LEN // 8)):
        part = whole[:FIRST_LEN] if at == 0 else whole[at:]
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), 77, flags_and_offset, 64, 6, 0, source, destination
        )
        sender.sendto(header + part, SERVICE)


if __name__ == "__main__":
    main()
