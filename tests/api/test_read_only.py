"""The address of the rules key ``api``: it takes no commands, and serves no foreign web page."""

import socket
from typing import Any

import pytest

from natmirror.api.http_server import Answer, Request
from natmirror.api.program import Refused
from natmirror.api.read_only import read_only

ANSWER: Any = object()


def respond(request: Request) -> Answer:
    return ANSWER  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "LB1.example.net")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "10.20.0.1",
        "10.20.0.1:9654",
        "localhost:9654",
        "Lb1",
        "lb1.example.net:9654",
        "lb1.example.net.",
        "[::1]:80",
    ],
)
def test_by_its_own_names_and_addresses_it_answers(host: str) -> None:
    assert read_only(respond)(Request("GET", "/v1/status", "", host=host)) is ANSWER


@pytest.mark.parametrize(
    "host", ["page.example.org", "page.example.org:9654", "10.20.0.1.example.org", "lb1.evil:1", "a:b:c"]
)
def test_by_another_name_it_does_not(host: str) -> None:
    with pytest.raises(
        Refused, match=r"answers as localhost, as lb1\.example\.net and by its IP address, not as"
    ) as found:
        read_only(respond)(Request("GET", "/v1/status", "", host=host))
    assert found.value.status == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_it_takes_no_commands(method: str) -> None:
    with pytest.raises(Refused, match="this address is read-only") as found:
        read_only(respond)(Request(method, "/v1/reload", "", host="localhost"))
    assert (found.value.status, found.value.methods) == (405, "GET, HEAD")
