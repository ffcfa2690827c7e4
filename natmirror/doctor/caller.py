"""The client of ``natmirror doctor --send``: a process with a network namespace of its own.

It moves into a new namespace, which has no name. So the kernel removes the namespace, and the interface pair with it,
when this process ends, however it ends; and it ends with doctor (PR_SET_PDEATHSIG in prctl(2)). It closes its
connection before that, so that natmirror and the backend forget it.

It reads orders and writes answers, each a line of JSON. The first order has the namespace's addresses; then comes, in
turn, a connection to make, and any line to close it.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute

from natmirror.openflow.framer import Broken
from natmirror.openflow.handshake import Handshake, HelloRefused
from natmirror.openflow.messages import HEADER_LEN, Type, build

INTERFACE = "natmirror"
"""The interface's name in the namespace."""
ECHO_LEN = 1400
"""Bytes of an OpenFlow ECHO_REQUEST: with the headers almost a full packet of Ethernet."""

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
PERMANENT = 0x80  # NUD_PERMANENT in linux/neighbour.h
_UNACKED_AT = 24  # tcpi_unacked in struct tcp_info (linux/tcp.h)
_ECHO_XID = 3
# Seconds
_UP_WITHIN = 3.0
_CONNECT_TIMEOUT = 3.5  # Linux sends SYNs after 0, 1 and 3 s
_ANSWER_TIMEOUT = 3.0
_LISTEN = 0.5
"""How long a connection without data is watched: a backend that admits no client ends it at once."""
_POLL = 0.02
_CLOSE_TIMEOUT = 1.0
_LAST_PACKETS = 0.1  # for them to pass natmirror: the kernel drops what waits in a queue when its interface goes
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Ended(Exception):
    """The backend has ended the connection; the text says how."""

    def __init__(self, *, is_reset: bool) -> None:
        super().__init__("a reset" if is_reset else "a FIN")
        self.is_reset = is_reset


def main() -> None:
    """Serve doctor until it ends this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _say({"ready": True})
    _say({"address": _configure(json.loads(sys.stdin.readline()))})
    try:
        for line in sys.stdin:
            _serve(json.loads(line))
    finally:
        time.sleep(_LAST_PACKETS)


def _serve(order: dict[str, Any]) -> None:
    """Make one connection, and close it when doctor says so or this process is to end."""
    with socket.socket() as connection:
        try:
            _say(_call(connection, order))
            sys.stdin.readline()
            _close(connection)
        finally:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    _say({"closed": True})


def _close(connection: socket.socket) -> None:
    """Close a connection as clients do; one that the peer does not close too is reset afterwards."""
    connection.settimeout(_CLOSE_TIMEOUT)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _configure(order: dict[str, Any]) -> str:
    """Give the namespace its addresses; packets to any address go to doctor's host. Return the link address."""
    with IPRoute() as kernel:
        [lo], [index] = kernel.link_lookup(ifname="lo"), kernel.link_lookup(ifname=INTERFACE)
        kernel.link("set", index=lo, state="up")
        kernel.addr("add", index=index, address=order["client"], prefixlen=32)
        kernel.link("set", index=index, state="up")
        kernel.route("add", dst="0.0.0.0/0", oif=index, scope="link")
        for service in order["services"]:
            kernel.neigh(
                "add", family=socket.AF_INET, dst=service, lladdr=order["gateway"], ifindex=index, state=PERMANENT
            )
        wait_until_up(kernel, index)
        [link] = kernel.get_links(index)
        return str(link.get_attr("IFLA_ADDRESS"))


def wait_until_up(kernel: IPRoute, index: int) -> None:
    """Wait until an interface passes packets: the kernel may take a second after both ends are up."""
    until = time.monotonic() + _UP_WITHIN
    while kernel.get_links(index)[0].get_attr("IFLA_OPERSTATE") != "UP" and time.monotonic() < until:
        time.sleep(_POLL)


def _call(connection: socket.socket, order: dict[str, Any]) -> dict[str, Any]:
    """Make a connection as ordered, and return what has become of it. It stays open."""
    answer: dict[str, Any] = {"state": "open", "how": "", "port": 0, "seconds": 0.0, "sent": 0, "size": 0}
    answer |= {"received": 0, "unacked": False, "silent": ""}
    connection.settimeout(_CONNECT_TIMEOUT)
    began_at = time.monotonic()
    try:
        connection.bind(("0.0.0.0", 0))
        answer["port"] = connection.getsockname()[1]
        connection.connect((order["address"], order["port"]))
    except ConnectionRefusedError:
        return answer | {"state": "refused"}
    except OSError as error:
        return answer | {"state": "unanswered", "how": error.strerror or ""}
    answer["seconds"] = time.monotonic() - began_at
    connection.settimeout(_POLL)
    try:
        _talk(connection, order, answer)
    except Ended as end:
        is_answered = answer["received"] and not end.is_reset
        answer |= {"state": "open"} if is_answered else {"state": "ended", "how": str(end)}
    return answer


def _talk(connection: socket.socket, order: dict[str, Any], answer: dict[str, Any]) -> None:
    if order["openflow"]:
        _greet(connection, answer)
    elif order["data"]:
        _exchange(connection, bytes.fromhex(order["data"]), answer, "", lambda piece: True)
    else:
        _receive(connection, _LISTEN, answer)


def _greet(connection: socket.socket, answer: dict[str, Any]) -> None:
    """Exchange HELLOs and small ECHOs, then a large ECHO."""
    handshake = Handshake()

    def greeted(piece: bytes) -> bool:
        _send(connection, handshake.receive(piece))
        return handshake.is_answered

    try:
        _exchange(connection, handshake.begin(), answer, "an OpenFlow HELLO and ECHO", greeted)
    except (Broken, HelloRefused):
        return  # what has come is an answer
    if handshake.version is None or not handshake.is_answered or answer["unacked"]:
        return
    left = ECHO_LEN

    def echoed(piece: bytes) -> bool:
        nonlocal left
        left -= len(piece)
        return left <= 0

    echo = build(handshake.version, Type.ECHO_REQUEST, _ECHO_XID, bytes(ECHO_LEN - HEADER_LEN))
    _exchange(connection, echo, answer, f"an OpenFlow ECHO of {ECHO_LEN} bytes", echoed)


def _exchange(
    connection: socket.socket, data: bytes, answer: dict[str, Any], what: str, answers: Callable[[bytes], bool]
) -> None:
    """Send bytes; wait until they are acknowledged, and until ``answers``, called with each piece that comes, returns
    True. ``what`` names the bytes."""
    has_room = _send(connection, data)
    answer["sent"] += len(data)
    answer["size"] = len(data)
    until = time.monotonic() + _ANSWER_TIMEOUT
    is_answered = False
    while True:
        is_answered = answers(_receive(connection, _POLL, answer)) or is_answered
        answer["unacked"] = not has_room or unacked(connection) > 0
        if (is_answered and not answer["unacked"]) or time.monotonic() > until:
            answer["silent"] = "" if is_answered else what
            return


def _send(connection: socket.socket, data: bytes) -> bool:
    """Send bytes; return whether the peer had room for all. Ended where the backend ends the connection."""
    connection.settimeout(_ANSWER_TIMEOUT)
    try:
        connection.sendall(data)
        return True
    except TimeoutError:
        return False
    except OSError:
        raise Ended(is_reset=True) from None
    finally:
        connection.settimeout(_POLL)


def _receive(connection: socket.socket, seconds: float, answer: dict[str, Any]) -> bytes:
    """Return what comes within this time, or soon after its beginning. Ended where the backend ends the connection."""
    until = time.monotonic() + seconds
    received = b""
    while time.monotonic() < until:
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            continue
        except OSError:
            raise Ended(is_reset=True) from None
        if not piece:
            raise Ended(is_reset=False)
        received += piece
        answer["received"] += len(piece)
        until = min(until, time.monotonic() + _POLL)
    return received


def unacked(connection: socket.socket) -> int:
    """Return the number of segments that the peer has not acknowledged."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=I", info, _UNACKED_AT)[0])


if __name__ == "__main__":
    main()
