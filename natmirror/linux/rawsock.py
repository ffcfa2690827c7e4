"""The way out for synthesised packets: a raw socket with our mark, by which iptables leaves them untracked."""

import errno
import socket
from collections import Counter
from collections.abc import Sequence

from natmirror.errors import HostError

_SEND_BUFFER = 8 << 20
_SO_SNDBUFFORCE = 32
_IP_MTU = 14  # linux/in.h
_DISCARD_PORT = 9  # connecting a datagram socket sends nothing


class RawSender:
    """Sends whole IPv4 packets, routed by the kernel by their destination; HostError without CAP_NET_RAW.

    It never blocks and never raises for a packet: what cannot be sent is counted by its errno, and the leg's
    retransmission makes up for it.
    """

    def __init__(self, mark: int) -> None:
        self.counters: Counter[str] = Counter()
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        except PermissionError:
            missing = "CAP_NET_RAW and CAP_NET_ADMIN are missing (run as root)"
            raise HostError(f"cannot open a raw socket: {missing}") from None

    def send(self, packets: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Send the packets in their order; gives those that were too big, each with the MTU of its way in bytes."""
        too_big = []
        for packet in packets:
            try:
                self._socket.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
                self.counters["sent"] += 1
            except OSError as error:
                self.counters[errno.errorcode.get(error.errno or 0, "error").lower()] += 1
                if error.errno == errno.EMSGSIZE and (mtu := _path_mtu(packet[16:20])):
                    too_big.append((packet, mtu))
        return too_big

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _path_mtu(address: bytes) -> int:
    """The MTU that the kernel knows of on the way to an address; 0 where it knows of no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((socket.inet_ntoa(address), _DISCARD_PORT))
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return 0
