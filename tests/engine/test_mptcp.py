"""Multipath TCP (RFC 8684): stripped from handshakes where the pool says so, and never copied otherwise."""

from typing import Any

import pytest

from natmirror.actions import Accept, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_MPTCP, OPT_MSS, OPT_NOP, OPT_WINDOW_SCALE, Segment
from natmirror.reasons import EndReason
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.openflow_sessions import OF, Master, began, hello, packet_in
from tests.helpers.support import C1, CLIENT, RULES, SERVICE, assert_adds_up, at, packet, segment

PASS = RULES.replace("pool:", "pool:\n      mptcp: pass")
UNPOOLED = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    mirrors: [{name: master, address: 10.20.0.13}]
"""
PLAIN = RULES.split("    mirrors:", maxsplit=1)[0]
FIRST, FIRST_REPLY = seq.add(ISS, 1), seq.add(IRS, 1)

MSS = bytes((OPT_MSS, 4, 5, 180))
WINDOW_SCALE = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 7))
CAPABLE = bytes((OPT_MPTCP, 4, 0x01, 0x01))
CAPABLE_ANSWER = bytes((OPT_MPTCP, 12, 0x01, 0x01)) + bytes(range(8))
JOIN = bytes((OPT_MPTCP, 12, 0x10, 1)) + bytes(range(8))
DATA_SEQUENCE = bytes((OPT_MPTCP, 20, 0x20, 0x05)) + bytes(16)
TIMESTAMPS = bytes((OPT_NOP, OPT_NOP, 8, 10)) + bytes(8)
ODD = bytes((OPT_NOP,)) + CAPABLE + bytes((OPT_NOP,) * 3)
"""The option begins at an odd offset, so that it shares words of the checksum with others."""


def nops(options: bytes) -> bytes:
    """Return options with NOPs in the place of MP_CAPABLE."""
    return options.replace(CAPABLE_ANSWER, bytes((OPT_NOP,) * 12)).replace(CAPABLE, bytes((OPT_NOP,) * 4))


class Connection(ClientConnection):
    """A client's connection whose handshake has options."""

    def syn_with(self, options: bytes, *, iss: int = ISS, data: bytes = b"", **checksum: Checksum) -> Segment:
        raw = packet(self.client, SERVICE, "S", iss, 0, data, options=options)
        out = self.passed(raw, Hook.PREROUTING, **checksum)
        self.backend = (out.dst, out.dport)
        return out

    def syn_ack_with(self, options: bytes, *, iss: int = ISS, **checksum: Checksum) -> Segment:
        assert self.backend is not None
        return self.passed(self._from_backend("SA", IRS, seq.add(iss, 1), options=options), Hook.FORWARD, **checksum)

    def connect_with(self, syn: bytes, syn_ack: bytes) -> None:
        self.syn_with(syn)
        self.syn_ack_with(syn_ack)
        self.from_client("A")

    def client_data(self, data: bytes, options: bytes = b"", *, number: int | None = None, ack: int = 0) -> Segment:
        number = seq.add(self.iss, 1 + self.sent) if number is None else number
        ack = ack or seq.add(IRS, 1 + self.answered)
        out = self.passed(packet(self.client, SERVICE, "PA", number, ack, data, options=options), Hook.PREROUTING)
        self.sent += len(data)
        return out

    def backend_data(self, data: bytes, options: bytes = b"") -> Segment:
        raw = self._from_backend("PA", seq.add(IRS, 1 + self.answered), seq.add(self.iss, 1 + self.sent), data, options)
        self.answered += len(data)
        return self.passed(raw, Hook.FORWARD)

    def _from_backend(self, letters: str, number: int, ack: int, data: bytes = b"", options: bytes = b"") -> bytes:
        assert self.backend is not None
        return packet(self.backend, self.client, letters, number, ack, data, options=options)

    def copied(self) -> bytes:
        """Return the data that mirrors got since the last call."""
        return b"".join(data for _, _, _, data in self.mirrored())


def made(rules: str, *, fast: bool, client: Endpoint = CLIENT) -> Connection:
    return Connection(engine(rules, fast=fast), client=client)


def lost(connection: ClientConnection) -> dict[EndReason, int]:
    """Return the bytes that the ledger counts as lost; it has to add up."""
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    return snapshot["mirrors"][0]["lost_bytes"]


def options_of(one: Segment) -> bytes:
    return one.raw[one.ip_len + 20 : one.data_at]


# Stripped


@pytest.mark.parametrize("rules", [RULES, PLAIN], ids=["mirrored", "plain"])
@pytest.mark.parametrize("checksum", Checksum)
@pytest.mark.parametrize(
    "options",
    [CAPABLE, MSS + CAPABLE + WINDOW_SCALE, ODD, CAPABLE + MSS + CAPABLE],
    ids=["alone", "more", "odd", "two"],
)
def test_both_ends_use_plain_tcp(fast: bool, rules: str, checksum: Checksum, options: bytes) -> None:
    connection = made(rules, fast=fast)
    out = connection.syn_with(options, checksum=checksum)
    assert options_of(out) == nops(options)
    answer = connection.syn_ack_with(options.replace(CAPABLE, CAPABLE_ANSWER, 1), checksum=checksum)
    assert options_of(answer) == nops(options.replace(CAPABLE, CAPABLE_ANSWER, 1))
    for one in (out, answer):
        assert segment(one.raw).checksum_ok()
    if fast and rules == PLAIN:
        assert connection.engine.snapshot(connection.now)["packets_decided_in_python"] == {}


def test_a_wrong_checksum_stays_wrong(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    raw = bytearray(packet(CLIENT, SERVICE, "S", ISS, options=CAPABLE))
    raw[37] ^= 1
    out = connection.passed(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    assert options_of(out) == nops(CAPABLE)
    assert not segment(out.raw).checksum_ok()


def test_the_kernel_does_not_translate_a_syn_that_is_stripped() -> None:
    connection = made(RULES, fast=True)
    connection.engine.set_marks({(SERVICE, backend): 7 for backend in (C1, at("10.20.0.12", 6653))})
    gear = connection.engine.gear
    for options, mark in ((MSS, 7), (CAPABLE, 0)):
        connection.syn_with(options)
        assert gear.translation.mark == mark


def test_a_stripped_connection_is_copied(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.connect_with(CAPABLE, MSS)
    connection.connect_mirror()
    connection.client_data(b"hello", TIMESTAMPS)
    assert connection.copied() == b"hello"
    assert lost(connection) == {}


@pytest.mark.parametrize(
    "options", [JOIN, bytes((OPT_MPTCP, 3, 0xF0, OPT_NOP)), bytes((OPT_NOP, OPT_NOP, OPT_MPTCP, 2))]
)
def test_other_options_pass_in_a_syn_and_the_flow_is_not_copied(fast: bool, options: bytes) -> None:
    connection = made(RULES, fast=fast)
    assert options_of(connection.syn_with(CAPABLE + options)) == nops(CAPABLE) + options
    connection.syn_ack_with(MSS)
    connection.from_client("A")
    connection.client_data(b"hello")
    assert connection.to_mirror == []
    assert lost(connection) == {"mptcp": 5}


def test_each_syn_of_a_connection_is_stripped(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.syn_with(CAPABLE)
    assert options_of(connection.syn_with(CAPABLE)) == nops(CAPABLE)  # repeated
    connection.syn_ack_with(CAPABLE_ANSWER)
    assert options_of(connection.syn_ack_with(CAPABLE_ANSWER)) == nops(CAPABLE_ANSWER)
    connection.from_client("A")
    renewed = seq.add(ISS, 70_000)
    assert options_of(connection.syn_with(CAPABLE, iss=renewed)) == nops(CAPABLE)  # inside the established connection
    assert options_of(connection.syn_ack_with(CAPABLE_ANSWER, iss=renewed)) == nops(CAPABLE_ANSWER)


def test_a_syn_with_data_is_stripped(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    out = connection.syn_with(CAPABLE, data=bytes(1200))
    assert (options_of(out), out.payload) == (nops(CAPABLE), bytes(1200))


def test_an_unanswered_syn_goes_stripped_to_the_next_backend(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    first = connection.syn_with(CAPABLE)
    connection.now += 1
    second = connection.syn_with(CAPABLE)
    assert first.dst != second.dst
    assert options_of(second) == nops(CAPABLE)


def test_a_syn_without_a_flow_is_stripped_and_so_is_its_answer(fast: bool) -> None:
    one = engine(PLAIN, fast=fast, max_flows=4)
    connections = [Connection(one, client=at("10.10.0.11", 40_000 + number)) for number in range(8)]
    for connection in connections:
        assert options_of(connection.syn_with(CAPABLE)) == nops(CAPABLE)
    for connection in connections:
        assert options_of(connection.syn_ack_with(CAPABLE_ANSWER)) == nops(CAPABLE_ANSWER)
    assert one.snapshot(1000.0)["counters"][EngineCounter.PACKETS_WITHOUT_FLOW]


@pytest.mark.parametrize("rules", [PASS, UNPOOLED], ids=["pass", "no pool"])
def test_where_the_rules_say_so_nothing_is_stripped(fast: bool, rules: str) -> None:
    connection = made(rules, fast=fast)
    assert options_of(connection.syn_with(CAPABLE)) == CAPABLE
    assert options_of(connection.syn_ack_with(CAPABLE_ANSWER)) == CAPABLE_ANSWER


def test_a_direct_connection_is_not_stripped(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.backend = C1
    assert options_of(connection.syn_ack_with(CAPABLE_ANSWER)) == CAPABLE_ANSWER


def test_a_reload_applies_to_new_connections(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.syn_with(CAPABLE)
    connection.engine.reload(parse_rules(PASS))
    assert options_of(connection.syn_ack_with(CAPABLE_ANSWER)) == nops(CAPABLE_ANSWER)
    later = Connection(connection.engine, client=at("10.10.0.11", 40_002))
    assert options_of(later.syn_with(CAPABLE)) == CAPABLE


# Not copied


@pytest.mark.parametrize("rules", [PASS, UNPOOLED], ids=["pass", "no pool"])
def test_a_connection_that_both_ends_make_mptcp_is_not_copied(fast: bool, rules: str) -> None:
    connection = made(rules, fast=fast)
    connection.connect_with(CAPABLE, CAPABLE_ANSWER)
    connection.client_data(b"hello", DATA_SEQUENCE)
    connection.client_data(b"hello")
    assert connection.to_mirror == []
    assert lost(connection) == {"mptcp": 10}


@pytest.mark.parametrize("rules", [PASS, UNPOOLED], ids=["pass", "no pool"])
def test_an_offer_that_the_backend_ignores_makes_plain_tcp(fast: bool, rules: str) -> None:
    connection = made(rules, fast=fast)
    connection.connect_with(CAPABLE, MSS)
    connection.connect_mirror()
    connection.client_data(b"hello")
    assert connection.copied() == b"hello"
    assert lost(connection) == {}


def test_two_halves_of_one_stream_are_not_copied(fast: bool) -> None:
    """One MPTCP connection over two flows: neither is the client's stream."""
    one = engine(PASS, fast=fast)
    flows = [Connection(one, client=at("10.10.0.11", port)) for port in (40_001, 40_002)]
    for flow, option in zip(flows, (CAPABLE, JOIN), strict=True):
        flow.connect_with(option, CAPABLE_ANSWER if option is CAPABLE else JOIN)
    for number, part in enumerate((b"th", b"e ", b"st", b"re", b"am")):
        flows[number % 2].client_data(part, DATA_SEQUENCE)
    assert [flow.to_mirror for flow in flows] == [[], []]
    assert lost(flows[0]) == {"mptcp": 10}


@pytest.mark.parametrize("rules", [RULES, PASS, UNPOOLED], ids=["strip", "pass", "no pool"])
@pytest.mark.parametrize("is_client", [True, False], ids=["client", "backend"])
def test_data_with_an_option_ends_the_copy(fast: bool, rules: str, is_client: bool) -> None:
    connection = made(rules, fast=fast)
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.client_data(b"plain")
    assert connection.copied() == b"plain"
    connection.from_mirror("A", 1, 6)
    out = (connection.client_data if is_client else connection.backend_data)(b"odd", DATA_SEQUENCE)
    assert options_of(out) == DATA_SEQUENCE
    connection.client_data(b"more")
    letters = [letters for letters, _, _, data in connection.mirrored() if not data]
    assert letters == ["RA"]
    assert lost(connection) == {"mptcp": connection.sent - 5}
    assert connection.engine.take_events()[0].reason == "mptcp"


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "backend"])
def test_bytes_that_wait_for_their_acknowledgement_are_lost_too(fast: bool, is_client: bool) -> None:
    connection = Connection(engine(RULES, fast=fast, release=Release.ACKNOWLEDGED))
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.client_data(b"waits")
    (connection.client_data if is_client else connection.backend_data)(b"odd", DATA_SEQUENCE)
    connection.from_backend("A")
    assert connection.copied() == b""
    assert lost(connection) == {"mptcp": connection.sent}
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] == 0


def test_the_clients_first_data_may_complete_the_handshake(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.syn_with(MSS)
    connection.syn_ack_with(MSS)
    connection.client_data(b"hello", DATA_SEQUENCE)
    assert connection.to_mirror == []
    assert lost(connection) == {"mptcp": 5}


@pytest.mark.parametrize("injected", ["not sent yet", "before the window", "beyond the window", "bad sum"])
def test_data_that_its_receiver_refuses_ends_no_copy(fast: bool, injected: str) -> None:
    connection = made(RULES, fast=fast)
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.client_data(bytes(100))
    connection.from_backend("A")
    here = seq.add(FIRST, 100)
    number = {"before the window": FIRST, "beyond the window": seq.add(here, 1 << 20)}.get(injected, here)
    ack = seq.add(FIRST_REPLY, 1 << 17) if injected == "not sent yet" else FIRST_REPLY
    raw = bytearray(packet(CLIENT, SERVICE, "PA", number, ack, b"lie", options=DATA_SEQUENCE))
    raw[-1] ^= injected == "bad sum"
    connection.passed(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    connection.mirrored()
    connection.client_data(b"truth")
    assert connection.copied() == b"truth"
    assert lost(connection) == {}


def test_bare_acknowledgements_end_no_copy(fast: bool) -> None:
    connection = made(RULES, fast=fast)
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.passed(packet(CLIENT, SERVICE, "A", FIRST, FIRST_REPLY, options=DATA_SEQUENCE), Hook.PREROUTING)
    connection.client_data(b"hello")
    assert connection.copied() == b"hello"


def test_c_leaves_data_with_an_option_to_python() -> None:
    connection = made(RULES, fast=True)
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.client_data(b"hello", TIMESTAMPS)
    connection.client_data(b"hello", bytes((OPT_NOP,) * 4) + TIMESTAMPS)
    connection.client_data(b"hello", DATA_SEQUENCE)
    connection.client_data(b"hello", DATA_SEQUENCE)  # nothing is copied any more
    assert connection.engine.snapshot(connection.now)["packets_decided_in_python"][PuntReason.MPTCP] == 1


def test_old_data_with_an_option_needs_no_python() -> None:
    connection = made(RULES, fast=True)
    connection.connect_with(MSS, MSS)
    connection.connect_mirror()
    connection.client_data(b"hello")
    connection.from_backend("A")
    raw = packet(CLIENT, SERVICE, "PA", FIRST, FIRST_REPLY, b"hello", options=DATA_SEQUENCE)
    for _ in range(3):
        connection.passed(raw, Hook.PREROUTING)
    connection.client_data(b" world")
    assert connection.copied() == b"hello world"
    assert connection.engine.snapshot(connection.now)["packets_decided_in_python"].get(PuntReason.MPTCP, 0) == 0


# Sessions


def session_reasons(connection: ClientConnection) -> list[Any]:
    return [leg["reason"] for leg in connection.engine.flows(connection.now)[0]["legs"]]


def test_no_session_begins_on_an_mptcp_connection(fast: bool) -> None:
    connection = made(OF.replace("pool:", "pool:\n      mptcp: pass"), fast=fast)
    connection.connect_with(CAPABLE, CAPABLE_ANSWER)
    connection.client_data(hello(), DATA_SEQUENCE)
    connection.backend_data(hello(), DATA_SEQUENCE)
    assert connection.to_mirror == []
    assert session_reasons(connection) == ["mptcp"]
    sessions = connection.engine.snapshot(connection.now)["mirrors"][0]["sessions"]
    assert sessions is not None
    assert sessions["not_opened"] == {"mptcp": 1}


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "backend"])
def test_data_with_an_option_ends_a_session(fast: bool, is_client: bool) -> None:
    connection, master = began(engine(OF, fast=fast))
    source, hook = (CLIENT, Hook.PREROUTING) if is_client else (connection.backend, Hook.FORWARD)
    assert source is not None
    numbers = [seq.add(ISS, 1 + connection.sent), seq.add(IRS, 1 + connection.answered)]
    number, ack = numbers if is_client else numbers[::-1]
    destination = SERVICE if is_client else CLIENT
    raw = packet(source, destination, "PA", number, ack, packet_in(1), options=DATA_SEQUENCE)
    assert isinstance(connection.take(raw, hook), Accept)
    master.take()
    assert master.ended == "RA"
    assert session_reasons(connection) == ["mptcp"]


def test_a_picked_up_connection_gets_no_session(fast: bool) -> None:
    rules = OF.replace("protocol: openflow", "protocol: openflow, reconnect: next-message")
    connection = ClientConnection(engine(rules, fast=fast))
    said = packet_in(1)
    for number in (5, 5 + len(said)):
        raw = packet(CLIENT, SERVICE, "PA", number, 9, said, options=DATA_SEQUENCE)
        out = connection.passed(raw, Hook.PREROUTING)
        connection.passed(
            packet((out.dst, out.dport), CLIENT, "PA", 9, number + len(said), options=DATA_SEQUENCE), Hook.FORWARD
        )
    assert connection.to_mirror == []
    assert session_reasons(connection) == ["mptcp"]


def test_masters_keep_their_session_on_plain_tcp(fast: bool) -> None:
    connection = made(OF, fast=fast)
    connection.connect_with(CAPABLE, MSS)
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    master = Master(connection)
    master.take()
    assert master.iss is not None
