"""The port of doctor's client: what it removes at its end."""

import io
from ipaddress import IPv4Address
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.doctor import client_port
from natmirror.doctor.client_port import ClientPort
from natmirror.errors import HostError


class Kernel:
    """A kernel in which another doctor has the interface already."""

    removed: list[int] = []  # noqa: RUF012

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None: ...

    def link(self, what: str, **words: Any) -> None:
        if what == "add":
            raise NetlinkError(17, "File exists")
        self.removed.append(words["index"])

    def link_lookup(self, **_: Any) -> list[int]:
        return [7]


class Caller:
    """The process of a client."""

    pid = 1
    stdin = io.StringIO()

    def __init__(self, *_: object, **__: object) -> None:
        self.stdout = io.StringIO('{"ready": true}\n')

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def communicate(self, **_: Any) -> tuple[str, str]:
        return "", ""


def test_a_second_doctor_leaves_the_first_ones_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_port, "IPRoute", Kernel)
    monkeypatch.setattr("subprocess.Popen", Caller)
    port = ClientPort(IPv4Address("10.10.0.77"), [IPv4Address("10.10.0.100")], None)
    with pytest.raises(HostError, match="wait until another doctor ends"):
        port.__enter__()
    assert Kernel.removed == []
