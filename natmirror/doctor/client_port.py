"""The port of this host to which the client of ``natmirror doctor --send`` is plugged: a process in a network namespace
of its own, an interface pair that leads there, and the route of its address.

The namespace has no name: it and the interface pair, and with that the route and the filter on it, go with the process
(caller.py), so that nothing stays whatever ends doctor.

The client's packets enter this host by the interface of the real clients, if there is one: a tc filter on the pair's
end redirects them to that interface's ingress. So they meet the filters of tc and XDP on it, and rules that ask for
it. Answers leave by the pair, because only the client's own address is routed there.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.doctor.caller import INTERFACE, PERMANENT, wait_until_up
from natmirror.errors import HostError
from natmirror.linux.interfaces import DOCTORS_PORT as PORT

_SETTINGS = {"forwarding": 1, "rp_filter": 0}
_CONF = Path("/proc/sys/net/ipv4/conf")
_STRICT = 1
# linux/pkt_sched.h, linux/if_ether.h
_INGRESS, _ETH_P_IP = 0xFFFF0000, 0x0800
_END_TIMEOUT = 5.0  # seconds


class ClientPort:
    """A client with this address; a context manager. ``services`` are the addresses that it calls. ``link`` is the
    interface by which its packets are to come in, None: the pair's end. HostError where the host refuses."""

    def __init__(self, client: IPv4Address, services: Iterable[IPv4Address], link: str | None) -> None:
        self._client = client
        self._services = list(dict.fromkeys(services))
        self.link = None if link is None or _is_strict(link) else link
        """The interface by which its packets come in; None: the pair's end."""
        self._index: int | None = None

    def __enter__(self) -> "ClientPort":
        self._caller = subprocess.Popen(
            [sys.executable, "-m", "natmirror.doctor.caller"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C goes to doctor alone, which ends it
        )
        try:
            self._answer()
            gateway = self._plug()
            answer = self._ask(
                {"client": str(self._client), "gateway": gateway, "services": [str(one) for one in self._services]}
            )
            self._know(answer["address"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the client, which closes its connection, and remove its interface."""
        self._caller.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._caller.communicate(timeout=_END_TIMEOUT)
        self._caller.kill()
        self._caller.communicate()
        if self._index is not None:  # else the interface of that name is another doctor's
            with IPRoute() as kernel, suppress(NetlinkError):
                kernel.link("del", index=self._index)

    def call(self, address: IPv4Address, port: int, data: bytes, *, is_openflow: bool) -> dict[str, Any]:
        """Make a connection, which stays open; return what has become of it, as caller.py says."""
        return self._ask({"address": str(address), "port": port, "data": data.hex(), "openflow": is_openflow})

    def hang_up(self) -> None:
        """Close the connection."""
        self._ask(None)

    def _say(self, order: dict[str, Any] | None) -> None:
        assert self._caller.stdin is not None
        self._caller.stdin.write(json.dumps(order) + "\n")
        self._caller.stdin.flush()

    def _ask(self, order: dict[str, Any] | None) -> dict[str, Any]:
        with suppress(BrokenPipeError):  # _answer() says why
            self._say(order)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._caller.stdout is not None
        if line := self._caller.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        _, errors = self._caller.communicate()
        raise HostError(f"the client of doctor has ended: {(errors.strip().splitlines() or ['no message'])[-1]}")

    def _plug(self) -> str:
        """Make the interface pair; return the link address of its end on this host."""
        try:
            with IPRoute() as kernel:
                mtu = _mtu(kernel, self.link)
                peer = {"ifname": INTERFACE, "net_ns_pid": self._caller.pid, "mtu": mtu}
                kernel.link("add", ifname=PORT, kind="veth", peer=peer, mtu=mtu)
                [index] = kernel.link_lookup(ifname=PORT)
                self._index = index
                for name, value in _SETTINGS.items():
                    (_CONF / PORT / name).write_text(str(value))
                kernel.link("set", index=index, state="up")
                kernel.route("add", dst=f"{self._client}/32", oif=index, scope="link")
                self._redirect(kernel, index)
                [link] = kernel.get_links(index)
                return str(link.get_attr("IFLA_ADDRESS"))
        except (NetlinkError, OSError) as error:
            raise HostError(f"cannot make a client: {_why(error)}") from None

    def _know(self, link_address: str) -> None:
        """Make the client known as a neighbour, and wait until its packets pass."""
        try:
            with IPRoute() as kernel:
                [index] = kernel.link_lookup(ifname=PORT)
                to = str(self._client)
                kernel.neigh("replace", family=AF_INET, dst=to, lladdr=link_address, ifindex=index, state=PERMANENT)
                wait_until_up(kernel, index)
        except (NetlinkError, OSError) as error:
            raise HostError(f"cannot make a client: {_why(error)}") from None

    def _redirect(self, kernel: IPRoute, index: int) -> None:
        """Have the client's packets come in by the interface of the real clients, if the kernel can do that."""
        if self.link is None:
            return
        try:
            [to] = kernel.link_lookup(ifname=self.link)
            kernel.tc("add", "ingress", index=index)
            action = {"kind": "mirred", "direction": "ingress", "action": "redirect", "ifindex": to}
            kernel.tc(
                "add-filter",
                "u32",
                index=index,
                parent=_INGRESS,
                protocol=_ETH_P_IP,
                prio=1,
                target=0x10000,
                keys=["0x0/0x0+0"],
                action=[action],
            )
        except NetlinkError:  # without the modules cls_u32 and act_mirred
            self.link = None


def _is_strict(link: str) -> bool:
    """Return whether a reverse path filter would drop the client's packets there: its address is routed elsewhere."""
    with suppress(OSError, ValueError):  # of an interface that has just gone
        return max(int((_CONF / name / "rp_filter").read_text()) for name in ("all", link)) == _STRICT
    return True


def _mtu(kernel: IPRoute, link: str | None) -> int:
    if link is None:
        return 1500
    [index] = kernel.link_lookup(ifname=link)
    [found] = kernel.get_links(index)
    return min(int(found.get_attr("IFLA_MTU")), 65535)


def _why(error: Exception) -> str:
    why = error.args[1] if isinstance(error, NetlinkError) and len(error.args) > 1 else str(error)
    if "exists" not in str(why):
        return str(why)
    return f"the interface {PORT}, or a route to the client's address alone, is there: wait until another doctor ends"
