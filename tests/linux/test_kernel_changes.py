"""The kernel's notifications, as bytes: whose changes concern us, and who made them."""

import socket
import struct
from collections import deque
from errno import ENOBUFS

import pytest

from natmirror.linux import commands
from natmirror.linux.kernel_changes import KernelChanges, generation

NEWTABLE, NEWRULE, NEWGEN = 0xA00, 0xA06, 0xA0F
IPV4, INET = 2, 1
OURS = 71
"""The process id of a program that natmirror has run."""


def message(kind: int, family: int, port: int, *attributes: tuple[int, bytes]) -> bytes:
    body = bytes((family, 0, 0, 0))
    for name, value in attributes:
        body += struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, port) + body


def rule(table: bytes, port: int, family: int = IPV4) -> bytes:
    return message(NEWRULE, family, port, (1, table + b"\0"), (2, b"PREROUTING\0"))


def end(port: int, name: bytes = b"iptables-nft-re", pid: int = 77) -> bytes:
    return message(
        NEWGEN, 0, port, (1, b"\0\0\0\5"), (2, pid.to_bytes(4)), (3, name + b"\0")
    )  # generation, process id, name


class Netlink:
    """A socket with datagrams, or an error instead of one."""

    def __init__(self) -> None:
        self.datagrams: deque[bytes | OSError] = deque()

    def recv(self, length: int) -> bytes:
        if not self.datagrams:
            raise BlockingIOError
        one = self.datagrams.popleft()
        if isinstance(one, OSError):
            raise one
        return one


@pytest.fixture
def netlink() -> Netlink:
    return Netlink()


@pytest.fixture
def changes(netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> KernelChanges:
    monkeypatch.setattr(commands, "_own", deque([OURS]))  # in a PID namespace, other tests' programs have low ids
    one = KernelChanges(["raw", "natmirror"])
    one._nftables = netlink  # type: ignore[assignment]
    return one


def test_a_change_of_our_table_is_told_with_the_program(changes: KernelChanges, netlink: Netlink) -> None:
    netlink.datagrams += [rule(b"raw", 70) + rule(b"nat", 70), rule(b"raw", 70), end(70)]
    assert changes._read_tables()
    assert changes.take("raw") == "iptables-nft-re (pid 77)"
    assert changes.take("raw") == "", "taken already"
    assert changes.take("natmirror") == ""


def test_other_tables_and_families_are_not_told(changes: KernelChanges, netlink: Netlink) -> None:
    netlink.datagrams += [rule(b"nat", 70), rule(b"raw", 70, INET), end(70)]
    assert not changes._read_tables()
    assert changes.take("raw") == ""


def test_our_own_programs_are_not_told(changes: KernelChanges, netlink: Netlink) -> None:
    netlink.datagrams += [
        rule(b"raw", OURS),
        end(OURS),
        rule(b"raw", 70),
        end(70, b"nft"),
        rule(b"raw", OURS),
        end(OURS),
    ]
    assert changes._read_tables()
    assert changes.take("raw") == "nft (pid 77)"
    netlink.datagrams += [rule(b"raw", OURS), end(OURS)]
    assert not changes._read_tables()


def test_programs_are_read_when_they_are_asked_for(changes: KernelChanges, netlink: Netlink) -> None:
    netlink.datagrams += [message(NEWTABLE, IPV4, 70, (1, b"natmirror\0")), end(70, b"nft")]
    assert changes.take("natmirror") == "nft (pid 77)"


def test_a_change_that_is_read_with_another_tables_program_is_told(
    changes: KernelChanges, netlink: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(changes, "_on_tables", lambda: told.append("changed"))
    netlink.datagrams += [rule(b"raw", 70), end(70), rule(b"natmirror", 70), end(70)]
    assert changes.take("raw") == "iptables-nft-re (pid 77)"
    assert told == ["changed"]
    netlink.datagrams += [rule(b"raw", OURS), end(OURS)]
    changes.take("raw")
    assert told == ["changed"], "natmirror's own change is none"


def test_lost_notifications_count_as_a_change_by_an_unknown_program(changes: KernelChanges, netlink: Netlink) -> None:
    netlink.datagrams += [rule(b"raw", 70), OSError(ENOBUFS, "lost"), end(70)]
    assert changes._read_tables()
    assert changes._read_tables() is False
    assert changes.take("raw") == ""


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_short_message_is_harmless(changes: KernelChanges, netlink: Netlink, cut: int) -> None:
    netlink.datagrams += [(rule(b"raw", 70) + end(70))[: -cut or None]]
    changes._read_tables()


def test_few_programs_are_remembered(changes: KernelChanges, netlink: Netlink) -> None:
    for pid in range(100, 120):
        netlink.datagrams += [rule(b"raw", pid), end(pid, b"nft", pid)]
    changes._read_tables()
    assert changes.take("raw") == ", ".join(f"nft (pid {pid})" for pid in range(116, 120))


def test_a_host_without_netlink_has_no_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", refuse)
    assert generation() is None
