"""Runs a capture: from the packets of the kernel and the answers of the API to the file."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from natmirror import __version__
from natmirror.api.client import ask
from natmirror.capture import pcapng
from natmirror.capture.follower import Answers, Follower
from natmirror.capture.output import Output, ReaderGone
from natmirror.capture.recorder import Bounds, Recorder
from natmirror.capture.sides import Sorter
from natmirror.capture.story import Story, Words
from natmirror.errors import HostError
from natmirror.linux import instance
from natmirror.linux.addresses import own_addresses
from natmirror.linux.packet_socket import PacketSocket
from natmirror.net.endpoint import parse_client

_WAIT = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to capture, where to, and for how long (seconds; None: until an interrupt)."""

    client: str
    path: Path
    api_path: Path
    bounds: Bounds
    seconds: float | None


def run(wanted: Wanted, words: Words, tell: Callable[[str], None], command: str) -> None:
    """Capture until an interrupt or a bound. ``tell`` gets lines for the operator. HostError without the right to
    capture, and where natmirror does not answer or runs elsewhere; CaptureError where the file cannot be written."""
    client, port = parse_client(wanted.client)
    with PacketSocket(client, port, pcapng.SNAP_LEN) as packets:
        answer, status = _first_answers(wanted)
        sorter = Sorter(client, {address.packed for address in own_addresses()})
        story = Story(sorter, words, tell, time.time_ns)
        with Output(wanted.path) as output, _until_signal() as is_over:
            recorder = Recorder(sorter, story, wanted.bounds, output.write, time.time_ns(), not output.is_file)
            comment = f"{command}\nnatmirror {__version__}, rules {status['rules']}"
            comment += f" version {status['loaded_rules']['version']}, on {socket.gethostname()}"
            recorder.begin(comment, f"natmirror {__version__}", " ".join((os.uname().sysname, os.uname().release)))
            follower = Follower(wanted.client, wanted.api_path, story.since)
            follower.start()
            tell(_begin(wanted, answer))
            _take_status(status, sorter, story)
            _take_answer(answer, sorter, story, is_first=True)
            packets.listen_for(sorter.sourced)
            with suppress(ReaderGone):
                _record(wanted, packets, follower, recorder, output, is_over)
            for line in recorder.summary():
                tell(line)
        lost = packets.count_lost()
        tell(f"the kernel dropped {lost} packets that came too fast" if lost else "the kernel dropped no packet")


def _first_answers(wanted: Wanted) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what natmirror says of the client, and its status. HostError where it captures in vain."""
    answer, status = ask("explain", wanted.api_path, client=wanted.client), ask("status", wanted.api_path)
    if instance.running() is None:
        pid = status["pid"]
        raise HostError(
            "natmirror runs in another network namespace, so that its packets do not pass here: run this there, as in"
            f" nsenter --net=/proc/{pid}/ns/net natmirror capture"
        )
    if not answer["in_switches"]:
        raise HostError(
            f"{wanted.client} is no client: it is in none of the networks in switches, so natmirror leaves its packets"
            " alone; natmirror rules shows these networks"
        )
    return answer, status


def _begin(wanted: Wanted, answer: dict[str, Any]) -> str:
    until = "an interrupt (Ctrl-C)" if wanted.seconds is None else f"{wanted.seconds:g} s are over"
    now = "" if answer["connection_count"] else ". It has no connection now: waiting for its first one"
    return f"capturing {wanted.client} until {until}, {wanted.bounds.bytes // 1_000_000} MB at most{now}"


def _record(
    wanted: Wanted,
    packets: PacketSocket,
    follower: Follower,
    recorder: Recorder,
    output: Output,
    is_over: Callable[[], bool],
) -> None:
    ends_at = float("inf") if wanted.seconds is None else time.monotonic() + wanted.seconds
    while not is_over() and not recorder.full and time.monotonic() < ends_at:
        for packet in packets.receive(min(_WAIT, max(ends_at - time.monotonic(), 0.0))):
            if recorder.take(packet, time.monotonic()):
                follower.ask_soon()
        sourced = recorder.sorter.sourced
        _take_answers(follower, recorder)
        if recorder.sorter.sourced != sourced:
            packets.listen_for(recorder.sorter.sourced)
        recorder.advance(time.monotonic())
        output.flush()
    follower.finish()
    _take_answers(follower, recorder)
    recorder.advance(time.monotonic(), to_end=True)
    recorder.end(time.time_ns(), packets.count_lost())
    output.flush()
    if recorder.full:
        recorder.story.say(f"the capture is full: {recorder.full}")


def _take_answers(follower: Follower, recorder: Recorder) -> None:
    sorter, story = recorder.sorter, recorder.story
    for answers in follower.take():
        if answers.error:
            story.silence(answers.error)
            continue
        story.answer()
        _take(answers, sorter, story)
        recorder.settle()


def _take(answers: Answers, sorter: Sorter, story: Story) -> None:
    if answers.status is not None:
        _take_status(answers.status, sorter, story)
    if answers.explained is not None:
        _take_answer(answers.explained, sorter, story, is_first=False)
    story.ended(answers.ended or ())
    story.events(answers.events or ())


def _take_status(status: dict[str, Any], sorter: Sorter, story: Story) -> None:
    sorter.learn_status(status)
    story.status(status)


def _take_answer(answer: dict[str, Any], sorter: Sorter, story: Story, *, is_first: bool) -> None:
    sorter.learn_answer(answer)
    story.explained(answer, is_first=is_first)


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Have SIGINT and SIGTERM end the capture, and not the process: the file then ends as it should."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    before = {one: signal.signal(one, note) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
