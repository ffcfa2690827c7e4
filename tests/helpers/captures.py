"""Captures of one connection, written by tests."""

from pathlib import Path

from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
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
