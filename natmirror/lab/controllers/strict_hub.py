"""An OpenFlow controller on twink for the lab: a hub that matches answers to questions by their xids only.

    python -m natmirror.lab.controllers.strict_hub VERSION PORT

It asks one question after another (FEATURES, the ports, GET_CONFIG, BARRIER) and waits for each answer. It ignores a
reply with another xid, and a second BARRIER_REPLY ends it. It prints the lines of report_lines.py, with ``ports`` when
all questions have been answered, and ``unanswered KIND`` before it closes a connection without an answer.
"""

import errno
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

from twink import base

from natmirror.lab.controllers import report_lines

os.errno = errno  # type: ignore[attr-defined]  # twink 0.3 looks for it where Python 3.6 had it

_VERSIONS = {"1.0": 1, "1.3": 4}
_OPENFLOW_1_0 = 1
_HELLO, _PACKET_IN, _PACKET_OUT, _FLOW_MOD = 0, 10, 13, 14
_NO_BUFFER = _ANY = 0xFFFFFFFF
_FLOOD, _CONTROLLER, _WHOLE = 0xFFFFFFFB, 0xFFFFFFFD, 0xFFFF
_FLOOD_1_0 = 0xFFFB
_OUTPUT, _APPLY_ACTIONS = 0, 4


class Hub(base.PortMonitorChannel, base.SyncChannel, base.AutoEchoChannel):  # type: ignore[misc]
    """One switch: a frame from one port goes out of all others."""

    def recv(self) -> Any:
        """Return the next message, in the switch's order; report a PACKET_IN."""
        message = super().recv()
        if message and message[1] == _PACKET_IN and self.datapath is not None:
            report_lines.print_packet_in(self.datapath, *_packet_in(message))
        return message

    def handle(self, message: bytes, channel: Any) -> None:
        """Handle a message; twink calls this in a thread of its own."""
        kind = message[1]
        if kind == _HELLO:
            self._begin()
        elif kind == _PACKET_IN and self.datapath is not None:
            self.send(_flood(self.version, *_packet_in(message)))

    def close(self) -> None:
        """Report the end of the session, and close it."""
        if self.datapath is not None and not self.closed:
            report_lines.print_line("gone", self.datapath)
        super().close()

    def _begin(self) -> None:
        self._ask("FEATURES", self.feature)
        report_lines.print_line("switch", self.datapath)
        if self.version != _OPENFLOW_1_0:
            self.send(_all_to_controller(self.version))
        ports = self._ask("PORT_DESC", lambda: self.ports)
        self._ask("GET_CONFIG", self.get_config)
        self._ask("BARRIER", self.barrier)
        report_lines.print_ports(self.datapath, (port.port_no for port in ports))

    def _ask(self, kind: str, question: Callable[[], Any]) -> Any:
        try:
            if answer := question():
                return answer
        except base.ChannelClose:
            pass
        report_lines.print_line("unanswered", kind)
        raise base.ChannelClose(kind)


def _packet_in(message: bytes) -> tuple[int, bytes]:
    """Return port and frame of a PACKET_IN; Open vSwitch puts the port first in a match."""
    if message[0] == _OPENFLOW_1_0:
        return struct.unpack_from("!H", message, 14)[0], message[18:]
    match_len, in_port = struct.unpack_from("!2xH4xI", message, 24)
    return in_port, message[24 + (match_len + 7) // 8 * 8 + 2 :]


def _flood(version: int, in_port: int, frame: bytes) -> bytes:
    if version == _OPENFLOW_1_0:
        action = struct.pack("!HHHH", _OUTPUT, 8, _FLOOD_1_0, 0)
        return _message(version, _PACKET_OUT, struct.pack("!IHH", _NO_BUFFER, in_port, len(action)) + action + frame)
    action = _output(_FLOOD)
    return _message(version, _PACKET_OUT, struct.pack("!IIH6x", _NO_BUFFER, in_port, len(action)) + action + frame)


def _all_to_controller(version: int) -> bytes:
    flow = struct.pack("!QQBBHHHIIIHxx", 0, 0, 0, 0, 0, 0, 0, _NO_BUFFER, _ANY, _ANY, 0)
    match = struct.pack("!HH4x", 1, 4)
    action = _output(_CONTROLLER)
    return _message(version, _FLOW_MOD, flow + match + struct.pack("!HH4x", _APPLY_ACTIONS, 8 + len(action)) + action)


def _output(port: int) -> bytes:
    return struct.pack("!HHIH6x", _OUTPUT, 16, port, _WHOLE)


def _message(version: int, kind: int, body: bytes) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), base.hms_xid()) + body


def main() -> None:
    """Serve until the process is killed."""
    version, port = sys.argv[1:3]
    server = base.StreamServer(("0.0.0.0", int(port)))
    server.channel_cls = type("Switch", (Hub,), {"accept_versions": [_VERSIONS[version]]})
    base.sched.serve_forever(server)


if __name__ == "__main__":
    main()
