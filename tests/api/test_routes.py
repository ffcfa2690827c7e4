"""Requests that the API refuses, each with a hint that says what to send."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from natmirror.api.http_server import Request
from natmirror.api.metrics import Metrics
from natmirror.api.page_files import PageFiles
from natmirror.api.program import Program, Refused
from natmirror.api.resources import ROUTES, Kind
from natmirror.api.routes import Routes
from natmirror.runtime import shown

JSON = "application/json; charset=utf-8"
PAGE = PageFiles({"index.html": b"<!doctype html>", "page.js": b"0"})


class Recorder:
    """A program that obeys all commands, and notes them."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []

    async def command(self, name: str, arguments: dict[str, Any]) -> Any:
        self.commands.append((name, arguments))
        return {}


def answer(program: Recorder, method: str, target: str, content_type: str = "", body: bytes = b"") -> bytes:
    path, _, query = target.partition("?")
    request = Request(method, path, query, content_type, body)

    async def run() -> bytes:
        routes = Routes(cast(Program, program), Metrics(cast(Program, program)), PAGE, b"{}")
        return b"".join([piece async for piece in routes.respond(request).pieces])

    return asyncio.run(run())


def refusal(method: str, target: str, content_type: str = "", body: bytes = b"") -> tuple[int, str]:
    with pytest.raises(Refused) as found:
        answer(Recorder(), method, target, content_type, body)
    return found.value.status, found.value.text


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.title)
def test_each_route_is_found_and_its_answers_type_is_declared(route: Any) -> None:
    path = route.path.replace("{service}", "a%20b").replace("{backend}", "c%2Fd").replace("{mirror}", "c%2Fd")
    path = path.replace("{file}", "c%2Fd")
    matches = [one.match(path) for one in ROUTES if one.method == route.method]
    [in_path] = [one for one in matches if one is not None]
    assert set(in_path.values()) <= {"a b", "c/d"}
    assert route.answer in shown.__all__ or route.kind is Kind.FILE


@pytest.mark.parametrize(
    ("method", "target", "status", "hint"),
    [
        ("GET", "/v1/flow", 404, "did you mean /v1/flows?"),
        ("GET", "/metrix", 404, "did you mean /metrics?"),
        ("GET", "/page/", 404, "there is no /page/"),
        ("GET", "/page/pages.js", 404, "the status page has no file pages.js"),
        ("GET", "/page/index.html", 404, "the status page has no file index.html"),
        ("GET", "/page/..%2Fopenapi.json", 404, "the status page has no file ../openapi.json"),
        ("GET", "/page/../../../etc/passwd", 404, "there is no /page/../../../etc/passwd"),
        ("POST", "/page/page.js", 405, "/page/page.js takes GET, HEAD, not POST"),
        ("GET", "/nothing", 404, "there are /v1/status, /v1/flows,"),
        ("GET", "/v1/backends//c1/drain", 404, "/v1/backends/{service}/{backend}/drain"),
        ("GET", "/v1/reload", 405, "/v1/reload takes POST, not GET"),
        ("POST", "/v1/status", 405, "/v1/status takes GET, HEAD, not POST"),
        ("GET", "/v1/status?verbose=1", 400, "there is no parameter verbose: there are none"),
        ("GET", "/metrics?name=x", 400, "there is no parameter name: there are none"),
        ("POST", "/v1/reload?dry_run=true", 400, "there is no parameter dry_run"),
    ],
)
def test_a_wrong_request_gets_a_hint(method: str, target: str, status: int, hint: str) -> None:
    found, text = refusal(method, target, JSON, b"{}")
    assert (found, hint in text) == (status, True), text


@pytest.mark.parametrize(
    ("content_type", "body", "status", "hint"),
    [
        (
            "",
            b"",
            415,
            "with these members, all optional: dry_run: true or false, for example: curl",
        ),
        ("text/plain", b"{}", 415, "the body has no Content-Type: application/json"),
        (JSON, b"", 400, "the body is no JSON object; send"),
        (JSON, b'{"dryrun": true}', 400, "there is no member dryrun: did you mean dry_run?"),
        (JSON, b'{"dry_run": 1}', 400, "the member dry_run: expected true or false, found 1"),
    ],
)
def test_a_wrong_body_gets_a_hint(content_type: str, body: bytes, status: int, hint: str) -> None:
    found, text = refusal("POST", "/v1/reload", content_type, body)
    assert (found, hint in text) == (status, True), text


def test_the_hint_for_a_body_tells_members_that_have_to_be_there_from_the_others() -> None:
    _, text = refusal("POST", "/v1/backends/of/c1/weight", JSON, b"")
    assert "send a JSON object with weight: " in text
    assert " and with these members, all optional: persist: true or false, for example: " in text
    assert """ --json '{"weight": …}' http://natmirror/""" in text


def test_a_command_gets_the_parameters_of_its_path_and_body() -> None:
    program = Recorder()
    assert answer(program, "POST", "/v1/backends/of/c%2F1/drain", JSON, b'{"deadline": 2.5}') == b"{}"
    assert answer(program, "POST", "/v1/mirroring/resume", JSON, b"{}") == b"{}"
    assert program.commands == [
        ("drain", {"service": "of", "backend": "c/1", "deadline": 2.5}),
        ("resume-mirroring", {}),
    ]
    status, text = refusal("POST", "/v1/backends/of/c1/drain", JSON, b'{"deadline": -1}')
    assert (status, text) == (400, "the member deadline: expected a number of seconds, 0 or more, found -1")


class Lists(Recorder):
    """A program with a list of some rows, in parts."""

    def __init__(self, *parts: list[tuple[list[int], dict[str, Any]]]) -> None:
        super().__init__()
        self.parts = parts
        self.given = 0
        self.asked: list[dict[str, Any]] = []

    async def get(
        self, name: str, arguments: dict[str, Any], *, comes_first: bool = False
    ) -> AsyncGenerator[tuple[Any, float], None]:
        self.asked.append(arguments)
        for part in self.parts:
            self.given += 1
            yield part, 0.0


def rows(*numbers: int) -> list[tuple[list[int], dict[str, Any]]]:
    return [([number], {"client": f"10.0.0.1:{number}"}) for number in numbers]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("sort", ["", "&sort=-client"])
def test_a_page_ends_at_its_limit_and_tells_where_it_goes_on(limit: int, sort: str) -> None:
    program = Lists([], rows(1, 2, 3), [], rows(4, 5))
    page = json.loads(answer(program, "GET", f"/v1/legs?limit={limit}{sort}"))
    assert page["at"] == "1970-01-01T00:00:00.000+00:00"
    numbers = [int(row["client"].partition(":")[2]) for row in page["items"]]
    assert numbers == ([5, 4, 3, 2, 1] if sort else [1, 2, 3, 4, 5])[:limit]
    assert (page["next"] is None) == (limit >= 5)
    if limit < 5:
        page = json.loads(answer(program, "GET", f"/v1/legs?limit=9{sort}&cursor={page['next']}&mirror=m"))
        assert program.asked[-1] == {"mirror": "m"} | ({} if sort else {"after": [limit]})
        assert len(page["items"]) == (5 - limit if sort else 5)  # natmirror itself goes on behind a position


def test_an_empty_list_is_a_page() -> None:
    assert json.loads(answer(Lists([]), "GET", "/v1/ended"))["items"] == []


def test_a_client_of_a_sorted_list_hears_of_each_part() -> None:
    program = Lists(rows(3), rows(1), rows(2))
    as_program = cast(Program, program)
    request = Request("GET", "/v1/legs", "sort=client", "", b"")

    async def run() -> None:
        pieces = Routes(as_program, Metrics(as_program), PAGE, b"{}").respond(request).pieces
        for count in (1, 2, 3):
            assert await anext(pieces) == b" "
            assert program.given == count
        page = json.loads(b"".join([piece async for piece in pieces]))
        assert [row["client"] for row in page["items"]] == ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]

    asyncio.run(run())


def test_few_lists_are_sorted_at_the_same_time() -> None:
    program = cast(Program, Lists(rows(1, 2)))
    routes = Routes(program, Metrics(program), PAGE, b"{}")
    request = Request("GET", "/v1/legs", "sort=client", "", b"")

    async def run() -> None:
        pages = [routes.respond(request).pieces for _ in range(9)]
        for page in pages[:8]:
            await anext(page)
        with pytest.raises(Refused) as found:
            await anext(pages[8])
        assert found.value.status == 503
        for page in pages:
            await page.aclose()
        assert b"10.0.0.1:1" in b"".join([piece async for piece in routes.respond(request).pieces])

    asyncio.run(run())


def test_the_worst_legs_are_asked_for_by_their_number() -> None:
    program = Lists([([number], {"client": "10.0.0.1:1", "lag_seconds": float(number)}) for number in (1, 3, 2)])
    page = json.loads(answer(program, "GET", "/v1/legs?sort=-lag_seconds&lagging=0.5&limit=2"))
    assert program.asked[-1] == {"lagging": 0.5, "worst": 3}
    assert [row["lag_seconds"] for row in page["items"]] == [3.0, 2.0]
    answer(program, "GET", f"/v1/legs?sort=-lag_seconds&lagging=0.5&limit=2&cursor={page['next']}")
    assert "worst" not in program.asked[-1]
    answer(program, "GET", "/v1/legs?sort=-lag_seconds&limit=2")
    assert "worst" not in program.asked[-1]
