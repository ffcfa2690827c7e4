"""The status page's files over HTTP: their types, and what a browser has to load again."""

from collections.abc import Iterator

import httpx
import pytest

from natmirror.api.page_files import FOLDER
from tests.helpers.api import served

NAMES = sorted(path.name for path in FOLDER.iterdir())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("page") / "api.sock"
    transport = httpx.HTTPTransport(uds=str(path))
    with served(path, {}), httpx.Client(transport=transport, base_url="http://natmirror") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_a_file_has_its_type_and_is_sent_once(client: httpx.Client, path: str, content_type: str) -> None:
    first = client.get(path)
    assert (first.status_code, first.headers["Content-Type"]) == (200, content_type)
    assert first.headers["Cache-Control"] == "no-cache"
    assert int(first.headers["Content-Length"]) == len(first.content)
    for etags in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}'):
        again = client.get(path, headers={"If-None-Match": etags})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


def test_the_page_names_files_that_exist_and_nothing_from_outside(client: httpx.Client) -> None:
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in NAMES}
    assert {name for name in NAMES if f"page/{name}" in texts["index.html"]} == {"icon.svg", "page.js", "style.css"}
    for name, text in texts.items():
        without_names = text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in without_names and "innerHTML" not in text and "style=" not in text, name
    assert all(client.get(f"/page/{name}").status_code == 200 for name in NAMES if name != "index.html")
