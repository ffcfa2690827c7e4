"""The way out for synthesised packets: a TUN device of our own.

What is written to it counts as received by this host, which routes it on by its destination. It takes up to 64 KiB of a
stream as one packet, to be cut by whoever sends it at last, and leaves checksums to the kernel (the virtio-net header:
Virtual I/O Device 1.2 §5.1.6). The device goes with the process.
"""

import fcntl
import os
import socket
import struct
from errno import ENOENT, ENXIO
from pathlib import Path

from pyroute2 import IPRoute

from natmirror.errors import HostError

NAME = "natmirror"
"""What the device's name begins with; the kernel appends a number."""

_DEVICE = "/dev/net/tun"
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
# The kernel's check of source addresses wants one on the device, whatever it is: this one is nobody's (RFC 7600 §3).
_ADDRESS = "192.0.0.8"
_SETTINGS = {
    "rp_filter": 2,  # clients' addresses lie behind another interface; the strictest of this and "all" counts
    "accept_local": 1,  # what a service or a leg of ours sends has an address of this host
    "forwarding": 1,
}
_CONF = Path("/proc/sys/net")
_IP_MTU = 14  # linux/in.h
_DISCARD_PORT = 9  # connecting a datagram socket sends nothing


class Tunnel:
    """The device; HostError where it cannot be made, as without CAP_NET_ADMIN. The loop writes to its descriptor."""

    def __init__(self) -> None:
        try:
            self.fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            hint = ": load the module tun" if error.errno in (ENOENT, ENXIO) else ""
            raise HostError(f"cannot open {_DEVICE}: {error.strerror}{hint}") from None
        try:
            self.name = self._create()
            self._configure()
        except OSError as error:
            os.close(self.fd)
            raise HostError(f"cannot make a TUN device: {error.strerror or error} (run as root)") from None

    def close(self) -> None:
        """Give the device back."""
        os.close(self.fd)

    def _create(self) -> str:
        request = struct.pack("16sH22x", f"{NAME}%d".encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
        return fcntl.ioctl(self.fd, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()

    def _configure(self) -> None:
        for name, value in _SETTINGS.items():
            (_CONF / "ipv4/conf" / self.name / name).write_text(str(value))
        ipv6 = _CONF / "ipv6/conf" / self.name / "disable_ipv6"
        if ipv6.exists():
            ipv6.write_text("1")
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=self.name)[0]
            netlink.addr("add", index=index, address=_ADDRESS, prefixlen=32)
            netlink.link("set", index=index, state="up")


def path_mtu(address: bytes) -> int:
    """The MTU that the kernel knows of on the way to an address, in bytes; 0 where it knows of no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((socket.inet_ntoa(address), _DISCARD_PORT))
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return 0
