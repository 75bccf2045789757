"""An agent that fails, exits, is silent or holds the event loop."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tests.unit.support.agents import saying
from workers.agents import ToolCall, Turn
from workers.agents.reply import reply_of
from workers.agents.testing import run, turn_of
from workers.agents.watchdog import Watchdog

pytestmark = pytest.mark.usefixtures("agent_limits")
SECRET = "the exception's own text"


def _exits() -> None:
    sys.exit(SECRET)


def _raises() -> None:
    raise ValueError(SECRET)


@pytest.mark.parametrize("fail", [_raises, _exits])
@pytest.mark.parametrize("where", ["agent", "thread"])
async def test_an_exception_ends_the_reply_and_its_text_is_in_the_log_alone(
    fail: Callable[[], None], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(turn: Turn) -> AsyncIterator[str]:
        yield "before"
        await sync_to_async(fail, thread_sensitive=True)() if where == "thread" else fail()

    reply = await run(agent, "Go")
    assert (reply.text, reply.code) == ("before", "agent_error")
    assert SECRET in caplog.text


@pytest.mark.parametrize("where", ["a task", "a task that is not awaited", "a thread of a task"])
@pytest.mark.parametrize("is_watched", [True, False], ids=["in the process", "in a test"])
def test_an_agent_whose_own_task_exits_ends_alone(
    where: str, is_watched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.to_thread(_exits) if where == "a thread of a task" else _exits()

    async def agent(_: Turn) -> AsyncIterator[str]:
        yield "before"
        tasks = [asyncio.create_task(work()), asyncio.create_task(work())]
        tasks[1].cancel()  # it never begins
        if where == "a task that is not awaited":
            await asyncio.Event().wait()
        await tasks[0]

    with asyncio.Runner() as runner:
        if is_watched:
            Watchdog(runner.get_loop())
        reply = runner.run(run(agent, "Go"))
        assert runner.run(run(saying("another"), "Go")).text == "another"
    assert (reply.text, reply.code) == ("before", "agent_error")
    assert SECRET in caplog.text


async def test_an_agent_that_cancels_itself_is_an_error() -> None:
    async def agent(turn: Turn) -> AsyncIterator[str]:
        yield "before"
        raise asyncio.CancelledError

    assert (await run(agent, "Go")).code == "agent_error"


@pytest.mark.parametrize(
    ("items", "code"), [(["a"], "model_silent"), ([ToolCall("slow", {})], "tool_silent")]
)
async def test_silence_is_bounded(settings: Any, items: list[Any], code: str) -> None:
    settings.MODEL_READ_TIMEOUT, settings.TOOL_TIMEOUT = 0.2, 0.4

    async def agent(turn: Turn) -> AsyncIterator[Any]:
        for item in items:
            yield item
        await asyncio.Event().wait()

    async with asyncio.timeout(2):
        assert (await run(agent, "Go")).code == code


async def test_a_reader_that_is_slow_is_not_the_agents_silence(settings: Any) -> None:
    settings.MODEL_READ_TIMEOUT = 0.2
    turn = turn_of("Go")
    async with aclosing(reply_of(saying(*"abcdefgh" * 20), turn)) as items:
        first = await anext(items)
        await asyncio.sleep(1.5)  # the reader's own delay, which is what is tested
        *texts, _ = [first, *[item async for item in items]]
    assert "".join(str(text) for text in texts) == "abcdefgh" * 20


@pytest.mark.parametrize("in_task", [False, True])
def test_the_watchdog_names_the_run_that_holds_the_event_loop(
    caplog: pytest.LogCaptureFixture, in_task: bool
) -> None:
    class Named(logging.Handler):
        """Lets the agent go on once the log names it."""

        def emit(self, record: logging.LogRecord) -> None:
            named.set()

    named = threading.Event()
    turn = turn_of("Go")

    async def agent(_: Turn) -> AsyncIterator[str]:
        async def block() -> None:
            assert named.wait(10)

        # LangGraph's nodes are tasks of their own.
        await (asyncio.create_task(block()) if in_task else block())
        yield "done"

    with asyncio.Runner() as runner:
        watchdog = Watchdog(runner.get_loop(), held=0.2)
        watchdog.start()
        handler = Named()
        logging.getLogger("workers.agents.watchdog").addHandler(handler)
        try:
            reply = runner.run(run(agent, turn))
        finally:
            logging.getLogger("workers.agents.watchdog").removeHandler(handler)
            watchdog.stop()
            watchdog.join(5)
    assert reply.text == "done"
    assert f"run {turn.run} attempt 1 holds the event loop" in caplog.text
    assert "in block" in caplog.text
