"""Evidence of differences as pcap files, which Wireshark reads as OpenFlow.

A file has the messages of one example in two TCP streams of their own making: the switch's connection with production,
and its session with the mirror. Both have the PACKET_IN. The switch has its own address and port; the others have
addresses for documentation (RFC 5737), since the messages were never on a wire like that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import dpkt

from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint, parse_endpoint
from natmirror.net.packet import ACK, PSH

PRODUCTION: Endpoint = (bytes((192, 0, 2, 1)), 6653)
MIRROR: Endpoint = (bytes((192, 0, 2, 2)), 6653)
_LINKTYPE_RAW = 101
_SNAP_LEN, _WINDOW = 0xFFFF, 0xFFFF
_MAX_NAME_LEN = 80
_MAX_PAYLOAD = 0xFFFF - 40  # of an IP packet without options
_HEADERS_LEN = 40
_MICROSECONDS = 1_000_000
_LENGTH = slice(2, 4)  # of the length in OpenFlow's header


def write_evidence(found: Sequence[Mapping[str, Any]], directory: Path) -> Iterator[Path]:
    """Write the examples of verdicts that have messages; yield each file. OSError where that fails."""
    directory.mkdir(parents=True, exist_ok=True)
    for verdict in found:
        for number, difference in enumerate(verdict["differences"], 1):
            example = difference["example"]
            if example is None or not example["messages"]:
                continue
            words = re.sub(r"[^a-z0-9]+", "-", f"{verdict['service']} {verdict['mirror']} {difference['text']}".lower())
            path = directory / f"{number:02}-{words[:_MAX_NAME_LEN].strip('-')}.pcap"
            path.write_bytes(pcap_of(example))
            yield path


def pcap_of(example: Mapping[str, Any]) -> bytes:
    """Return the messages of an example as a pcap file of raw IP packets."""
    switch = parse_endpoint(example["switch"])
    file = bytes(dpkt.pcap.FileHdr(snaplen=_SNAP_LEN, linktype=_LINKTYPE_RAW))
    streams = {peer: _Stream(switch, peer) for peer in (PRODUCTION, MIRROR)}
    for message in example["messages"]:
        raw, at = bytes.fromhex(message["hex"]), datetime.fromisoformat(message["at"]).timestamp()
        if message["sender"] == "switch":
            for stream in streams.values():
                file += _record(at, stream.packet(raw, to_switch=False), raw)
        else:
            peer = PRODUCTION if message["sender"] == "production" else MIRROR
            file += _record(at, streams[peer].packet(raw, to_switch=True), raw)
    return file


class _Stream:
    """A TCP connection of which nothing is seen but its data."""

    def __init__(self, switch: Endpoint, peer: Endpoint) -> None:
        self._ends = switch, peer
        self._next = [1, 1]  # the sequence numbers of both ends

    def packet(self, raw: bytes, *, to_switch: bool) -> bytes:
        """Return a packet with a message, padded to its whole length if it was cut off."""
        length = max(len(raw), int.from_bytes(raw[_LENGTH], "big"))
        payload = raw.ljust(min(length, _MAX_PAYLOAD), b"\0")
        mine, other = (1, 0) if to_switch else (0, 1)
        packet = build(
            *(self._ends[mine], self._ends[other]),
            seq=self._next[mine],
            ack=self._next[other],
            flags=ACK | PSH,
            window=_WINDOW,
            payload=payload,
        )
        self._next[mine] += len(payload)
        return packet


def _record(at: float, packet: bytes, raw: bytes) -> bytes:
    """Return a packet's record. Of a message that was cut off, the rest counts as not captured."""
    seconds, microseconds = divmod(round(Fraction(at) * _MICROSECONDS), _MICROSECONDS)
    captured = packet[: _HEADERS_LEN + len(raw)]
    header = dpkt.pcap.PktHdr(tv_sec=seconds, tv_usec=microseconds, caplen=len(captured), len=len(packet))
    return bytes(header) + captured
