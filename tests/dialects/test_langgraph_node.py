"""LangGraph's client for JavaScript, with its own manager, ends with what is stored."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.dialects.conftest import Installed, Stacks
from tests.support.langgraph import MODES, PACKAGES, SCRIPT, check, human
from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.vendors import VendorProcess
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Client:
    """The vendor's process, and the user in whose name it asks."""

    process: VendorProcess
    user: User

    async def do(self, op: str, *, port: int | None = None, **order: Any) -> dict[str, Any]:
        port = port or self.user.stack.ports[self.user.stack.web.name]
        where = {"apiUrl": f"http://{HOST}:{port}", "apiKey": self.user.token}
        return await self.process.do(op, **where, **order)

    async def ask(self, text: str, *, id: str | None = None, **order: Any) -> dict[str, Any]:
        options: dict[str, Any] = {"modes": MODES, **order}
        return await self.do("ask", messages=[human(text, id=id)], **options)

    async def check(
        self, thread: str, told: dict[str, Any], asked: str = "", *, fails: bool = False
    ) -> None:
        assert (told["error"] is not None) == fails, told["error"]
        assert told["ids"] == [*map(str, sorted({int(id) for id in told["ids"]}))]
        shown = told["messages"]
        if "values" not in told["events"]:  # the chunks are of the reply alone
            state = await self.do("state", thread=thread)
            shown = [*state["values"]["messages"][:1], *shown]
        await check(self.user, thread, told["runId"], shown, asked)


@pytest.fixture(scope="module")
def project(installed: Installed) -> Path:
    return installed(PACKAGES)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(user: User, project: Path) -> AsyncIterator[Client]:
    async with VendorProcess(SCRIPT, project) as process:
        yield Client(process, user)


async def test_turns_end_with_what_is_stored(client: Client) -> None:
    thread = str(uuid4())
    assert (await client.do("create", thread=thread))["thread_id"] == thread
    assert (await client.do("history", thread=thread))["states"] == []
    for number, modes in enumerate((MODES, ["messages-tuple", "values"], ["values"])):
        asked = script(tokens=20, seed=number, reasoning=number, rate=100)
        told = await client.ask(asked, thread=thread, modes=modes, id=f"question {number}")
        await client.check(thread, told, asked)
    (state,) = (await client.do("history", thread=thread))["states"]
    assert state == await client.do("state", thread=thread)
    names = [one["id"] for one in state["values"]["messages"] if one["type"] == "human"]
    assert names == ["question 0", "question 1", "question 2"]
    assert (await client.do("thread", thread=thread))["status"] == "idle"


async def test_chunks_alone_are_added_up_to_the_stored_reply(client: Client) -> None:
    thread, asked = str(uuid4()), script(tokens=30, seed=3, reasoning=3, rate=100)
    told = await client.ask(asked, thread=thread, modes=["messages-tuple"])
    assert "values" not in told["events"]
    await client.check(thread, told, asked)


async def test_an_agents_parts_are_messages(client: Client) -> None:
    steps = [{"say": "One. "}, {"call": "look", "times": 2}, {"think": "Hm."}, {"say": "Two."}]
    conversation = await client.user.visitor.ask(json.dumps(steps), model="tools")
    thread = conversation.conversation
    told = await client.do("join", thread=thread, run=conversation.run, modes=["messages-tuple"])
    await client.check(thread, {**told, "runId": conversation.run})


async def test_a_reader_that_is_cut_at_random_bytes_has_the_stored_reply(
    client: Client, size: Callable[[int, int], int], chance: random.Random
) -> None:
    async def once(number: int) -> None:
        asked = script(tokens=60, seed=f"cut {number}", rate=20, reasoning=number % 3)
        stack, thread = client.user.stack, str(uuid4())
        modes = chance.choice((MODES, ["messages-tuple", "values"], ["messages-tuple"]))
        async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
            # The head of the answer passes: before it, the SDK knows of nothing to come back to.
            proxy.cut_next_answer_after(chance.randint(900, 8_000), reset=chance.random() < 0.5)
            for _ in range(3):
                proxy.cut_next_answer_after(chance.randint(1, 8_000), reset=chance.random() < 0.5)
            told = await client.ask(asked, port=proxy.port, thread=thread, modes=modes)
        await client.check(thread, told, asked)

    await asyncio.gather(*(once(number) for number in range(size(6, 60))))


async def test_a_page_that_is_reloaded_joins_the_run(client: Client) -> None:
    thread, asked = str(uuid4()), script(tokens=60, seed=4, rate=30)
    asking = asyncio.create_task(client.ask(asked, thread=thread, page="first"))
    run = (await client.do("heard", page="first", count=10))["runId"]
    other = await client.do("join", thread=thread, run=run, modes=MODES)
    await client.check(thread, {**other, "runId": run}, asked)
    told = await asking
    await client.check(thread, told, asked)
    late = await client.do("join", thread=thread, run=run)
    await client.check(thread, {**late, "runId": run}, asked)
    after = await client.do("join", thread=thread, run=run, lastEventId=told["ids"][-1])
    assert (after["ids"], after["error"]) == ([], None)
    assert (await client.do("joined", thread=thread, run=run))["messages"] == late["messages"]


async def test_a_request_with_the_same_message_id_gets_the_same_run(client: Client) -> None:
    thread, asked = str(uuid4()), script(tokens=20, seed=5, rate=20)
    told = await asyncio.gather(
        *(client.ask(asked, thread=thread, id="once") for _ in range(3)),
    )
    assert len({one["runId"] for one in told}) == 1
    for one in told:
        await client.check(thread, one, asked)


async def test_a_cancelled_run_keeps_what_was_said(client: Client) -> None:
    thread, asked = str(uuid4()), script(tokens=10_000, seed=6, rate=20)
    asking = asyncio.create_task(client.ask(asked, thread=thread, page="long"))
    run = (await client.do("heard", page="long", count=10))["runId"]
    for wait in (False, True):
        await client.do("cancel", thread=thread, run=run, wait=wait)
    told = await asking
    assert told["events"][-1] == "end"
    await client.check(thread, told)
    assert (await client.do("run", thread=thread, run=run))["status"] == "interrupted"


async def test_a_failed_run_is_an_error_and_keeps_what_was_said(client: Client) -> None:
    thread, asked = str(uuid4()), script(tokens=10, seed=7, fault="error", fault_at=5)
    told = await client.ask(asked, thread=thread)
    await client.check(thread, told, fails=True)
    error = (await client.user.visitor.run(told["runId"]))["error"]
    assert told["error"] == f"{error['code']}: {error['reason']}"


async def test_runs_are_waited_for_with_and_without_a_thread(client: Client) -> None:
    asked = script(tokens=20, seed=8)
    for thread in (str(uuid4()), None):
        values = await client.do("wait", thread=thread, messages=[human(asked)])
        assert values["messages"][-1]["content"] == expected(asked)
    thread = str(uuid4())
    run = await client.do("background", thread=thread, messages=[human(asked)])
    values = await client.do("joined", thread=thread, run=run["run_id"])
    assert values["messages"][-1]["content"] == expected(asked)


async def test_a_second_attempt_leaves_the_text_of_the_last_one(
    client: Client, stacks: Stacks
) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        second = Client(client.process, await User.of(stack))
        asked, threads = script(tokens=60, seed=9, rate=30, hold_at=30, reasoning=3), {}
        tasks = []
        for name, modes in (("all", MODES), ("chunks", ["messages-tuple"])):
            threads[name] = str(uuid4())
            tasks.append(
                asyncio.create_task(second.ask(asked, thread=threads[name], page=name, modes=modes))
            )
            await client.do("heard", page=name, count=10)
        stack.worker.kill()
        stack.model.release(asked)
        await stack.add_worker()
        for thread, told in zip(threads.values(), await asyncio.gather(*tasks), strict=True):
            await second.check(thread, told, asked)
            assert (await second.user.visitor.run(told["runId"]))["attempt"] == 2
        await second.user.visitor.close()
