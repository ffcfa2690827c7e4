"""Requests from one thread to another."""

import threading
import time
from collections.abc import Iterator

import pytest

from natmirror.lab.process import wait_for
from natmirror.runtime.mailbox import Mailbox, Waker


@pytest.fixture
def waker() -> Iterator[Waker]:
    one = Waker()
    one.open()
    yield one
    one.close()


@pytest.fixture
def mailbox(waker: Waker) -> Mailbox:
    return Mailbox(waker.wake)


def test_a_request_wakes_the_owner(mailbox: Mailbox, waker: Waker) -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: mailbox.post(lambda: done.append(7)))
    thread.start()
    began_at = time.monotonic()
    waker.wait(10.0)
    assert time.monotonic() - began_at < 5.0
    mailbox.read()
    assert done == [7]
    thread.join()


def test_who_gives_up_withdraws_the_request(mailbox: Mailbox) -> None:
    done: list[int] = []
    with pytest.raises(TimeoutError):
        mailbox.ask(lambda: done.append(7), 0.001)
    mailbox.read()
    assert done == []


def test_a_request_that_has_begun_is_waited_for(mailbox: Mailbox) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def slow() -> int:
        has_begun.set()
        may_end.wait(10.0)
        return 7

    def own() -> None:
        mailbox.read()

    answers: list[int] = []
    asker = threading.Thread(target=lambda: answers.append(mailbox.ask(slow, 5.0)))
    asker.start()
    wait_for(lambda: len(mailbox) == 1, "the request")
    owner = threading.Thread(target=own)
    owner.start()
    assert has_begun.wait(10.0)
    may_end.set()
    asker.join()
    owner.join()
    assert answers == [7]


def test_a_waker_never_blocks_even_if_its_thread_does_not_wait(waker: Waker) -> None:
    for _ in range(100_000):
        waker.wake()
    waker.wait(0.0)


def test_a_waker_does_nothing_before_open_and_after_close() -> None:
    waker = Waker()
    waker.wake()
    waker.open()
    waker.close()
    waker.wake()


def test_the_exception_of_a_posted_function_goes_to_on_error(waker: Waker) -> None:
    errors: list[Exception] = []
    done: list[int] = []
    mailbox = Mailbox(waker.wake, errors.append)
    mailbox.post(lambda: done.append(1 // 0))
    mailbox.post(lambda: done.append(7))
    mailbox.read()
    assert done == [7]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_a_request_returns_the_result_or_exception_and_that_of_a_posted_function_is_logged(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise KeyError("backend")

    mailbox.post(fail)
    fine, wrong = mailbox.request(lambda: 7), mailbox.request(fail)
    mailbox.read()
    assert fine.result(0.0) == 7
    assert isinstance(wrong.exception(0.0), KeyError)
    assert caplog.text.count("internal error: a request from another thread failed") == 1


def test_a_cancelled_request_is_not_done(mailbox: Mailbox) -> None:
    done: list[int] = []
    assert mailbox.request(lambda: done.append(7)).cancel()
    mailbox.read()
    assert not done
