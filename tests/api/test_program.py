"""What the API's process asks natmirror at the same time."""

import asyncio
import json
from typing import Any

from natmirror.api import frames
from natmirror.api.program import Program


class Natmirror:
    """Notes the questions of the API's process, and answers when the test says so."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.questions: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        question = json.loads(data[4:])
        if question["id"] and "withdraw" not in question:
            self.questions.append(question)

    def answer(self, number: int, *, more: bool = False) -> None:
        self.reader.feed_data(frames.encode({"id": number, "answer": [], "at": 0.0, "more": more}))

    @property
    def asked(self) -> list[str]:
        return [question.get("get", "more") for question in self.questions]


async def pass_time() -> None:
    """Let each task go on until it has to wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_flood_for_lists_delays_no_document_and_no_flood_the_metrics() -> None:
    async def run() -> None:
        natmirror = Natmirror()
        program = Program(natmirror.reader, natmirror)  # type: ignore[arg-type]
        passing = asyncio.create_task(program.run())

        async def get(resource: str, *, comes_first: bool = False) -> None:
            async for _ in program.get(resource, {}, comes_first=comes_first):
                pass

        async with asyncio.TaskGroup() as clients:
            for resource in ("flows", "legs", "events", "status", "rules", "explain"):
                clients.create_task(get(resource))
            await pass_time()
            assert natmirror.asked == ["flows", "legs", "status", "rules"]
            clients.create_task(get("status", comes_first=True))
            await pass_time()
            assert natmirror.asked[4:] == ["status"]
            natmirror.answer(natmirror.questions[0]["id"])
            await pass_time()
            assert natmirror.asked[5:] == ["events"]
            natmirror.answer(natmirror.questions[3]["id"])
            await pass_time()
            assert natmirror.asked[6:] == ["explain"]
            for question in natmirror.questions:
                natmirror.answer(question["id"])
        passing.cancel()

    asyncio.run(run())


def test_a_flood_for_long_lists_does_not_delay_the_first_part_of_another_list() -> None:
    async def run() -> None:
        natmirror = Natmirror()
        program = Program(natmirror.reader, natmirror)  # type: ignore[arg-type]
        passing = asyncio.create_task(program.run())

        async def get(resource: str) -> None:
            async for _ in program.get(resource, {}):
                pass

        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(get("flows"))
                await pass_time()
                natmirror.answer(natmirror.questions[-1]["id"], more=True)
                await pass_time()
            assert natmirror.asked == ["flows", "more", "flows", "more", "flows", "flows"]
            clients.create_task(get("events"))
            await pass_time()
            assert natmirror.asked[6:] == ["events"]
            for _ in range(2):  # those that wait ask now
                for number in {question["id"] for question in natmirror.questions}:
                    natmirror.answer(number)
                await pass_time()
        passing.cancel()

    asyncio.run(run())
