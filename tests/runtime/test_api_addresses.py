"""The addresses of the rules keys ``metrics`` and ``api``: what each answers, and one that cannot be bound."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from natmirror.lab.process import wait_for
from natmirror.metrics.page import CONTENT_TYPE
from natmirror.rules import Rules, parse_rules
from natmirror.runtime import api_process
from natmirror.runtime.allowance import Allowance
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.api_process import ApiProcess
from tests.helpers.status import status_document
from tests.helpers.support import RULES


@pytest.fixture
def status() -> dict[str, Any]:
    return status_document()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def rules(**ports: int) -> Rules:
    return parse_rules("".join(f"{key}: 127.0.0.1:{port}\n" for key, port in ports.items()) + RULES)


@contextmanager
def serving(tmp_path: Path, addresses: ApiAddresses, status: dict[str, Any]) -> Iterator[ApiProcess]:
    api = ApiProcess(
        *(tmp_path / "api.sock", addresses, {"status": lambda _: status}, {"flows": lambda _: iter([])}, {}),
        *(Allowance([]), lambda: "too busy"),
    )
    api.open()
    try:
        yield api
    finally:
        api.close()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def accepts(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_address_of_metrics_serves_nothing_else(tmp_path: Path, status: dict[str, Any]) -> None:
    port = free_port()
    with serving(tmp_path, ApiAddresses(rules(metrics=port)), status):
        code, kind, page = get(port, "/metrics")
        assert (code, kind) == (200, CONTENT_TYPE)
        assert b'\nnatmirror_build_info{version="1.2"} 1.0\n' in page
        assert get(port, "/v1/status")[0] == 404
        assert get(port, "/metrics", "POST")[0] == 405
        assert get(port, "/metrics?name=natmirror_flows")[0] == 400


def test_the_address_of_the_api_takes_no_commands(tmp_path: Path, status: dict[str, Any]) -> None:
    port = free_port()
    with serving(tmp_path, ApiAddresses(rules(api=port)), status):
        assert get(port, "/v1/flows")[0] == 200
        assert get(port, "/metrics")[0] == 200
        code, _, body = get(port, "/v1/reload", "POST")
        assert (code, body) == (405, b'{"error": "this address is read-only: send commands to the Unix socket"}')


def test_an_address_that_is_taken_costs_nothing_else_and_is_tried_again(
    tmp_path: Path, status: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_process, "CHECK_INTERVAL", 0.01)
    taken, other = free_port(), free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen()
        addresses = ApiAddresses(rules(metrics=taken, api=other))
        with serving(tmp_path, addresses, status) as api:
            assert get(other, "/v1/flows")[0] == 200
            [failure] = api.failures()
            assert failure["name"] == "the address of metrics"
            assert failure["error"] == f"cannot listen on 127.0.0.1:{taken}: Address already in use"
            holder.close()
            wait_for(lambda: not api.failures() and accepts(taken), "the address")
            assert get(taken, "/metrics")[0] == 200
    assert caplog.text.count("metrics in the rules: cannot listen") == 1


def test_a_reload_moves_the_addresses(tmp_path: Path, status: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_process, "CHECK_INTERVAL", 0.01)
    before, after = free_port(), free_port()
    addresses = ApiAddresses(rules(metrics=before))
    with serving(tmp_path, addresses, status):
        assert get(before, "/metrics")[0] == 200
        addresses.follow(rules(metrics=after))
        wait_for(lambda: accepts(after) and not accepts(before), "the new address")
        assert get(after, "/metrics")[0] == 200
        addresses.follow(rules())
        wait_for(lambda: not accepts(after), "the address to be closed")


def test_an_address_moves_to_all_addresses_of_its_port_without_an_error(
    tmp_path: Path, status: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_process, "CHECK_INTERVAL", 0.01)
    port = free_port()
    addresses = ApiAddresses(rules(metrics=port))
    with serving(tmp_path, addresses, status) as api:
        assert get(port, "/metrics")[0] == 200
        before = api.pid
        addresses.follow(parse_rules(f"metrics: 0.0.0.0:{port}\n{RULES}"))
        wait_for(lambda: addresses.descriptors()[0] >= 0 and api.pid not in (None, before), "the address")
        assert get(port, "/metrics")[0] == 200
        assert not api.failures()
    assert "cannot listen" not in caplog.text
