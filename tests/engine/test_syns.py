"""Several SYNs for one connection: it is copied if it is certain which one the backend has taken."""

import pytest

from natmirror.actions import Accept, Drop, Hook
from natmirror.fastpath import SYN_ANSWER_TIMEOUT
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_FAST_OPEN, OPT_NOP, OPT_WINDOW_SCALE
from natmirror.reasons import DropReason, EndReason
from tests.helpers.acknowledged import Connection, stamps
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import CLIENT, RULES, SERVICE, at, packet

ONE_BACKEND = "".join(line for line in RULES.splitlines(keepends=True) if "10.20.0.12" not in line)
OTHER_SERVICE = at("10.10.0.101", 6653)
TWO_SERVICES = (
    ONE_BACKEND
    + """  - name: other
    address: 10.10.0.101
    port: 6653
    pool:
      backends:
        - {name: c1, address: 10.20.0.11}
"""
)
COOKIE = bytes((OPT_FAST_OPEN, 10, *range(8), OPT_NOP, OPT_NOP))
LATER = 5_000_000
"""How much higher a backend's next initial number is."""


def scale(shift: int) -> bytes:
    """Return the window scale option."""
    return bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, shift))


class Opening(Connection):
    """A connection whose handshake goes step by step. The client's numbers count from the byte after the first SYN."""

    def __init__(self, rules: str = RULES, *, fast: bool) -> None:
        super().__init__(rules, fast=fast)
        self.irs = IRS

    def sends_syn(self, at: int = 0, data: bytes = b"", options: bytes = b"", to: Endpoint = SERVICE) -> None:
        out = self.passed(packet(CLIENT, to, "S", seq.add(ISS, at), 0, data, options=options), Hook.PREROUTING)
        self.backend = (out.dst, out.dport)

    def answers_syn(self, ack: int = 0, options: bytes = b"") -> None:
        """Send the backend's SYN-ACK, which acknowledges the client's numbers before ``ack``."""
        assert self.backend is not None
        raw = packet(self.backend, CLIENT, "SA", self.irs, seq.add(ISS, 1 + ack), options=options)
        self.passed(raw, Hook.FORWARD)

    def sends(self, at: int, data: bytes = b"", letters: str = "A", ack: int = 0) -> None:
        self.take(
            packet(CLIENT, SERVICE, letters, seq.add(ISS, 1 + at), seq.add(self.irs, 1 + ack), data), Hook.PREROUTING
        )

    def copied(self, at: int = 0) -> bytes:
        """Complete the handshake, and send "hello" from the client's number ``at`` on. Return what the mirror gets."""
        self.sends(at)
        for letters, number, *_ in self.mirrored():
            if letters == "S":
                self.iss = number
                self.connect_mirror()
        self.sends(at, b"hello")
        assert self.backend is not None
        self.take(packet(self.backend, CLIENT, "A", seq.add(self.irs, 1), seq.add(ISS, 6 + at)), Hook.FORWARD)
        return b"".join(data for *_, data in self.mirrored())

    def is_ambiguous(self, at: int = 0) -> bool:
        """Return whether the flow is not copied, and the ledger says why."""
        return (self.copied(at), self.ledger["lost_bytes"]) == (b"", {EndReason.AMBIGUOUS: self.ledger["client_bytes"]})


@pytest.mark.parametrize("options", [b"", scale(7), stamps(1, 0) + scale(7)])
@pytest.mark.parametrize("data", [b"", b"early"])
def test_identical_repetitions_cost_nothing(fast: bool, data: bytes, options: bytes) -> None:
    one = Opening(fast=fast)
    for _ in range(3):
        one.sends_syn(0, data, options)
    one.answers_syn(len(data), options=scale(7))
    one.sends_syn(0, data, options)
    one.answers_syn(len(data), options=scale(7))
    assert one.copied(len(data)) == data + b"hello"


def test_a_repetition_may_have_another_timestamp_and_lack_options(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn(options=stamps(1, 0) + scale(7))
    one.sends_syn(options=stamps(1001, 0) + scale(7))
    one.sends_syn()
    one.answers_syn(options=stamps(5, 1001) + scale(7))
    assert one.copied() == b"hello"


@pytest.mark.parametrize("answer", [b"", scale(7)])
def test_two_window_scales_are_ambiguous(fast: bool, answer: bytes) -> None:
    one = Opening(fast=fast)
    one.sends_syn(options=scale(7))
    one.sends_syn()
    one.sends_syn(options=scale(14))
    one.answers_syn(options=answer)
    assert one.is_ambiguous()


def test_a_window_scale_that_only_a_later_syn_offers_counts(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.sends_syn(options=scale(14))
    one.answers_syn(options=scale(7))
    assert one.copied() == b"hello"
    for number in range(0, 200_000, 1000):
        one.acks(5, at=number, data=bytes(1000), letters="PA")
    one.sends(5, ack=200_000)
    one.sends(6, b"LIE", ack=0)  # 200,000 bytes back: within the gigabyte that the client has offered
    one.sends(6, b"TRUTH", ack=200_000)
    assert one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize(("first", "second"), [(b"LIES!", b"TRUTH"), (b"TRUTH", b"TRUE!"), (b"TRUTHS", b"TRUTH")])
@pytest.mark.parametrize("taken", [0, 2, 5])
def test_data_in_which_syns_differ_is_ambiguous_if_the_backend_takes_it(
    fast: bool, first: bytes, second: bytes, taken: int
) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, first, COOKIE)
    one.sends_syn(0, second)
    one.answers_syn(taken)
    if first[:taken] == second[:taken]:
        assert one.copied(taken) == first[:taken] + b"hello"
    else:
        assert one.is_ambiguous(taken)


@pytest.mark.parametrize("taken", [0, 5])
def test_a_repetition_may_lack_the_data(fast: bool, taken: int) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, b"early", COOKIE)
    one.sends_syn()
    one.answers_syn(taken)
    assert one.copied(taken) == b"early"[:taken] + b"hello"


def test_a_later_syn_with_data_counts(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.sends_syn(0, b"early", COOKIE)
    one.answers_syn(5)
    assert one.copied(5) == b"earlyhello"


@pytest.mark.parametrize("numbers", [(0, 3), (3, 0)])
def test_an_acknowledgement_that_two_syns_explain_is_ambiguous(fast: bool, numbers: tuple[int, int]) -> None:
    one = Opening(fast=fast)
    for number in numbers:
        one.sends_syn(number, b"" if number else b"LIE")
    one.sends_syn(99_000)
    one.answers_syn(3)
    assert one.is_ambiguous(3)


@pytest.mark.parametrize("accepted", [0, 1])
@pytest.mark.parametrize("data", [b"", b"early"])
def test_of_two_syns_with_distant_numbers_the_answer_says_which_one_counts(
    fast: bool, accepted: int, data: bytes
) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, data)
    one.sends_syn(77_000, data)
    one.answers_syn(77_000 * accepted + len(data))
    assert one.copied(77_000 * accepted + len(data)) == data + b"hello"


def test_a_syn_that_is_forgotten_may_explain_the_answer_too(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.sends_syn(77_000, b"LIE")
    one.sends_syn(77_003)
    one.answers_syn(77_003)
    assert one.is_ambiguous(77_003)


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_second_answer_with_another_number_is_ambiguous(fast: bool, is_complete: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.answers_syn()
    assert not is_complete or one.copied() == b"hello"
    one.irs = seq.add(IRS, LATER)  # the backend had forgotten the first SYN
    one.sends_syn()
    one.answers_syn()
    one.irs = IRS
    if is_complete:
        assert one.ended == [EndReason.AMBIGUOUS]
    else:
        assert one.is_ambiguous()


@pytest.mark.parametrize("count", [2, 60])
def test_an_answer_to_a_forgotten_syn_inside_a_connection_is_ambiguous(fast: bool, count: int) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.answers_syn()
    assert one.copied() == b"hello"
    for number in range(count):
        one.sends_syn(77_000 + 10_000 * number)
    one.irs = seq.add(IRS, LATER)
    one.answers_syn(77_000)
    assert one.ended == [EndReason.AMBIGUOUS]


def test_a_syn_that_could_not_be_remembered_does_not_reach_the_backend(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.answers_syn()
    assert one.copied() == b"hello"
    for number in range(65):
        one.sends_syn(77_000 + 10_000 * number)
    more = packet(CLIENT, SERVICE, "S", seq.add(ISS, 7_777_777))
    assert one.take(more, Hook.PREROUTING) == Drop(DropReason.OVER_LIMIT)
    one.now += SYN_ANSWER_TIMEOUT + 0.1
    one.acks(5)
    assert isinstance(one.take(more, Hook.PREROUTING), Accept)
    assert one.ended == []


def test_blind_answers_end_no_copy(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn()
    one.answers_syn()
    assert one.copied() == b"hello"
    for number in range(1, 1000):
        one.now += 0.001
        one.irs = seq.add(IRS, number * 4_000_037)
        one.answers_syn(number * 4_000_037)
    assert one.ended == []


def test_a_repeated_answer_accepts_no_other_syn(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, b"early")
    one.answers_syn(5)
    one.sends_syn(5)
    one.answers_syn(5)
    assert one.copied(5) == b"earlyhello"


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_after_a_reset_the_backend_may_still_answer_the_earlier_syn(fast: bool, is_forgotten: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, b"LIES!")
    one.answers_syn(5)
    one.sends(5, letters="R")
    one.sends_syn(0, b"TRUTH")
    if is_forgotten:
        one.irs = seq.add(IRS, LATER)
    one.answers_syn(5)
    if is_forgotten:
        assert one.copied(5) == b"TRUTHhello"
    else:
        assert one.is_ambiguous(5)


def test_a_clients_reset_before_the_answer_forgets_no_syn(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn(0, b"LIES!")
    one.irs = -1
    one.sends(0, letters="RA")
    one.irs = IRS
    one.sends_syn(0, b"TRUTH")
    one.answers_syn(5)
    assert one.is_ambiguous(5)


@pytest.mark.parametrize("first", [b"LIES!", b"TRUTH"])
def test_an_unanswered_syn_may_be_answered_late(fast: bool, first: bytes) -> None:
    one = Opening(ONE_BACKEND, fast=fast)
    one.sends_syn(0, first)
    one.now += SYN_ANSWER_TIMEOUT
    one.sends_syn(0, b"TRUTH")
    one.answers_syn(5)
    if first == b"TRUTH":
        assert one.copied(5) == b"TRUTHhello"
    else:
        assert one.is_ambiguous(5)


def test_a_syn_to_another_service_of_the_same_backend_may_be_the_one_that_is_answered(fast: bool) -> None:
    one = Opening(TWO_SERVICES, fast=fast)
    one.sends_syn(0, b"LIES!", to=OTHER_SERVICE)
    one.sends_syn(0, b"TRUTH")
    one.answers_syn(5)
    assert one.is_ambiguous(5)


def test_a_backend_that_uses_fast_open_may_send_a_window_before_the_handshake_is_complete(fast: bool) -> None:
    one = Opening(fast=fast)
    one.sends_syn(options=COOKIE)
    one.answers_syn()
    one.sends(0, b"LIE", ack=1000)  # of bytes that are on their way to this host
    one.sends(0, b"TRUTH")
    assert one.ended == [EndReason.AMBIGUOUS]
