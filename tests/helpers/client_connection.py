"""A client's connection through an engine, step by step, with a manual clock."""

from dataclasses import replace

from natmirror.actions import Accept, Drop, Hook, Verdict
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_MSS, Segment
from natmirror.reasons import DropReason
from natmirror.rules import Release, parse_rules
from natmirror.rules.shards import ALL, Shard
from tests.helpers.judged_engine import JudgedEngine
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, at_once, packet, segment, summary

ISS = 0xFFFF_FF00
IRS = 0x0FFF_FFF0
MIRROR_ISS = 0x7FFF_FFF0
KEY = bytes(range(16))


def engine(
    rules: str = RULES,
    *,
    fast: bool = True,
    max_flows: int = 100_000,
    shard: Shard = ALL,
    release: Release = Release.SEEN,
) -> RelativeEngine:
    """Return an engine with these rules, which shows its legs in the client's numbers."""
    parsed = replace(parse_rules(rules), max_flows=max_flows)
    if release is Release.SEEN:
        parsed = at_once(parsed)
    return RelativeEngine(parsed, key=KEY, fast=fast, shard=shard)


class ClientConnection:
    """One client's connection through ``engine``. It keeps the packets to mirrors in ``to_mirror``."""

    def __init__(
        self, engine: Engine, *, client: Endpoint = CLIENT, service: Endpoint = SERVICE, iss: int = ISS, irs: int = IRS
    ) -> None:
        self.engine = engine
        self.iss, self.irs = iss, irs
        self.client = client
        self.service = service
        self.backend: Endpoint | None = None
        self.now = 1000.0
        self.sent = 0
        self.answered = 0
        self.to_mirror: list[Segment] = []

    @property
    def judged(self) -> JudgedEngine:
        """The engine with its judges."""
        assert isinstance(self.engine, JudgedEngine)
        return self.engine

    @property
    def backend_address(self) -> bytes:
        """The backend's address."""
        assert self.backend is not None
        return self.backend[0]

    def take(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> Verdict:
        """Give the engine a packet; return the verdict, and keep the packets to mirrors."""
        decision = self.engine.receive(raw, hook, self.now, checksum)
        for send in decision.sends:
            self.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
        return decision.verdict

    def passed(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> Segment:
        """Give the engine a packet that has to pass; return it as it leaves."""
        verdict = self.take(raw, hook, checksum)
        assert isinstance(verdict, Accept), verdict
        return segment(raw if verdict.packet is None else verdict.packet)

    def from_client(self, letters: str, data: bytes = b"", *, at: int | None = None) -> Segment:
        """Send a segment of the client, at the end of its stream or ``at`` bytes into it; return it as it leaves."""
        number = seq.add(self.iss, 1 + (self.sent if at is None else at))
        raw = packet(self.client, self.service, letters, number, seq.add(self.irs, 1 + self.answered), data)
        if at is None:
            self.sent += len(data) + letters.count("F")
        return self.passed(raw, Hook.PREROUTING)

    def from_backend(self, letters: str, data: bytes = b"") -> Segment:
        """Send a segment of the backend, which acknowledges all that the client has sent; return it as it leaves."""
        assert self.backend is not None
        number, ack = seq.add(self.irs, 1 + self.answered), seq.add(self.iss, 1 + self.sent)
        self.answered += len(data) + letters.count("F")
        return self.passed(packet(self.backend, self.client, letters, number, ack, data), Hook.FORWARD)

    def syn(self) -> Segment:
        """Send the client's SYN, and note the backend that it goes to; return it as it leaves."""
        out = self.passed(packet(self.client, self.service, "S", self.iss), Hook.PREROUTING)
        self.backend = (out.dst, out.dport)
        return out

    def syn_ack(self) -> Segment:
        """Send the backend's SYN-ACK; return it as it leaves."""
        assert self.backend is not None
        return self.passed(packet(self.backend, self.client, "SA", self.irs, seq.add(self.iss, 1)), Hook.FORWARD)

    def connect(self) -> None:
        """Complete the client's handshake."""
        self.syn()
        self.syn_ack()
        self.from_client("A")

    def from_mirror(self, letters: str, at: int, ack: int, data: bytes = b"") -> Verdict:
        """Send a segment of the mirror; ``at`` and ``ack`` count from its and the client's initial numbers."""
        raw = packet(MASTER, self.client, letters, seq.add(MIRROR_ISS, at), seq.add(self.iss, ack), data)
        return self.take(raw, Hook.PREROUTING)

    def connect_mirror(self) -> None:
        """Send the mirror's SYN-ACK to the leg."""
        raw = packet(MASTER, self.client, "SA", MIRROR_ISS, seq.add(self.iss, 1), options=bytes((OPT_MSS, 4, 5, 180)))
        assert self.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)

    def establish(self) -> None:
        """Complete the handshakes of the client and of its leg."""
        self.connect()
        self.connect_mirror()
        self.mirrored()

    @property
    def states(self) -> list[str]:
        """The states of all flows of the engine."""
        return [str(flow["state"]) for flow in self.engine.flows(self.now)]

    def outlive(self) -> float:
        """Let time pass until the engine has no flow left; return the seconds."""
        begin = self.now
        while self.states:
            due = self.engine.next_timer()
            assert due is not None
            self.now = due
            self.engine.handle_timer(due)
        return self.now - begin

    def mirrored(self) -> list[tuple[str, int, int, bytes]]:
        """Return the packets to mirrors since the last call: flags, sequence number, acknowledgement, data."""
        out = [summary(one.raw) for one in self.to_mirror]
        self.to_mirror.clear()
        return out
