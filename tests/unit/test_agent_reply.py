"""An agent at work: what of its output becomes the reply, and how each of its faults ends."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator

from streams.protocol.events import Usage as Counts
from streams.protocol.parts import (
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.unit.support.agents import saying
from workers.agents import (
    Data,
    Finish,
    Reasoning,
    Source,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
    runnable,
)
from workers.agents.reply import reply_of
from workers.agents.testing import Reply, run, turn_of
from workers.delta_window import LONGEST

pytestmark = pytest.mark.usefixtures("agent_limits")


async def test_every_kind_of_part_arrives_in_order() -> None:
    reply = await run(
        saying(
            *(Reasoning("Hm."), "Let me ", "see.", ToolCall("clock", {"zone": "UTC"}, "c1")),
            *(ToolResult("c1", {"at": datetime(2026, 1, 1, tzinfo=UTC)}), "Noon."),
            *(Source("Manual", "https://example.org/m"), Data("state", 1, "s"), Data("state", 2)),
            *(Data("state", 3, "s"), Usage(3, 4), Usage(1, 1), Finish("length"), "never heard"),
        ),
        "What time is it?",
    )
    assert reply == Reply(
        parts=(
            ReasoningPart(text="Hm."),
            TextPart(text="Let me see."),
            ToolCallPart(call="c1", name="clock", input={"zone": "UTC"}),
            ToolResultPart(call="c1", output={"at": "2026-01-01T00:00:00+00:00"}),
            TextPart(text="Noon."),
            SourcePart(source="https://example.org/m", title="Manual", url="https://example.org/m"),
            DataPart(name="state", data=3, id="s"),
            DataPart(name="state", data=2),
        ),
        finish_reason="length",
        usage=Counts(input_tokens=4, output_tokens=5, total_tokens=9, estimated=False),
        code=None,
        called=True,
    )


async def test_an_agent_that_yields_nothing_completes_with_an_empty_reply() -> None:
    reply = await run(saying(), "Hello?")
    assert (reply.parts, reply.finish_reason, reply.usage, reply.code) == ((), "stop", None, None)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        pytest.param(object(), "builtins.object", id="an object"),
        pytest.param(None, "NoneType", id="nothing"),
        pytest.param(b"bytes", "builtins.bytes", id="bytes"),
        pytest.param(Reasoning(1), "Reasoning", id="reasoning that is no text"),  # type: ignore[arg-type]
        pytest.param(ToolCall("clock", [1]), "builtins.list", id="input"),  # type: ignore[arg-type]
        pytest.param(ToolCall("clock", {"x": {object}}), "type", id="input that is no JSON"),
        pytest.param(ToolCall(""), "name of a tool", id="a tool without a name"),
        pytest.param(ToolResult("c9", 1), "unknown call", id="a result of an unknown call"),
        pytest.param(Source("Bad", "javascript:alert(1)"), "url", id="a source that is a script"),
        pytest.param(Data("x", object()), "data", id="data that is no JSON"),
        pytest.param(Usage(-1, 1), "usage", id="negative tokens"),
    ],
)
async def test_what_is_no_part_ends_the_reply_and_is_named_in_the_log_alone(
    item: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await run(saying("before ", item, "after"), "Go")
    assert (reply.parts, reply.code) == ((TextPart(text="before "),), "agent_error")
    assert told in caplog.text


@pytest.mark.parametrize("error", ["cancelled", "worker_lost", "failed"])
async def test_the_engines_own_errors_are_not_the_agents_to_yield(error: str) -> None:
    reply = await run(saying(ToolCall("a", {}, "c"), ToolResult("c", error=error)), "Go")
    assert reply.code == "agent_error"


async def test_calls_of_one_id_are_told_apart_and_second_results_are_dropped() -> None:
    reply = await run(
        saying(
            *(ToolCall("a", {}, "call_0"), ToolResult("call_0", 1), ToolResult("call_0", 2)),
            *(ToolCall("b", {}, "call_0"), ToolCall("c", {}, "call_0")),
            *(ToolResult("call_0", "b"), ToolResult("call_0", "c")),
        ),
        "Go",
    )
    assert [call.call for call in reply.calls] == ["call_0", "call_0-2", "call_0-3"]
    assert [(result.call, result.output) for result in reply.results] == [
        ("call_0", 1),
        ("call_0-2", "b"),
        ("call_0-3", "c"),
    ]


class TestLimits:
    """Each limit ends the reply with its code, and keeps what came before."""

    async def test_tool_calls(self, settings: Any) -> None:
        settings.MAX_TOOL_CALLS = 3
        calls = [ToolCall("a", {}, repeat=True) for _ in range(4)]
        reply = await run(saying(*calls), "Go")
        assert (len(reply.calls), reply.code) == (3, "too_many_tool_calls")

    async def test_parts(self, settings: Any) -> None:
        settings.MAX_PARTS = 3
        reply = await run(saying("a", "b", Data("x", 1), "c", "d", Data("y", 1), "e"), "Go")
        assert (len(reply.parts), reply.code) == (3, "too_many_parts")

    @pytest.mark.parametrize(
        "part",
        [ToolCall("a", {"x": "y" * 2000}), Data("a", "y" * 2000), Source("y" * 2000)],
    )
    async def test_a_part_that_cannot_be_cut(self, settings: Any, part: Any) -> None:
        settings.MAX_PART_BYTES = 1024
        reply = await run(saying("a", part), "Go")
        assert (reply.parts, reply.code) == ((TextPart(text="a"),), "part_too_large")

    @pytest.mark.parametrize("output", ["é" * 3_000_000, {"x": ["y" * 5_000_000]}, "\x01" * 90_000])
    async def test_an_output_is_cut_and_says_so(self, settings: Any, output: Any) -> None:
        reply = await run(saying(ToolCall("a", {}, "c"), ToolResult("c", output)), "Go")
        [result] = reply.results
        assert (reply.code, result.truncated) == (None, True)
        most = settings.MAX_PART_BYTES
        assert 0.7 * most < len(orjson.dumps(result.output)) <= most + 2

    async def test_text(self, settings: Any) -> None:
        settings.MAX_REPLY_BYTES = 10
        reply = await run(saying("12345", "éééé", "never"), "Go")
        assert (reply.text, reply.code) == ("12345éé", "reply_too_long")

    async def test_data_that_is_replaced_for_ever(self, settings: Any) -> None:
        settings.MAX_REPLY_BYTES = 100
        reply = await run(saying(*[Data("x", "y" * 48, "same") for _ in range(30)]), "Go")
        assert (len(reply.parts), reply.code) == (1, "reply_too_long")


async def test_long_text_is_split_and_hostile_text_is_cleaned() -> None:
    turn = turn_of("Go")
    text = "x" * 200_000 + "\x00\ud800"
    async with aclosing(reply_of(saying(text, Data("d", ["\x00\ud800"])), turn)) as items:
        *pieces, data, _ = [item async for item in items]
    assert len(pieces) > 3
    assert "".join(map(str, pieces)) == "x" * 200_000 + "\ufffd\ufffd"
    assert data == DataPart(name="d", data=["\ufffd\ufffd"])


async def test_text_in_one_tick_of_the_window_is_taken_as_one_piece(settings: Any) -> None:
    settings.DELTA_WINDOW, tick = 8.0, 2.0
    items = [*"abcdefgh", Data("n", 1), *"ij"]
    time, is_read = asyncio.get_running_loop().time, asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Any]:
        for item in items:
            yield item
            await asyncio.sleep(0)  # so that the reader is asked after each item
        await is_read.wait()
        yield Reasoning("Hm.")

    async with aclosing(reply_of(agent, turn_of("Go"))) as reply:
        began, taken = time(), [await anext(reply) for _ in range(3)]
        assert taken == ["a", "bcdefgh", DataPart(name="n", data=1)]
        assert time() - began < 0.8 * tick  # a part does not wait, nor does the text before it
        assert await anext(reply) == "ij"  # it waits for the tick, and not for the next item
        assert 0.8 * tick <= time() - began < 2 * tick
        is_read.set()
        assert await anext(reply) == ReasoningPart(text="Hm.")


async def test_without_a_window_each_text_is_a_piece(settings: Any) -> None:
    settings.DELTA_WINDOW = 0
    async with aclosing(reply_of(saying(*"abcd"), turn_of("Go"))) as items:
        assert [item async for item in items][:-1] == [*"abcd"]


async def test_joined_text_has_a_longest_length() -> None:
    pieces = ["a" * 1000] * 10
    async with aclosing(reply_of(saying(*pieces), turn_of("Go"))) as items:
        lengths = [len(str(item)) async for item in items][:-1]
    assert max(lengths) <= LONGEST
    assert sum(lengths) == 10_000


async def test_two_agents_do_not_wait_for_each_others_database_calls() -> None:
    meet = threading.Barrier(2)

    async def agent(turn: Turn) -> AsyncIterator[str]:
        await sync_to_async(meet.wait, thread_sensitive=True)(5)
        yield "met"

    replies = await asyncio.gather(run(agent, "a"), run(agent, "b"))
    assert [reply.text for reply in replies] == ["met", "met"]


async def test_a_chain_of_prompt_model_and_parser() -> None:
    async def speak(prompts: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        async for prompt in prompts:
            for word in prompt.to_messages()[-1].content.split(" "):
                yield AIMessageChunk(content=word)

    prompt = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{question}")])
    chain = prompt | RunnableGenerator(speak) | StrOutputParser()
    assert (await run(runnable(chain), "a b c")).text == "abc"
