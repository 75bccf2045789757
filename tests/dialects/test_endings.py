"""How a run that was cancelled, failed, or lasted too long ends in each wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.support.dialect_stream import WIRES, StreamRead, Wire, read_stream
from tests.support.socket_client import opened
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = script(tokens=10_000, rate=20)
FAILS = script(tokens=30, rate=100, fault="error", fault_at=20)
in_each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(also={"RUN_TIMEOUT": "4"}) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(stack: Stack) -> Visitor:
    return await stack.visitor()


async def told(visitor: Visitor, wire: Wire, text: str, *, cancelled: bool = False) -> StreamRead:
    """What the stream of this question said, with all text that is stored, and its orderly end."""

    async def cancel(read: StreamRead) -> None:
        await visitor.cancel(read.run)

    after_text = cancel if cancelled else None
    body = wire.body(text)
    read = await read_stream(visitor, "POST", wire.path, body=body, after_text=after_text)
    assert read.complete
    assert read.text == (await visitor.run(read.run))["text"]
    return read


def ending(wire: Wire, chunks: list[Any]) -> list[Any]:
    """What the last frames say of the end."""
    match wire.name:
        case "ai-sdk":
            return [one["type"] for one in chunks if one["type"] in ("abort", "error", "finish")]
        case "responses":
            response = chunks[-1]["response"]
            error = response["error"]
            return [chunks[-1]["type"], response["status"], error and error["code"]]
        case "chat-completions":
            if error := chunks[-1].get("error"):
                return ["error", error["code"]]
            return [chunks[-1]["choices"][0]["finish_reason"]]
        case "ag-ui":
            end = chunks[-1]
            return [end["type"], end.get("outcome", {}).get("type"), end.get("code")]
        case "langgraph":
            errors = [one["error"] for one in chunks if "error" in one]
            return [*errors, chunks[-1]["status"]]
    raise AssertionError(wire.name)


CANCELLED: dict[str, list[Any]] = {
    "ai-sdk": ["abort", "finish"],
    "responses": ["response.incomplete", "cancelled", None],
    "chat-completions": ["stop"],
    "ag-ui": ["RUN_FINISHED", "cancelled", None],
    "langgraph": ["interrupted"],
}


def failed(code: str) -> dict[str, list[Any]]:
    return {
        "ai-sdk": ["error", "finish"],
        "responses": ["response.failed", "failed", code],
        "chat-completions": ["error", code],
        "ag-ui": ["RUN_ERROR", None, code],
        "langgraph": [code, "error"],
    }


@in_each_wire
async def test_a_cancelled_run_keeps_its_text_and_says_so(visitor: Visitor, wire: Wire) -> None:
    read = await told(visitor, wire, LONG, cancelled=True)
    assert ending(wire, read.chunks) == CANCELLED[wire.name]


@in_each_wire
async def test_a_failed_run_keeps_its_text_and_says_so(visitor: Visitor, wire: Wire) -> None:
    read = await told(visitor, wire, FAILS)
    error = (await visitor.run(read.run))["error"]
    assert ending(wire, read.chunks) == failed(error["code"])[wire.name]


@in_each_wire
async def test_a_run_that_lasts_too_long_has_failed(visitor: Visitor, wire: Wire) -> None:
    read = await told(visitor, wire, LONG)
    assert ending(wire, read.chunks) == failed("run_too_long")[wire.name]


async def test_a_socket_is_told_of_each_ending(visitor: Visitor) -> None:
    asked = await visitor.ask(FAILS)
    async with opened(visitor, asked.conversation, "?lastEventId=0") as client:
        end = await client.wait_for_type("run.failed")
        assert end.data["code"] == (await visitor.run(asked.run))["error"]["code"]
        late = await client.ask(LONG)
        assert late.type == "accepted"
        assert (await client.wait_for_type("run.failed")).data["code"] == "run_too_long"
        run = (await client.ask(LONG)).data["response"]["run"]
        await client.wait_for_type("text.delta")
        await client.send("c", "cancel", {"run": run})
        assert (await client.wait_for_type("run.cancelled")).data["run"] == run
