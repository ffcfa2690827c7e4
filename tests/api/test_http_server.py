"""HTTP over the test's own socket pairs: clients that are slow, silent, hostile, or gone."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from natmirror.api import http_server
from natmirror.api.http_server import MAX_BODY_LEN, MAX_CONNECTIONS, Answer, HttpServer, Request
from natmirror.api.program import Refused

LONG = 200_000


class World:
    """A server and its answers."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "api.sock")
        self.requests: list[Request] = []
        self.cancelled = 0
        self.made = 0

    def respond(self, request: Request) -> Answer:
        return Answer("application/json", self._pieces(request))

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        self.requests.append(request)
        if request.path == "/long":
            for _ in range(LONG):
                self.made += 1
                yield b"x" * 1000
        elif request.path == "/never":
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cancelled += 1
        elif request.path == "/cut":
            yield b"["
            yield b"1"
            raise Refused(503, "too busy")
        elif request.path == "/parts":
            for piece in (b"[1", b", 2", b"]"):
                yield piece
        elif request.path == "/refused":
            raise Refused(404, "there is no such thing")
        else:
            yield b'{"fine": true}'

    async def talk(self, data: bytes) -> bytes:
        """Return what the server sends to a client that sends this, until it closes the connection."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


def run(tmp_path: Path, test: Callable[[World], Awaitable[None]], most: int = MAX_CONNECTIONS) -> None:
    async def inside() -> None:
        world = World(tmp_path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(world.path)
            listening.listen()
            listening.setblocking(False)
            serving = asyncio.create_task(HttpServer(world.respond, most).serve(listening))
            try:
                await test(world)
            finally:
                serving.cancel()
                await asyncio.wait({serving})

    asyncio.run(inside())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


GET = b"GET %b HTTP/1.1\r\nHost: n\r\n%b\r\n"
CLOSE = b"Connection: close\r\n"


def test_requests_of_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        answer = await world.talk(GET % (b"/a?x=1", b"") + GET % (b"/parts", b"") + GET % (b"/refused", CLOSE))
        first, second, third = answer.split(b"HTTP/1.1 ")[1:]
        assert first.endswith(b'\r\n\r\n{"fine": true}')
        assert b"chunked" in second
        assert b"404" in third and json.loads(third.rpartition(b"\r\n\r\n")[2]) == {"error": "there is no such thing"}
        assert [request.path for request in world.requests] == ["/a", "/parts", "/refused"]

    run(tmp_path, test)


def test_an_old_client_gets_a_list_without_chunks(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        assert (await world.talk(b"GET /parts HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n[1, 2]")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # without Host
        (b"GET / HTTP/1.1\r\nHost: n\r\nX: " + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nHost: n\r\n" + b"X: y\r\n" * 10_000, 431),
        (b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, 413),
        (
            b"POST / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1000\r\n%b\r\n" % (b"x" * 0x1000) * 20,
            413,
        ),
        (b"POST / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_a_malformed_or_huge_request_gets_an_error_and_ends_the_connection(
    tmp_path: Path, data: bytes, status: int
) -> None:
    async def test(world: World) -> None:
        answer = await world.talk(data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]
        assert world.requests == []

    run(tmp_path, test)


def test_the_largest_body_is_taken_also_after_100_continue(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        body = b"x" * MAX_BODY_LEN
        head = b"POST / HTTP/1.1\r\nHost: n\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        reader, writer = await asyncio.open_unix_connection(world.path)
        writer.write(head % MAX_BODY_LEN)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert b"HTTP/1.1 200 " in await reader.read()
        writer.close()
        assert world.requests == [Request("POST", "/", "", "", body, "n")]

    run(tmp_path, test)


@pytest.mark.parametrize(("name", "data"), [("IDLE_TIMEOUT", b""), ("REQUEST_TIMEOUT", b"GET / HTTP/1.1\r\nX: ")])
def test_a_client_that_is_silent_is_cut_off(
    tmp_path: Path, name: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, name, 0.02)

    async def test(world: World) -> None:
        with pytest.raises(ConnectionError):
            if not await world.talk(data):
                raise ConnectionResetError

    run(tmp_path, test)


def test_a_client_that_does_not_read_is_cut_off_and_holds_one_piece_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "WRITE_TIMEOUT", 0.05)

    async def test(world: World) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(world.path)
            client.sendall(GET % (b"/long", b""))
            await until(lambda: world.made)
            made = -1
            while made < world.made:
                made = world.made
                await asyncio.sleep(0.1)
            assert made < 2000
            assert b"HTTP/1.1 200 " in await world.talk(GET % (b"/", CLOSE))

    run(tmp_path, test)


def test_a_client_that_closes_the_connection_gives_up_its_request(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        _, writer = await asyncio.open_unix_connection(world.path)
        writer.write(GET % (b"/never", b""))
        await until(lambda: world.requests)
        writer.close()
        await until(lambda: world.cancelled)

    run(tmp_path, test)


def test_a_list_that_cannot_be_finished_is_not_ended(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        try:
            answer = await world.talk(GET % (b"/cut", b""))
        except ConnectionResetError:
            return
        assert not answer.endswith(b"0\r\n\r\n")

    run(tmp_path, test)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nX: "])
def test_the_longest_silent_connection_makes_room(tmp_path: Path, data: bytes) -> None:
    async def test(world: World) -> None:
        silent = [await asyncio.open_unix_connection(world.path) for _ in range(60)]
        for _, writer in silent:
            writer.write(data)
        for _ in range(3):
            assert b"HTTP/1.1 200 " in await world.talk(GET % (b"/", CLOSE))
        with pytest.raises(ConnectionError):
            if not await silent[0][0].read():
                raise ConnectionResetError
        for _, writer in silent:
            writer.close()

    run(tmp_path, test, most=20)


def test_without_a_silent_one_the_connection_that_reads_longest_makes_room(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        slow = [await asyncio.open_unix_connection(world.path) for _ in range(6)]
        for _, writer in slow:
            writer.write(GET % (b"/long", b""))
        await until(lambda: len(world.requests) >= 5)
        assert b"HTTP/1.1 200 " in await world.talk(GET % (b"/", CLOSE))
        for _, writer in slow:
            writer.close()

    run(tmp_path, test, most=5)


@pytest.mark.parametrize(
    ("path", "status"), [(b"/", b"200"), (b"/parts", b"200"), (b"/long", b"200"), (b"/refused", b"404")]
)
def test_head_gets_the_head_alone_and_the_connection_goes_on(tmp_path: Path, path: bytes, status: bytes) -> None:
    async def test(world: World) -> None:
        head = (GET % (path, b"")).replace(b"GET", b"HEAD")
        first, second = (await world.talk(head + GET % (b"/", CLOSE))).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(status) and first.endswith(b"\r\n\r\n")
        assert second.endswith(b'{"fine": true}')
        assert [request.method for request in world.requests] == ["GET", "GET"]

    run(tmp_path, test)


def test_each_answer_says_what_a_browser_may_do_with_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for path in (b"/fine", b"/refused", b"/parts"):
            head = (await world.talk(b"GET %s HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n" % path)).partition(
                b"\r\n\r\n"
            )[0]
            assert b"\r\nCache-Control: no-store\r\n" in head
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in head
            assert b"default-src 'none'; script-src 'self'; " in head and b"; frame-ancestors 'none'" in head

    run(tmp_path, test)


def test_a_target_with_a_host_names_the_path_and_the_host(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.talk(GET % (b"http://lb1:9653/v1/status?x=1", CLOSE))
        await world.talk(GET % (b"/v1/status", CLOSE))
        assert [(one.path, one.query, one.host) for one in world.requests] == [
            ("/v1/status", "x=1", "lb1:9653"),
            ("/v1/status", "", "n"),
        ]

    run(tmp_path, test)
