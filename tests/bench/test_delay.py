"""The parts of bench.delay that need no network."""

from struct import pack

from bench.delay import percentiles, row
from bench.delay_peers import Inbox

MESSAGES = [(number, 100.0 + number) for number in range(5)]
RAW = b"".join(pack("!Id52x", *message) for message in MESSAGES)


def test_messages_are_read_from_any_pieces() -> None:
    for size in (1, 63, 64, 65, len(RAW)):
        inbox = Inbox()
        pieces = [RAW[at : at + size] for at in range(0, len(RAW), size)]
        assert [message for piece in pieces for message in inbox.take(piece)] == MESSAGES
        assert inbox.count == len(MESSAGES)


def test_a_row_has_milliseconds() -> None:
    delays = [number / 1000 for number in range(101)]
    assert percentiles(delays) == (0.05, 0.099)
    assert row("reads", "seen", {"backend": delays, "mirror": [0.001] * 101}).split() == [
        "reads", "seen", "101", "50.00", "99.00", "1.00", "1.00",
    ]  # fmt: skip
