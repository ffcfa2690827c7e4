"""The output of synthesised packets: a TUN device of our own.

The host receives the packets that are written to the device, and routes them by their destination. The device takes up
to 64 KiB of a stream as one packet, which the sending network device cuts, and leaves checksums to the kernel (the
virtio-net header: Virtual I/O Device 1.2 §5.1.6). The kernel removes it when the process ends.
"""

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from errno import ENODEV, ENOENT, ENXIO
from pathlib import Path
from socket import AF_INET
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.linux import descriptors
from natmirror.linux.netlink import attribute, message
from natmirror.linux.vrf import ProductionVrf, bind

NAME = "natmirror"
"""The beginning of the device's name; the kernel appends a number."""

_DEVICE = "/dev/net/tun"
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
# The kernel's source address check needs any address on the device: this one belongs to no host (RFC 7600 §3).
_ADDRESS = "192.0.0.8"
# linux/ip.h: IPV4_DEVCONF_*
_SETTINGS = {
    "rp_filter": (8, 2),  # clients are behind other interfaces; the kernel takes the higher of this and "all"
    "accept_local": (23, 1),  # packets from a service, or from a leg with our address, have an address of this host
    "forwarding": (1, 1),
}
"""The number of each setting, and its value."""
_IPV6 = Path("/proc/sys/net/ipv6")
# linux/rtnetlink.h, linux/if_link.h
_RTM_GETLINK, _RTM_SETLINK, _RTM_GETADDR = 18, 19, 22
# IFLA_IFNAME, IFLA_MASTER, IFLA_AF_SPEC
_NAME, _MASTER, _SETTINGS_OF_FAMILIES = (struct.pack("=H", kind) for kind in (3, 10, 26))
_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS = 29, 1 << 3
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_IFLA_AF_SPEC, _IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE = 26, 1, 8
_IN6_ADDR_GEN_MODE_NONE = 1
_NLM_F_ACK, _NLM_F_DUMP, _NLA_F_NESTED = 4, 0x300, 1 << 15
_NLMSG_ERROR = 2
_MAX_LEN = 1 << 16
_TIMEOUT = 1.0  # seconds; the kernel answers at once
_IFF_UP = 1
_MISSING, _RENAMED = "it is missing", "it has another name"
_IP_MTU = 14  # linux/in.h
_DISCARD_PORT = 9  # any port: connecting a datagram socket sends no packet


class TunDevice:
    """The TUN device. The loop writes to its descriptor ``fd``, which stays the same from open() to close()."""

    def __init__(self, vrf: ProductionVrf) -> None:
        self.fd = self._index = -1
        self.vrf = vrf
        """The device is in this VRF, so that the kernel routes copies as production."""
        self._right: list[bytes] | None = None  # what the kernel said of the device when nothing differed
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the device. HostError where the kernel refuses, as without CAP_NET_ADMIN."""
        self.fd, self._index = _create(self.vrf.of_clients)

    def close(self) -> None:
        """Remove the device."""
        with self._lock:
            os.close(self.fd)
            self.fd = -1

    def differences(self) -> list[str]:
        """Return what of the device is not as natmirror has made it, each in a few words; empty if all is. HostError
        where that is unknown."""
        try:
            with descriptors.enough():
                seen = [*_raw_state(self._index), (self.vrf.of_clients or "").encode()]
            if seen == self._right:
                return []
            with descriptors.enough(), IPRoute() as netlink:
                links = list(netlink.get_links(self._index))
                addresses = [one.get_attr("IFA_LOCAL") for one in netlink.get_addr(AF_INET, index=self._index)]
        except (OSError, NetlinkError) as error:
            if isinstance(error, NetlinkError) and error.code == ENODEV:
                return [_MISSING]
            raise HostError(f"cannot read the state of the TUN device: {_why(error)}") from None
        found = [found for link in links for found in _differences(link, addresses, self.vrf.of_clients)]
        self._right = None if found else seen
        return found

    def repair(self) -> None:
        """Give the device its settings again, and make another one if it is missing or has another name: then the
        descriptor becomes that of the new device. HostError where the kernel refuses."""
        found = self.differences()
        try:
            with descriptors.enough(), self._lock:
                if self.fd < 0:
                    return
                if _MISSING in found or _RENAMED in found:
                    fd, self._index = _create(self.vrf.of_clients)
                    os.dup2(fd, self.fd, inheritable=False)  # packet threads may be writing to it
                    os.close(fd)
                elif found:
                    _configure(self._index, self.vrf.of_clients)
        except (OSError, NetlinkError) as error:
            raise HostError(f"cannot configure the TUN device: {_why(error)}") from None


def _create(vrf: str | None) -> tuple[int, int]:
    """Make a device in a VRF, or in none; return its descriptor and its index. HostError where the kernel refuses."""
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = ": run: modprobe tun" if error.errno in (ENOENT, ENXIO) else ""
        raise HostError(f"cannot open {_DEVICE}: {error.strerror}{hint}") from None
    try:
        request = struct.pack("16sH22x", f"{NAME}%d".encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
        name = fcntl.ioctl(fd, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()
        index = socket.if_nametoindex(name)
        _configure(index, vrf)
    except (OSError, NetlinkError) as error:
        os.close(fd)
        raise HostError(f"cannot create a TUN device: {_why(error)}: run natmirror as root") from None
    return fd, index


def _configure(index: int, vrf: str | None) -> None:
    conf = b"".join(attribute(kind, struct.pack("=I", value)) for kind, value in _SETTINGS.values())
    _set_link(index, socket.AF_INET, _nested(_IFLA_INET_CONF, conf))
    if _IPV6.exists():
        _set_link(index, socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_IN6_ADDR_GEN_MODE_NONE,))))
    with IPRoute() as netlink:
        netlink.link("set", index=index, master=0 if vrf is None else socket.if_nametoindex(vrf))
        netlink.addr("replace", index=index, address=_ADDRESS, prefixlen=32)
        netlink.link("set", index=index, state="up")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _differences(link: Any, addresses: Sequence[str], vrf: str | None) -> Iterator[str]:
    if not link.get_attr("IFLA_IFNAME").startswith(NAME):
        yield _RENAMED
    if not link["flags"] & _IFF_UP:
        yield "it is down"
    if _ADDRESS not in addresses:
        yield f"it lacks the address {_ADDRESS}"
    if (link.get_attr("IFLA_MASTER") or 0) != (0 if vrf is None else socket.if_nametoindex(vrf)):
        yield "it is in another device" if vrf is None else f"it is not in the VRF {vrf}"
    settings = link.get_attr("IFLA_AF_SPEC").get_attr("AF_INET")
    for name, (_, value) in _SETTINGS.items():
        if settings[name] != value:
            yield f"{name} is {settings[name]}, not {value}"


def _raw_state(index: int) -> list[bytes]:
    """Return what the kernel says of a device's state, settings and addresses, as bytes. To compare that costs a
    thirtieth of reading it."""
    link = struct.pack("=BxHiIIHHI", socket.AF_UNSPEC, 0, index, 0, 0, 8, _IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    address = struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, index)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT)
        netlink.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)  # without it the kernel ignores the index
        answers = []
        for kind, flags, body in ((_RTM_GETLINK, 0, link), (_RTM_GETADDR, _NLM_F_DUMP, address)):
            netlink.send(message(kind, flags, 1, body))
            answers.append(netlink.recv(_MAX_LEN))
    said, addresses = answers
    attributes = [one for one in _parts(said[32:], "=H") if one[2:4] in (_NAME, _MASTER, _SETTINGS_OF_FAMILIES)]
    return [said[24:28], *attributes, *(one[16:] for one in _parts(addresses, "=I"))]


def _parts(messages: bytes, length_format: str) -> Iterator[bytes]:
    """Yield netlink messages, or attributes, each of which begins with its length."""
    while len(messages) >= 4:
        length = max(4, struct.unpack_from(length_format, messages)[0])
        yield messages[:length]
        messages = messages[length + 3 & ~3 :]


def _set_link(index: int, family: int, settings: bytes) -> None:
    """Apply settings by netlink that sysctl could apply too, because /proc/sys may be read-only. pyroute2 can only read
    them."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + _nested(_IFLA_AF_SPEC, _nested(family, settings))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(message(_RTM_SETLINK, _NLM_F_ACK, 1, body))
        kind, error = struct.unpack_from("=4xH10xi", netlink.recv(4096))
    if kind != _NLMSG_ERROR or error:
        raise OSError(-error, os.strerror(-error))


def _nested(kind: int, attributes: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, attributes)


def path_mtu(address: bytes, vrf: str | None = None) -> int:
    """Return the MTU of the kernel's route to an address in a VRF, or in none, in bytes; 0 where there is no route.
    HostError where the kernel cannot be asked."""
    try:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise HostError(f"cannot ask for the MTU of a route: {error.strerror or error}") from None
    with probe:
        try:
            bind(probe, vrf)
            probe.connect((socket.inet_ntoa(address), _DISCARD_PORT))
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return 0
