"""Traffic of the hosts behind the lab's switches: by chance, and the same on each run.

Frames go out of raw sockets in the hosts' namespaces; the hosts' kernels answer pings and ARP requests. One more host
is behind each switch, by its address only: it moves between two ports.
"""

import random
import socket
import threading
import time
from collections.abc import Sequence

import dpkt

from natmirror.lab.openvswitch import DATA_SIDE, OpenVSwitch
from natmirror.lab.topology import Lab
from tests.live.in_process import inside

PORTS = (1, 2, 3, 4)
_ETH_ALL_OUT = 0  # a socket that receives nothing
_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_MOVER, _MOVER_PORTS = 9, (1, 2)
_STAY = 40  # frames of the traffic between two moves
_UDP_PORTS = (53, 5000)
_PAYLOAD = b"natmirror"


def mac(switch: int, host: int, number: int = 0) -> bytes:
    """Return a host's address; number 0 is its kernel's."""
    return bytes((2, 0, 0, number, switch, host))


def _ip(switch: int, host: int) -> bytes:
    return socket.inet_aton(f"{DATA_SIDE}.{switch}{host}")


class Traffic:
    """Sends frames until it is stopped."""

    def __init__(
        self, lab: Lab, switches: Sequence[OpenVSwitch], *, rate: float, seed: int = 1, addresses: int = 1
    ) -> None:
        """``rate``: frames per second that hosts send by themselves, of all switches together. ``addresses``: from how
        many each of them sends; its kernel has one of them."""
        self._random = random.Random(seed)
        self._pause = 1 / rate
        self._addresses = addresses
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._numbers = [switch.number for switch in switches]
        self._sent = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        for switch in switches:
            for port in switch.ports:
                host = f"h{switch.number}{port}"
                address = mac(switch.number, port).hex(":")
                lab.run(host, ["ip", "link", "set", "eth0", "address", address])
                with inside(lab, host):
                    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, _ETH_ALL_OUT)
                    one.bind(("eth0", _ETH_ALL_OUT))
                self._sockets[switch.number, port] = one

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        for one in self._sockets.values():
            one.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            self._send()
            due = max(due + self._pause, time.monotonic() - 1.0)  # after a standstill, do not make up for all of it

    def _send(self) -> None:
        """Send one frame; every now and then one of the host that moves, or for it."""
        self._sent += 1
        switch = self._random.choice(self._numbers)
        one, other = self._random.sample(PORTS, 2)
        port = one
        place = self._random.random()
        if place < 0.1:
            port, one = _MOVER_PORTS[self._sent // _STAY % 2], _MOVER
            other = self._random.choice([host for host in PORTS if host != port])
        elif place < 0.2:
            other = _MOVER
        self._sockets[switch, port].send(self._frame(switch, one, other))

    def _frame(self, switch: int, one: int, other: int) -> bytes:
        kind = self._random.choice(("arp", "ping", "ping", "udp"))
        src, dst = mac(switch, one, self._random.randrange(self._addresses)), mac(switch, other)
        ends = {"src": _ip(switch, one), "dst": _ip(switch, other)}
        if kind == "arp":
            question = dpkt.arp.ARP(sha=src, spa=ends["src"], tpa=ends["dst"])
            return bytes(dpkt.ethernet.Ethernet(src=src, dst=_BROADCAST, type=_ARP, data=question))
        if kind == "ping":
            echo = dpkt.icmp.ICMP.Echo(id=1, seq=self._sent & 0xFFFF, data=_PAYLOAD)
            ip = dpkt.ip.IP(**ends, p=dpkt.ip.IP_PROTO_ICMP, data=dpkt.icmp.ICMP(type=dpkt.icmp.ICMP_ECHO, data=echo))
        else:
            udp = dpkt.udp.UDP(sport=4000, dport=self._random.choice(_UDP_PORTS), data=_PAYLOAD)
            udp.ulen = len(udp)
            ip = dpkt.ip.IP(**ends, p=dpkt.ip.IP_PROTO_UDP, data=udp)
        return bytes(dpkt.ethernet.Ethernet(src=src, dst=dst, data=ip))
