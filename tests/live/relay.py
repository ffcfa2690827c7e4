"""A relay in front of Open vSwitch's management socket, which keeps the messages of ovs-ofctl and of the switch."""

import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from natmirror.openflow.messages import HEADER, Message, parse

_TIMEOUT = 20.0
_CHUNK = 65536


class Relay:
    """The relay of any number of connections, one after the other."""

    def __init__(self, path: Path, management: Path) -> None:
        self.path = path
        self._management = management
        self._streams: list[tuple[bytes, bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> tuple[list[Message], list[Message]]:
        """Stop, and return the messages that the switch got, and those that it sent."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TIMEOUT)
        self._listener.close()
        self.path.unlink()
        return [one for got, _ in self._streams for one in split(got)], [
            one for _, sent in self._streams for one in split(sent)
        ]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as switch:
                switch.connect(str(self._management))
                self._streams.append(pass_on(client, switch))


def pass_on(client: socket.socket, switch: socket.socket) -> tuple[bytes, bytes]:
    """Pass bytes on until one end closes; return those of the client and those of the switch."""
    others, kept = {client: switch, switch: client}, {client: bytearray(), switch: bytearray()}
    while True:
        for one in select.select([client, switch], [], [], _TIMEOUT)[0]:
            try:
                piece = one.recv(_CHUNK)
                kept[one] += piece
                others[one].sendall(piece)
            except ConnectionError:
                piece = b""
            if not piece:
                return bytes(kept[client]), bytes(kept[switch])


def split(stream: bytes) -> Iterator[Message]:
    """Yield the whole messages of a stream."""
    at = 0
    while len(stream) - at >= HEADER.size:
        length = HEADER.unpack_from(stream, at)[2]
        yield parse(stream[at : at + length])
        at += length
