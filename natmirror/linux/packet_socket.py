"""Copies of the packets of one client, as the kernel gives them to packet(7) sockets: before any hook of netfilter on
the way in, after the last one on the way out. The packets themselves are not touched.

One socket listens on all interfaces, so that an interface that comes later, such as natmirror's TUN device after a
restart, needs nothing, and the kernel counts what it has lost in one place. A filter in the kernel lets through only
packets that name the client. It is written by hand because offsets count from the IP header (SKF_NET_OFF of
linux/filter.h): the interfaces have link headers of different lengths, which the filters of libpcap cannot have.
"""

import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from natmirror.errors import HostError
from natmirror.linux.interfaces import Link, read_links
from natmirror.linux.routes import RouteSocket

# linux/if_ether.h, linux/if_packet.h, linux/if_arp.h, asm-generic/socket.h
_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_OUTGOING, _OTHERHOST = 4, 3
_ETHERNET_TYPES = (1, 772)  # ARPHRD_ETHER, and the loopback interface, which has the same header
_ETHERNET_LEN = 14
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_STATISTICS = struct.Struct("=II")
_TIMESPEC = struct.Struct("=qq")
_SECOND = 1_000_000_000
_RECEIVE_BUFFER = 32 << 20
_MAX_LEN = 1 << 20  # above a BIG TCP packet, which has 512 KiB at most
_AT_ONCE = 256
_BRIDGES_RUN_IPTABLES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LINKS_LAST, _NEW_LINKS_LAST = 5.0, 0.5
"""Seconds until the interfaces are read again, because one may have become a port, or a packet's is not known yet."""

# linux/filter.h, linux/bpf_common.h: loads of a word, a half word and a byte, jumps, and the end
_LD_WORD, _LD_HALF, _LD_BYTE, _LD_HALF_X, _LDX_HEADER_LEN = 0x20, 0x28, 0x30, 0x48, 0xB1
_JEQ, _JSET, _RETURN = 0x15, 0x45, 0x06
_NET, _AD_PROTOCOL, _AD_VLAN = -0x100000, -0x1000, -0x1000 + 44
_INSTRUCTION = struct.Struct("=HBBI")
_PROTOCOL_AT, _FRAGMENT_AT, _SRC_AT, _DST_AT = 9, 6, 12, 16
_INNER_SRC_AT, _INNER_DST_AT = 40, 44  # in an ICMP error, behind headers without options
_ICMP, _TCP = 1, 6
_VLAN_NUMBER, _OFFSET = 0x0FFF, 0x1FFF
_ALL, _NOTHING = 0xFFFFFFFF, 0
_SKIP = "skip "
_MAX_PAIRS = 16  # a jump reaches 255 instructions, of which a pair needs eight


@dataclass(slots=True)
class SeenPacket:
    """A packet as an interface had it."""

    at: int
    """When the kernel saw it, in nanoseconds since 1970."""
    device: str
    """The interface's name."""
    is_outgoing: bool
    link_len: int
    """Bytes in front of the IP header: 14 with an Ethernet header, 0 without one."""
    frame: bytes
    length: int
    """The frame's length, of which ``frame`` may have the first bytes only."""


class _Doubles:
    """Which interfaces show packets that another one shows too: the ports of a bridge or a bond. If the kernel runs
    iptables in bridges (br_netfilter), natmirror gets packets there, so that the ports have what came in and the bridge
    has what natmirror made of it: then the bridge is the double."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._doubles: frozenset[str] = frozenset()
        self._ports: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def has(self, device: str, packet_type: int) -> bool:
        """Return whether another interface shows a packet of this one, or the packet is for another host. That is what
        a port calls the packets for its bridge."""
        age = time.monotonic() - self._read_at
        if age > (_LINKS_LAST if device in self._known else _NEW_LINKS_LAST):
            self._read()
        return device in self._doubles or (packet_type == _OTHERHOST and device not in self._ports)

    def _read(self) -> None:
        self._read_at = time.monotonic()
        with suppress(OSError), RouteSocket() as kernel:
            links = dict(read_links(kernel).values())
            self._known = frozenset(links)
            self._doubles, self._ports = doubles_of(links, runs_iptables=_runs_iptables_in_bridges())


def doubles_of(links: Mapping[str, Link], *, runs_iptables: bool) -> tuple[frozenset[str], frozenset[str]]:
    """Return the interfaces that show packets of another one, and the ports that stand for their bridges, which run
    iptables."""
    masters = {name: link.master for name, link in links.items() if link.master is not None}
    of_bridges = {name for name, master in masters.items() if master in links and links[master].is_bridge}
    if not runs_iptables:
        return frozenset(masters), frozenset()
    return frozenset(masters.keys() - of_bridges | {masters[name] for name in of_bridges}), frozenset(of_bridges)


def _runs_iptables_in_bridges() -> bool:
    try:
        return _BRIDGES_RUN_IPTABLES.read_text().strip() == "1"
    except OSError:  # the module br_netfilter is not loaded
        return False


class PacketSocket:
    """The open socket; a context manager. HostError where the kernel refuses it. ``snap_len`` bounds what it keeps of a
    packet."""

    def __init__(self, client: bytes, port: int | None, snap_len: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except PermissionError:
            raise HostError("natmirror capture needs root or CAP_NET_RAW: run it with sudo") from None
        except OSError as error:
            raise HostError(f"cannot open a packet socket: {error.strerror}") from None
        self.lost = 0
        """Packets that the kernel has dropped because this process did not read them in time."""
        self._client = client, port
        self._snap_len = snap_len
        self._buffer = bytearray(_MAX_LEN)
        self._doubles = _Doubles()
        try:
            self._attach(())
            self._listen()
        except OSError as error:
            self._socket.close()
            raise HostError(f"cannot listen for packets: {error.strerror}") from None

    def __enter__(self) -> "PacketSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def receive(self, timeout: float) -> Iterator[SeenPacket]:
        """Wait for packets, for ``timeout`` seconds at most, and yield those that are there, up to 256."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return
        for _ in range(_AT_ONCE):
            try:
                found = self._socket.recvmsg_into([self._buffer], 64, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError:  # an interface went down: the kernel reports it once, and the socket goes on
                continue
            length, ancillary, _, (device, _, packet_type, link_type, _) = found
            if not ancillary or self._doubles.has(device, packet_type):
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            link_len = _ETHERNET_LEN if link_type in _ETHERNET_TYPES else 0
            frame = bytes(self._buffer[: min(length, self._snap_len)])
            yield SeenPacket(seconds * _SECOND + nanoseconds, device, packet_type == _OUTGOING, link_len, frame, length)

    def count_lost(self) -> int:
        """Ask the kernel how many packets it has dropped in all."""
        _, lost = _STATISTICS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        self.lost += lost  # the kernel begins at 0 again with each answer
        return self.lost

    def listen_for(self, pairs: Collection[tuple[bytes, bytes]]) -> None:
        """Get the packets between these addresses, too, up to 16 pairs. HostError where the kernel refuses."""
        try:
            self._attach(sorted(pairs)[:_MAX_PAIRS])
        except OSError as error:
            raise HostError(f"cannot listen for packets: {error.strerror}") from None

    def _attach(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        program = b"".join(filter_of(*self._client, pairs))
        code = ctypes.create_string_buffer(program, len(program))
        request = struct.pack("HP", len(program) // _INSTRUCTION.size, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)

    def _listen(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except OSError:  # CAP_NET_RAW alone: as much as net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        _bind(self._socket)


def _bind(one: socket.socket) -> None:
    """Bind a packet socket to all interfaces. Python's own bind() takes none but those with a name."""
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(one.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def filter_of(client: bytes, port: int | None, pairs: Sequence[tuple[bytes, bytes]] = ()) -> Sequence[bytes]:
    """Return the kernel's filter: IPv4 packets from or to a client, and ICMP errors about them. With a ``port``, of TCP
    packets those of that port alone. Besides, the packets between the two addresses of each pair. Frames of a VLAN pass
    only where the VLAN has an interface of its own, and are seen there."""
    word = int.from_bytes(client, "big")
    program: list[tuple[int, str, str, int]] = [
        (_LD_HALF, "", "", _AD_PROTOCOL),
        (_JEQ, "", "drop", _ETH_P_IP),
        (_LD_HALF, "", "", _AD_VLAN),
        (_JSET, "drop", "", _VLAN_NUMBER),
        (_LD_WORD, "", "", _NET + _SRC_AT),
        (_JEQ, "from", "", word),
        (_LD_WORD, "", "", _NET + _DST_AT),
        (_JEQ, "to", "", word),
        *(step for pair in pairs for ends in (pair, pair[::-1]) for step in _between(*ends)),
        (_LD_BYTE, "", "", _NET + _PROTOCOL_AT),
        (_JEQ, "", "drop", _ICMP),
        (_LD_WORD, "", "", _NET + _INNER_SRC_AT),
        (_JEQ, "take", "", word),
        (_LD_WORD, "", "", _NET + _INNER_DST_AT),
        (_JEQ, "take", "drop", word),
    ]
    labels = {}
    for label, at in (("from", 0), ("to", 2)):
        labels[label] = len(program)
        program += _of_port(port, at) if port is not None else []
    for label, kept in (("take", _ALL), ("drop", _NOTHING)):
        labels[label] = len(program)
        program.append((_RETURN, "", "", kept))

    def distance(here: int, label: str) -> int:
        if label.startswith(_SKIP):
            return int(label.removeprefix(_SKIP))
        return labels[label] - here - 1 if label else 0

    return [
        _INSTRUCTION.pack(code, distance(here, yes), distance(here, no), value & _ALL)
        for here, (code, yes, no, value) in enumerate(program)
    ]


def _between(src: bytes, dst: bytes) -> list[tuple[int, str, str, int]]:
    """Return the part of the filter that takes packets from one address to another."""
    return [
        (_LD_WORD, "", "", _NET + _SRC_AT),
        (_JEQ, "", "skip 2", int.from_bytes(src, "big")),
        (_LD_WORD, "", "", _NET + _DST_AT),
        (_JEQ, "take", "", int.from_bytes(dst, "big")),
    ]


def _of_port(port: int, at: int) -> list[tuple[int, str, str, int]]:
    """Return the part of the filter that compares the port ``at`` this offset of the TCP header; a packet without one,
    such as a later fragment, passes."""
    return [
        (_LD_BYTE, "", "", _NET + _PROTOCOL_AT),
        (_JEQ, "", "take", _TCP),
        (_LD_HALF, "", "", _NET + _FRAGMENT_AT),
        (_JSET, "take", "", _OFFSET),
        (_LDX_HEADER_LEN, "", "", _NET),
        (_LD_HALF_X, "", "", _NET + at),
        (_JEQ, "take", "drop", port),
    ]
