"""A leg's path MTU: which ICMP errors are believed, what they narrow, and for how long."""

import pytest

from natmirror.actions import Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.packet import OPT_MSS
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from tests.helpers.client_connection import ISS, KEY, MIRROR_ISS, ClientConnection
from tests.helpers.support import MASTER, RULES, at, icmp_error, packet, segment

THEIRS = seq.add(MIRROR_ISS, 1)
MSS = bytes((OPT_MSS, 4, 5, 180))
ROUTER = "10.20.0.254"


class Path(ClientConnection):
    """A client whose leg to the mirror is open, with segments of 1,460 bytes at most."""

    def __init__(self, engine: Engine, client: str = "10.10.0.11", port: int = 40001, now: float | None = None) -> None:
        super().__init__(engine, client=at(client, port))
        self.now = self.now if now is None else now
        self.host = client
        self.connect()
        [(_, iss, _, _)] = self.mirrored()
        self.first = seq.add(iss, 1)
        self.acked = 0
        self.answer("SA", MIRROR_ISS, options=MSS)
        self.mirrored()

    def answer(self, letters: str, number: int = THEIRS, *, options: bytes = b"") -> None:
        """Have the mirror acknowledge ``acked`` bytes."""
        raw = packet(
            MASTER, self.client, letters, number, seq.add(self.first, self.acked), window=0xFFFF, options=options
        )
        self.take(raw, Hook.PREROUTING)

    def send(self, size: int = 1400) -> list[int]:
        """Send bytes that the backend acknowledges; return the lengths of the segments to the mirror."""
        self.from_client("PA", b"x" * size)
        self.from_backend("A")
        return self.lengths()

    def lengths(self) -> list[int]:
        return [len(data) for *_, data in self.mirrored() if data]

    def acknowledge(self) -> None:
        self.acked = self.sent
        self.answer("A")
        assert self.lengths() == []

    def report(self, mtu: int = 1000, *, about: int | None = None, to: str | None = None) -> object:
        """Have a router report a narrow path for the first unacknowledged segment; return the verdict."""
        inner = packet(self.client, MASTER, "A", seq.add(self.first, self.acked) if about is None else about)
        hook = Hook.FORWARD if to is None else Hook.PREROUTING
        return self.take(icmp_error(ROUTER, to or self.host, inner, mtu=mtu), hook)

    def time_out(self) -> list[int]:
        """Let the retransmission timer expire; return the lengths of the segments to the mirror."""
        while not (lengths := self._expire()):
            assert self.engine.next_timer() is not None
        return lengths

    def wait(self, seconds: float) -> None:
        """Let time pass in which nothing is sent."""
        until = self.now + seconds
        while (due := self.engine.next_timer()) is not None and due <= until:
            assert self._expire() == []
        self.now = until

    def _expire(self) -> list[int]:
        """Let the next timer expire; return the lengths of the segments to the mirror."""
        due = self.engine.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        sends = [one for one in self.engine.handle_timer(self.now) if isinstance(one, Send)]
        sent = [segment(raw) for one in sends for raw in finish(one.packet, one.segment_len)]
        return [one.payload_len for one in sent if one.payload_len]

    def narrow(self, mtu: int = 1000) -> None:
        """Lose a segment that is too large for a router on the path; the mirror then gets it in pieces."""
        self.send()
        self.report(mtu)
        assert self.time_out()[0] == mtu - 40
        self.acknowledge()


@pytest.fixture
def engine(fast: bool) -> Engine:
    return Engine(parse_rules(RULES), key=KEY, fast=fast)


def test_a_report_that_is_not_addressed_to_the_leg_is_not_about_it(engine: Engine) -> None:
    path = Path(engine)
    path.send()
    path.report(to="10.10.0.100")
    assert path.time_out() == [1400]


@pytest.mark.parametrize("offset", [-1, 1400])
def test_a_report_has_to_quote_a_number_in_flight(engine: Engine, offset: int) -> None:
    path = Path(engine)
    path.send()
    assert path.report(about=seq.add(path.first, offset)) == Drop(DropReason.FOR_LEG)
    assert path.time_out() == [1400]


def test_a_client_does_not_know_the_numbers_of_its_leg(engine: Engine) -> None:
    path = Path(engine)
    path.send()
    for known in (ISS, seq.add(ISS, 1), seq.add(ISS, 1 + path.sent)):
        path.report(about=known)
    assert path.time_out() == [1400]


def test_a_report_narrows_the_leg_only_if_the_segment_is_lost(engine: Engine) -> None:
    path = Path(engine)
    path.send()
    path.report()
    assert path.lengths() == [], "nothing is sent again before the timer expires (RFC 5927 §7.2)"
    path.acknowledge()
    assert path.send() == [1400], "the mirror has the segment, so the report was false"
    assert path.time_out() == [1400]
    path.acknowledge()


def test_a_report_about_a_later_segment_waits_until_that_is_the_first_one(engine: Engine) -> None:
    path = Path(engine)
    path.send()
    path.send()
    path.report(about=seq.add(path.first, 1400))
    assert path.time_out() == [1460], "another loss is no sign for the report"
    path.acked = 1400
    path.answer("A")
    path.lengths()
    assert path.time_out()[0] == 960


@pytest.mark.parametrize(("mtu", "size"), [(1000, 960), (552, 512), (68, 512), (0, 512)])
def test_a_narrow_path_is_the_legs_own_and_no_report_makes_segments_tiny(engine: Engine, mtu: int, size: int) -> None:
    path = Path(engine)
    path.send()
    path.report(mtu)
    assert path.time_out() == [size], "the congestion window is one segment"
    path.acknowledge()
    assert path.send()[0] == size
    path.acknowledge()
    other = Path(engine, "10.10.0.12", now=path.now)
    same = Path(engine, port=40002, now=path.now)
    assert (other.send(), same.send()) == ([1400], [1400])


def test_a_leg_tries_larger_segments_again_after_ten_minutes(engine: Engine) -> None:
    path = Path(engine)
    path.narrow()
    path.wait(599)
    assert path.send() == [960, 440]
    path.acknowledge()
    path.wait(1)
    assert path.send() == [1400]
    path.acknowledge()


def test_the_path_is_narrow_for_new_legs_once_legs_of_two_clients_were_narrowed(engine: Engine) -> None:
    one = Path(engine)
    one.narrow(700)
    again = Path(engine, port=40002, now=one.now)
    again.narrow(700)
    other = Path(engine, "10.10.0.12", now=again.now)
    assert other.send() == [1400], "one client alone narrows no other client's legs"
    other.acknowledge()
    other.narrow(1000)
    third = Path(engine, "10.10.0.13", now=other.now)
    assert third.send() == [960, 440], "the larger of the two, in which both agree"
    third.acknowledge()
    third.wait(600)
    assert Path(engine, "10.10.0.14", now=third.now).send() == [1400]
    assert third.send() == [1400], "also a leg that began narrow"


def test_two_signs_more_than_ten_minutes_apart_confirm_nothing(engine: Engine) -> None:
    one = Path(engine)
    one.narrow()
    one.wait(601)
    other = Path(engine, "10.10.0.12", now=one.now)
    other.narrow()
    assert Path(engine, "10.10.0.13", now=other.now).send() == [1400]
