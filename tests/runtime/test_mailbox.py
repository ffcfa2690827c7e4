"""What other threads want of the main one."""

import threading
import time
from collections.abc import Iterator

import pytest

from natmirror.runtime.mailbox import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    one = Mailbox()
    yield one
    one.close()


def test_a_letter_wakes_whoever_waits(mailbox: Mailbox) -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: mailbox.post(lambda: done.append(7)))
    thread.start()
    began_at = time.monotonic()
    mailbox.wait(10.0)
    assert time.monotonic() - began_at < 5.0
    mailbox.read()
    assert done == [7]
    thread.join()


def test_words_without_end_do_not_stop_who_says_them(mailbox: Mailbox) -> None:
    for _ in range(100_000):
        mailbox.wake()
    mailbox.wait(0.0)


def test_a_request_gets_what_it_gives_or_raises_and_a_letter_that_fails_is_logged(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise KeyError("backend")

    mailbox.post(fail)
    fine, wrong = mailbox.request(lambda: 7), mailbox.request(fail)
    mailbox.read()
    assert fine.result(0.0) == 7
    assert isinstance(wrong.exception(0.0), KeyError)
    assert caplog.text.count("internal error: an order was not carried out") == 1


def test_a_request_that_nobody_waits_for_any_more_is_not_done(mailbox: Mailbox) -> None:
    done: list[int] = []
    assert mailbox.request(lambda: done.append(7)).cancel()
    mailbox.read()
    assert not done
