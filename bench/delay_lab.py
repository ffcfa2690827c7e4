"""One measure of bench.delay in the lab, in a process of its own (root): see measure().

python -m bench.delay_lab PYTHON TREE RULES READER SECONDS
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.delay_peers import Reader
from natmirror.errors import HostError
from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import SERVICE, Lab

PORT = 6653
END_TIMEOUT = 30.0
"""Seconds for the last messages, and for natmirror's end."""

_REPOSITORY = Path(__file__).parents[1]


def measure(python: str, tree: Path, rules: Path, reader: Reader, seconds: float) -> dict[str, list[float]]:
    """Return the delays of all messages in seconds, at the ``backend``, which reads like ``reader``, and at the
    ``mirror``. natmirror is that of ``tree``, run by the interpreter ``python``. HostError where it ends, or a message
    is missing."""
    with Lab() as lab:
        receivers = {
            "backend": _peer(lab, "c1", "receive", PORT, reader),
            "mirror": _peer(lab, "m", "receive", PORT, Reader.READS),
        }
        for receiver in receivers.values():
            receiver.wait_for_text("ready")
        with _balancer(lab, python, tree, rules):
            send = [sys.executable, "-m", "bench.delay_peers", "send", SERVICE, str(PORT), str(seconds)]
            sent = int(lab.run("s1", send, cwd=_REPOSITORY, timeout=seconds + END_TIMEOUT))
            return {name: _delays(receiver, sent) for name, receiver in receivers.items()}


@contextmanager
def _balancer(lab: Lab, python: str, tree: Path, rules: Path) -> Iterator[None]:
    words = [python, "-m", "natmirror", "--rules", str(rules), "--api", str(lab.directory / "api.sock")]
    program = lab.start("lb", words, name="natmirror", cwd=tree)
    program.wait_for_text("ready: ")
    try:
        yield
    finally:
        program.end(timeout=END_TIMEOUT)


def _peer(lab: Lab, host: str, *words: object) -> Program:
    command = [sys.executable, "-m", "bench.delay_peers", *map(str, words)]
    return lab.start(host, command, name="peer", cwd=_REPOSITORY)


def _delays(receiver: Program, sent: int) -> list[float]:
    wait_for(lambda: not receiver.running(), "the receiver to have all messages", END_TIMEOUT)
    delays: dict[str, float] = json.loads(receiver.text.splitlines()[-1])
    if len(delays) != sent:
        raise HostError(f"only {len(delays)} of {sent} messages arrived")
    return list(delays.values())


def main() -> None:
    """The command line: print the delays as JSON."""
    python, tree, rules, reader, seconds = sys.argv[1:]
    try:
        print(json.dumps(measure(python, Path(tree), Path(rules), Reader(reader), float(seconds))))
    except HostError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
