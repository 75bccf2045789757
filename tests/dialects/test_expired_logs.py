"""A reader that comes back when the log has expired: each wire has the whole reply from its row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.support.dialect_stream import StreamRead, question, read_stream
from tests.support.socket_client import opened
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHORT = script(tokens=20, reasoning=2, rate=100)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(also={"LOG_TTL": "1"}) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(stack: Stack) -> Visitor:
    return await stack.visitor()


async def begun(stack: Stack, visitor: Visitor, path: str, body: Any) -> StreamRead:
    """The whole stream of this question, of which no event is left."""
    read = await read_stream(visitor, "POST", path, body=body)
    assert read.complete
    await expired(stack)
    return read


async def expired(stack: Stack) -> None:
    """Wait until Redis has expired the logs of all conversations."""
    async with asyncio.timeout(30):
        while [key async for key in stack.valkey.client.scan_iter(_type="STREAM")]:
            await asyncio.sleep(0.1)


async def until_status(visitor: Visitor, path: str, status: int) -> None:
    async with asyncio.timeout(60):
        while (await visitor.http.get(path)).status_code != status:
            await asyncio.sleep(0.2)


async def text(visitor: Visitor, run: str) -> str:
    return str((await visitor.run(run))["text"])


async def test_a_chat_has_its_messages_and_a_run_its_reply(stack: Stack, visitor: Visitor) -> None:
    chat = uuid4().hex
    read = await begun(stack, visitor, "/api/chat", question(SHORT, chat=chat))
    # The row of the run was ended a moment after its last event.
    await until_status(visitor, f"/api/chat/{chat}/stream", 204)
    again = await read_stream(visitor, "GET", f"/api/chat/{read.run}/stream")
    assert (again.complete, again.text) == (True, read.text)
    *_, reply = (await visitor.http.get(f"/api/chat/{chat}/messages")).json()
    shown = [part["text"] for part in reply["parts"] if part["type"] == "text"]
    assert ("".join(shown), read.text) == (await text(visitor, read.run),) * 2


async def test_a_response_is_whole_and_goes_on_after_any_number(
    stack: Stack, visitor: Visitor
) -> None:
    body = {"model": "scripted", "input": SHORT, "background": True, "stream": True}
    read = await begun(stack, visitor, "/v1/responses", body)
    path = f"/v1/responses/resp_{read.run}?stream=true"
    assert (await read_stream(visitor, "GET", path)).data[-1] == read.data[-1]
    numbers = [one["sequence_number"] for one in read.chunks]
    deltas = [one for one in read.chunks if one["type"] == "response.output_text.delta"]
    for number in (numbers[0], deltas[0]["sequence_number"], numbers[-1]):
        rest = await read_stream(visitor, "GET", f"{path}&starting_after={number}")
        heard = StreamRead(status=200, data=read.data[: numbers.index(number) + 1])
        assert rest.complete
        assert heard.text + rest.text == await text(visitor, read.run)


async def test_a_run_of_a_thread_goes_on_after_any_id(stack: Stack, visitor: Visitor) -> None:
    thread = uuid4()
    message = {"type": "human", "content": SHORT}
    modes = {"stream_mode": ["messages-tuple"], "if_not_exists": "create"}
    body = {"assistant_id": "agent", "input": {"messages": [message]}, **modes}
    path = f"/threads/{thread}/runs"
    read = await begun(stack, visitor, f"{path}/stream", body)
    again = f"{path}/{read.run}/stream?stream_mode=messages-tuple"
    whole = await visitor.http.get(again)
    blocks = [one.partition("\ndata: ") for one in whole.text.split("\n\n")[:-1]]
    ids = [head.partition("\n")[0].removeprefix("id: ") for head, *_ in blocks]
    datas = [data.partition("\n")[0] for *_, data in blocks]
    assert StreamRead(status=200, data=datas).text == await text(visitor, read.run)
    for place, id in enumerate(ids):
        rest = await visitor.http.get(again, headers={"Last-Event-ID": id})
        assert rest.text.split("\n\n")[:-1] == whole.text.split("\n\n")[place + 1 : -1]
    state = (await visitor.http.get(f"/threads/{thread}/state")).json()
    assert state["values"]["messages"][-1]["content"] == read.text


@pytest.mark.parametrize("to", ["", "/connect"])
async def test_a_page_has_the_thread_with_the_reply(
    stack: Stack, visitor: Visitor, to: str
) -> None:
    body = {"threadId": uuid4().hex, "runId": "r", "messages": []}
    asked = {**body, "messages": [{"id": "m1", "role": "user", "content": SHORT}]}
    read = await begun(stack, visitor, "/ag-ui", asked)
    again = await read_stream(visitor, "POST", f"/ag-ui{to}", body=body)
    (snapshot,) = [one for one in again.chunks if one["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshot["messages"][-1]["content"] == read.text == await text(visitor, read.run)
    assert (again.types[-1], again.complete) == ("RUN_FINISHED", True)


async def test_the_conversation_of_a_completion_is_deleted(stack: Stack, visitor: Visitor) -> None:
    messages = [{"role": "user", "content": SHORT}]
    body = {"model": "scripted", "messages": messages, "stream": True}
    read = await begun(stack, visitor, "/v1/chat/completions", body)
    await until_status(visitor, f"/v1/responses/resp_{read.run}", 404)


async def test_a_socket_gets_a_reset_and_a_snapshot(stack: Stack, visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation, "?lastEventId=0") as client:
        await client.wait_for_type("run.completed")
    await expired(stack)
    async with opened(visitor, asked.conversation, f"?lastEventId={asked.cursor}") as client:
        await client.wait_for_type("stream-reset")
        snapshot = await client.wait_for_type("conversation.snapshot")
    assert snapshot.data["messages"][-1]["content"] == await text(visitor, asked.run)
