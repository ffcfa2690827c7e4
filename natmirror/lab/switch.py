"""A synthetic OpenFlow switch, version 1.0 or 1.3. No I/O, and time is an argument.

The numbers are those of the OpenFlow Switch Specifications 1.0.0 and 1.3.5.
"""

import struct
from array import array
from collections import Counter
from dataclasses import dataclass, field

from natmirror.net.checksum import ones_sum

VERSIONS = {"1.0": 1, "1.3": 4}
ECHO_INTERVAL = 5.0
"""Seconds without a message after which a switch probes its controller: the default of Open vSwitch's
inactivity_probe."""

_SETTLE_TIMEOUT = 0.25  # seconds after FEATURES in which a controller of 1.3 may ask for PORT_DESC
_HEADER = struct.Struct("!BBHI")
_NO_BUFFER = 0xFFFF_FFFF
_PORTS = range(1, 5)
_ANY_PORT = {1: 0xFFFF, 4: 0xFFFF_FFFF}
_TABLE_SIZE = 1_000_000
_10GB_FD = 1 << 6

_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY, _EXPERIMENTER, _FEATURES_REQUEST, _FEATURES_REPLY = range(7)
_GET_CONFIG_REQUEST, _GET_CONFIG_REPLY, _SET_CONFIG, _PACKET_IN, _, _, _PACKET_OUT, _FLOW_MOD = range(7, 15)
_MULTIPART, _BARRIER, _ROLE = {1: 16, 4: 18}, {1: 18, 4: 20}, {1: None, 4: 24}
# Messages without an answer, unless they fail: PORT_MOD; GROUP_MOD, PORT_MOD, TABLE_MOD, SET_ASYNC, METER_MOD.
_SILENT = {1: {_ECHO_REPLY, 15}, 4: {_ECHO_REPLY, 15, 16, 17, 28, 29}}
_PORT_STATS, _PORT_DESC = 4, 13
_HELLO_FAILED, _BAD_REQUEST = 0, 1
_BAD_VERSION, _BAD_TYPE, _BAD_MULTIPART, _BAD_EXPERIMENTER = range(4)
_ERROR_DATA_LEN = 64  # OpenFlow 1.3.5 §7.4.4: at least 64 bytes of the failed request

_VERSION_BITMAP = struct.pack("!HHI", 1, 8, 1 << 4)
_MATCH_IN_PORT, _MATCH_ETH_SRC = 0x80000004, b"\x80\x00\x08\x06"  # OXM headers

_MAC_LEN = 6
_ARP_LEN, _UDP_LEN = 64, 98  # of the frames
_ARP = bytes.fromhex("0806 0001 0800 06 04 0001")
_IP = struct.pack("!BBHHHBBH4s4s", 0x45, 0, _UDP_LEN - 14, 0, 0x4000, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
_UDP = (
    b"\x08\x00"
    + _IP[:10]
    + (~ones_sum(_IP) & 0xFFFF).to_bytes(2, "big")
    + _IP[12:]
    + struct.pack("!HHHH", 6653, 6653, _UDP_LEN - 34, 0)
)


def _port(version: int, number: int) -> bytes:
    mac, name = bytes([2, 0xFF, 0, 0, 0, number]), f"p{number}".encode()
    if version == 1:
        return struct.pack("!H6s16s6I", number, mac, name, 0, 0, _10GB_FD, 0, 0, 0)
    return struct.pack("!I4x6s2x16s8I", number, mac, name, 0, 0, _10GB_FD, 0, 0, 0, 10_000_000, 10_000_000)


_DESCRIPTION = struct.pack("!256s256s256s32s256s", b"natmirror", b"synthetic", b"synthetic", b"0", b"synthetic switch")
_NOTHING: dict[int, bytes] = {1: b"", 2: bytes(24), 5: b""}  # FLOW, AGGREGATE, QUEUE: no flows, no queues
_STATISTICS = {
    1: _NOTHING
    | {
        0: _DESCRIPTION,
        3: struct.pack("!B3x32sIIIQQ", 0, b"table", 0x3FFFFF, _TABLE_SIZE, 0, 0, 0),
        _PORT_STATS: b"".join(struct.pack("!H6x96x", number) for number in _PORTS),
    },
    4: _NOTHING
    | {
        0: _DESCRIPTION,
        3: struct.pack("!B3xIQQ", 0, 0, 0, 0),
        _PORT_STATS: b"".join(struct.pack("!I4x96x8x", number) for number in _PORTS),
        _PORT_DESC: b"".join(_port(4, number) for number in _PORTS),
    },
}


class SessionError(Exception):
    """The controller's message ends the session; the switch's last messages are in its ``out``."""


@dataclass(slots=True)
class Tally:
    """The counters of all switches together; ``latencies`` are in seconds, in the order of the answers."""

    up: int = 0
    sent: int = 0
    answered: int = 0
    packet_outs: int = 0
    flow_mods: int = 0
    unanswered_echoes: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    counted_from: float = 0.0

    def count_from(self, now: float) -> None:
        """Forget the latencies so far, and ignore those of PACKET_INs sent before ``now``."""
        self.counted_from = now
        del self.latencies[:]


class Switch:
    """One switch: the caller passes the controller's bytes to receive(), and sends the bytes in ``out``.

    A PACKET_IN is answered by a PACKET_OUT with its frame, or by a FLOW_MOD that matches its source address. A
    PACKET_OUT without a frame answers the oldest PACKET_IN.
    """

    __slots__ = (
        "_awaited",
        "_config",
        "_dpid",
        "_features_at",
        "_heard_at",
        "_neighbour",
        "_probed_at",
        "_rest",
        "_role",
        "_tally",
        "_version",
        "out",
        "up",
    )

    def __init__(self, version: int, dpid: int, tally: Tally, now: float) -> None:
        self.out = bytearray()
        self.up = False
        self._version, self._dpid, self._tally = version, dpid, tally
        self._rest = b""
        self._config = struct.pack("!HH", 0, 0xFFFF)
        self._role = 1  # OFPCR_ROLE_EQUAL
        self._features_at: float | None = None
        self._heard_at = now
        self._probed_at: float | None = None
        self._awaited: dict[bytes, float] = {}  # the time when the PACKET_IN was sent, by source address
        self._neighbour: bytes | None = None  # source address of the ARP frame that the next frame answers
        self._send_message(_HELLO, 1, _VERSION_BITMAP if version == 4 else b"")

    def receive(self, data: bytes, now: float) -> None:
        """Take the controller's next bytes; SessionError where they end the session."""
        self._heard_at, self._probed_at = now, None
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            version, kind, length, xid = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                raise SessionError(f"the controller sent a message of {length} bytes")
            if end - at < length:
                break
            message = data[at : at + length]
            at += length
            try:
                self._take(version, kind, xid, message, now)
            except (struct.error, IndexError):
                raise SessionError(f"the controller sent a message of type {kind} that is too short") from None
        self._rest = data[at:]

    def tick(self, now: float) -> float:
        """Do what is due, and return when tick() is due next."""
        if not self.up and self._features_at is not None and now >= self._features_at + _SETTLE_TIMEOUT:
            self._come_up()
        silent_since = self._heard_at if self._probed_at is None else self._probed_at
        if now >= silent_since + ECHO_INTERVAL:
            self._tally.unanswered_echoes += self._probed_at is not None
            self._probed_at = silent_since = now
            self._send_message(_ECHO_REQUEST, 0)
        return silent_since + ECHO_INTERVAL if self.up else now + _SETTLE_TIMEOUT

    def packet_in(self, number: int, now: float) -> None:
        """Send a PACKET_IN with the frame of this number; use each number once. The frames are ARP from a new address
        and, in turn, UDP from another new address to that one."""
        source = (2 << 40 | number).to_bytes(_MAC_LEN, "big")
        if self._neighbour is None:
            port, self._neighbour = 1, source
            frame = b"\xff" * _MAC_LEN + source + _ARP + source + b"\x0a" + source[3:] + bytes(6) + b"\x0a\0\0\2"
            frame = frame.ljust(_ARP_LEN, b"\0")
        else:
            port = 2
            frame = (self._neighbour + source + _UDP + source).ljust(_UDP_LEN, b"\0")
            self._neighbour = None
        if self._version == 1:
            head = struct.pack("!IHHBx", _NO_BUFFER, len(frame), port, 0)
        else:
            head = struct.pack("!IHBBQHHII4x2x", _NO_BUFFER, len(frame), 0, 0, 0, 1, 12, _MATCH_IN_PORT, port)
        self._send_message(_PACKET_IN, 0, head + frame)
        self._awaited[source] = now
        self._tally.sent += 1

    def _take(self, version: int, kind: int, xid: int, message: bytes, now: float) -> None:
        if kind == _HELLO:
            return self._agree(version, message)
        if version != self._version:
            return self._refuse(xid, _BAD_VERSION, message)
        if kind == _PACKET_OUT:
            self._packet_out(message, now)
        elif kind == _FLOW_MOD:
            self._flow_mod(message, now)
        elif kind == _ECHO_REQUEST:
            self._send_message(_ECHO_REPLY, xid, message[8:])
        elif kind == _FEATURES_REQUEST:
            self._send_features(xid, now)
        elif kind == _GET_CONFIG_REQUEST:
            self._send_message(_GET_CONFIG_REPLY, xid, self._config)
        elif kind == _SET_CONFIG:
            self._config = message[8:12]
        elif kind == _MULTIPART[version]:
            self._multipart(xid, message)
        elif kind == _BARRIER[version]:
            self._send_message(kind + 1, xid)
        elif kind == _ROLE[version]:
            role, generation = struct.unpack_from("!I4xQ", message, 8)
            self._role = role or self._role  # 0 only asks
            self._send_message(kind + 1, xid, struct.pack("!I4xQ", self._role, generation))
        elif kind == _ERROR:
            category, code = struct.unpack_from("!HH", message, 8)
            self._tally.errors[f"the controller sent OFPT_ERROR {category}/{code}"] += 1
        elif kind not in _SILENT[version]:
            self._refuse(xid, _BAD_EXPERIMENTER if kind == _EXPERIMENTER else _BAD_TYPE, message)

    def _agree(self, version: int, message: bytes) -> None:
        """Check the controller's HELLO. OpenFlow 1.3.5 §6.3.1: the bitmap decides where both have one, else the lower
        of both versions."""
        agreed = version >= self._version
        if self._version == 4 and len(message) >= 16 and message[8:10] == b"\0\1":
            agreed = bool(message[15] & 1 << self._version)
        if not agreed:
            self._send_message(_ERROR, 0, struct.pack("!HH", _HELLO_FAILED, 0))
            raise SessionError(f"the controller does not speak OpenFlow with version number {self._version}")

    def _send_features(self, xid: int, now: float) -> None:
        if self._version == 1:
            ports = b"".join(_port(1, number) for number in _PORTS)
            body = struct.pack("!QIB3xII", self._dpid, 0, 1, 0x07, 0xFFF) + ports
        else:
            body = struct.pack("!QIBB2xI4x", self._dpid, 0, 254, 0, 0x07)
        self._send_message(_FEATURES_REPLY, xid, body)
        self._features_at = now
        if self._version == 1:
            self._come_up()

    def _multipart(self, xid: int, message: bytes) -> None:
        (kind,) = struct.unpack_from("!H", message, 8)
        body = _STATISTICS[self._version].get(kind)
        if body is None:
            return self._refuse(xid, _BAD_MULTIPART, message)
        if kind == _PORT_STATS:
            body = self._port_stats(body, message)
        head = struct.pack("!HH" if self._version == 1 else "!HH4x", kind, 0)
        self._send_message(_MULTIPART[self._version] + 1, xid, head + body)
        if kind == _PORT_DESC:
            self._come_up()

    def _port_stats(self, every: bytes, message: bytes) -> bytes:
        """Return the statistics of the requested port, or of all ports."""
        (port,) = struct.unpack_from(*(("!H", message, 12) if self._version == 1 else ("!I", message, 16)))
        if port == _ANY_PORT[self._version]:
            return every
        size = len(every) // len(_PORTS)
        return every[(port - 1) * size : port * size] if port in _PORTS else b""

    def _packet_out(self, message: bytes, now: float) -> None:
        self._tally.packet_outs += 1
        if self._version == 1:
            at = 16 + int.from_bytes(message[14:16], "big")
        else:
            at = 24 + int.from_bytes(message[16:18], "big")
        if at < len(message):
            self._answered(message[at + _MAC_LEN : at + 2 * _MAC_LEN], now)
        elif self._awaited:
            self._answered(next(iter(self._awaited)), now)

    def _flow_mod(self, message: bytes, now: float) -> None:
        self._tally.flow_mods += 1
        if self._version == 1:
            self._answered(message[14:20], now)
        elif (at := message.find(_MATCH_ETH_SRC, 48)) >= 0:
            self._answered(message[at + 4 : at + 4 + _MAC_LEN], now)

    def _answered(self, source: bytes, now: float) -> None:
        """Count the first answer to a PACKET_IN; ignore other frames, such as those of link discovery."""
        if (sent_at := self._awaited.pop(source, None)) is not None:
            self._tally.answered += 1
            if sent_at >= self._tally.counted_from:
                self._tally.latencies.append(now - sent_at)

    def _come_up(self) -> None:
        self._tally.up += not self.up
        self.up = True

    def _refuse(self, xid: int, code: int, message: bytes) -> None:
        if message[1] != _ERROR:
            self._send_message(_ERROR, xid, struct.pack("!HH", _BAD_REQUEST, code) + message[:_ERROR_DATA_LEN])

    def _send_message(self, kind: int, xid: int, body: bytes = b"") -> None:
        self.out += _HEADER.pack(self._version, kind, _HEADER.size + len(body), xid) + body
