"""LangGraph's SDK for Python at an agent's run, and at a run of two attempts."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.dialects.conftest import Stacks
from tests.support.langgraph import MODES, Fold, asked_in, begun, check, human, langgraph_client
from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENT = [
    {"think": "Hm. "},
    {"say": "One. "},
    {"call": "look", "seconds": 0.2},
    {"source": "Rivers"},
    {"data": {"half": True}},
    {"call": "find", "seconds": 0.2},
    {"say": "Two."},
    {"data": {"half": False}},
]


async def test_an_agents_parts_are_messages_and_data(user: User) -> None:
    async with langgraph_client(user) as graph:
        thread, fold = await begun(graph), Fold()
        messages = [human(json.dumps(AGENT))]
        await fold.read(
            graph.runs.stream(thread, "tools", input={"messages": messages}, stream_mode=MODES)
        )
        assert [one["type"] for one in fold.messages] == ["ai", "tool", "ai", "tool", "ai"]
        await check(user, thread, fold.run, fold.state)
        await check(user, thread, fold.run, [*fold.state[:1], *fold.messages])
        stored = (await user.visitor.run(fold.run))["parts"]
        kinds = ("source", "data")
        told = [one for one in fold.custom if one.get("data") != {"half": True}]
        assert told == [one for one in stored if one["type"] in kinds]


async def test_a_second_attempt_leaves_the_text_of_the_last_one(stacks: Stacks) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        asked = script(tokens=60, seed=7, rate=30, hold_at=30, reasoning=3)
        async with (
            Proxy((HOST, stack.ports[stack.web.name])) as proxy,
            langgraph_client(user) as graph,
            langgraph_client(user, port=proxy.port) as cut,
        ):
            thread, follows, comes_back = await begun(graph), Fold(), Fold()
            reading = asyncio.create_task(follows.read(asked_in(graph, thread, asked)))
            await until(lambda: follows.text, within=30, what="some text")
            joined = cut.runs.join_stream(thread, follows.run, stream_mode=MODES)  # type: ignore[arg-type]
            returning = asyncio.create_task(comes_back.read(joined))
            await until(lambda: comes_back.text, within=30, what="some text")
            proxy.refuse()
            proxy.reset()
            stack.worker.kill()
            stack.model.release(asked)
            await stack.add_worker()
            await proxy.accept()
            await asyncio.gather(reading, returning)
            for fold in (follows, comes_back):
                assert fold.status == "success"
                await check(user, thread, follows.run, fold.state, asked)
                await check(user, thread, follows.run, [*fold.state[:1], *fold.messages], asked)
            assert (await user.visitor.run(follows.run))["attempt"] == 2
        await user.visitor.close()
