"""LangGraph's client for Python at `/threads` ends with what is stored, however it is cut."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.support.langgraph import Fold, asked_in, begun, check, human, langgraph_client
from tests.support.openai_client import User
from tests.support.ports import HOST, essentials
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def graph(user: User) -> AsyncIterator[LangGraphClient]:
    async with langgraph_client(user) as client:
        yield client


async def test_a_thread_is_the_stored_conversation(user: User, graph: LangGraphClient) -> None:
    thread = await begun(graph)
    state = await graph.threads.get_state(thread)
    assert (state["values"], state["checkpoint"]) == ({}, None)
    assert await graph.threads.get_history(thread) == []
    first, second = script(tokens=30, seed=1, reasoning=3, rate=100), script(tokens=20, seed=2)
    shown = []
    for asked in (first, second):
        fold = Fold()
        await fold.read(asked_in(graph, thread, asked))
        assert (fold.status, fold.text) == ("success", expected(asked))
        assert fold.ids == sorted(set(fold.ids))
        shown += [human(asked), *fold.messages]
        await check(user, thread, fold.run, fold.state, asked)
    assert [one["content"] for one in fold.state] == [one["content"] for one in shown]
    state = (await graph.threads.get_history(thread))[0]
    assert state["values"] == {"messages": fold.state}
    assert (await graph.threads.get(thread))["status"] == "idle"


async def test_a_run_in_the_background_is_joined_and_waited_for(
    user: User, graph: LangGraphClient
) -> None:
    thread, asked = await begun(graph), script(tokens=30, seed=3, rate=60)
    run = await graph.runs.create(thread, "agent", input={"messages": [human(asked)]})
    assert run["status"] in ("pending", "running")
    fold = Fold()
    await fold.read(graph.runs.join_stream(thread, run["run_id"]))
    values = await graph.runs.join(thread, run["run_id"])
    assert values["messages"] == fold.state
    assert (await graph.runs.get(thread, run["run_id"]))["status"] == "success"
    await check(user, thread, run["run_id"], fold.state, asked)
    late = Fold()
    await late.read(graph.runs.join_stream(thread, run["run_id"], last_event_id=str(fold.ids[-1])))
    assert late == Fold()


async def test_a_reader_that_is_cut_at_random_bytes_has_the_stored_reply(
    user: User, size: Callable[[int, int], int], chance: random.Random
) -> None:
    async def once(number: int) -> None:
        asked = script(tokens=60, seed=f"cut {number}", rate=20, reasoning=number % 3)
        async with (
            Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy,
            langgraph_client(user, port=proxy.port) as graph,
        ):
            thread, fold = str(uuid4()), Fold()
            # The head of the answer passes: before it, the SDK knows of nothing to come back to.
            proxy.cut_next_answer_after(chance.randint(900, 8_000), reset=chance.random() < 0.5)
            for _ in range(3):
                proxy.cut_next_answer_after(chance.randint(1, 8_000), reset=chance.random() < 0.5)
            with warnings.catch_warnings(action="ignore"):  # it warns if it has no id yet
                await fold.read(asked_in(graph, thread, asked, if_not_exists="create"))
        assert (fold.status, fold.text) == ("success", expected(asked))
        await check(user, thread, fold.run, fold.state, asked)
        await check(user, thread, fold.run, [*fold.state[:1], *fold.messages], asked)

    await asyncio.gather(*(once(number) for number in range(size(6, 60))))


async def test_a_cancelled_run_keeps_what_was_said(user: User, graph: LangGraphClient) -> None:
    thread, fold = await begun(graph), Fold()
    reading = asyncio.create_task(
        fold.read(asked_in(graph, thread, script(tokens=10_000, rate=20)))
    )
    await until(lambda: fold.text, within=30, what="some text")
    assert (await graph.threads.get(thread))["status"] == "busy"
    for wait in (False, True):
        await graph.runs.cancel(thread, fold.run, wait=wait)
    await reading
    assert fold.status == "interrupted"
    await check(user, thread, fold.run, fold.state)
    assert (await graph.runs.get(thread, fold.run))["status"] == "interrupted"


async def test_a_failed_run_says_why(user: User, graph: LangGraphClient) -> None:
    thread, fold = await begun(graph), Fold()
    asked = script(tokens=10, fault="error", fault_at=5)
    await fold.read(asked_in(graph, thread, asked))
    stored = (await user.visitor.run(fold.run))["error"]
    assert fold.status == "error"
    assert fold.error == {"error": stored["code"], "message": stored["reason"]}
    await check(user, thread, fold.run, fold.state)
    assert (await graph.threads.get(thread))["status"] == "error"
    (task,) = (await graph.threads.get_state(thread))["tasks"]
    assert json.loads(task["error"] or "") == fold.error
    with pytest.raises(Exception, match=stored["code"]):
        await graph.runs.wait(None, "agent", input={"messages": [human(asked)]})


async def test_what_a_busy_thread_does_is_the_clients_choice(
    user: User, graph: LangGraphClient
) -> None:
    thread, first, second = await begun(graph), Fold(), Fold()
    asked = script(tokens=60, seed=4, rate=20)
    reading = asyncio.create_task(first.read(asked_in(graph, thread, asked)))
    await until(lambda: first.text, within=30, what="some text")
    with pytest.raises(ConflictError):
        await second.read(asked_in(graph, thread, "Two?", multitask_strategy="reject"))
    with pytest.raises(UnprocessableEntityError, match="rolled back"):
        await second.read(asked_in(graph, thread, "Two?", multitask_strategy="rollback"))
    queued = script(tokens=5, seed=5)
    await second.read(asked_in(graph, thread, queued))  # enqueue
    await reading
    assert (first.status, second.status) == ("success", "success")
    await check(user, thread, second.run, second.state, queued)
    long, third, fourth = script(tokens=10_000, rate=20), Fold(), Fold()
    reading = asyncio.create_task(third.read(asked_in(graph, thread, long)))
    await until(lambda: third.text, within=30, what="some text")
    await fourth.read(asked_in(graph, thread, queued, multitask_strategy="interrupt"))
    await reading
    assert (third.status, fourth.status) == ("interrupted", "success")
    await check(user, thread, fourth.run, fourth.state, queued)


async def test_a_run_ends_with_its_reader_only_if_the_client_says_so(
    user: User, graph: LangGraphClient
) -> None:
    folds = {}
    for wish in ("cancel", "continue"):
        asked = script(tokens=200, seed=wish, rate=20)
        stream = asked_in(graph, await begun(graph), asked, on_disconnect=wish)
        folds[wish] = Fold()
        async for part in stream:
            folds[wish].hear(part.event, part.data, part.id)
            if folds[wish].text:
                break
        await stream.aclose()

    async def ended() -> dict[str, str]:
        return {wish: (await user.visitor.run(fold.run))["status"] for wish, fold in folds.items()}

    async with asyncio.timeout(60):
        while "running" in (statuses := await ended()).values():
            await asyncio.sleep(0.2)
    assert statuses == {"cancel": "cancelled", "continue": "completed"}


async def test_a_run_without_a_thread_stands_in_no_list(user: User, graph: LangGraphClient) -> None:
    listed = await user.visitor.conversations()
    asked, fold = script(tokens=10, seed=6), Fold()
    await fold.read(asked_in(graph, None, asked))
    assert (fold.status, fold.text) == ("success", expected(asked))
    values = await graph.runs.wait(None, "agent", input={"messages": [human(asked)]})
    assert isinstance(values, dict)
    assert values["messages"][-1]["content"] == expected(asked)
    assert await user.visitor.conversations() == listed


async def test_the_documented_example_prints_the_reply(user: User, tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/dialects.md").read_text().partition("## LangGraph")[2]
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    async with Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy:
        program = tmp_path / "example.py"
        program.write_text(example.replace("127.0.0.1:8000", f"{HOST}:{proxy.port}"))
        proxy.cut_next_answer_after(10_000)  # the answer that makes the thread passes
        proxy.cut_next_answer_after(1_500, reset=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(program)),
            stdout=asyncio.subprocess.PIPE,
            env=essentials() | {"LANGGRAPH_API_KEY": user.token},
        )
        try:
            async with asyncio.timeout(60):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert out.decode() == expected("What is a river?")


async def test_refusals_are_the_clients_errors(graph: LangGraphClient) -> None:
    thread = await begun(graph)
    with pytest.raises(ConflictError, match="a thread of this id"):
        await graph.threads.create(thread_id=thread)
    assert (await graph.threads.create(thread_id=thread, if_exists="do_nothing"))["values"] == {}
    with pytest.raises(NotFoundError, match="nothing here"):
        await graph.threads.get(str(uuid4()))
    with pytest.raises(UnprocessableEntityError, match="stream_mode"):
        await Fold().read(asked_in(graph, thread, "Why?", stream_mode="debug"))
    with pytest.raises(UnprocessableEntityError, match="command"):
        await Fold().read(graph.runs.stream(thread, "agent", command={"resume": True}))
