"""Send packets to the service that no TCP would send.

python -m tests.live.apps.strange
"""

import random
import socket
from ipaddress import IPv4Address

from natmirror.net.build import build

SERVICE = ("10.10.0.100", 6653)


def main() -> None:
    """Send every combination of flags, broken options, wrong offsets and checksums, and random bytes."""
    source = random.Random(1)
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    here, there = (IPv4Address("10.10.0.11").packed, 7), (IPv4Address(SERVICE[0]).packed, SERVICE[1])
    for flags in range(256):
        for options in (b"", bytes(40), b"\x02\x00\x00\x00", b"\x03\x28\x01\x01"):
            number = source.getrandbits(32)
            packet = build(here, there, seq=number, ack=number, flags=flags, window=0, options=options, payload=b"x")
            sender.sendto(packet, SERVICE)
    for _ in range(2000):
        damaged = bytearray(build(here, there, seq=1, ack=1, flags=16, window=0, payload=source.randbytes(30)))
        for _ in range(4):
            damaged[source.randrange(20, len(damaged))] = source.getrandbits(8)
        damaged[22:24] = SERVICE[1].to_bytes(2, "big")
        sender.sendto(bytes(damaged), SERVICE)


if __name__ == "__main__":
    main()
