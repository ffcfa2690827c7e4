"""The passive tracker: the numbers of both ends, and implausible packets."""

from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.fastpath.flow_flags import LOOSE, SERVICE_MIRRORED
from natmirror.fastpath.flow_states import Event, State
from natmirror.net import seq
from natmirror.net.packet import OPT_MSS, OPT_NOP, OPT_WINDOW_SCALE
from natmirror.tcp import tracker
from natmirror.tcp.acceptance import is_taken
from tests.helpers.support import C1, CLIENT, SERVICE, TIMEOUTS, packet, segment, track

ISS, IRS = 0xFFFF_FFF0, 0x7FFF_FFF0
SCALE_7 = bytes((OPT_MSS, 4, 5, 180, OPT_NOP, OPT_WINDOW_SCALE, 3, 7))


def blank() -> Any:
    def half() -> SimpleNamespace:
        return SimpleNamespace(
            bytes=0, packets=0, end=0, ack=0, edge=0, max_window=0, stamp=0, echo=0, scale=0, flags=0
        )

    return SimpleNamespace(orig=half(), reply=half(), state=0, flags=0)


class Connection:
    """A tracked connection; ``sent`` and ``answered`` count the bytes of client and backend."""

    def __init__(self, *, client_options: bytes = SCALE_7, backend_options: bytes = SCALE_7) -> None:
        self.row = blank()
        tracker.begin(self.row, segment(packet(CLIENT, SERVICE, "S", ISS, options=client_options)), data_len=0)
        self._backend_options = backend_options

    def client(self, letters: str, at: int, ack: int, data: bytes = b"", *, window: int = 100) -> Event | None:
        raw = packet(CLIENT, SERVICE, letters, seq.add(ISS, 1 + at), seq.add(IRS, 1 + ack), data, window=window)
        return track(self.row, segment(raw), from_client=True)

    def backend(self, letters: str, at: int, ack: int, data: bytes = b"", *, window: int = 100) -> Event | None:
        options = self._backend_options if "S" in letters else b""
        raw = packet(
            C1, CLIENT, letters, seq.add(IRS, 1 + at), seq.add(ISS, 1 + ack), data, window=window, options=options
        )
        return track(self.row, segment(raw), from_client=False)

    def connect(self) -> "Connection":
        assert self.backend("SA", -1, 0) is Event.SYN_ACK
        assert self.client("A", 0, 0) is Event.HANDSHAKE
        return self

    def state(self) -> State:
        return State(self.row.state)


def test_handshake_data_and_close() -> None:
    connection = Connection().connect()
    assert connection.state() is State.ESTABLISHED
    assert connection.client("PA", 0, 0, b"x" * 50) is None
    assert connection.backend("PA", 0, 50, b"y" * 20) is None
    assert (connection.row.orig.bytes, connection.row.reply.bytes) == (50, 20)
    assert connection.client("FA", 50, 20) is Event.FIN
    assert connection.backend("FA", 20, 51) is Event.BOTH_FINS
    assert connection.client("A", 51, 21) is Event.LAST_ACK
    assert connection.state() is State.TIME_WAIT
    assert (connection.row.orig.bytes, connection.row.reply.bytes) == (50, 20), "a FIN is no byte"


def test_a_fin_that_an_acknowledgement_overtakes_is_no_byte() -> None:
    connection = Connection().connect()
    connection.client("PA", 0, 0, b"x" * 50)
    connection.client("A", 51, 0)
    connection.client("FA", 50, 0)
    connection.client("FA", 50, 0)
    assert connection.row.orig.bytes == 50
    assert connection.state() is State.HALF_CLOSED


def test_a_handshake_that_ends_with_data_and_fin() -> None:
    connection = Connection()
    connection.backend("SA", -1, 0)
    assert connection.client("FA", 0, 0, b"all") is Event.HANDSHAKE
    assert connection.state() is State.HALF_CLOSED


def test_two_fins_that_count_at_once_close_both_halves() -> None:
    connection = Connection()
    connection.backend("SA", -1, 0)
    connection.backend("FA", 0, 0)
    assert connection.client("FA", 0, 1) is Event.HANDSHAKE
    assert connection.state() is State.CLOSING
    assert connection.backend("A", 1, 1) is Event.LAST_ACK


def test_retransmissions_count_once() -> None:
    connection = Connection().connect()
    for _ in range(3):
        connection.client("PA", 0, 0, b"x" * 50)
    assert connection.row.orig.bytes == 50
    assert connection.row.orig.packets == 5


def test_the_window_is_scaled_only_if_both_ends_offer_it() -> None:
    both = Connection().connect()
    both.backend("A", 0, 0, window=100)
    assert seq.diff(both.row.reply.edge, ISS) == 1 + (100 << 7)
    for options in ({"client_options": b""}, {"backend_options": b""}):
        one = Connection(**options).connect()
        one.backend("A", 0, 0, window=200)
        assert seq.diff(one.row.reply.edge, ISS) == 1 + 200


def test_the_window_of_a_syn_ack_is_never_scaled() -> None:
    connection = Connection()
    connection.backend("SA", -1, 0, window=100)
    assert seq.diff(connection.row.reply.edge, ISS) == 101


def test_implausible_numbers_are_ignored() -> None:
    connection = Connection().connect()
    connection.client("PA", 50_000, 0, b"far beyond the window")
    connection.client("A", 0, 50_000)
    connection.backend("A", 0, 50_000)
    assert (connection.row.orig.bytes, connection.row.orig.ack) == (0, seq.add(IRS, 1))
    assert connection.row.reply.ack == seq.add(ISS, 1)


def test_a_refusal_acknowledges_the_syn() -> None:
    connection = Connection()
    assert connection.backend("RA", 0, 5000) is None
    assert connection.backend("RA", 0, 0) is Event.RST
    assert connection.state() is State.RESET


@pytest.mark.parametrize(("at", "taken"), [(50, True), (0, True), (51, False), (49, False), (-10, False)])
def test_a_reset_of_the_client_counts_with_an_exact_number_only(at: int, taken: bool) -> None:
    connection = Connection().connect()
    connection.client("PA", 0, 0, b"x" * 50)  # still unacknowledged
    assert (connection.client("R", at, 0) is Event.RST) == taken


def test_a_syn_ack_for_another_syn_is_ignored() -> None:
    connection = Connection()
    assert connection.backend("SA", -1, -100) is None
    assert connection.state() is State.SYN_SENT


def test_a_blind_acknowledgement_completes_no_handshake() -> None:
    connection = Connection()
    connection.backend("SA", -1, 0)
    assert connection.client("A", 0, 7) is None
    assert connection.state() is State.SYN_RECEIVED


def test_data_in_the_syn_counts_once_the_backend_acknowledges_it() -> None:
    for taken in (0, 5):
        row = blank()
        tracker.begin(row, segment(packet(CLIENT, SERVICE, "S", ISS, data=b"hello")), data_len=5)
        answer = segment(packet(C1, CLIENT, "SA", IRS, seq.add(ISS, 1 + taken)))
        assert track(row, answer, from_client=False) is Event.SYN_ACK
        assert (row.orig.bytes, row.orig.end) == (taken, seq.add(ISS, 1 + taken))


def test_the_first_numbers_of_a_picked_up_connection_are_accepted() -> None:
    row = blank()
    tracker.begin_picked_up(row)
    raw = packet(CLIENT, SERVICE, "PA", 5, 6, b"data")
    assert track(row, segment(raw), from_client=True) is None
    assert (row.state, row.orig.bytes) == (State.ESTABLISHED, 4)


def test_every_state_has_a_timeout() -> None:
    assert set(TIMEOUTS) == set(State)


@pytest.mark.parametrize("behind", [0, 70_000, 1 << 29])
def test_of_another_hosts_connection_earlier_windows_may_have_been_large(behind: int) -> None:
    row = blank()
    row.flags = SERVICE_MIRRORED
    tracker.begin_picked_up(row)
    record: Any = SimpleNamespace(iss=ISS, client_nxt=1000, client_una=1000, backend_nxt=5000, backend_scale=7)
    tracker.begin_adopted(row, record)
    for letters, source, to, number, ack in (("A", CLIENT, SERVICE, 1000, 5000), ("A", C1, CLIENT, 5000, 1000)) * 2:
        track(row, segment(packet(source, to, letters, number, ack, window=0)), from_client=source == CLIENT)
    assert not row.flags & LOOSE
    late = segment(packet(CLIENT, SERVICE, "PA", 1001, 5000 - behind, b"later"))
    assert is_taken(row, late, from_client=True)
