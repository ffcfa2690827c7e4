"""A production connection played through an engine by hand, with a manual clock."""

from dataclasses import replace

from natmirror.actions import Accept, Drop, Hook, Verdict
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_MSS, Segment
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from natmirror.rules.shards import ALL, Shard
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, packet, segment, told

ISS = 0xFFFF_FF00
IRS = 0x0FFF_FFF0
MIRROR_ISS = 0x7FFF_FFF0
KEY = bytes(range(16))


def engine(rules: str = RULES, *, fast: bool = True, max_flows: int = 100_000, shard: Shard = ALL) -> RelativeEngine:
    """An engine by rules given as text, which shows its legs in the client's numbers."""
    return RelativeEngine(replace(parse_rules(rules), max_flows=max_flows), key=KEY, fast=fast, shard=shard)


class Session:
    """One client connection through ``engine``: what each end sends goes in, what comes out is kept."""

    def __init__(
        self, engine: Engine, *, client: Endpoint = CLIENT, service: Endpoint = SERVICE, iss: int = ISS
    ) -> None:
        self.engine = engine
        self.iss = iss
        self.client = client
        self.service = service
        self.backend: Endpoint | None = None
        self.now = 1000.0
        self.sent = 0
        self.answered = 0
        self.to_mirror: list[Segment] = []

    @property
    def backend_address(self) -> bytes:
        """Where the connection was sent."""
        assert self.backend is not None
        return self.backend[0]

    def take(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> Verdict:
        """One packet into the engine; its verdict, with what is sent to mirrors kept in ``to_mirror``."""
        decision = self.engine.receive(raw, hook, self.now, checksum)
        for send in decision.sends:
            self.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
        return decision.verdict

    def passed(self, raw: bytes, hook: Hook, checksum: Checksum = Checksum.VALID) -> Segment:
        """The same, where the packet has to pass rewritten."""
        verdict = self.take(raw, hook, checksum)
        assert isinstance(verdict, Accept), verdict
        return segment(raw if verdict.packet is None else verdict.packet)

    def from_client(self, letters: str, data: bytes = b"", *, at: int | None = None) -> Segment:
        """The client sends; the numbers follow from what went before, or ``at`` bytes into its stream."""
        number = seq.add(self.iss, 1 + (self.sent if at is None else at))
        raw = packet(self.client, self.service, letters, number, seq.add(IRS, 1 + self.answered), data)
        if at is None:
            self.sent += len(data) + letters.count("F")
        return self.passed(raw, Hook.PREROUTING)

    def from_backend(self, letters: str, data: bytes = b"") -> Segment:
        """The backend sends, acknowledging all that the client has sent."""
        assert self.backend is not None
        number, ack = seq.add(IRS, 1 + self.answered), seq.add(self.iss, 1 + self.sent)
        self.answered += len(data) + letters.count("F")
        return self.passed(packet(self.backend, self.client, letters, number, ack, data), Hook.FORWARD)

    def syn(self) -> Segment:
        """The client's SYN; the backend that it reaches is kept."""
        out = self.passed(packet(self.client, self.service, "S", self.iss), Hook.PREROUTING)
        self.backend = (out.dst, out.dport)
        return out

    def syn_ack(self) -> Segment:
        """The backend's SYN-ACK."""
        assert self.backend is not None
        return self.passed(packet(self.backend, self.client, "SA", IRS, seq.add(self.iss, 1)), Hook.FORWARD)

    def connect(self) -> None:
        """The whole handshake."""
        self.syn()
        self.syn_ack()
        self.from_client("A")

    def from_mirror(self, letters: str, at: int, ack: int, data: bytes = b"") -> Verdict:
        """The mirror sends: ``at`` and ``ack`` count from its and the client's initial number."""
        raw = packet(MASTER, self.client, letters, seq.add(MIRROR_ISS, at), seq.add(self.iss, ack), data)
        return self.take(raw, Hook.PREROUTING)

    def connect_mirror(self) -> None:
        """The mirror answers the leg's SYN."""
        raw = packet(MASTER, self.client, "SA", MIRROR_ISS, seq.add(self.iss, 1), options=bytes((OPT_MSS, 4, 5, 180)))
        assert self.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)

    def mirrored(self) -> list[tuple[str, int, int, bytes]]:
        """What was sent to the mirror since the last call, in short."""
        out = [told(one.raw) for one in self.to_mirror]
        self.to_mirror.clear()
        return out
