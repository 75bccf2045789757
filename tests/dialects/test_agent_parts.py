"""Reasoning, tools, sources and data of an agent, on the pages of the AI SDK and as items."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.dialects.conftest import Installed, Stacks
from tests.support.ai_sdk import CLIENTS, PACKAGES, SCRIPT, Page, comparable
from tests.support.openai_client import User
from tests.support.response_loop import ResponseLoop
from tests.support.vendors import VendorProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")
KINDS = ("5", "6", "7")
BEGIN: list[dict[str, Any]] = [
    {"think": "Where may it be? "},
    {"say": "I look. "},
    {"call": "look", "repeat": True},
    {"source": "Atlas"},
    {"data": {"found": 1}},
    {"say": "It is here, "},
    {"data": {"found": 2}},
]
END: list[dict[str, Any]] = [{"call": "close", "repeat": True}, {"say": "at last."}]
SHOWN = ["reasoning", "text", "dynamic-tool", "source-url", "data-data", "text", "dynamic-tool"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clients(installed: Installed) -> AsyncIterator[dict[str, VendorProcess]]:
    async with AsyncExitStack() as stack:
        yield {
            kind: await stack.enter_async_context(VendorProcess(SCRIPT, installed(PACKAGES[kind])))
            for kind in KINDS
        }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def agents(stacks: Stacks) -> AsyncIterator[User]:
    """A user with a token, where an agent replies."""
    async with stacks(workers=0, agents=1, also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        yield user
        await user.visitor.close()


async def opened(clients: dict[str, VendorProcess], user: User, kind: str, **where: Any) -> Page:
    client = clients[CLIENTS[kind]["version"]]
    return await Page.open(client, user.visitor, kind, body={"model": "tools"}, **where)


def types_on(messages: list[dict[str, Any]]) -> list[str]:
    return [part["type"] for part in comparable(messages)[-1]["parts"]]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_parts_on_the_page_are_the_stored_ones(
    clients: dict[str, VendorProcess], agents: User, kind: str
) -> None:
    page = await opened(clients, agents, kind)
    steps = [*BEGIN, {"wait": 1}, *END]
    sending = asyncio.create_task(page.send(json.dumps(steps), stay=True))
    await page.do("heard", count=20)
    loaded = await page.stored()
    other = await opened(clients, agents, kind, id=page.id, messages=loaded)
    assert (await other.do("resume"))["status"] == "ready"
    told = await sending
    assert (told["status"], told["error"]) == ("ready", None)
    assert await page.check() == await other.check()
    assert types_on(told["messages"]) == [*SHOWN, "text"]
    tools = [one for one in told["messages"][-1]["parts"] if one["type"] == "dynamic-tool"]
    assert [one["output"] for one in tools] == ["look is done", "close is done"]
    data = [one["data"] for one in told["messages"][-1]["parts"] if one["type"] == "data-data"]
    assert data == [{"found": 2}]  # the later one replaces the one before
    late = await opened(clients, agents, kind, id=page.id, messages=loaded)
    assert (await late.do("resume"))["status"] == "ready"
    await late.check()


async def test_the_parts_of_a_second_attempt_replace_those_of_the_first(
    clients: dict[str, VendorProcess], agents: User
) -> None:
    pages = {kind: await opened(clients, agents, kind) for kind in KINDS}
    asked = json.dumps([*BEGIN, {"hold": True}, *END])
    sending = [asyncio.create_task(page.send(asked)) for page in pages.values()]
    for page in pages.values():
        await page.do("heard", count=20)
    agents.stack.agents[-1].kill()
    await agents.stack.add_agents()
    for kind, told in zip(pages, await asyncio.gather(*sending), strict=True):
        assert told["status"] == "ready", (kind, told["error"])
        await pages[kind].check()
        assert types_on(told["messages"]) == [*SHOWN, "text"]
        run = await agents.visitor.run(told["messages"][-1]["id"])
        assert (run["status"], run["attempt"]) == ("completed", 2)


async def test_an_agent_that_fails_leaves_its_parts(
    clients: dict[str, VendorProcess], agents: User
) -> None:
    page = await opened(clients, agents, "7")
    told = await page.send(json.dumps([*BEGIN, {"fail": "!kool ton did I"}]), stay=True)
    assert told["status"] == "error"
    assert "kool" not in told["error"]
    assert types_on(told["messages"])[:5] == SHOWN[:5]
    await page.check()


async def test_a_response_has_the_tools_as_items_and_the_text(agents: User) -> None:
    loop, asked = ResponseLoop(), json.dumps([*BEGIN, *END])
    async with agents.client() as client:
        await loop.read(
            await client.responses.create(model="tools", input=asked, background=True, stream=True)
        )
    kinds = [item.type for item in loop.final.output]
    assert kinds == ["reasoning", "message", "mcp_call", "message", "mcp_call", "message"]
    assert [one.output for one in loop.final.output if one.type == "mcp_call"] == [
        "look is done",
        "close is done",
    ]
    assert loop.text() == loop.final.output_text == "I look. It is here, at last."
