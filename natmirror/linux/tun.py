"""The output of synthesised packets: a TUN device of our own.

The host receives the packets that are written to the device, and routes them by their destination. The device takes up
to 64 KiB of a stream as one packet, which the sending network device cuts, and leaves checksums to the kernel (the
virtio-net header: Virtual I/O Device 1.2 §5.1.6). The kernel removes it when the process ends.
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
"""The beginning of the device's name; the kernel appends a number."""

_DEVICE = "/dev/net/tun"
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
# The kernel's source address check needs any address on the device: this one belongs to no host (RFC 7600 §3).
_ADDRESS = "192.0.0.8"
# linux/ip.h: IPV4_DEVCONF_*
_FORWARDING, _RP_FILTER, _ACCEPT_LOCAL = 1, 8, 23
_SETTINGS = {
    _RP_FILTER: 2,  # clients are behind other interfaces; the kernel takes the higher of this and "all"
    _ACCEPT_LOCAL: 1,  # packets from a service, or from a leg with our address, have an address of this host
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
_DISCARD_PORT = 9  # any port: connecting a datagram socket sends no packet


class TunDevice:
    """The TUN device; the loop writes to its descriptor. HostError where it cannot be created, as without
    CAP_NET_ADMIN."""

    def __init__(self) -> None:
        try:
            self.fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            hint = ": run: modprobe tun" if error.errno in (ENOENT, ENXIO) else ""
            raise HostError(f"cannot open {_DEVICE}: {error.strerror}{hint}") from None
        try:
            self.name = self._create()
            self._configure()
        except OSError as error:
            os.close(self.fd)
            raise HostError(f"cannot create a TUN device: {error.strerror or error}: run natmirror as root") from None

    def close(self) -> None:
        """Remove the device."""
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
    """Make settings that sysctl could make too, even where /proc/sys is read-only. pyroute2 can only read them."""
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
    """Return the MTU of the kernel's route to an address, in bytes; 0 where there is no route. HostError where the
    kernel cannot be asked."""
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
