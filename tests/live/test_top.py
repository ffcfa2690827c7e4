"""natmirror top beside a natmirror that carries traffic, is frozen, ends, and runs again."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from natmirror.api.client import ask
from natmirror.top.app import TopApp
from natmirror.top.drawing import UNICODE
from natmirror.top.view import View
from tests.live.scene import RULES, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

LIMIT = 20.0  # seconds


def test_top_goes_on_while_natmirror_freezes_ends_and_runs_again(alone: Scene) -> None:
    scene = alone
    scene.record("c1", "c2", "m")
    balancer = scene.balance(RULES)
    until = scene.file("until")
    scene.client(connections=6, sources="10.10.0.11", until=until)

    def asking(resource: str, parameters: dict[str, Any]) -> Any:
        return ask(resource, balancer.api, **parameters)

    async def watch() -> None:
        app = TopApp(asking, View(interval=0.5), UNICODE)
        async with app.run_test(size=(120, 40)):

            async def shows(condition: Callable[[], bool]) -> None:
                async with asyncio.timeout(LIMIT):
                    while not condition():
                        await asyncio.sleep(0.02)

            def rate() -> float:
                return app.known.history.latest("packets", "openflow") or 0.0

            await shows(lambda: "openflow/master" in app.shown and rate() > 0)
            assert app.known.status is not None
            assert {"packets-0", "api"} <= app.known.status["machine"]["thread_cpu_seconds"].keys()
            first = app.known.status["pid"]
            os.kill(first, signal.SIGSTOP)
            await shows(lambda: "NO ANSWER since" in app.shown and "is stopped" in app.shown)
            os.kill(first, signal.SIGCONT)
            await shows(lambda: "NO ANSWER" not in app.shown)
            await asyncio.to_thread(balancer.stop)
            await shows(lambda: "no natmirror answers" in app.shown)
            await asyncio.to_thread(scene.balance, RULES, api=balancer.api)
            await shows(lambda: "NO ANSWER" not in app.shown and f"pid {first}" not in app.shown)
            await asyncio.to_thread(scene.client, connections=6, sources="10.10.0.11", until=until)
            await shows(lambda: rate() > 0)

    asyncio.run(watch())
