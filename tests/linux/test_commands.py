"""Running the host's programs: they fail, hang, or cannot be started."""

import errno
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.linux import commands, nftables
from natmirror.linux.iptables import Firewall


def test_a_command_reads_its_input_and_its_output_is_returned() -> None:
    assert commands.run(["cat"], "some rules\n", package="coreutils") == "some rules\n"


def test_a_command_comes_after_packets() -> None:
    niceness = commands.run(["sh", "-c", "read line && nice"], "begin\n", package="coreutils")
    assert int(niceness) == min(19, os.nice(0) + 5)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["natmirror-nothing"], "natmirror-nothing is missing: install the package nothing"),
        (["sh", "-c", "echo wrong >&2; echo more >&2; exit 3"], "failed: wrong$"),
        (["sh", "-c", "exit 3"], "failed: exit code 3"),
        ([sys.executable, "-c", "import sys; sys.stderr.buffer.write(b'\\xff'); sys.exit(1)"], "failed: \ufffd"),
    ],
)
def test_a_failure_is_one_line(command: list[str], why: str) -> None:
    with pytest.raises(HostError, match=why):
        commands.run(command, package="nothing")


def test_a_command_that_hangs_is_killed() -> None:
    before = time.monotonic()
    with pytest.raises(commands.HangsError, match=r"sleep 60 did not end within 0\.1 s and was killed"):
        commands.run(["sleep", "60"], package="coreutils", timeout=0.1)
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_refused_process_or_descriptor_is_a_host_error(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("shutil.which", lambda name: name)
    for look in (Firewall("nft").left, Firewall("nft").remove, nftables.remove):
        with pytest.raises(HostError, match=f"cannot run .*: {os.strerror(number)}"):
            look()


def test_a_lack_of_memory_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(HostError, match="cannot run iptables-nft-save -t raw: no memory"):
        Firewall("nft").left()
