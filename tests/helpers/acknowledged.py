"""A connection with one mirror, which acknowledges what it gets: what does the mirror get, and when?"""

from struct import pack

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.packet import OPT_NOP, OPT_TIMESTAMPS
from natmirror.reasons import EndReason
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, RULES, SERVICE, assert_adds_up, packet


def stamps(value: int, echo: int) -> bytes:
    """Return the timestamps option."""
    return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + pack("!II", value, echo)


class Connection(ClientConnection):
    """A connection with one mirror, which acknowledges what it gets. Numbers count from the streams' first bytes."""

    def __init__(self, rules: str = RULES, *, fast: bool, release: Release = Release.ACKNOWLEDGED) -> None:
        super().__init__(engine(rules, fast=fast, release=release))
        self.got = b""

    def open(self, options: bytes = b"", answer: bytes = b"", guess: bytes = b"") -> "Connection":
        """Complete the handshakes of client and leg, with these options of client and backend. ``guess``: an attacker's
        packet before the client's acknowledgement."""
        out = self.passed(packet(CLIENT, SERVICE, "S", ISS, options=options), Hook.PREROUTING)
        self.backend = (out.dst, out.dport)
        raw = packet(self.backend, CLIENT, "SA", IRS, seq.add(ISS, 1), options=answer)
        self.passed(raw, Hook.FORWARD)
        if guess:
            self.take(guess, Hook.PREROUTING)
        self.from_client("A")
        self.acks(0)
        self.connect_mirror()
        self.mirrored()
        return self

    def says(
        self, at: int, data: bytes, letters: str = "PA", *, ack: int = 0, options: bytes = b"", ttl: int = 64
    ) -> None:
        numbers = seq.add(ISS, 1 + at), seq.add(IRS, 1 + ack)
        raw = bytearray(packet(CLIENT, SERVICE, letters, *numbers, data, options=options))
        raw[8] = ttl
        self.take(bytes(raw), Hook.PREROUTING)
        self.answer()

    def acks(self, ack: int, *, at: int = 0, data: bytes = b"", letters: str = "A", options: bytes = b"") -> None:
        """Send a segment of the backend, which acknowledges ``ack`` bytes."""
        assert self.backend is not None
        numbers = seq.add(IRS, 1 + at), seq.add(ISS, 1 + ack)
        self.take(packet(self.backend, CLIENT, letters, *numbers, data, options=options), Hook.FORWARD)
        self.answer()

    def answer(self) -> None:
        """Let the mirror take what has come, and acknowledge it."""
        fresh = b""
        for letters, at, _, data in self.mirrored():
            begin = seq.diff(at, seq.add(ISS, 1)) - len(self.got)
            if "R" not in letters and begin <= 0:
                self.got += data[-begin:]
                fresh += data[-begin:]
        if fresh:
            self.from_mirror("A", 1, 1 + len(self.got))

    @property
    def ended(self) -> list[EndReason]:
        return [event.reason for event in self.engine.take_events()]

    @property
    def ledger(self) -> dict[str, object]:
        snapshot = self.engine.snapshot(self.now)
        assert_adds_up(snapshot)
        [mirror] = snapshot["mirrors"]
        return dict(mirror)
