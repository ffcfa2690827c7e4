"""``python -m tests.live.commands DOCUMENT [--print]``: do what a document says, and compare what it shows.

A block of a document is run if its fence names a host behind its language:

- ```` ```sh lb ````: these commands, on that host, which is a network namespace; ``here`` is this machine. They have to
  succeed; with ``exit=3`` the last one ends with that code. With ``again`` the block is run again until it succeeds and
  shows what the document says; with it, in their order, those right before it that have ``again`` too. With ``lines``
  each line is a block. ``natmirror --rules FILE`` runs in the background.
- ```` ```text shows ````: lines of the output of the block before, in this order. ``…`` stands for anything, and a
  number that is no address for any number. With ``ctrl-c`` they are what natmirror prints when it is interrupted.
- ```` ```yaml file=first.yaml ````: a file that the reader writes.

A document without a block ``here`` gets the lab's hosts. All of it happens in name spaces of their own, of mounts,
processes and the network: when this process ends, the kernel ends and removes all that the commands have left.
"""

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from natmirror.lab.topology import Lab

ROOT = Path(__file__).parents[2]
COLUMNS, ROWS = 88, 40
TIMEOUT = 45.0
ISOLATED = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_FOREGROUND = re.compile(r"natmirror --rules \S+(?: --on-stop \w+)?")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a document: the words behind its language, its text, and the line at which it begins."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    def value(self, name: str) -> str | None:
        """Return what a word ``name=value`` has behind its sign, or None."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(name + "=")), None)


class Mismatch(Exception):
    """The document says something else than what has happened."""


def blocks(text: str) -> list[Block]:
    """Return the blocks of a document whose fences have words behind their language."""
    found = re.finditer(r"^( *)```(\w+) +([^`\n]+)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(
            one[2],
            tuple(one[3].split()),
            re.sub(f"^{one[1]}", "", one[4], flags=re.MULTILINE),
            text.count("\n", 0, one.start()) + 1,
        )
        for one in found
    ]


def shows(output: str, expected: str) -> str | None:
    """Return the first expected line that is not in the output behind those before it, or None."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(_pattern(" ".join(line.split())))
        while at < len(lines) and not pattern.fullmatch(lines[at]):
            at += 1
        if at == len(lines):
            return line
        at += line != "…"
    return None


def _pattern(line: str) -> str:
    parts = re.split(r"( ?…|\d+\.\d+\.\d+\.\d+|\d+(?:\.\d+)?)", line)
    return "".join(map(_part, parts))


def _part(part: str) -> str:
    if part.endswith("…"):
        return "(?: .*)?" if part.startswith(" ") else ".*"
    return r"\d+(?:\.\d+)?" if re.fullmatch(r"\d+(?:\.\d+)?", part) else re.escape(part)


@dataclass(slots=True)
class Terminal:
    """A command on a terminal, with what it has printed."""

    process: "subprocess.Popen[bytes]"
    master: int
    printed: bytes = b""

    @property
    def text(self) -> str:
        """What was printed, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.printed.decode(errors="replace").replace("\r\n", "\n"))

    def read(self, until: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        """Read until a condition holds; Mismatch after the timeout."""
        deadline = time.monotonic() + timeout
        while not until():
            if time.monotonic() > deadline:
                raise Mismatch(f"nothing more after {timeout:g} s:\n{self.text}")
            self._take(0.05)
        while self._take(0.0):
            pass

    def _take(self, wait: float) -> bool:
        if not select.select([self.master], [], [], wait)[0]:
            return False
        try:
            part = os.read(self.master, 1 << 16)
        except OSError:  # the last program has closed the terminal
            time.sleep(wait)
            return False
        self.printed += part
        return bool(part)


@dataclass(slots=True)
class Walk:
    """A reader who does what a document says, in a directory."""

    directory: Path
    namespace: Callable[[str], str]
    running: Terminal | None = None
    """The natmirror in the background."""
    output: str = ""
    failure: str = ""
    """Why a block that is to be run again has failed."""
    prints: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def follow(self, document: list[Block]) -> None:
        """Do what the blocks say; Mismatch where one does not."""
        again: list[tuple[Block, str]] = []
        for block in document:
            if self.prints:
                print(f"--- line {block.line}: {' '.join(block.words)}\n{block.text}")
            if (file := block.value("file")) is not None:
                path = self.directory / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.words[0] == "shows":
                self._compare(block, again)
                again = []
            elif block.language == "sh":
                if "again" not in block.words:
                    self._need_success()
                    again = []
                for commands in self._parts(block):
                    self._run(block, commands)
                    again += [(block, commands)] if "again" in block.words else []
        self._need_success()

    def _parts(self, block: Block) -> Iterator[str]:
        if "lines" not in block.words:
            yield block.text.strip()
            return
        for line in block.text.splitlines():
            yield line.partition(" # ")[0].strip()

    def _need_success(self) -> None:
        if self.failure:
            raise Mismatch(self.failure)

    def _run(self, block: Block, commands: str) -> None:
        if _FOREGROUND.fullmatch(commands):
            self.running = started = self._open(block.words[0], "exec " + commands)
            started.read(lambda: b" ready: " in started.printed or started.process.poll() is not None)
            self.output = started.text
            if " ready: " not in self.output:
                raise Mismatch(f"line {block.line}: natmirror has ended:\n{self.output}")
            return
        terminal = self._open(block.words[0], commands)
        terminal.read(lambda: terminal.process.poll() is not None)
        self._close(terminal)
        self.output = terminal.text
        if self.prints:
            print(f"---\n{self.output}")
        code = terminal.process.returncode
        if code != int(block.value("exit") or 0):
            self.failure = f"line {block.line}: exit code {code}:\n{commands}\n{self.output}"
            if "again" not in block.words:
                self._need_success()

    @property
    def _natmirror(self) -> Terminal:
        if self.running is None:
            raise Mismatch("no natmirror runs in the background")
        return self.running

    def _compare(self, block: Block, again: list[tuple[Block, str]]) -> None:
        if "ctrl-c" in block.words:
            natmirror, self.running = self._natmirror, None
            before = len(natmirror.text)
            natmirror.process.send_signal(signal.SIGINT)
            natmirror.read(lambda: natmirror.process.poll() is not None)
            self._close(natmirror)
            self.output = natmirror.text[before:]
            if self.prints:
                print(f"---\n{self.output}")
        deadline = time.monotonic() + TIMEOUT
        while (missing := shows(self.output, block.text)) is not None or self.failure:
            if not again or time.monotonic() > deadline:
                raise Mismatch(
                    f"line {block.line}: {self.failure or f'not printed: {missing}'}\n--- but:\n{self.output}"
                )
            time.sleep(0.1)
            self.failure = ""
            for one in again:
                self._run(*one)

    def _open(self, host: str, commands: str) -> Terminal:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        where = [] if host == "here" else ["ip", "netns", "exec", self.namespace(host)]
        process = subprocess.Popen(
            [*where, "bash", "-e", "-o", "pipefail", "-c", commands],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            cwd=self.directory,
            env={**os.environ, **self.environment},
        )
        os.close(slave)
        return Terminal(process, master)

    def _close(self, terminal: Terminal) -> None:
        os.close(terminal.master)


def _follow(path: Path, *, prints: bool) -> None:
    document = blocks(path.read_text(encoding="utf-8"))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm",
        "COLUMNS": str(COLUMNS),
        "LINES": str(ROWS),
    }
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        if any(block.words[0] == "here" for block in document):
            Walk(Path(directory), lambda host: host, environment=environment, prints=prints).follow(document)
            return
        for folder in ("rules", "systemd"):
            shutil.copytree(ROOT / folder, Path(directory) / folder)
        with Lab(switches=2) as lab:
            Walk(Path(directory), lab.ns, environment=environment, prints=prints).follow(document)


def isolate() -> None:
    """Give this process, in name spaces of its own, an empty /run and an /etc of its own."""
    os.environ["TMPDIR"] = "/run"
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    shutil.copytree("/etc", "/run/etc", symlinks=True, ignore_dangling_symlinks=True)
    subprocess.run(["mount", "--bind", "/run/etc", "/etc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main() -> int:
    """Follow the document; print what is not as it says, and return 1 then. With --print, print all outputs too."""
    if os.getpid() != 1:
        return subprocess.call([*ISOLATED, sys.executable, "-m", "tests.live.commands", *sys.argv[1:]], cwd=ROOT)
    isolate()
    try:
        _follow(ROOT / sys.argv[1], prints="--print" in sys.argv)
    except Mismatch as error:
        print(f"{sys.argv[1]}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
