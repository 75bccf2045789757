"""OpenAI's own client for Node ends with what is stored, however it is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.dialects.conftest import Installed, Stacks
from tests.support.openai_client import NODE_PACKAGES, User
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.vendors import VendorProcess
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
SCRIPT = Path(__file__).parent / "clients" / "openai.mjs"
MODEL = "scripted"


class Client:
    """The vendor's process, and the user in whose name it asks."""

    def __init__(self, process: VendorProcess, user: User) -> None:
        self.process = process
        self.user = user

    async def do(self, op: str, *, port: int | None = None, **order: Any) -> dict[str, Any]:
        port = port or self.user.stack.ports[self.user.stack.web.name]
        where = {"baseURL": f"http://{HOST}:{port}/v1", "apiKey": self.user.token}
        return await self.process.do(op, **where, **order)

    async def check(self, told: dict[str, Any], asked: str) -> None:
        """Whether the client has the stored text, each frame once and in order."""
        assert told["text"] == expected(asked)
        assert (await self.user.stored(told["id"]))["text"] == expected(asked)
        if numbers := told.get("numbers"):
            assert numbers == sorted(set(numbers))
            assert told["output"] == told["text"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(user: User, installed: Installed) -> AsyncIterator[Client]:
    async with VendorProcess(SCRIPT, installed(NODE_PACKAGES)) as process:
        yield Client(process, user)


async def test_chat_completions_are_the_stored_replies(client: Client) -> None:
    assert (await client.do("models"))["names"] == [MODEL, "tools"]
    for number, op in enumerate(("chat", "chatStream")):
        asked = script(tokens=30, seed=number, reasoning=2, rate=100)
        messages = [{"role": "user", "content": asked}]
        told = await client.do(op, body={"model": MODEL, "messages": messages})
        await client.check(told, asked)


async def test_a_completion_whose_connection_breaks_is_repeated_and_joined(client: Client) -> None:
    asked = script(tokens=30, seed=2, rate=20)
    stack = client.user.stack
    begun = stack.model.stats()["requests"]
    async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        body = {"model": MODEL, "messages": [{"role": "user", "content": asked}]}
        asking = asyncio.create_task(client.do("chat", port=proxy.port, retries=2, body=body))
        await until(lambda: stack.model.stats()["requests"] > begun, within=30, what="the model")
        proxy.reset()
        await client.check(await asking, asked)
    assert stack.model.stats()["requests"] == begun + 1


async def test_a_loop_that_is_cut_at_random_bytes_has_the_stored_reply(
    client: Client, size: Callable[[int, int], int], chance: random.Random
) -> None:
    async def once(number: int) -> None:
        asked = script(tokens=40, seed=f"cut {number}", rate=60, reasoning=number % 3)
        stack = client.user.stack
        async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
            # The first frame of one has its id.
            proxy.cut_next_answer_after(chance.randint(3_000, 8_000), reset=chance.random() < 0.5)
            for _ in range(4):
                proxy.cut_next_answer_after(chance.randint(1, 6_000), reset=chance.random() < 0.5)
            body = {"model": MODEL, "input": asked, "background": True}
            told = await client.do("loop", port=proxy.port, body=body)
        assert told["status"] == "completed"
        assert told["returns"] >= 1
        await client.check(told, asked)

    await asyncio.gather(*(once(number) for number in range(size(6, 60))))


async def test_the_accumulator_has_the_stored_reply(client: Client) -> None:
    asked = script(tokens=30, seed=3, reasoning=2, rate=100)
    told = await client.do("accumulate", params={"model": MODEL, "input": asked})
    await client.check(told, asked)
    again = {"response_id": told["id"], "starting_after": 2}
    assert (await client.do("accumulate", params=again)) == told


async def test_a_cancelled_response_ends_the_loop(client: Client) -> None:
    asked = script(tokens=10_000, seed=4, rate=20)
    asking = asyncio.create_task(
        client.do("loop", body={"model": MODEL, "input": asked, "background": True})
    )

    async def begun() -> Any:
        conversations = await client.user.visitor.conversations()
        titled = [one for one in conversations if '"seed": 4' in one["title"]]
        runs = (await client.user.visitor.conversation(titled[0]["id"]))["runs"] if titled else []
        return runs[0]["id"] if runs and runs[0]["text"] else None

    async with asyncio.timeout(30):
        while not (run := await begun()):
            await asyncio.sleep(0.05)
    assert (await client.do("cancel", id=f"resp_{run}"))["status"] == "cancelled"
    told = await asking
    assert (told["status"], told["id"]) == ("cancelled", f"resp_{run}")
    assert told["text"] == told["output"] == (await client.user.stored(told["id"]))["text"]


async def test_a_second_attempt_leaves_the_text_of_the_last_one(
    stacks: Stacks, client: Client
) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        asked = script(tokens=60, seed=5, rate=30, hold_at=30, reasoning=3)
        second = Client(client.process, user)
        body = {"model": MODEL, "input": asked, "background": True}
        reading = [
            asyncio.create_task(second.do("loop", body=body)),
            asyncio.create_task(second.do("accumulate", params=body)),
        ]
        await until(lambda: stack.model.stats()["streaming"] == 2, within=30, what="both replies")
        await asyncio.sleep(0.5)
        stack.worker.kill()
        stack.model.release(asked)
        await stack.add_worker()
        for told in await asyncio.gather(*reading):
            await second.check(told, asked)
            assert (await user.stored(told["id"]))["attempt"] == 2
        await user.visitor.close()
