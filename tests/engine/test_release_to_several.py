"""Bytes that one acknowledgement releases reach each of a flow's mirrors, whatever the chunks of memory they lie in."""

import random

import pytest

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_MSS
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, at, packet

MIRRORS = (MASTER, at("10.20.0.14", 6653), at("10.20.0.15", 6653))
MORE = "      - {name: second, address: 10.20.0.14}\n", "      - {name: third, address: 10.20.0.15}\n"
LEN = 300_000
MSS_1460 = bytes((OPT_MSS, 4, 5, 180))


class Mirrors:
    """Mirrors that acknowledge every other time, so that bytes wait in their legs too."""

    def __init__(self, connection: ClientConnection, count: int) -> None:
        self._connection = connection
        self.got = {mirror: b"" for mirror in MIRRORS[:count]}
        for mirror in self.got:
            self._says(mirror, "SA", 0, MSS_1460)

    def _says(self, mirror: Endpoint, letters: str, got: int, options: bytes = b"") -> None:
        numbers = seq.add(MIRROR_ISS, len(letters) % 2), seq.add(ISS, 1 + got)
        self._connection.take(packet(mirror, CLIENT, letters, *numbers, options=options), Hook.PREROUTING)

    def take(self, *, answer: bool) -> None:
        """Take what has come; ``answer``: and acknowledge it."""
        for one in self._connection.to_mirror:
            got = self.got[one.dst, one.dport]
            begin = seq.diff(one.seq, seq.add(ISS, 1)) - len(got)
            self.got[one.dst, one.dport] += one.payload[-begin:] if begin <= 0 else b""
        self._connection.to_mirror.clear()
        for mirror, got in self.got.items() if answer else ():
            self._says(mirror, "A", len(got))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_each_mirror_gets_what_the_backend_acknowledges(fast: bool, count: int, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(LEN)
    one = ClientConnection(engine(RULES + "".join(MORE[: count - 1]), fast=fast, release=Release.ACKNOWLEDGED))
    one.connect()
    assert one.backend is not None
    mirrors = Mirrors(one, count)
    sent = acked = 0
    while acked < LEN:
        length = min(chance.choice((1, 1460, 4096, 8192, 30_000)), LEN - sent)
        if length and sent + length - acked <= 60_000:
            one.from_client("PA", data[sent : sent + length])
            sent += length
        if chance.random() < 0.5 or sent == LEN:
            acked = sent if chance.random() < 0.5 else chance.randint(acked, sent)
            one.take(packet(one.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 1 + acked)), Hook.FORWARD)
        mirrors.take(answer=chance.random() < 0.5)
    for _ in range(100):
        mirrors.take(answer=True)
    assert mirrors.got == dict.fromkeys(mirrors.got, data)
