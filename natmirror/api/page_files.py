"""The status page's files: a fixed table of names, read once, so that no request's path reaches the disk."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from natmirror.api.http_server import NOT_MODIFIED, Answer, Request
from natmirror.api.program import Refused

FOLDER = Path(__file__).with_name("page")
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    body: bytes
    etag: str


class PageFiles:
    """The page, ``index.html`` among ``files``, and the files that it names."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {
            name: _File(_TYPES[Path(name).suffix], body, f'"{sha256(body).hexdigest()[:16]}"')
            for name, body in files.items()
        }
        self._index = self._files.pop(_INDEX)

    @classmethod
    def read(cls) -> Self:
        """Read the files of this installation."""
        return cls({path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in _TYPES})

    def respond(self, name: str | None, request: Request) -> Answer:
        """Return the answer with a file, or with the page if ``name`` is None. Refused where there is no such file. A
        browser asks again each time, but gets the body only if it has another one: after an upgrade, no old file meets
        a new one."""
        if (file := self._index if name is None else self._files.get(name)) is None:
            raise Refused(404, f"the status page has no file {name:.100}")
        has_it = file.etag in (etag.strip().removeprefix("W/") for etag in request.etags.split(","))
        caching = (("Cache-Control", "no-cache"), ("ETag", file.etag))
        return Answer(file.content_type, _whole(file.body), caching, NOT_MODIFIED if has_it else 200)


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
