"""The calls of an agent's unsafe tools, and their ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from streams.log.errors import Superseded
from streams.protocol.parts import ToolCallPart
from workers.agents import ToolCall, ToolResult, Turn
from workers.agents.reply import reply_of
from workers.agents.testing import run, turn_of
from workers.agents.turn import Control

pytestmark = pytest.mark.usefixtures("agent_limits")


class TestUnsafeCalls:
    """`called` is stored before the tool of an unsafe call begins, and a loss stops the agent."""

    @pytest.mark.parametrize(("repeat", "expected"), [(False, ["stored", "ran"]), (True, ["ran"])])
    async def test_the_generator_resumes_after_the_call_is_stored(
        self, repeat: bool, expected: list[str]
    ) -> None:
        order: list[str] = []

        async def agent(turn: Turn) -> AsyncIterator[Any]:
            for n in range(2):
                yield ToolCall("refund", {}, f"c{n}", repeat=repeat)
                order.append("ran")
                yield ToolResult(f"c{n}", "done")

        control = Control(lambda: not order.append("stored"))  # type: ignore[func-returns-value]
        reply = await run(agent, turn_of("Go", control=control))
        assert (reply.code, order) == (None, [*expected, "ran"])

    async def test_the_generator_resumes_after_the_log_has_confirmed_each_call(self) -> None:
        order: list[str] = []

        async def agent(turn: Turn) -> AsyncIterator[Any]:
            for n in range(2):
                yield ToolCall("refund", {}, f"c{n}")
                order.append(f"ran c{n}")
                yield ToolResult(f"c{n}", "done")

        async def confirm() -> None:
            order.append("confirmed")

        def took(item: object) -> None:
            order.append(type(item).__name__)

        control = Control(lambda: not order.append("stored"), confirm)  # type: ignore[func-returns-value]
        async with aclosing(reply_of(agent, turn_of("Go", control=control))) as items:
            async for item in items:
                took(item)
        first = ["ToolCallPart", "confirmed", "stored", "ran c0", "ToolResultPart"]
        second = ["ToolCallPart", "confirmed", "ran c1", "ToolResultPart"]
        assert order == [*first, *second, "Completion"]

    async def test_a_stop_ends_the_wait_for_the_log_and_the_tool_is_not_called(self) -> None:
        ran, waits = [], asyncio.Event()

        async def agent(turn: Turn) -> AsyncIterator[Any]:
            yield ToolCall("refund", {}, "c")
            ran.append("refund")

        async def confirm() -> None:
            waits.set()
            await asyncio.Event().wait()  # Redis is away

        control = Control(confirm=confirm)

        async def read() -> None:
            async with aclosing(reply_of(agent, turn_of("Go", control=control))) as items:
                assert isinstance(await anext(items), ToolCallPart)
                await anext(items)

        reading = asyncio.create_task(read())
        await waits.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not ran
        assert control.returned.is_set()

    async def test_a_superseded_attempt_calls_nothing(self) -> None:
        ran = []

        async def agent(turn: Turn) -> AsyncIterator[Any]:
            yield ToolCall("refund", {}, "c")
            ran.append("refund")

        turn = turn_of("Go", control=Control(lambda: False))
        with pytest.raises(Superseded):
            async with aclosing(reply_of(agent, turn)) as items:
                assert [type(item) async for item in items] == [ToolCallPart]
        assert not ran
        assert not turn.alive()
