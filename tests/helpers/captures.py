"""Captures of one connection, written by tests."""

from pathlib import Path

from natmirror.net import seq
from natmirror.net.checksum import ones_sum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import IP_HEADER_LEN
from natmirror.replay.capture import Writer
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import C1, CLIENT, RULES, SERVICE, packet

ONE_BACKEND = RULES.replace("        - {name: c2, address: 10.20.0.12}\n", "")


def write(path: Path, packets: list[bytes], *, step: float = 0.01) -> Path:
    with Writer(path) as writer:
        for number, raw in enumerate(packets):
            writer.write(100 + number * step, raw)
    return path


def session(*, data: bytes = b"hello", client: Endpoint = CLIENT) -> list[bytes]:
    """Return a connection's packets on both sides of the host, before and after they are rewritten."""
    end = len(data) + 2
    return [
        packet(client, SERVICE, "S", ISS),
        packet(client, C1, "S", ISS),
        packet(C1, client, "SA", IRS, seq.add(ISS, 1)),
        packet(SERVICE, client, "SA", IRS, seq.add(ISS, 1)),
        packet(client, SERVICE, "A", seq.add(ISS, 1), seq.add(IRS, 1)),
        packet(client, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), data),
        packet(client, SERVICE, "FA", seq.add(ISS, end - 1), seq.add(IRS, 1)),
        packet(C1, client, "FA", seq.add(IRS, 1), seq.add(ISS, end)),
        packet(client, SERVICE, "A", seq.add(ISS, end), seq.add(IRS, 2)),
    ]


def fragments_of(raw: bytes, step: int, *, ident: int = 7) -> list[bytes]:
    """Return the fragments of a packet without options, each with ``step`` bytes of data, a multiple of eight."""
    data = raw[IP_HEADER_LEN:]
    found = []
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        header = bytearray(raw[:IP_HEADER_LEN])
        header[2:4] = (IP_HEADER_LEN + len(piece)).to_bytes(2, "big")
        header[4:6] = ident.to_bytes(2, "big")
        header[6:8] = ((0x2000 if at + step < len(data) else 0) | at // 8).to_bytes(2, "big")
        header[10:12] = bytes(2)
        header[10:12] = (~ones_sum(header) & 0xFFFF).to_bytes(2, "big")
        found.append(bytes(header) + piece)
    return found
