"""The peers of one host: what they know, and what well-behaved ones do."""

from collections import defaultdict, deque
from dataclasses import dataclass
from random import Random

from natmirror.actions import Accept, Hook
from natmirror.net import seq
from natmirror.net.build import build_reset
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import RST, SYN, Segment
from natmirror.openflow.messages import V10, Type, build, hello
from natmirror.rules import Rules
from tests.helpers.hostile.host import Host
from tests.helpers.hostile.payloads import Payloads
from tests.helpers.hostile.setting import MIRRORS, SERVICES, is_openflow
from tests.helpers.openflow import ALL, features, port
from tests.helpers.support import at, packet, segment

_MAX_REMEMBERED = 50
_CLIENT_ADDRESSES = ("10.10.0.11", "10.10.0.12", "10.10.0.250")


@dataclass(slots=True)
class Connection:
    """A connection as its two ends see it."""

    client: Endpoint
    service: Endpoint
    backend: Endpoint
    client_next: int
    """The client's next sequence number."""
    backend_next: int
    version: int | None
    """The version of OpenFlow that both ends speak, or None."""
    is_one_way: bool = False
    """Whether the backend's packets take another way than over this host."""


@dataclass(slots=True)
class MirrorEnd:
    """A mirror's end of a leg."""

    next: int
    """Its next sequence number."""
    expected: int
    """The next number that it expects from the leg."""
    version: int | None = None
    """The version of OpenFlow in which the leg has begun to speak; None until then."""


class Peers:
    """Clients, backends and mirrors around one host. ``random`` decides everything."""

    def __init__(
        self,
        random: Random,
        rules: Rules,
        *,
        memory: int,
        max_clients: int,
        limits_turns: bool = False,
        has_bodies: bool = False,
    ) -> None:
        self.random = random
        self.payloads = Payloads(random, has_bodies=has_bodies)
        self.host = Host(rules, memory=memory, on_send=self._learn_send, limits_turns=limits_turns)
        self.clients = [at(random.choice(_CLIENT_ADDRESSES), 40_000 + number) for number in range(max_clients)]
        self.connections: dict[tuple[Endpoint, Endpoint], Connection] = {}
        self.sent_by_legs: deque[Segment] = deque(maxlen=_MAX_REMEMBERED)
        self._unanswered: deque[Segment] = deque(maxlen=_MAX_REMEMBERED)
        self._answered_part = random.choice((0.0, 0.5, 0.9, 0.99))
        self._mirror_ends: dict[tuple[Endpoint, Endpoint], MirrorEnd] = {}  # by mirror and leg
        self._numbers: defaultdict[tuple[bytes, int], deque[int]] = defaultdict(
            lambda: deque([random.getrandbits(32)], maxlen=8)
        )

    # What hostile peers know

    def number_of(self, sender: Endpoint, client_port: int) -> int:
        """Return a sequence number of a host in the connections of a client's port: one that was seen, one near it, or
        any."""
        draw = self.random
        number, chance = draw.choice(self._numbers[sender[0], client_port]), draw.random()
        if chance < 0.6:
            return number
        if chance < 0.8:
            return seq.add(number, draw.choice((1, -1, 2, 10, 100, 1460, 65_535, 1 << 16)))
        if chance < 0.95:
            return seq.add(number, draw.randrange(-70_000, 70_000))
        return draw.getrandbits(32)

    def pass_packet(self, raw: bytes, hook: Hook) -> bytes | None:
        """Let a packet pass the host; return it as it leaves, or None if it was dropped."""
        self._learn(segment(raw))
        verdict = self.host.receive(raw, hook)
        if not isinstance(verdict, Accept):
            return None
        return raw if verdict.packet is None else verdict.packet

    def _learn(self, one: Segment) -> None:
        client_port = one.dport if one.dport > 30_000 else one.sport
        self._numbers[one.src, client_port] += (one.seq, seq.add(one.seq, one.seq_len))
        self._numbers[one.dst, client_port].append(one.ack)

    def _learn_send(self, one: Segment) -> None:
        self._learn(one)
        if (one.dst, one.dport) in MIRRORS:
            self.sent_by_legs.append(one)
            if self.random.random() < self._answered_part:
                self._unanswered.append(one)

    # What well-behaved peers do

    def connect(self) -> None:
        """Open a connection of a client with a service, with the messages that an OpenFlow connection begins with. A
        backend may refuse it, or not answer."""
        draw = self.random
        client, service = draw.choice(self.clients), draw.choice(SERVICES)
        iss, irs = draw.getrandbits(32), draw.getrandbits(32)
        early = draw.choice((b"", b"", b"", b"early"))
        options = self.payloads.syn_options()
        options = options if len(options) % 4 == 0 else b""
        sent = self.pass_packet(packet(client, service, "S", iss, 0, early, options=options), Hook.PREROUTING)
        there = segment(sent) if sent is not None else None
        backend = service if there is None else (there.dst, there.dport)
        one = Connection(client, service, backend, seq.add(iss, 1), seq.add(irs, 1), None)
        one.is_one_way = backend == service and draw.random() < 0.1
        if draw.random() < 0.1:
            self._connect_again(one, iss)
        if draw.random() < 0.1:
            if draw.random() < 0.5:
                self.pass_packet(packet(backend, client, "RA", 0, seq.add(iss, 1)), Hook.FORWARD)
            return
        taken = draw.choice((0, len(early)))
        answer = packet(backend, client, "SA", irs, seq.add(iss, 1 + taken), options=options)
        if not one.is_one_way:
            self.pass_packet(answer, Hook.FORWARD)
        if draw.random() < 0.05:
            self._connect_again(one, iss)
        one.client_next = seq.add(one.client_next, taken)
        self.connections[client, service] = one
        self.from_client(one)
        if is_openflow(service) and draw.random() < 0.9:
            self._introduce(one)

    def _connect_again(self, one: Connection, iss: int) -> None:
        """Send another SYN for the connection, from the client or in its name: it differs in its number, options or
        data. A backend may answer it, too."""
        draw = self.random
        iss = draw.choice((iss, iss, seq.add(iss, draw.choice((1, -1, 5, 70_000))), draw.getrandbits(32)))
        options = self.payloads.syn_options()
        options = options if len(options) % 4 == 0 else b""
        early = draw.choice((b"", b"", b"other"))
        syn = packet(one.client, one.service, "S", iss, 0, early, window=self.payloads.window(), options=options)
        self.pass_packet(syn, Hook.PREROUTING)
        if draw.random() < 0.3 and not one.is_one_way:
            irs, ack = draw.getrandbits(32), seq.add(iss, 1 + draw.choice((0, len(early))))
            self.pass_packet(packet(one.backend, one.client, "SA", irs, ack, options=options), Hook.FORWARD)

    def _introduce(self, one: Connection) -> None:
        version = one.version = self.random.choice(ALL)
        ports = port(V10, 1) if version == V10 else b""
        answer = features(version, 2, datapath_id=self.random.choice((1, 2)), ports=ports)
        self.from_client(one, hello(version, 1))
        self.from_backend(one, hello(version, 1))
        self.from_backend(one, build(version, Type.FEATURES_REQUEST, 2))
        self.from_client(one, answer)

    def from_client(self, one: Connection, data: bytes = b"", letters: str = "PA", *, ahead: int = 0) -> None:
        """Send the client's next segment, or one that begins ``ahead`` bytes later or earlier."""
        raw = packet(one.client, one.service, letters, seq.add(one.client_next, ahead), one.backend_next, data)
        self.pass_packet(raw, Hook.PREROUTING)
        if not ahead:
            one.client_next = seq.add(one.client_next, len(data) + letters.count("F"))

    def from_backend(self, one: Connection, data: bytes = b"", letters: str = "PA") -> None:
        """Send the backend's next segment, which acknowledges all that the client has sent."""
        window = self.payloads.window() if self.random.random() < 0.1 else 0xFFFF
        raw = packet(one.backend, one.client, letters, one.backend_next, one.client_next, data, window=window)
        if not one.is_one_way:
            self.pass_packet(raw, Hook.FORWARD)
        one.backend_next = seq.add(one.backend_next, len(data) + letters.count("F"))

    def answer_legs(self) -> None:
        """Send what mirrors answer to the legs' packets, good mirrors mostly."""
        while self._unanswered:
            one = self._unanswered.popleft()
            ends = (one.dst, one.dport), (one.src, one.sport)
            end = self._mirror_ends.get(ends)
            if one.flags & RST:
                self._mirror_ends.pop(ends, None)
            elif one.flags & SYN:
                self._accept(one)
            elif end is not None and (one.seq_len or one.seq != end.expected):
                self._acknowledge(one, end)

    def _accept(self, syn: Segment) -> None:
        draw, ends = self.random, ((syn.dst, syn.dport), (syn.src, syn.sport))
        if draw.random() < 0.1:
            self.host.receive(build_reset(syn), Hook.PREROUTING)
            return
        iss = draw.getrandbits(32)
        options = self.payloads.syn_options()
        options = options if len(options) % 4 == 0 else b""
        self._mirror_ends[ends] = MirrorEnd(seq.add(iss, 1), seq.add(syn.seq, 1))
        self.pass_packet(packet(*ends, "SA", iss, seq.add(syn.seq, 1), options=options), Hook.PREROUTING)

    def _acknowledge(self, one: Segment, end: MirrorEnd) -> None:
        draw, ends = self.random, ((one.dst, one.dport), (one.src, one.sport))
        end.expected = seq.latest(end.expected, seq.add(one.seq, one.seq_len))
        data = b""
        if end.version is None and one.payload[:1] in [bytes((version,)) for version in ALL]:
            end.version = one.payload[0]
            data = hello(end.version, 1) + build(end.version, Type.FEATURES_REQUEST, 1)
        elif draw.random() < 0.3:
            data = self.payloads.data(version=end.version)
        letters = draw.choice(("FA", "RA")) if draw.random() < 0.03 else "A"
        window = draw.choice((0, 500, *(65_535,) * 8))
        self.pass_packet(packet(*ends, letters, end.next, end.expected, data, window=window), Hook.PREROUTING)
        end.next = seq.add(end.next, len(data) + letters.count("F"))
