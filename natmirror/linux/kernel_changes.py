"""The kernel's notifications that a program has changed nftables, an interface or its addresses.

Each transaction in nftables ends with a message that names the process (linux/netfilter/nf_tables.h: NFT_MSG_NEWGEN),
and all of its messages name its table first. iptables-nft works through nftables. Changes by iptables-legacy have no
notification.
"""

import select
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOBUFS

from natmirror.errors import HostError
from natmirror.linux import commands
from natmirror.linux.netlink import Message, attributes, message, messages
from natmirror.threads import NamedThread

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES = 7
_NEWGEN, _GETGEN = (10 << 8 | number for number in (15, 16))  # of NFNL_SUBSYS_NFTABLES
_GEN_ID, _GEN_PROC_PID, _GEN_PROC_NAME = 1, 2, 3
_TABLE = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
# linux/rtnetlink.h: LINK, IPV4_IFADDR, and IPV4_NETCONF, which tells of rp_filter and forwarding
_LINK_GROUPS = (1, 5, 24)

_FAMILY_LEN = 4  # struct nfgenmsg
_MAX_LEN = 1 << 18  # bytes of one read: as many as a socket's buffer holds
_READS_AT_ONCE = 256
_MAX_PROCESSES = 4  # that are remembered for a table
# Seconds
_REST = 0.1  # between two reads, which bounds the cost of a program that changes much
_TIMEOUT = 1.0


def generation() -> int | None:
    """Return the number of the latest transaction in this network namespace's nftables; None where the kernel does not
    say."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(_TIMEOUT)
            netlink.send(message(_GETGEN, 0, 1, bytes(_FAMILY_LEN)))
            answers = [one.body for one in messages(netlink.recv(_MAX_LEN)) if one.kind == _NEWGEN]
            return int.from_bytes(_attributes(answers[0])[_GEN_ID]) if answers else None
    except OSError:
        return None


class KernelChanges:
    """Waits in a thread of its own for notifications, and keeps which programs have changed ``tables``, IPv4 tables of
    nftables."""

    def __init__(self, tables: Collection[str]) -> None:
        self._tables = tables
        self._nftables: socket.socket | None = None
        self._links: socket.socket | None = None
        self._lock = threading.Lock()
        self._changed_by: defaultdict[str, deque[_Process]] = defaultdict(lambda: deque(maxlen=_MAX_PROCESSES))
        self._under_way: set[str] = set()  # our tables in a transaction whose end has not been read
        self._stop: tuple[socket.socket, socket.socket] | None = None
        self._on_tables: Callable[[], None] = lambda: None
        self._thread = NamedThread(self._run, "kernel-watch")

    def start(self, on_tables: Callable[[], None], on_links: Callable[[], None]) -> None:
        """Open the sockets, and start the thread. It calls ``on_tables`` when other programs may have changed the
        tables, ``on_links`` after changes of interfaces or addresses. Without kernel support for notifications there
        are no calls. HostError where the host refuses a thread."""
        self._on_tables, self._on_links = on_tables, on_links
        with suppress(OSError):
            self._nftables = _listener(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
        with suppress(OSError):
            self._links = _listener(socket.NETLINK_ROUTE, _LINK_GROUPS)
        try:
            self._stop = socket.socketpair()
            self._thread.start()
        except (OSError, RuntimeError) as error:
            raise HostError(f"cannot watch the kernel's rules: {error}") from None

    def close(self) -> None:
        """End the thread, and close the sockets."""
        if self._stop is not None:
            self._stop[1].close()
            if self._thread.is_alive():
                self._thread.join()
            self._stop[0].close()
        for one in (self._nftables, self._links):
            if one is not None:
                one.close()

    def take(self, table: str) -> str:
        """Return the programs that have changed a table since the last call, as text; empty where none is known."""
        if self._read_tables():  # the thread does not learn of these changes, and other tables may be among them
            self._on_tables()
        with self._lock:
            processes = self._changed_by.pop(table, ())
        return ", ".join(dict.fromkeys(one.name for one in processes if not commands.is_own(one.port)))

    def _run(self) -> None:
        assert self._stop is not None
        stop = self._stop[0]
        while True:
            ready = select.select([one for one in (stop, self._nftables, self._links) if one is not None], [], [])[0]
            if stop in ready:
                return
            if self._nftables in ready and self._read_tables():
                self._on_tables()
            if self._links in ready:
                with suppress(OSError):  # ENOBUFS: a change is a change
                    deque(_received(self._links), maxlen=0)
                self._on_links()
            if select.select([stop], [], [], _REST)[0]:
                return

    def _read_tables(self) -> bool:
        """Read what is there; return whether other programs may have changed our tables."""
        with self._lock:
            try:
                return any([self._note(one) for one in _received(self._nftables)])
            except OSError as error:  # ENOBUFS: messages were lost
                self._under_way.clear()
                return error.errno == ENOBUFS

    def _note(self, notification: Message) -> bool:
        values = _attributes(notification.body)
        if notification.kind != _NEWGEN:
            table = values.get(_TABLE, b"").rstrip(b"\0").decode(errors="replace")
            if notification.body[:1] == bytes((socket.AF_INET,)) and table in self._tables:
                self._under_way.add(table)
            return False
        tables, self._under_way = self._under_way, set()
        name = values.get(_GEN_PROC_NAME, b"").rstrip(b"\0").decode(errors="replace")
        pid = int.from_bytes(values.get(_GEN_PROC_PID, b""))
        for table in tables:
            self._changed_by[table].append(_Process(notification.port, f"{name} (pid {pid})"))
        return bool(tables) and not commands.is_own(notification.port)


@dataclass(frozen=True, slots=True)
class _Process:
    port: int  # of its netlink socket: usually the process id, as this PID namespace shows it (netlink(7))
    name: str


def _listener(protocol: int, groups: Sequence[int]) -> socket.socket:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    one.setblocking(False)
    one.bind((0, 0))
    for group in groups:
        one.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return one


def _received(netlink: socket.socket | None) -> Iterator[Message]:
    """Yield the messages that a socket has; a bounded number. OSError where some were lost."""
    if netlink is None:
        return
    for _ in range(_READS_AT_ONCE):
        try:
            yield from messages(netlink.recv(_MAX_LEN))
        except BlockingIOError:
            return


def _attributes(body: bytes) -> dict[int, bytes]:
    return attributes(body[_FAMILY_LEN:])
