"""Controllers that answer, hang or send what a test wants."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

from natmirror.openflow import messages
from natmirror.openflow.framer import Framer
from natmirror.openflow.messages import Type
from natmirror.rules import Backend

HOST = "127.0.0.1"
Talk = Callable[[socket.socket], None]


class Controller:
    """A listener that calls ``talk`` with each connection in its order; without one it accepts none."""

    def __init__(self, talk: Talk | None) -> None:
        self.accepted = 0
        self._talk = talk
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        if talk is not None:
            self._thread.start()

    def backend(self, name: str = "c1") -> Backend:
        return Backend(name, IPv4Address(HOST), self.port)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(5)

    def _serve(self) -> None:
        assert self._talk is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock, suppress(OSError):
                sock.settimeout(5)
                self._talk(sock)


def hang_until_closed(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def speaks(version: int, *, said: list[messages.Message] | None = None, greeting: Talk | None = None) -> Talk:
    """Return the ``talk`` of a controller of one version: it sends HELLO, FEATURES_REQUEST and ECHO_REQUEST, and
    answers."""

    def talk(sock: socket.socket) -> None:
        (greeting or (lambda sock: sock.sendall(messages.hello(version, 77))))(sock)
        framer = Framer()
        while data := sock.recv(4096):
            for message in map(messages.parse, framer.push(data)):
                if said is not None:
                    said.append(message)
                if message.kind == Type.HELLO:
                    assert version in messages.offered(message)
                    framer.version = version
                    sock.sendall(messages.build(version, Type.FEATURES_REQUEST, 78))
                    sock.sendall(messages.build(version, Type.ECHO_REQUEST, 79, b"are you there"))
                elif message.kind == Type.ECHO_REQUEST:
                    sock.sendall(messages.build(version, Type.ECHO_REPLY, message.xid, message.body))
        if said is not None:
            said.append(messages.Message(version, None, 0, b""))  # the peer closed the connection, and did not reset it

    return talk
