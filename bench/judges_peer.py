"""``python -m bench.judges_peer``: a controller that is quick enough for a thousand switches, as backend or master.

It answers each PACKET_IN as a learning switch does: with a rule for the frame's addresses, and with the frame. At its
end (SIGTERM) it prints one line of JSON: when each PACKET_IN came, by the frame's source address as a number, in
seconds of the machine's monotonic clock. OpenFlow 1.3.
"""

import asyncio
import json
import signal
import struct
import time

PORT = 6653
"""The port on which it listens."""

_VERSION = 4
_HEADER = struct.Struct("!BBHI")
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _FEATURES_REQUEST, _FEATURES_REPLY = 0, 2, 3, 5, 6
_PACKET_IN, _PACKET_OUT, _FLOW_MOD = 10, 13, 14
_FRAME_AT = 8 + 16 + 16 + 2  # header, fixed part, match with in_port alone, padding
_PORT_AT = 8 + 16 + 8
_NOTHING = 0xFFFF_FFFF  # OFP_NO_BUFFER, OFPP_ANY, OFPG_ANY
_CONTROLLER, _FLOOD = 0xFFFF_FFFD, 0xFFFF_FFFB
_FLOW_HEAD = struct.Struct("!QQBBHHHIIIH2x")
_IDLE_TIMEOUT = 10
_PACKET_OUT_HEAD = struct.Struct("!IIH6x")
_IN_PORT, _ETH_DST, _ETH_SRC = 0x8000_0004, 0x8000_0606, 0x8000_0806  # OXM headers
_BACKLOG = 1024


def _message(kind: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(_VERSION, kind, _HEADER.size + len(body), 1) + body


def _output(port: int) -> bytes:
    return struct.pack("!HHIH6x", 0, 16, port, 0xFFFF)


def _flow_mod(priority: int, idle_timeout: int, fields: bytes, port: int) -> bytes:
    head = _FLOW_HEAD.pack(0, 0, 0, 0, idle_timeout, 0, priority, _NOTHING, _NOTHING, _NOTHING, 0)
    match = struct.pack("!HH", 1, 4 + len(fields)) + fields
    match += bytes(-len(match) % 8)
    return _message(_FLOW_MOD, head + match + struct.pack("!HH4x", 4, 24) + _output(port))


_TABLE_MISS = _flow_mod(0, 0, b"", _CONTROLLER)


class _Controller(asyncio.Protocol):
    """The controller's end of one switch's connection."""

    def __init__(self, came: dict[int, float]) -> None:
        self._came = came
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_message(_HELLO) + _message(_FEATURES_REQUEST))

    def data_received(self, data: bytes) -> None:
        data, at, answers = self._rest + data, 0, []
        while len(data) - at >= _HEADER.size:
            _, kind, length, xid = _HEADER.unpack_from(data, at)
            if len(data) - at < length:
                break
            if kind == _PACKET_IN:
                answers += self._answer(data[at : at + length])
            elif kind == _ECHO_REQUEST:
                answers.append(_HEADER.pack(_VERSION, _ECHO_REPLY, length, xid) + data[at + 8 : at + length])
            elif kind == _FEATURES_REPLY:
                answers.append(_TABLE_MISS)
            at += length
        self._rest = data[at:]
        if answers:
            self._transport.write(b"".join(answers))

    def _answer(self, packet_in: bytes) -> list[bytes]:
        frame = packet_in[_FRAME_AT:]
        in_port = packet_in[_PORT_AT : _PORT_AT + 4]
        self._came[int.from_bytes(frame[6:12], "big")] = time.monotonic()
        is_flooded = frame[0] & 1
        port = _FLOOD if is_flooded else 3 - int.from_bytes(in_port, "big")
        actions = _output(port)
        head = _PACKET_OUT_HEAD.pack(_NOTHING, int.from_bytes(in_port, "big"), len(actions))
        out = _message(_PACKET_OUT, head + actions + frame)
        if is_flooded:
            return [out]
        fields = struct.pack("!I4sI6sI6s", _IN_PORT, in_port, _ETH_DST, frame[:6], _ETH_SRC, frame[6:12])
        return [_flow_mod(10, _IDLE_TIMEOUT, fields, port), out]


async def _serve() -> dict[int, float]:
    came: dict[int, float] = {}
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(lambda: _Controller(came), "0.0.0.0", PORT, backlog=_BACKLOG)
    await ended.wait()
    server.close()
    return came


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_serve())))
