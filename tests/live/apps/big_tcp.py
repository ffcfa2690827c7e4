"""Has all interfaces of a host send and receive IPv4 packets above 64 KiB (BIG TCP), which Debian 12's ip cannot.

python -m tests.live.apps.big_tcp BYTES

Exits with 1 where the kernel is too old (Linux 6.3).
"""

import socket
import struct
import sys

from natmirror.linux.netlink import attribute, attributes, message, messages

# linux/if_link.h, linux/rtnetlink.h
_SETLINK, _GETLINK, _ACK, _ERROR = 19, 18, 4, 2
_MAX_SIZES = 41, 58, 63, 64
"""IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, and the two for IPv4."""
_GSO_IPV4 = 63
_HEAD = "=BBHiII"


def main(size: int) -> int:
    """Set the limits; return 1 where the kernel does not know those of IPv4."""
    limits = b"".join(attribute(kind, struct.pack("=I", size)) for kind in _MAX_SIZES)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for index, name in socket.if_nameindex():
            link = struct.pack(_HEAD, 0, 0, 0, index, 0, 0)
            netlink.send(message(_SETLINK, _ACK, 1, link + limits))
            [answer] = messages(netlink.recv(1 << 16))
            if answer.kind == _ERROR and (error := struct.unpack_from("=i", answer.body)[0]):
                print(f"{name}: error {-error}")
                return 1
            netlink.send(message(_GETLINK, 0, 2, link))
            [shown] = messages(netlink.recv(1 << 16))
            found = attributes(shown.body[struct.calcsize(_HEAD) :])
            if found.get(_GSO_IPV4) != struct.pack("=I", size):
                print(f"{name}: the kernel does not know gso_ipv4_max_size")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
