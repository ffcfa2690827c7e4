"""Many synthetic OpenFlow switches in one process, like cbench.

    python -m natmirror.lab.swarm --to ADDRESS:PORT --switches 1000 --rate 2000 --seconds 10

Each switch connects once and completes its session as Open vSwitch does. From then on it sends its share of ``--rate``
PACKET_INs per second at regular times, whether they are answered or not. The measured ``--seconds`` begin when all
switches are up, or after ``--up-timeout``. The program prints one line of JSON: the latencies are those of PACKET_INs
sent in these seconds, and ``late_ms`` is the largest delay of a PACKET_IN after its regular time; the other counts are
of the whole run. The exit code is 0 if all switches came up and no connection was lost.
"""

import argparse
import heapq
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from types import FrameType

from natmirror.errors import HostError
from natmirror.lab.switch import VERSIONS, SessionError, Switch, Tally
from natmirror.net.endpoint import parse_endpoint

_MAX_BURST = 64  # PACKET_INs that are sent before sockets are read again
_LAST_TIMEOUT = 10.0  # seconds for the last answers at the end; on a busy machine a controller may stand still for some
_LONGEST_WAIT = 0.1
_RECEIVE_LEN = 65536
_SPARE_FILES = 16
_IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # linux/in.h; Python has it since 3.12


class _Connection:
    """A switch and its socket; the socket is closed when the connection is lost."""

    __slots__ = ("end", "heard", "switch", "waits_to_write")

    def __init__(self, switch: Switch, end: socket.socket) -> None:
        self.switch = switch
        self.end = end
        self.heard = False
        self.waits_to_write = True


class Swarm:
    """The switches, their sockets and the clock."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._rate = 0.0 if arguments.idle else arguments.rate
        self._tally = Tally()
        self._lost = self._never_up = 0
        self._up_seconds: float | None = None
        self._late = 0.0
        self._measuring = self._stopped = False
        self._poll = select.epoll()
        self._opened = self._unheard = 0
        self._opening: dict[int, socket.socket] = {}
        self._connections: list[_Connection] = []
        self._by_fd: dict[int, _Connection] = {}
        self._timers: list[tuple[float, int]] = []  # the next time to call tick(), for each connection
        self._slot = 0
        self._slots_from: float | None = None
        self._start = self._reported_at = time.monotonic()
        self._reported = 0  # latencies in earlier lines of progress

    def run(self) -> bool:
        """Run from the first connection to the last answer. Return whether all switches came up and no connection was
        lost."""
        wanted, tally = self._arguments.switches, self._tally
        self._turn(self._arguments.up_timeout, lambda: tally.up + self._never_up == wanted)
        begin = time.monotonic()
        if tally.up == wanted:
            self._up_seconds = begin - self._start
        tally.count_from(begin)
        self._reported, self._late, self._measuring = 0, 0.0, True
        self._turn(self._arguments.seconds, lambda: self._lost == wanted)
        seconds, self._rate = time.monotonic() - begin, 0.0
        self._turn(_LAST_TIMEOUT, lambda: tally.answered == tally.sent)
        print(json.dumps(self._report(seconds)), flush=True)
        return tally.up == wanted and not self._lost

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: end the run, and print the report."""
        self._stopped = True

    def _turn(self, timeout: float, done: Callable[[], bool]) -> None:
        until = time.monotonic() + timeout
        while not self._stopped and not done() and (now := time.monotonic()) < until:
            self._open()
            next_at = min(self._send(now), self._tick(now), until, now + _LONGEST_WAIT)
            for fd, events in self._poll.poll(max(0.0, next_at - time.monotonic())):
                self._serve(fd, events)
            if self._arguments.progress and now >= self._reported_at + 1.0:
                self._print_progress(now)

    def _open(self) -> None:
        """Open connections, up to ``--opening`` on which the controller has not yet sent a byte."""
        while self._opened < self._arguments.switches and self._unheard < self._arguments.opening:
            end = socket.socket()
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._arguments.source is not None:
                source = str(self._arguments.source + self._opened % self._arguments.sources)
                end.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                try:
                    end.bind((source, 0))
                except OSError as error:
                    raise HostError(f"source address {source}: {error.strerror}") from None
            self._opened += 1
            self._unheard += 1
            try:
                end.connect(self._arguments.to)
            except BlockingIOError:
                pass
            except OSError as error:
                self._lose(end, f"connecting: {error.strerror}")
                continue
            self._opening[end.fileno()] = end
            self._poll.register(end, select.EPOLLIN | select.EPOLLOUT)

    def _begin(self, end: socket.socket) -> None:
        """Begin the session of an opened connection, or count the connection as lost."""
        if error := end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self._lose(end, f"connecting: {os.strerror(error)}")
        number, now = len(self._connections), time.monotonic()
        version, dpid = VERSIONS[self._arguments.version], self._arguments.first_dpid + number
        connection = _Connection(Switch(version, dpid, self._tally, now), end)
        self._connections.append(connection)
        self._by_fd[end.fileno()] = connection
        heapq.heappush(self._timers, (connection.switch.tick(now), number))
        self._flush(connection)

    def _send(self, now: float) -> float:
        """Send the PACKET_INs that are due, and return when the next one is due."""
        if not self._rate or not (self._measuring if self._arguments.together else self._tally.up):
            return math.inf
        if self._slots_from is None:
            self._slots_from = now
        for _ in range(_MAX_BURST):
            due = self._slots_from + self._slot / self._rate
            if due > now:
                return due
            number = self._slot % self._arguments.switches
            self._slot += 1
            if number < len(self._connections) and self._connections[number].switch.up:
                sent_at = time.monotonic()
                self._late = max(self._late, sent_at - due)
                self._connections[number].switch.packet_in(self._tally.sent, sent_at)
                self._flush(self._connections[number])
        return now

    def _tick(self, now: float) -> float:
        """Call tick() of the switches whose timers are due, and return when the next one is due."""
        while self._timers and self._timers[0][0] <= now:
            number = self._timers[0][1]
            connection = self._connections[number]
            if connection.end.fileno() < 0:
                heapq.heappop(self._timers)
                continue
            heapq.heapreplace(self._timers, (connection.switch.tick(now), number))
            self._flush(connection)
        return self._timers[0][0] if self._timers else math.inf

    def _serve(self, fd: int, events: int) -> None:
        if (opening := self._opening.pop(fd, None)) is not None:
            return self._begin(opening)
        connection = self._by_fd.get(fd)
        if connection is None:
            return
        if events & select.EPOLLOUT:
            self._flush(connection, writable=True)
        if events & ~select.EPOLLOUT and connection.end.fileno() >= 0:
            self._read(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.end.recv(_RECEIVE_LEN)
        except BlockingIOError:
            return
        except OSError as error:
            return self._drop(connection, error.strerror)
        if not data:
            return self._drop(connection, "closed by the controller")
        self._unheard -= not connection.heard
        connection.heard = True
        try:
            connection.switch.receive(data, time.monotonic())
        except SessionError as error:
            self._flush(connection)
            return self._drop(connection, str(error))
        self._flush(connection)

    def _flush(self, connection: _Connection, *, writable: bool = False) -> None:
        """Send the switch's output, unless the socket is known to have no room."""
        end, out = connection.end, connection.switch.out
        if end.fileno() < 0 or (connection.waits_to_write and not writable):
            return
        if out:
            try:
                del out[: end.send(out)]
            except BlockingIOError:
                pass
            except OSError as error:
                return self._drop(connection, error.strerror)
        if bool(out) != connection.waits_to_write:
            connection.waits_to_write = bool(out)
            self._poll.modify(end, select.EPOLLIN | select.EPOLLOUT * connection.waits_to_write)

    def _drop(self, connection: _Connection, why: str | None) -> None:
        if self._by_fd.pop(connection.end.fileno(), None) is not None:
            self._lose(connection.end, str(why), heard=connection.heard, was_up=connection.switch.up)
            connection.switch.up = False

    def _lose(self, end: socket.socket, why: str, *, heard: bool = False, was_up: bool = False) -> None:
        end.close()
        self._lost += 1
        self._unheard -= not heard
        self._never_up += not was_up
        self._tally.errors[why] += 1

    def _print_progress(self, now: float) -> None:
        """Print a line of progress, with the latencies since the last one."""
        tally, lately = self._tally, sorted(self._tally.latencies[self._reported :])
        self._reported, self._reported_at = len(tally.latencies), now
        words = (
            f"{now - self._start:.0f} s: {tally.up} up, {self._lost} lost, {tally.sent} sent, {tally.answered} answered"
        )
        if lately:
            words += f", p50 {_ms(lately, 0.5)} ms, max {_ms(lately, 1.0)} ms"
        print(words, file=sys.stderr, flush=True)

    def _report(self, seconds: float) -> dict[str, object]:
        tally, latencies = self._tally, sorted(self._tally.latencies)
        return {
            "switches": self._arguments.switches,
            "up": tally.up,
            "up_seconds": None if self._up_seconds is None else round(self._up_seconds, 3),
            "lost": self._lost,
            "seconds": round(seconds, 3),
            "sent": tally.sent,
            "answered": tally.answered,
            "packet_outs": tally.packet_outs,
            "flow_mods": tally.flow_mods,
            "p50_ms": _ms(latencies, 0.5),
            "p99_ms": _ms(latencies, 0.99),
            "max_ms": _ms(latencies, 1.0),
            "late_ms": round(1000 * self._late, 3),
            "unanswered_echoes": tally.unanswered_echoes,
            "errors": dict(tally.errors),
        }


def _ms(ordered: Sequence[float], share: float) -> float | None:
    """Return a percentile of the ordered latencies, in ms; ``share`` is 0.5 for the median."""
    return round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 3) if ordered else None


def allow_files(switches: int) -> None:
    """Raise the limit on open files for this many switches; HostError where the system does not allow it."""
    wanted = switches + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError):
        raise HostError(
            f"{switches} switches need {wanted} open files, and the hard limit is {hard} (ulimit -Hn)"
        ) from None


def endpoint(text: str) -> tuple[str, int]:
    """Parse ``ADDRESS:PORT``."""
    address, port = parse_endpoint(text)
    return str(IPv4Address(address)), port


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(prog="swarm", description="many synthetic OpenFlow switches")
    parser.add_argument("--to", type=endpoint, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--switches", type=count, default=16)
    parser.add_argument("--rate", type=positive, default=1000.0, help="PACKET_INs per second, of all switches together")
    parser.add_argument("--seconds", type=positive, default=10.0)
    parser.add_argument("--version", choices=VERSIONS, default="1.3", help="version of OpenFlow")
    parser.add_argument("--from", type=IPv4Address, dest="source", help="first source address of the switches")
    parser.add_argument("--sources", type=count, default=1, help="number of consecutive source addresses")
    parser.add_argument("--first-dpid", type=count, default=1)
    parser.add_argument(
        "--opening", type=count, default=32, help="connections that may wait for the controller's first byte at once"
    )
    parser.add_argument("--up-timeout", type=positive, default=60.0, help="seconds for all switches to come up")
    parser.add_argument("--idle", action="store_true", help="send no PACKET_INs")
    parser.add_argument("--together", action="store_true", help="send PACKET_INs only once all switches are up")
    parser.add_argument("--progress", action="store_true", help="print a line on stderr each second")
    arguments = parser.parse_args()
    try:
        allow_files(arguments.switches)
        swarm = Swarm(arguments)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, swarm.stop)
        return 0 if swarm.run() else 1
    except HostError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
