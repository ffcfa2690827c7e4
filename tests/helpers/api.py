"""The API of a natmirror that exists only in a test."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from natmirror.api.resources import LISTS
from natmirror.rules import parse_rules
from natmirror.runtime.allowance import Allowance
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.api_process import ApiProcess, Parts
from natmirror.runtime.mailbox import settle
from tests.helpers.support import RULES


@contextmanager
def served(
    path: Path,
    resources: Mapping[str, Callable[[], Any]],
    commands: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
    lists: Mapping[str, Parts] | None = None,
    rules: str = RULES,
) -> Iterator[ApiProcess]:
    """Serve these resources, commands and lists on ``path`` and at the addresses of the rules, each command at once."""

    def command(obey: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], "Future[Any]"]:
        def run(arguments: dict[str, Any]) -> "Future[Any]":
            answer: Future[Any] = Future()
            settle(answer, lambda: obey(arguments))
            return answer

        return run

    def document(make: Callable[[], Any]) -> Callable[[dict[str, Any]], Any]:
        return lambda _: make()

    def parts(make: Callable[[], Any]) -> Callable[[dict[str, Any]], Iterator[list[Any]]]:
        return lambda _: iter([[([number], row) for number, row in enumerate(make())]])

    api = ApiProcess(
        path,
        ApiAddresses(parse_rules(rules)),
        {name: document(make) for name, make in resources.items() if name not in LISTS},
        {name: parts(make) for name, make in resources.items() if name in LISTS} | dict(lists or {}),
        {name: command(obey) for name, obey in (commands or {}).items()},
        Allowance([]),
        lambda: "too busy",
    )
    api.open()
    try:
        yield api
    finally:
        api.close()
