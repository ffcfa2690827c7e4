"""The output of synthesised packets: a TUN device of our own.

What is written to it counts as received by this host, which routes it on by its destination. It takes up to 64 KiB of a
stream as one packet, to be cut by the device that sends it, and leaves checksums to the kernel (the virtio-net header:
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
# The kernel's check of source addresses wants one on the device, any one: this one belongs to no host (RFC 7600 §3).
_ADDRESS = "192.0.0.8"
# linux/ip.h: IPV4_DEVCONF_*
_FORWARDING, _RP_FILTER, _ACCEPT_LOCAL = 1, 8, 23
_SETTINGS = {
    _RP_FILTER: 2,  # clients' addresses lie behind another interface; the strictest of this and "all" counts
    _ACCEPT_LOCAL: 1,  # what a service or a leg of ours sends has an address of this host
    _FORWARDING: 1,
}
_IPV6 = Path("/proc/sys/net/ipv6")
# linux/rtnetlink.h, linux/if_link.h
_RTM_SETLINK = 19
_IFLA_AF_SPEC, _IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE = 26, 1, 8
_IN6_ADDR_GEN_MODE_NONE = 1
_NLM_F_REQUEST, _NLM_F_ACK, _NLA_F_NESTED = 1, 4, 1 << 15
_NLMSG_ERROR = 2
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
        index = socket.if_nametoindex(self.name)
        conf = b"".join(_attribute(kind, struct.pack("=I", value)) for kind, value in _SETTINGS.items())
        _set_link(index, socket.AF_INET, _nested(_IFLA_INET_CONF, conf))
        if _IPV6.exists():
            _set_link(index, socket.AF_INET6, _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_IN6_ADDR_GEN_MODE_NONE,))))
        with IPRoute() as netlink:
            netlink.addr("add", index=index, address=_ADDRESS, prefixlen=32)
            netlink.link("set", index=index, state="up")


def _set_link(index: int, family: int, settings: bytes) -> None:
    """Set what a sysctl could set too, where /proc/sys may not be written; pyroute2 can only read these."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + _nested(_IFLA_AF_SPEC, _nested(family, settings))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0) + body)
        kind, error = struct.unpack_from("=4xH10xi", netlink.recv(4096))
    if kind != _NLMSG_ERROR or error:
        raise OSError(-error, os.strerror(-error))


def _nested(kind: int, attributes: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, attributes)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def path_mtu(address: bytes) -> int:
    """Return the MTU that the kernel knows of the route to an address, in bytes; 0 where it knows of no route.
    HostError where it cannot be asked."""
    try:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise HostError(f"cannot ask for the MTU of a route: {error.strerror or error}") from None
    with probe:
        try:
            probe.connect((socket.inet_ntoa(address), _DISCARD_PORT))
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return 0
